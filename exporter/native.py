"""The native histogram beside the classic one: exponential buckets, exact, and the same in whatever order values came.

Facts (Prometheus's exposition of native histograms): at schema s, bucket i holds the values in (b**(i-1), b**i] with
b = 2**2**-s; the zero bucket holds those up to its threshold. One of schema s-1 is two of schema s joined, so a
histogram with too many buckets is brought to half its resolution without any value being counted anew. Which buckets
there are in the end depends on the values alone: the limit is passed by the same set, whoever came first.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec

SCHEMA: Final = 3  # eight buckets for each doubling: a quantile is at most 4.4 % off
BUCKETS_MAX: Final = 160  # what client_golang's documentation recommends; 20 doublings at full resolution
ZERO_THRESHOLD: Final = 2.0**-128  # client_golang's; ours holds what took no time at all
# Upper bounds within one doubling, as `math.frexp` has its fraction: from 0.5 up to below 1.
_BOUNDS: Final = tuple(2.0 ** (step / 2**SCHEMA - 1) for step in range(2**SCHEMA))


def index_of(seconds: float) -> int:
    """The bucket at SCHEMA of a value above 0."""
    fraction, exponent = math.frexp(seconds)
    return bisect_left(_BOUNDS, fraction) + (exponent - 1) * len(_BOUNDS)


def bound_of(index: int) -> float:
    """The highest value of a bucket at SCHEMA, in seconds."""
    doublings, step = divmod(index, len(_BOUNDS))
    return math.ldexp(_BOUNDS[step], doublings + 1)


class Native(msgspec.Struct):
    """Counts by bucket, NOT cumulative; values are seconds, and never negative."""

    schema: int = SCHEMA
    zero: int = 0
    buckets: dict[int, int] = msgspec.field(default_factory=dict)  # by index at `schema`

    @property
    def count(self) -> int:
        return self.zero + sum(self.buckets.values())

    def observe_all(self, seconds: Sequence[float]) -> None:
        """In ascending order."""
        down, buckets = SCHEMA - self.schema, self.buckets
        start = bisect_right(seconds, ZERO_THRESHOLD)
        self.zero += start
        while start < len(seconds):
            index = index_of(seconds[start])
            end = bisect_right(seconds, bound_of(index), start)
            at = -(-index >> down)  # rounded up: a bucket belongs to its upper bound
            buckets[at] = buckets.get(at, 0) + end - start
            start = end
        while len(self.buckets) > BUCKETS_MAX:
            self._halve()

    def _halve(self) -> None:
        joined: dict[int, int] = {}
        for at, count in self.buckets.items():
            half = -(-at // 2)
            joined[half] = joined.get(half, 0) + count
        self.schema -= 1
        self.buckets = joined

    def copied(self) -> Native:
        return Native(self.schema, self.zero, dict(self.buckets))

    def spans(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Runs of neighbouring buckets, each (distance from the end of the one before, length); and for each bucket
        the difference of its count from the one before: what the protobuf format has of them."""
        runs: list[tuple[int, int]] = []
        deltas: list[int] = []
        end = before = 0
        for at in sorted(self.buckets):
            if runs and at == end:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((at - end, 1))
            end = at + 1
            deltas.append(self.buckets[at] - before)
            before = self.buckets[at]
        return runs, deltas
