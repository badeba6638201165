"""Attempts in the order of time to the values of series on a grid of times: the ledger's own counting, replayed. Pure.

Theory: at each time of the grid the series stand where live counting would have them if every log were counted at its
`created_at` and scraped then. An integration is replayed alone, because no number of one depends on another's. A job is
held only while the log has more of it to come: what it added to `jobs_failing` waits by itself for its day to pass.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from exporter import ledger
from exporter.ledger import SECOND, Book, Entry, Job, JobKey
from exporter.metrics import FAMILIES, Family, Labels, Shown
from exporter.records import Attempt, Integration
from exporter.tally import Tally

REGULAR_SECONDS: Final = 240  # Prometheus looks back five minutes for a sample, and 3.x leaves out the fifth itself
PAST: Final = tuple(family for family in FAMILIES if family.past)

_Value = TypeVar("_Value")
SeriesKey = tuple[int, str, Labels]  # place in PAST, suffix of the family's name, labels beyond store and integration


@dataclass(frozen=True, slots=True)
class Grid:
    """Times at multiples of a step since 1970, whatever the range: two runs agree on them."""

    step_seconds: int

    def at_or_before(self, at_ns: int) -> int:
        return at_ns // (self.step_seconds * SECOND)

    def at_or_after(self, at_ns: int) -> int:
        return -(-at_ns // (self.step_seconds * SECOND))

    def ns(self, index: int) -> int:
        return index * self.step_seconds * SECOND

    @property
    def regular(self) -> int:
        """Steps from one sample to the next where nothing changes."""
        return max(1, REGULAR_SECONDS // self.step_seconds)


class Past(NamedTuple):
    """An attempt of the log, and when the next one of its job was created; None: there is none."""

    attempt: Attempt
    next_ns: int | None


class Replay:
    """One integration. `put` is told each change of a series: key, place on the grid, value."""

    def __init__(self, grid: Grid, first: int, last: int, shown_as: Integration | None,
                 put: Callable[[SeriesKey, int, float], None]) -> None:  # fmt: skip
        self._grid, self._first, self._last = grid, first, last
        self._put = put
        self._shown = Shown(Tally(announced=True), shown_as)
        self._entries: list[Entry] = []  # of the place that is being gathered
        # As of 1970: all is dated after that, so each job stands in `Book.jobs`, and none in `Book.delivered`.
        self._book = Book({}, {}, 0, self._failures_after)
        self._failing: deque[tuple[int, JobKey, Job]] = deque()  # until when, in the order of that
        self._layout: list[SeriesKey] = []
        self._values: list[float] = []

    def run(self, attempts: Iterable[Past]) -> Tally:
        """In the order of creation. What was created after the last place of the grid counts there."""
        tally, at = self._shown.tally, self._first
        self._tell(at)
        ended: list[tuple[JobKey, int]] = []
        for attempt, next_ns in attempts:
            created_ns = attempt.created_ns
            assert created_ns is not None  # noqa: S101  # others have no place in time
            place = min(max(self._grid.at_or_after(created_ns), self._first + 1), self._last)
            if place != at:
                self._enter(at, ended)
                self._cease(place - 1)
                at = place
            self._book.tallies[attempt.integration_id] = tally
            self._entries.append(Entry(attempt, created_ns))
            if attempt.job_id is not None and (next_ns is None or next_ns - created_ns > ledger.JOB_FAILING_NS):
                ended.append(((attempt.integration_id, attempt.job_id), created_ns))
        self._enter(at, ended)
        self._cease(self._last)
        return tally

    def _failures_after(self, _: str, at_ns: int) -> int:
        """Those that stand after a success have been gathered with it."""
        return sum(1 for each in self._entries if each.attempt.succeeded is False and each.at_ns > at_ns)

    def _enter(self, place: int, ended: list[tuple[JobKey, int]]) -> None:
        if not self._entries:
            return
        book, tally = self._book, self._shown.tally
        self._cease_until(self._entries[0].at_ns, place)
        ledger.count(book, self._entries, counting=True)
        # Nothing earlier than what was counted can come any more.
        ledger.settle(book, {key: book.jobs[key] for key in book.changed_jobs if book.jobs[key].pending})
        for key, created_ns in ended:
            job = book.jobs.get(key)
            if job is not None and job.last_ns == created_ns:
                del book.jobs[key]
                if job.failing:
                    self._failing.append((created_ns + ledger.JOB_FAILING_NS, key, job))
        book.changed_jobs.clear()
        self._entries.clear()
        ended.clear()
        tally.announced_codes = sorted(tally.responses)
        self._tell(place)

    def _cease(self, until: int) -> None:
        """Up to and at a place: jobs whose last attempt is a day ago."""
        while self._failing and (place := self._grid.at_or_after(self._failing[0][0])) <= until:
            self._cease_until(self._grid.ns(place), place)

    def _cease_until(self, at_ns: int, place: int) -> None:
        if not self._failing or self._failing[0][0] > at_ns:
            return
        while self._failing and self._failing[0][0] <= at_ns:
            _, key, job = self._failing.popleft()
            ledger.cease_failing(self._book, {key: job})
            if self._book.jobs.get(key) is job:
                del self._book.jobs[key]
        self._book.changed_jobs.clear()
        self._tell(place)

    def _tell(self, place: int) -> None:
        samples = list(values_of(self._shown))
        if len(samples) != len(self._layout):
            known = dict(zip(self._layout, self._values, strict=True))
            for key, _ in samples:
                if key not in known and _begins_at_0(key) and place != self._first:
                    self._put(key, self._first, 0.0)
            self._layout = [key for key, _ in samples]
            self._values = [known.get(key, 0.0 if _begins_at_0(key) and place != self._first else -1.0)
                            for key in self._layout]  # fmt: skip
        for i, (key, value) in enumerate(samples):
            if value != self._values[i]:
                self._values[i] = value
                self._put(key, place, value)


def values_of(shown: Shown) -> Iterator[tuple[SeriesKey, float]]:
    """What `/metrics` would show of an integration, of the families that have a past."""
    for i, family in enumerate(PAST):
        for suffix, labels, value in family.samples(shown):
            yield (i, suffix, labels), value


def cumulative(family: Family) -> bool:
    return family.kind != "gauge"


def _begins_at_0(key: SeriesKey) -> bool:
    """A counter that turns up later, as that of a status code, was 0 before."""
    return cumulative(PAST[key[0]])


def joined(curves: Sequence[Iterable[tuple[int, float]]]) -> Iterator[tuple[int, tuple[float, ...]]]:
    """The changes of several series as changes of all of them at once. Each must have a value at the first place."""

    def numbered(number: int, curve: Iterable[tuple[int, float]]) -> Iterator[tuple[int, int, float]]:
        return ((place, number, value) for place, value in curve)

    values = [0.0] * len(curves)
    at = -1
    for place, number, value in heapq.merge(*(numbered(i, curve) for i, curve in enumerate(curves))):
        if place != at >= 0:
            yield at, tuple(values)
        at = place
        values[number] = value
    if at >= 0:
        yield at, tuple(values)


def sampled(changes: Iterable[tuple[int, _Value]], last: int, regular: int) -> Iterator[tuple[int, _Value]]:
    """A series' samples: where it changed, the place before that, the last place, and never more than `regular` apart.

    The sample before a change keeps a slow growth from being read into the time in which nothing happened.
    """
    before: tuple[int, _Value] | None = None
    for place, changed in changes:
        if before is not None:
            yield from _unchanged(*before, place - 1, regular)
        before = place, changed
        yield before
    if before is not None:
        yield from _unchanged(*before, last, regular)


def _unchanged(at: int, value: _Value, until: int, regular: int) -> Iterator[tuple[int, _Value]]:
    """After a sample at `at`, up to and at `until`."""
    while at + regular < until:
        at += regular
        yield at, value
    if at < until:
        yield until, value
