"""The last hour of each integration of a store, from the differences of its published tallies. In memory, since start.

An attempt stands in the slot in which it was counted and shown, not in the one in which it was made: after an outage of
EPCC or of the exporter the first slots hold what was caught up with. What a store shows first is its baseline.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from exporter.metrics import Shown
from exporter.tally import PROCESSING_BOUNDS, TIMEOUT_SECONDS, Tally

SLOT_SECONDS: Final = 120
SLOTS: Final = 30
INTEGRATIONS_MAX: Final = 10_000  # of a store; about 1.5 kB each once they have attempts. Beyond it an hour is None
_BUCKETS: Final = len(PROCESSING_BOUNDS) + 1
_ROWS: Final = 2 + _BUCKETS  # attempts, failed, each bucket of processing times
_EMPTY: Final = array("I", [0] * (_ROWS * SLOTS))  # 32 bits: enough for 35 million attempts a second


@dataclass(frozen=True, slots=True)
class Hour:
    """`attempts` and `failed` by slot, the present one last; shorter than SLOTS while there was no earlier one."""

    attempts: tuple[int, ...]
    failed: tuple[int, ...]
    p95_seconds: float | None  # as `quantile` estimates it from the buckets; None: no attempt names its time


class _Ring:
    """Row after row of SLOTS numbers, so that a row's sum is one slice's. `slot`: the newest that was written to."""

    __slots__ = ("numbers", "slot")

    def __init__(self, slot: int) -> None:
        self.numbers = _EMPTY[:]
        self.slot = slot

    def turn_to(self, slot: int) -> None:
        for passed in range(max(self.slot + 1, slot - SLOTS + 1), slot + 1):
            for row in range(_ROWS):
                self.numbers[row * SLOTS + passed % SLOTS] = 0
        self.slot = max(self.slot, slot)

    def row(self, row: int, slots: int) -> tuple[int, ...]:
        """The last `slots` ones, oldest first."""
        start, place = row * SLOTS, (self.slot + 1) % SLOTS
        turned = self.numbers[start + place : start + SLOTS] + self.numbers[start : start + place]
        return tuple(turned[SLOTS - slots :])

    def sum(self, row: int) -> int:
        return sum(self.numbers[row * SLOTS : (row + 1) * SLOTS])


class LastHour:
    """Of one store. Times are a monotonic clock's, in seconds."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._begun = False  # the store's first showing has been noted
        self._known: dict[str, Tally] = {}  # as published last; tallies are replaced and never changed
        self._rings: dict[str, _Ring] = {}
        self._requests = _Ring(self._slot(now))

    def note(self, changes: Mapping[str, Shown | None], now: float) -> None:
        """What is published now; None: the integration leaves."""
        slot = self._slot(now)
        for integration_id, shown in changes.items():
            if shown is None:
                self._known.pop(integration_id, None)
                self._rings.pop(integration_id, None)
                continue
            before = self._known.get(integration_id)
            if before is None and len(self._known) >= INTEGRATIONS_MAX:
                continue
            self._known[integration_id] = shown.tally
            if before is shown.tally or (before is None and not self._begun):
                continue
            _add(self._rings, integration_id, shown.tally, before or Tally(), slot)
        self._begun = self._begun or bool(changes)

    def note_request(self, now: float) -> None:
        self._requests.turn_to(self._slot(now))
        self._requests.numbers[self._requests.slot % SLOTS] += 1

    def seconds(self, now: float) -> float:
        """How much of the last hour has been seen."""
        return min(now - self._since, float(SLOTS * SLOT_SECONDS))

    def requests_per_second(self, now: float) -> float:
        """Of the last two slots at most: 2 to 4 minutes."""
        slot = self._slot(now)
        self._requests.turn_to(slot)
        lately = sum(self._requests.row(0, 2))
        began = max(self._since, (slot - 1) * SLOT_SECONDS)
        return lately / max(now - began, 1.0)

    def sums(self, integration_id: str, now: float) -> tuple[int, int] | None:
        """Attempts and failed ones; None as with `of`."""
        if integration_id not in self._known:
            return None
        ring = self._turned(integration_id, now)
        return (0, 0) if ring is None else (ring.sum(0), ring.sum(1))

    def of(self, integration_id: str, now: float) -> Hour | None:
        """None: it is beyond INTEGRATIONS_MAX, or has not been shown."""
        if integration_id not in self._known:
            return None
        slots = min(SLOTS, self._slot(now) - self._slot(self._since) + 1)
        ring = self._turned(integration_id, now)
        if ring is None:
            return Hour((0,) * slots, (0,) * slots, None)
        p95 = quantile(0.95, [ring.sum(row) for row in range(2, _ROWS)])
        return Hour(ring.row(0, slots), ring.row(1, slots), p95)

    def _turned(self, integration_id: str, now: float) -> _Ring | None:
        ring = self._rings.get(integration_id)
        if ring is not None:
            ring.turn_to(self._slot(now))
        return ring

    @staticmethod
    def _slot(now: float) -> int:
        return int(now // SLOT_SECONDS)


def _add(rings: dict[str, _Ring], integration_id: str, tally: Tally, before: Tally, slot: int) -> None:
    attempts = tally.attempts - before.attempts
    if attempts <= 0:
        return  # nothing was counted, or it began at 0 again after its state was lost
    failed = tally.failed - before.failed
    buckets = [now - was for now, was in zip(tally.processing.counts, before.processing.counts, strict=True)]
    if failed < 0 or min(buckets) < 0:
        return  # it began at 0 again, and has counted more since
    ring = rings.get(integration_id)
    if ring is None:
        ring = rings[integration_id] = _Ring(slot)
    ring.turn_to(slot)
    for row, number in enumerate((attempts, failed, *buckets)):
        if number:
            ring.numbers[row * SLOTS + slot % SLOTS] += number


def quantile(share: float, counts: list[int]) -> float | None:
    """Seconds, estimated as Prometheus's histogram_quantile does; None: nothing was counted.

    TIMEOUT_SECONDS at most, as the recording rules have it: what timed out stands in the bucket from there on, of which
    an estimate would make 20-odd seconds that nobody has waited.
    """
    cumulative = list(accumulate(counts))
    total = cumulative[-1]
    if total == 0:
        return None
    rank = share * total
    place = next(i for i, up_to in enumerate(cumulative) if up_to >= rank)
    if place > PROCESSING_BOUNDS.index(TIMEOUT_SECONDS):
        return TIMEOUT_SECONDS
    low = PROCESSING_BOUNDS[place - 1] if place else 0.0
    below = cumulative[place - 1] if place else 0
    return low + (PROCESSING_BOUNDS[place] - low) * (rank - below) / counts[place]
