"""What a walk asks, what it is told, what it ends as; and the order of a list, observed. Pure.

Order is evidence, not belief: Elastic Path documents none.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from exporter.records import Page

NEWEST_FIRST: Final = "newest_first"
OLDEST_FIRST: Final = "oldest_first"
UNORDERED: Final = "unordered"
UNKNOWN: Final = "unknown"
STRONG_RECORDS: Final = 8  # read in one row; of a jumble of so many about one in a thousand looks ordered
STRONG_WITNESSES: Final = 4  # of them, that stand more than a lookback off: the place of one or two is chance
STRONG_LOOKBACKS: Final = 2  # that they must spread over
ROW_RECORDS: Final = 32  # in a row, whose order counts whatever stands elsewhere in the list: of 8 chance makes a row
LOGS_MAX: Final = 500_000  # per walk, in pages of the length asked for; one that needs more fails and says so
ANY: Final = "any"  # of no matter: a list without times that is swept once


@dataclass(frozen=True, slots=True)
class Ask:
    offset: int
    ahead: int  # > 0: later questions are expected at offset + ahead, + 2*ahead, …; pages may be fetched ahead


@dataclass(frozen=True, slots=True)
class Got:
    offset: int  # of the page; may lie before the offset asked for, where it was fetched ahead
    page: Page
    unknown: frozenset[str]  # ids on it that were not remembered when it was read
    server_ns: int  # the server's clock when this answer was asked for (a lower bound)
    answered_ns: int  # ... and when it was given (an upper bound)


@dataclass(frozen=True, slots=True)
class Refused:
    """An error for this offset alone: the offset limit, as far as anybody can tell."""


Answer = Got | Refused


@dataclass(frozen=True, slots=True)
class Goal:
    lookback_ns: int
    floor_ns: int | None  # None: first walk of this store
    stop_ns: int | None  # newest-first ends at the first record created before it; at or below the floor
    whole: bool  # first walk with `history: count`: the whole list, whatever its times
    quick: bool  # may stop at the first page with nothing new; then moves no mark
    order: str
    tail_hint: int | None  # oldest-first: where the last record stood
    page_limit: int = 100  # records asked for
    head_ns: int | None = None  # newest created_at that the list showed to the last complete walk; None: not known
    trusted: bool = True  # the order rests on strong evidence; if not, a complete walk looks again
    clamp_ns: int | None = None  # the server's clock at the start, where an earlier feed of the same walk read it
    logs_max: int = LOGS_MAX


@dataclass(slots=True)
class Ended:
    complete: bool
    how: str  # floor, end, present, known, capped, paging_ignored, disorder, ties, stuck, overtaken, too_long
    clamp_ns: int | None  # server's clock at the first answer; None: no answer held one
    newest_ns: int | None  # newest created_at seen that is not in the future
    oldest_ns: int | None
    stop_ns: int | None  # what the walk went down to; None: the whole list
    evidence: str | None  # the order that the times on the pages show
    strong: bool  # no jumble would have looked like that
    listed: Set[str]  # ids in the run, where the whole list was swept, else empty
    swept: bool
    pages: int
    tail_at: int | None  # offset of the list's last record, where the end or the present was reached
    broken: bool  # the stitching broke, or a burst overtook us: the caller walks completely at once
    lapsed: bool  # an oldest-first list lost its oldest records faster than they were read
    ground: bool  # a record was met that an earlier walk had remembered
    untimed: bool  # a record without `created_at` was met


@dataclass(slots=True)
class Evidence:
    """Reads times in the list's order. A verdict needs a spread over `lookback`: within it, busy lists are a jumble.

    A jumble of few records, or of little more spread, may look ordered by chance: such evidence is not strong.
    """

    lookback_ns: int
    lowest: int | None = None
    highest: int | None = None
    rises: int = 0  # records that stand after one that is older by more than lookback
    falls: int = 0  # ... after one that is newer
    number: int = 0

    def read(self, times: Sequence[int]) -> None:
        if not times:
            return
        lowest = times[0] if self.lowest is None else self.lowest
        highest = times[0] if self.highest is None else self.highest
        newest, oldest, number, lookback_ns = max(times), min(times), len(times), self.lookback_ns
        # Most pages are told by their ends: none of their times stands so far above or below another, or all do.
        rises = 0 if newest - min(lowest, oldest) <= lookback_ns else number if oldest - lowest > lookback_ns else None
        falls = (
            0 if max(highest, newest) - oldest <= lookback_ns else number if highest - newest > lookback_ns else None
        )
        if rises is None or falls is None:
            rises, falls = self._told_apart(times, lowest, highest)
        self.lowest, self.highest = min(lowest, oldest), max(highest, newest)
        self.rises, self.falls, self.number = self.rises + rises, self.falls + falls, self.number + number

    def _told_apart(self, times: Sequence[int], lowest: int, highest: int) -> tuple[int, int]:
        rises = falls = 0
        for at in times:
            if at < lowest:
                lowest = at
            elif at > highest:
                highest = at
            rises += at - lowest > self.lookback_ns
            falls += highest - at > self.lookback_ns
        return rises, falls

    @property
    def verdict(self) -> str | None:
        if self.rises and self.falls:
            return UNORDERED
        return OLDEST_FIRST if self.rises else NEWEST_FIRST if self.falls else None

    @property
    def strong(self) -> bool:
        if self.rises and self.falls:
            return True
        if self.lowest is None or self.highest is None or self.number < STRONG_RECORDS:
            return False
        spread = self.highest - self.lowest
        return max(self.rises, self.falls) >= STRONG_WITNESSES and spread > STRONG_LOOKBACKS * self.lookback_ns


@dataclass(slots=True)
class Row:
    """Records that follow each other down, from one to the next by no more than a lookback up."""

    lookback_ns: int
    highest: int = 0
    lowest: int = 0
    number: int = 0
    witnesses: int = 0  # that stand more than a lookback below the highest

    def takes(self, at: int) -> bool:
        """False: it stands too high, and is not of this row."""
        if self.number == 0:
            self.highest = self.lowest = at
        elif at - self.lowest > self.lookback_ns:
            return False
        self.highest, self.lowest = max(self.highest, at), min(self.lowest, at)
        self.number += 1
        self.witnesses += self.highest - at > self.lookback_ns
        return True

    @property
    def long(self) -> bool:
        """Whether no jumble looks like that, however often it is looked at."""
        spread = self.highest - self.lowest
        enough = self.number >= ROW_RECORDS and self.witnesses >= STRONG_WITNESSES
        return enough and spread > STRONG_LOOKBACKS * self.lookback_ns


@dataclass(slots=True)
class Ends:
    """The order of a list that looks like none, as its new end alone shows it.

    A log that came more than a lookback late, or is dated wrong, stands in the way of an order by arrival for as long
    as EPCC lists it. Once a long row of records has followed it, and all that is new stands in that row, a walk along
    the row would have read as much as a sweep of the whole list.
    """

    head: Row  # from the list's beginning on
    tail: Row  # up to its end, of negative times: so it, too, runs down
    closed: bool = False  # the first row has ended
    news: bool = False  # a record was met that was not remembered
    news_behind: bool = False  # ... after the first row
    news_before: bool = False  # ... before the last one
    known: Row = field(init=False)  # the last one of which every record was remembered

    def __post_init__(self) -> None:
        self.known = Row(self.head.lookback_ns)

    def read(self, at: int | None, *, unknown: bool) -> None:
        """A record, in the list's order. `at` None: it has no time, or one in the future."""
        if unknown or (at is not None and not self.known.takes(at)):
            self.known = Row(self.head.lookback_ns)
        if at is not None:
            self.closed = self.closed or not self.head.takes(at)
            if not self.tail.takes(-at):
                self.tail = Row(self.tail.lookback_ns)
                self.tail.takes(-at)
                self.news_before = self.news
        self.news = self.news or unknown
        self.news_behind = self.news_behind or (unknown and self.closed)

    def below(self, stop_ns: int | None) -> bool:
        """Whether a long row that was read before has come below the floor: what stands behind it came before it."""
        return stop_ns is not None and self.known.long and self.known.lowest < stop_ns

    @property
    def verdict(self) -> str:
        if self.head.long and not self.news_behind:
            return NEWEST_FIRST
        return OLDEST_FIRST if self.tail.long and not self.news_before else UNORDERED


