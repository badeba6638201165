"""What is held of one integration: the numbers that `/metrics` shows, as integers.

A tally is stored as JSON in one row and published by reference, so it is replaced, never changed, once it was handed
on: `ledger` works on copies. Changing a bucket's bound here starts that histogram anew (`Tally.migrated`).
"""

from __future__ import annotations

import copy
from typing import Final

import msgspec

from exporter.records import REASONS

# Seconds. 10 s is EPCC's time-out for webhooks, so the bucket above it holds what should not exist.
PROCESSING_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
DELIVERY_BOUNDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


class Histogram(msgspec.Struct):
    """`counts[i]` is the number of values in (bounds[i-1], bounds[i]]; the last one is above every bound."""

    bounds: tuple[float, ...]  # seconds, ascending, without +Inf
    counts: list[int]  # one more than bounds; NOT cumulative
    sum_us: int = 0  # microseconds

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        return cls(bounds, [0] * (len(bounds) + 1))

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, microseconds: int) -> None:
        seconds = microseconds / 1_000_000
        place = next((i for i, bound in enumerate(self.bounds) if seconds <= bound), len(self.bounds))
        self.counts[place] += 1
        self.sum_us += microseconds


class Tally(msgspec.Struct):
    """Counters, histograms and gauges of one integration of one store."""

    attempts: int = 0
    failures: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(REASONS, 0))  # every reason, always
    responses: dict[str, int] = msgspec.field(default_factory=dict)  # by status_code; a code seen only before: 0
    retries: int = 0
    processing: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(PROCESSING_BOUNDS))
    jobs: int = 0
    delivered_first: int = 0
    delivered_retry: int = 0
    delivery: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(DELIVERY_BOUNDS))
    consecutive_failures: int = 0
    jobs_failing: int = 0
    last_attempt_ns: int | None = None
    last_success_ns: int | None = None
    last_failure_ns: int | None = None
    born_ns: int = 0  # host's clock at the row's birth; code_born_ns likewise for a status code's series
    announced: bool = False  # False: its counters are newborn, and are shown as 0 whatever they hold
    announced_codes: list[str] = msgspec.field(default_factory=list)  # sorted; other codes' series are shown as 0
    code_born_ns: dict[str, int] = msgspec.field(default_factory=dict)

    def copied(self) -> Tally:
        return copy.deepcopy(self)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())
