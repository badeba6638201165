"""What is held of one integration: the numbers that `/metrics` shows, as integers.

A tally is stored as JSON in one row and published by reference, so it is replaced, never changed, once it was handed
on: `ledger` works on copies. Changing a bucket's bound here starts that histogram anew (`Tally.renewed`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from exporter.native import Native
from exporter.records import REASONS

TIMEOUT_SECONDS: Final = 10.0  # EPCC's, for webhooks
# Seconds. The buckets above the time-out hold what should not exist, and what it has ended.
PROCESSING_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, TIMEOUT_SECONDS, 30.0)
DELIVERY_BOUNDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


class Histogram(msgspec.Struct):
    """`counts[i]` is the number of values in (bounds[i-1], bounds[i]]; the last one is above every bound."""

    bounds: tuple[float, ...]  # seconds, ascending, without +Inf
    counts: list[int]  # one more than bounds; NOT cumulative
    sum_us: int = 0  # microseconds
    native: Native | None = None  # of the same values; None: kept in classic buckets alone

    @classmethod
    def empty(cls, bounds: tuple[float, ...], native: Native | None = None) -> Histogram:
        return cls(bounds, [0] * (len(bounds) + 1), 0, native)

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, microseconds: int) -> None:
        self.observe_all((microseconds,))

    def observe_all(self, microseconds: Sequence[int]) -> None:
        """In order, each bucket's values stand together: what is looked for is where they end."""
        counts, start = self.counts, 0
        seconds = sorted([each / 1_000_000 for each in microseconds])
        for place, bound in enumerate(self.bounds):
            end = bisect_right(seconds, bound, start)
            counts[place] += end - start
            start = end
        counts[-1] += len(seconds) - start
        self.sum_us += sum(microseconds)
        if self.native is not None:
            self.native.observe_all(seconds)

    def copied(self) -> Histogram:
        native = None if self.native is None else self.native.copied()
        return Histogram(self.bounds, self.counts.copy(), self.sum_us, native)


def _processing() -> Histogram:
    return Histogram.empty(PROCESSING_BOUNDS, Native())


def _delivery() -> Histogram:
    return Histogram.empty(DELIVERY_BOUNDS)


class Tally(msgspec.Struct):
    """Counters, histograms and gauges of one integration of one store."""

    attempts: int = 0
    failures: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(REASONS, 0))  # every reason, always
    responses: dict[str, int] = msgspec.field(default_factory=dict)  # by status_code; a code seen only before: 0
    retries: int = 0
    processing: Histogram = msgspec.field(default_factory=_processing)
    jobs: int = 0
    delivered_first: int = 0
    delivered_retry: int = 0
    delivery: Histogram = msgspec.field(default_factory=_delivery)
    consecutive_failures: int = 0
    jobs_failing: int = 0
    last_attempt_ns: int | None = None
    last_success_ns: int | None = None
    last_failure_ns: int | None = None
    born_ns: int = 0  # when its counters began at 0, by the server's clock; 0: not at 0, but at a baseline
    announced: bool = False  # False: its counters are newborn, and are shown as 0 whatever they hold
    announced_codes: list[str] = msgspec.field(default_factory=list)  # sorted; other codes' series are shown as 0
    code_born_ns: dict[str, int] = msgspec.field(default_factory=dict)  # likewise, of a status code's series

    def copied(self) -> Tally:
        return replace(
            self,
            failures=self.failures.copy(),
            responses=self.responses.copy(),
            processing=self.processing.copied(),
            delivery=self.delivery.copied(),
            announced_codes=self.announced_codes.copy(),
            code_born_ns=self.code_born_ns.copy(),
        )

    def renewed(self) -> Tally:
        """With histograms as this version keeps them: one that was written otherwise begins at 0, a reset to whoever
        reads it."""
        was = self.processing.native
        if self.processing.bounds != PROCESSING_BOUNDS or was is None or was.count != self.processing.count:
            self.processing = _processing()
        if self.delivery.bounds != DELIVERY_BOUNDS:
            self.delivery = _delivery()
        return self

    @property
    def newborn_codes(self) -> Collection[str]:
        """Status codes whose series are still shown as 0."""
        if len(self.announced_codes) == len(self.responses):  # those announced are among them: mostly, all
            return ()
        return self.responses.keys() - set(self.announced_codes)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())
