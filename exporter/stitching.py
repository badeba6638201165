"""One stretch of a list, read page by page and stitched: where its next page begins, and when its end is certain. Pure.

Each page overlaps the last one by at least a record, and by the whole group of records that share its last
`created_at`. A page that shares no id with the run shows that the list moved: step back. The end of a list is certain
only when our own last record is shown several times with nothing after it. An empty page, a short page, a missing link,
a total are hints. A full page that ends with our last record is not the end. A list that grows at its end as fast as it
is read has none: there the walk ends at the present, among records that were created after it began (`Arrivals`).

Each stopping rule has a test that loses a record without it: "exactly once" rests on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import Final

from exporter.questions import (
    OLDEST_FIRST,
    Answer,
    Arrivals,
    Ask,
    Ends,
    Evidence,
    Goal,
    Got,
    Refused,
    Row,
    Run,
    Steps,
    TooLongError,
    up_to,
)
from exporter.records import Page

CONFIRMATIONS: Final = 3  # sightings of "our last record and nothing after it" that make an end, or of the present
BACK: Final = (0, 1, 3, 7)  # how far before the last record the confirming requests begin: a cut page hides less
FLOOR_RECORDS: Final = 2  # below the floor that end a walk newest-first: one alone may have come late
SAME_AGAIN: Final = 2  # requests from where the last record was shown, once those nearer to it were fruitless
IDLE_MAX: Final = 11  # requests in a row that neither advance nor confirm
EMPTY_MAX: Final = 3  # empty answers at offset 0 that make an empty list; IDLE_MAX, if it showed a record before
RESTARTS_MAX: Final = 5  # times that a burst may overtake a walk at offset 0


class Stitching:
    """What a walk has seen, and its way along a list; `Walk` says where to begin and what to make of the end."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.clamp_ns = goal.clamp_ns
        self.begun_ns = 0  # the server's clock since when a log counts as arrived during the walk; 0: no answer yet
        self.pages = 0
        self.newest_ns: int | None = None
        self.oldest_ns: int | None = None
        self.stop_ns = goal.stop_ns
        self.broken = False
        self.lapsed = False
        self.ground = False
        self.untimed = False
        self.shown = False  # a record was met
        self.ties = False  # more equal times than a page can overlap: one pass proves nothing
        self.proven = True  # False: a single pass over a list that one pass proves nothing of
        self.jumbled = False  # no order vouches for what stands where
        self.astray = False  # ... though one did: a log may only have come late
        self._begin(Run())

    # --- asking

    def _ask(self, offset: int, ahead: int = 0) -> Generator[Ask, Answer, Answer]:
        self.pages += 1
        if self.pages > self.goal.logs_max // self.goal.page_limit:
            raise TooLongError
        answer = yield Ask(offset, ahead)
        if isinstance(answer, Got):
            if self.clamp_ns is None:
                self.clamp_ns = answer.server_ns
            if self.begun_ns == 0:
                # What a walk that counts nothing leaves to the next one is counted: that must be new.
                baseline = self.goal.floor_ns is None and not self.goal.whole
                self.begun_ns = answer.answered_ns if baseline else self.clamp_ns
            self.shown = self.shown or bool(answer.page.keys)
            self.ground = self.ground or not answer.unknown.issuperset(answer.page.ids)
            self.untimed = self.untimed or len(answer.page.times) < len(answer.page.stamps)
            times = self._times(answer.page)
            if times:
                newest, oldest = max(times), min(times)
                self.newest_ns = newest if self.newest_ns is None else max(self.newest_ns, newest)
                self.oldest_ns = oldest if self.oldest_ns is None else min(self.oldest_ns, oldest)
        return answer

    def _times(self, page: Page) -> Sequence[int]:
        """`created_at` of a page in the list's order, without those in the future of the walk's start."""
        return self._past(page.times)

    def _past(self, times: Sequence[int]) -> Sequence[int]:
        return times if self.clamp_ns is None else up_to(self.clamp_ns, times)

    # --- one run

    def _begin(self, run: Run) -> None:
        self.run = run
        self.evidence = Evidence(self.goal.lookback_ns)
        self.arrivals = Arrivals(Evidence(self.goal.lookback_ns))
        self.ends = Ends(Row(self.goal.lookback_ns), Row(self.goal.lookback_ns))

    def _forward(self, start: int, *, descending: bool | None) -> Steps:
        """`descending` True: may end below `stop_ns`; False: oldest-first; None: neither is known."""
        run = Run(begins_at=start)
        self._begin(run)
        position, ahead = start, 0
        while True:
            answer = yield from self._ask(position, ahead)
            ahead = 0
            # Past a list of one record a refusal says no more than an empty page does.
            if isinstance(answer, Refused) and not (run.longest == 1 and position == 1):
                return "capped"
            keys = answer.page.keys if isinstance(answer, Got) else ()
            run.longest = max(run.longest, len(keys))
            if isinstance(answer, Refused) or not keys:
                if (how := self._empty(position)) is not None:
                    return how
                position = self._near_tail()
                continue
            if run.keys and not any(key in run.keys for key in keys):
                self.broken = True
                if answer.offset > 0:
                    position = self._step_back(answer.offset)
                    continue
                self.lapsed = self.lapsed or (descending is False and self._outrun(answer))
                if run.restarts >= RESTARTS_MAX:
                    return "overtaken"
                run = Run(longest=run.longest, restarts=run.restarts + 1)
                self._begin(run)
            if (how := self._advance(answer, descending)) is not None:
                return how
            if self.run.onward:
                step = self._step(answer.page)
                position = answer.offset + step
                ahead = step if len(keys) >= run.longest else 0  # behind a short page stands the end
            else:
                position = self._near_tail()

    def _outrun(self, got: Got) -> bool:
        """Whether an oldest-first list begins with what is newer than all that was read of it: what stood between has
        left it unread. A first walk has nothing to miss yet."""
        highest = None if self.goal.floor_ns is None else self.evidence.highest
        return highest is not None and any(at > highest for at in up_to(got.server_ns, got.page.times))

    def _advance(self, got: Got, descending: bool | None) -> str | None:
        """Enter a page that shares a record with the run (or is its first). Not None: how the walk ends."""
        run, page, keys = self.run, got.page, got.page.keys
        if run.tail in keys:
            last = place = len(keys) - 1 - keys[::-1].index(run.tail)
        else:
            place, last = None, max((i for i, key in enumerate(keys) if key in run.keys), default=-1)
        after = set(keys[last + 1 :]).difference(run.keys)
        if run.first_key is None:
            run.first_key = keys[0]
        if len(page.ids) < len(keys):
            run.keys.update(dict.fromkeys(keys))
        run.keys.update(zip(page.ids, page.stamps, strict=True))
        self._mind_floor(page)
        run.onward = True
        if after:
            self._enter_progress(got, after)
            if (descending and self.evidence.rises) or (descending is False and self.evidence.falls):
                return "disorder"
            if self._in_the_present(descending):
                return "present"
        elif place == len(keys) - 1 or (place is None and got.offset + len(keys) > run.tail_at):
            how = self._nothing_after(got, place)
            if how is not None:
                return how
        # Otherwise inserts pushed known records towards us, or we stepped back: on, until the tail shows again.
        return self._at_floor(descending) or self._known(got, descending)

    def _at_floor(self, descending: bool | None) -> str | None:
        run = self.run
        if descending and run.below >= FLOOR_RECORDS:
            # What was newest once is still listed, and before this: a list that has not shown it runs another way.
            return "floor" if run.reached_head else "disorder"
        return "floor" if self.astray and run.reached_head and self.ends.below(self.stop_ns) else None

    def _nothing_after(self, got: Got, place: int | None) -> str | None:
        """A page that shows nothing new where something would stand."""
        length = len(got.page.keys)
        # A page may be longer than what was asked for, where a record is shown twice.
        if place is None and length >= min(self.run.longest, self.goal.page_limit):
            # More was inserted than there is room on a page, and our last record lies further on; or, past an offset
            # limit, it is the same page for ever.
            self.run.idle += 1
            return self._given_up()
        return self._confirm(got, place)

    def _mind_floor(self, page: Page) -> None:
        if self.stop_ns is None and not self.goal.whole and self.newest_ns is not None:
            self.stop_ns = self._first_stop(self.newest_ns)
        if self.untimed and self.goal.floor_ns is None:
            self.stop_ns = None  # whoever may turn up again without a time must be remembered now
        head = self.goal.head_ns if self.goal.head_ns is not None else self.goal.floor_ns
        self.run.reached_head = self.run.reached_head or any(
            head is None or at is None or at >= head for at in page.stamps
        )

    def _first_stop(self, newest_ns: int) -> int:
        """Where a first walk ends, whose floor will be `lookback` below the newest: in a list by arrival, a record that
        was late by that much stands among those above the floor."""
        return newest_ns - 2 * self.goal.lookback_ns

    def _enter_progress(self, got: Got, after: set[str]) -> None:
        run, keys = self.run, got.page.keys
        run.idle = run.confirmed = run.lost = 0
        run.tail, run.tail_at = keys[-1], got.offset + len(keys) - 1
        run.tail_full = len(keys) >= run.longest
        run.back = len(keys) - 1 - run.tail_full  # the same page again, or one that shows room after the last record
        if self.jumbled:
            self._read_ends(got, after)
        if len(set(keys)) < len(keys):  # a copy stands anywhere on its page
            after = after.intersection(key for key, times in Counter(keys).items() if times == 1)
        page = got.page
        times: Sequence[int] = page.times
        if not after.issuperset(page.ids):
            pairs = zip(page.ids, page.stamps, strict=True)
            times = [at for key, at in pairs if at is not None and key in after]
        if self.stop_ns is not None and page.oldest_ns is not None and page.oldest_ns < self.stop_ns:
            run.below += sum([at < self.stop_ns for at in times])
        self.evidence.read(self._past(times))
        self.arrivals.read(times, self.begun_ns, got.server_ns)

    def _read_ends(self, got: Got, after: set[str]) -> None:
        for key, at in zip(got.page.ids, got.page.stamps, strict=True):
            if key in after:
                past = at is not None and (self.clamp_ns is None or at <= self.clamp_ns)
                self.ends.read(at if past else None, unknown=key in got.unknown)

    def _in_the_present(self, descending: bool | None) -> bool:
        """Whether what follows was not there yet when the walk began, and can wait for the next one."""
        if descending or self.jumbled or self.untimed or self.arrivals.pages < CONFIRMATIONS:
            return False
        shown = self.arrivals.evidence
        return not shown.falls and (descending is False or (shown.strong and shown.verdict == OLDEST_FIRST))

    def _known(self, got: Got, descending: bool | None) -> str | None:
        if not self.goal.quick or descending is None or got.unknown:
            return None
        # Oldest-first, new records stand behind the known ones: a long page of known ones is no reason to stop.
        return "known" if descending or len(got.page.keys) <= len(BACK) + 1 else None

    def _confirm(self, got: Got, place: int | None) -> str | None:
        """A page that ends with our last record, or stands where it should: the end, if it is not just a full page."""
        run, length = self.run, len(got.page.keys)
        run.idle += 1
        run.onward = False
        run.repeated = run.repeated or (
            run.begins_at == 0 and got.offset > 0 and got.page.keys[0] == run.first_key and length > 1
        )
        if place is not None:
            run.tail_at = got.offset + place
        # Without our last record it must end where that stood: a cut page from elsewhere would rarely be that long.
        if length < run.longest and (place is not None or got.offset + length == run.tail_at + 1):
            run.confirmed += 1
            if place is not None:
                run.idle, run.back = 0, place
            if run.confirmed >= (CONFIRMATIONS if self.proven else 1):
                return "end"
        return self._given_up()

    def _empty(self, position: int) -> str | None:
        run = self.run
        if run.tail is None:
            run.empties += 1
            if position > 0:
                return "stuck"
            return "end" if run.empties >= (IDLE_MAX if self.shown else EMPTY_MAX) else None
        run.idle += 1
        if run.longest == 1 and position == run.tail_at + 1:
            run.confirmed += 1
            if run.confirmed >= CONFIRMATIONS:
                return "end"
        return self._given_up()

    def _given_up(self) -> str | None:
        run = self.run
        if run.idle < IDLE_MAX:
            return None
        return "paging_ignored" if run.repeated else "capped" if run.tail_full else "stuck"

    def _near_tail(self) -> int:
        """Where to ask when the last answer brought nothing: at the last record, or a little before it."""
        run = self.run
        if run.tail is None:
            return 0
        if run.longest == 1:
            return run.tail_at + 1
        # An offset limit may lie between: then from where it was shown before, and further and further back.
        again = len(BACK) < run.idle <= len(BACK) + SAME_AGAIN
        if again or (run.confirmed and run.idle == 0 and run.back > BACK[-1]):
            return max(0, run.tail_at - run.back)
        if run.idle <= len(BACK):
            return max(0, run.tail_at - min(BACK[run.confirmed], run.longest - 2))
        back = 1 << run.idle
        return max(0, run.tail_at - back)

    def _step_back(self, offset: int) -> int:
        run = self.run
        step = max(1, run.longest - 1) << run.lost
        run.lost += 1  # at offset 0 it ends: after as many as there are doublings in the list's length
        return max(0, offset - step)

    def _step(self, page: Page) -> int:
        """How far the next page begins after this one: all of it, less the records that it must show again."""
        last = page.stamps[-1] if page.stamps else None
        ties = 1
        if last is not None and page.keys[-1] == page.ids[-1] and page.stamps.count(last) > 1:
            ties = len({key for key, at in zip(page.ids, page.stamps, strict=True) if at == last})
        distinct = len(set(page.keys))
        half = max(1, distinct // 2)
        self.ties = self.ties or ties > half
        return max(1, distinct - min(ties, half))
