"""What the probe asks, what it is told, and what it has seen when it is done. Pure; judged by `findings`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from exporter.records import Attempt, Integration
from exporter.shape import Shape

# What an error past the offset limit may be, as far as anybody knows; of the walk these are fetch.LIMIT_CODES.
REFUSALS: Final = frozenset({400, 404, 413, 416, 422, *range(500, 600)})
RATE_VALUE: Final = re.compile(r"\d{1,12}(?:[,;] ?[a-z]{1,8}=\d{1,12})*(?:, ?\d{1,12}(?:;[a-z]{1,8}=\d{1,12})*)*")
HTTP_DATE: Final = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
_RATE_NAME: Final = re.compile(
    r"(?:x-)?rate-?limit(?:-(?:burst|capacity|day|hour|limit|minute|month|policy|rate|remaining|replenish|requested|reset|"
    r"second|tokens|used|window)){0,3}|retry-after"
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ask:
    endpoint: str  # logs, integrations, integration_logs, jobs, job_logs
    offset: int | None = None
    limit: int | None = None
    names: tuple[str, ...] = ()  # ids for the path
    patient: bool = True  # asked again where it fails in passing, as the exporter would
    after_seconds: float = 0.0  # to wait before it is asked


@dataclass(frozen=True, slots=True)
class Told:
    keys: tuple[str, ...]  # of every record, in the list's order
    shape: Shape
    server_ns: int  # the server's clock when this was asked (a lower bound), or the host's without a `Date`
    attempts: tuple[Attempt, ...] = ()  # of lists of logs
    integrations: tuple[Integration, ...] = ()

    @property
    def times(self) -> list[int]:
        return [attempt.created_ns for attempt in self.attempts if attempt.created_ns is not None]


@dataclass(frozen=True, slots=True)
class Failed:
    """Its tries are spent, or trying again makes no sense."""

    reason: str  # one of metrics.POLL_FAILURE_REASONS
    code: int | None

    @property
    def refuses(self) -> bool:
        """Whether this may be about the very thing that was asked for."""
        return self.code in REFUSALS

    def __str__(self) -> str:
        return self.reason if self.code is None else f"{self.reason} ({self.code})"


@dataclass(frozen=True, slots=True)
class NotAsked:
    """The request limit was reached before."""

    def __str__(self) -> str:
        return "not asked: request limit"


Answer = Told | Failed | NotAsked
Steps = Generator[Ask, Answer, _T]


@dataclass(slots=True)
class Edge:
    """How far a list can be read, and what stands there."""

    how: str  # end, end_refused, refused, empty, repeated; open: neither seen; unclear; not_asked
    answered: int = 0  # the largest offset that brought records of its own
    beyond: int | None = None  # the smallest offset that did not
    reach: int = 0  # records that were seen to be there
    code: int | None = None  # of a refusal
    counts_page: bool | None = None  # whether the limit is one of offset + page length; None: not seen
    last: Told | None = None  # the page at `answered`
    moved: bool = False  # the list grew while its limit was sought: it is known to a page
    why: str = ""

    @property
    def limited(self) -> bool:
        return self.how in ("refused", "empty", "repeated")


@dataclass(slots=True)
class Heard:
    """What the headers of every answer say, refusals and tokens included."""

    codes: Counter[str] = field(default_factory=Counter)  # a status, or `error`
    dated: int = 0
    undated: int = 0
    skew_low_ns: int | None = None  # the server's clock is ahead of ours by at least this (behind, where negative) …
    skew_high_ns: int | None = None  # … and at most this
    skew_agrees: bool = True  # every answer's `Date` fits in with that
    encodings: Counter[str] = field(default_factory=Counter)
    rate: dict[str, str] = field(default_factory=dict)  # header → its latest value, if that can be nothing but numbers

    def hear(self, headers: Mapping[str, str], date_ns: int | None, asked_ns: int, came_ns: int) -> None:
        """`asked_ns`, `came_ns`: our clock when it was asked, and when its headers were there."""
        encoding = headers.get("Content-Encoding", "none").strip().lower()
        self.encodings[encoding if encoding in ("none", "identity", "gzip", "deflate", "br", "zstd") else "other"] += 1
        for name, value in headers.items():
            if _RATE_NAME.fullmatch(name.lower()):
                plain = RATE_VALUE.fullmatch(value.strip()) or HTTP_DATE.fullmatch(value.strip())
                self.rate[name.lower()] = plain[0] if plain else "a value that is not shown"
        if date_ns is None:
            self.undated += 1
            return
        self.dated += 1
        # `Date` was cut to a whole second, somewhere between the two instants.
        low, high = date_ns - came_ns, date_ns + 1_000_000_000 - asked_ns
        if self.skew_low_ns is not None and self.skew_high_ns is not None:
            both = max(low, self.skew_low_ns), min(high, self.skew_high_ns)
            if both[0] > both[1]:
                self.skew_agrees = False
                return
            low, high = both
        self.skew_low_ns, self.skew_high_ns = low, high


@dataclass(slots=True)
class Observed:
    """Everything that the answers have shown. None: the question was not asked, as its answer could not have helped."""

    lookback_ns: int
    head: Answer | None = None  # the first page of all logs
    limit: int = 0  # records that the head was asked for: the longest page that is not refused
    limits_refused: dict[int, int] = field(default_factory=dict)  # page[limit] → the refusal's code
    default: Answer | None = None  # a page for which no length was asked
    over: Answer | None = None  # a page for which more than the documented length was asked
    over_limit: int = 0
    half: Answer | None = None  # the page that begins in the middle of the head
    half_at: int = 0
    edge: Edge | None = None
    pages: list[tuple[int, Told]] = field(default_factory=list)  # of all logs, with their offsets, as they were read
    integrations: list[Integration] = field(default_factory=list)
    integrations_first: Answer | None = None
    integrations_whole: bool = False  # the last page brought none that was not known
    integration_logs: Answer | None = None
    integration_logs_own: bool = False  # every record of that list was of that integration
    job_logs: Answer | None = None
    job_logs_known: bool = False  # they held the log that the job was found by
    jobs: Answer | None = None  # the list as it comes without page[limit] and page[offset]
    jobs_half: Answer | None = None  # two jobs, from the middle of it on
    readings: list[Told] = field(default_factory=list)  # the place where new logs show, again and again
    readings_at: int | None = None  # its offset; None: there is no such place
    readings_answer: Answer | None = None  # the latest, good or not
    known: set[str] = field(default_factory=set)  # ids met before the first reading

    def told(self) -> Iterable[Told]:
        """Every page of logs that was read, once."""
        yield from (page for _, page in self.pages)
        yield from (page for page in self.readings if page is not self.head)