def up_to(latest_ns: int, times: Sequence[int]) -> Sequence[int]:
    """Those that are no later: nearly always all of a page."""
    return times if max(times, default=0) <= latest_ns else [at for at in times if at <= latest_ns]


@dataclass(slots=True)
class Arrivals:
    """Whether an oldest-first run has come to what arrived after its walk began.

    Where more arrives than a page takes to come, there is no end to be seen: each look at the last record shows others
    after it. But what was created since the walk began, and is not in the future, stands after all that was visible
    then; or, where the list runs by arrival and clocks differ, after all that is older than a lookback. The next walk
    begins there. A record alone may have a wrong date: as many pages must show one as make an end. The answer's clock
    is a lower bound, late by a round trip and a second: half a lookback beyond it is not the future yet.
    """

    evidence: Evidence  # that of the walk reads nothing that was created since it began
    pages: int = 0

    def read(self, times: Sequence[int], begun_ns: int, server_ns: int) -> None:
        """`times`: those of a page's new records, in the list's order. `server_ns`: the clock of the answer."""
        past = up_to(server_ns + self.evidence.lookback_ns // 2, times)
        self.evidence.read(past)
        self.pages += max(past, default=begun_ns) > begun_ns


@dataclass(slots=True)
class Run:
    """A contiguous stretch of the list, in its order, read page by page."""

    keys: dict[str, int | None] = field(default_factory=dict)  # id → created_at (ns), in the order of the list
    tail: str | None = None
    tail_at: int = 0
    tail_full: bool = False  # the page that showed the tail was as long as any: the list may go on
    longest: int = 0
    first_key: str | None = None
    idle: int = 0
    confirmed: int = 0
    back: int = 0  # how far before the last record a page begins that showed it, or should
    lost: int = 0
    below: int = 0  # records below the floor
    empties: int = 0
    restarts: int = 0
    onward: bool = False  # the last page brought us on, or showed only what lies before our place
    begins_at: int = 0  # offset of its first page
    repeated: bool = False  # another offset brought the first page again
    reached_head: bool = False  # a record as new as any that was known before was met


class TooLongError(Exception):
    """A walk has asked for as many pages as it may."""


Questions = Generator[Ask, Answer, Ended]  # a whole walk
Steps = Generator[Ask, Answer, str]  # a part of one; the text says how it ended
