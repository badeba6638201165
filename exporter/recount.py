"""A store's history from spool to curves: which attempts are the backfill's, and from when to when a series is known.

What an integration's series may say is bounded by what of it was read through: before that they do not exist, rather
than show a 0 that nobody has counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from exporter.curves import CurveKey, Curves
from exporter.folding import OTHER, Room
from exporter.gather import Gathered
from exporter.history import PAST, Grid, Past, Replay, cumulative, values_of
from exporter.metrics import Shown
from exporter.reach import Reach
from exporter.records import Attempt, Integration
from exporter.seam import Seam
from exporter.spool import Spool
from exporter.tally import Tally

TELL_EVERY: Final = 5_000  # attempts, between two looks at who watches


@dataclass(frozen=True, slots=True)
class Span:
    """What is to be counted of a store: created after `since_ns`; up to `until_ns`, or what the seam says."""

    since_ns: int
    until_ns: int
    seam: Seam | None  # None: time alone decides
    now_ns: int  # when the reading began: what is dated later is dated ahead


@dataclass(frozen=True, slots=True)
class Stretch:
    """The places on the grid that an integration's series have: the first is where they are 0."""

    first: int
    last: int


@dataclass(slots=True)
class Account:
    """What became of the attempts that were read of one store."""

    counted: Counter[str] = field(default_factory=Counter)  # by integration
    live: int = 0  # the live exporter's
    older: int = 0  # before what was asked for, or before what is complete
    newer: int = 0  # after `until`
    unknown: int = 0  # of integrations of which nothing is known to be complete
    unwanted: int = 0  # of integrations that the configuration leaves out
    ahead: int = 0  # dated after the reading; they are among the others as well
    moved: int = 0  # counted at the last place, though dated later
    stretches: dict[str, Stretch] = field(default_factory=dict)  # by integration
    folded: set[tuple[str, str]] = field(default_factory=set)
    short: dict[str, int] = field(default_factory=dict)  # integration → attempts that the live baseline lacks


class Recount:
    """One store. `offsets` are what a series has to be lifted by, so that it ends where the live baseline begins."""

    def __init__(self, store: str, spool: Spool, curves: Curves, grid: Grid, offsets: dict[CurveKey, float]) -> None:
        self._store, self._spool, self._curves, self._grid, self._offsets = store, spool, curves, grid, offsets
        self.account = Account()

    def run(self, gathered: Gathered, span: Span, max_series: int, watch: Callable[[int], None]) -> Account:
        account = self.account
        account.folded = self._fold(gathered, max_series)
        oldest = self._spool.oldest_ns(self._store, self._grid.ns(self._grid.at_or_before(span.since_ns)))
        account.stretches = {
            integration_id: stretch
            for integration_id in oldest
            if (stretch := self._stretch(integration_id, gathered, span, oldest)) is not None
        }
        number = 0

        def counted(pasts: Iterator[Past]) -> Iterator[Past]:
            nonlocal number
            for past in pasts:
                number += 1
                if number % TELL_EVERY == 0:
                    watch(number)
                yield past

        for integration_id, own in groupby(counted(self._spool.pasts(self._store)), lambda p: p.attempt.integration_id):
            self._integration(integration_id, own, gathered, span)
        self._curves.flush()
        return account

    def _integration(self, integration_id: str, own: Iterator[Past], gathered: Gathered, span: Span) -> None:
        account = self.account
        stretch = account.stretches.get(integration_id)
        if stretch is None:
            number = sum(1 for _ in own)
            reached = _reach_of(integration_id, gathered)
            if integration_id not in gathered.reaches and integration_id != OTHER:
                account.unwanted += number
            elif reached is None:
                account.unknown += number
            else:
                account.older += number
            return
        shown_as = gathered.integrations.get(integration_id)
        if integration_id == OTHER:
            shown_as = Integration(OTHER, OTHER, "", enabled=True)
        self._curves.begin(self._store, integration_id)
        replay = Replay(self._grid, stretch.first, stretch.last, shown_as, self._curves.put)
        tally = replay.run(past for past in own if self._is_ours(past.attempt, stretch, span))
        if span.seam is not None and (baseline := span.seam.baseline.get(integration_id)) is not None:
            self._lift(integration_id, tally, baseline)

    def _is_ours(self, attempt: Attempt, stretch: Stretch, span: Span) -> bool:
        account, created_ns = self.account, attempt.created_ns
        assert created_ns is not None  # noqa: S101  # the spool has no others
        account.ahead += created_ns > span.now_ns
        if span.seam is not None and span.seam.counted_live(created_ns, attempt.id):
            account.live += 1
            return False
        if created_ns <= self._grid.ns(stretch.first):
            account.older += 1
            return False
        if created_ns > self._grid.ns(stretch.last):
            # What the first walk had remembered belongs here, though it is dated later: no place is after the last.
            if span.seam is None or stretch.last < self._grid.at_or_before(span.until_ns):
                account.newer += 1
                return False
            account.moved += 1
        account.counted[attempt.integration_id] += 1
        return True

    def _lift(self, integration_id: str, tally: Tally, baseline: Tally) -> None:
        short = tally.attempts - baseline.attempts
        if short > 0:
            self.account.short[integration_id] = short
            return
        ours = dict(values_of(Shown(tally, None)))
        for (family, suffix, labels), value in values_of(Shown(baseline, None)):
            if cumulative(PAST[family]) and (family, suffix, labels) in ours:
                key = CurveKey(family, self._store, integration_id, suffix, labels)
                self._offsets[key] = value - ours[family, suffix, labels]

    def _stretch(self, integration_id: str, gathered: Gathered, span: Span, oldest: dict[str, int]) -> Stretch | None:
        """None: nothing of it can be shown."""
        grid, reached = self._grid, _reach_of(integration_id, gathered)
        if reached is None or (integration_id not in gathered.reaches and integration_id != OTHER):
            return None
        since, last = grid.at_or_before(span.since_ns), grid.at_or_before(span.until_ns)
        if reached.after_ns is not None:
            first = max(since, grid.at_or_after(reached.after_ns))
        elif reached.floor:
            first = since
        else:
            # All that EPCC still holds was read; when it let go of older logs is not known.
            all_logs = gathered.all_logs is not None and gathered.all_logs.whole
            known = [at_ns for each, at_ns in oldest.items() if all_logs or each == integration_id]
            first = grid.at_or_after(min(known)) - 1
            # What the first walk had remembered counts at the last place, even if it is all younger than that.
            first = max(since, first if span.seam is None else min(first, last - 1))
        if reached.until_ns is not None:
            last = min(last, grid.at_or_before(reached.until_ns))
        return Stretch(first, last) if first < last else None

    def _fold(self, gathered: Gathered, max_series: int) -> set[tuple[str, str]]:
        """What is beyond `max_series` counts as `other`, in the order in which it turned up."""
        room = Room({}, max_series)
        codes = [pair for pair in self._spool.codes(self._store) if pair[0] in gathered.reaches]
        probes = [Attempt("-", name, None, None, None, None, code, None, None, ()) for name, code in codes]
        folded = [(each.integration_id, each.status_code) for each in room.fold(probes, frozenset())]
        self._spool.rename(self._store, {was: now for was, now in zip(codes, folded, strict=True) if was != now})
        return room.folded


def _reach_of(integration_id: str, gathered: Gathered) -> Reach | None:
    """`other` holds several integrations: it is known where all logs are."""
    return gathered.all_logs if integration_id == OTHER else gathered.reaches.get(integration_id)
