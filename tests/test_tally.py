"""A tally is stored, copied and read back by other versions without a number that steps back but to 0."""

from __future__ import annotations

from typing import Any

import msgspec

from exporter.native import Native
from exporter.tally import DELIVERY_BOUNDS, PROCESSING_BOUNDS, Histogram, Tally


def filled() -> Tally:
    tally = Tally(attempts=3, responses={"200": 3}, announced_codes=["200"], code_born_ns={"200": 1}, born_ns=1)
    for microseconds in (0, 250_000, 31_000_000):
        tally.processing.observe(microseconds)
        tally.delivery.observe(microseconds)
    return tally


def stored(tally: Tally, **changes: Any) -> Tally:
    fields = msgspec.to_builtins(tally, str_keys=True)
    for path, value in changes.items():
        node, _, last = path.rpartition("__")
        target = fields[node] if node else fields
        if value is None:
            del target[last]
        else:
            target[last] = value
    return msgspec.convert(fields, Tally, strict=False)


def test_what_is_stored_reads_back_the_same_and_needs_no_renewal() -> None:
    tally = filled()
    again = msgspec.json.decode(msgspec.json.encode(tally), type=Tally)
    assert again == tally
    assert again.renewed() == tally


def test_native_and_classic_buckets_hold_the_same_values() -> None:
    tally = filled()
    assert tally.processing.native is not None
    assert tally.processing.native.count == tally.processing.count == 3
    assert tally.delivery.native is None


def test_values_that_come_together_stand_where_each_would_by_itself() -> None:
    values = [0, 1, 49_999, 50_000, 50_001, 100_000, 2_500_000, 30_000_000, 30_000_001, 9, 9]
    together, singly = Tally().processing, Tally().processing
    together.observe_all(values)
    for each in values:
        singly.observe(each)
    assert together == singly
    assert (together.count, together.sum_us) == (len(values), sum(values))
    assert together.counts == [6, 2, 0, 0, 0, 1, 0, 0, 1, 1]


def test_a_copy_shares_nothing_that_counting_changes() -> None:
    tally = filled()
    before = msgspec.json.encode(tally)
    copy = tally.copied()
    copy.attempts += 1
    copy.failures["dns"] += 1
    copy.responses["500"] = 1
    copy.code_born_ns["500"] = 2
    copy.announced_codes.append("500")
    copy.processing.observe(1)
    copy.delivery.observe(1)
    assert msgspec.json.encode(tally) == before
    assert msgspec.json.encode(copy) != before


def test_processing_times_written_without_native_buckets_begin_at_0() -> None:
    renewed = stored(filled(), processing__native=None).renewed()
    assert renewed.processing == Histogram.empty(PROCESSING_BOUNDS, Native())
    assert (renewed.attempts, renewed.delivery) == (3, filled().delivery)


def test_native_buckets_that_do_not_add_up_to_the_classic_ones_begin_at_0_with_them() -> None:
    """A version that did not know them has counted in between."""
    behind = filled()
    assert behind.processing.native is not None
    behind.processing.native.zero -= 1
    assert stored(behind).renewed().processing.count == 0


def test_a_histogram_written_with_other_bounds_begins_at_0() -> None:
    other = filled()
    other.delivery = Histogram((1.0,), [2, 1], 5)
    assert stored(other).renewed().delivery == Histogram.empty(DELIVERY_BOUNDS)
    other = filled()
    other.processing = Histogram((1.0,), [2, 1], 5, Native(3, 3))
    assert stored(other).renewed().processing == Histogram.empty(PROCESSING_BOUNDS, Native())
