"""The native histogram: each value in the one bucket that the format's definition gives it, in whatever order it came."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.native import BUCKETS_MAX, SCHEMA, ZERO_THRESHOLD, Native, bound_of, index_of

values = st.integers(0, 3_600_000_000) | st.integers(0, 20)  # microseconds


def observed(microseconds: list[int]) -> Native:
    native = Native()
    for each in microseconds:
        native.observe_all([each / 1_000_000])
    return native


def bounds(at: int, schema: int) -> tuple[float, float]:
    width = 2.0**-schema
    return 2.0 ** ((at - 1) * width), 2.0 ** (at * width)


@given(st.lists(values, max_size=300), st.randoms())
def test_the_same_values_give_the_same_histogram_in_any_order(microseconds: list[int], chance: random.Random) -> None:
    once = observed(microseconds)
    chance.shuffle(microseconds)
    again = observed(microseconds)
    assert (again.schema, again.zero, again.buckets) == (once.schema, once.zero, once.buckets)
    together = Native()
    together.observe_all(sorted(each / 1_000_000 for each in microseconds))
    assert together == once
    assert once.count == len(microseconds)


@given(st.lists(values, max_size=300))
def test_every_bucket_holds_the_values_between_its_bounds(microseconds: list[int]) -> None:
    native = observed(microseconds)
    for at, count in native.buckets.items():
        low, high = bounds(at, native.schema)
        # A value at a bound belongs below it; the bound itself is known to the last bit alone.
        held = [each for each in microseconds if low * (1 + 1e-12) < each / 1e6 <= high * (1 + 1e-12)]
        assert len(held) == count
    assert native.zero == microseconds.count(0)


@pytest.mark.parametrize(
    ("seconds", "at"), [(1.0, 0), (2.0, 8), (0.5, -8), (10.0, 27), (1.0000001, 1), (0.000001, -159)]
)
def test_a_power_of_two_is_the_upper_bound_of_its_bucket(seconds: float, at: int) -> None:
    assert index_of(seconds) == at
    low, high = bounds(at, SCHEMA)
    assert low < seconds <= high
    assert bound_of(at) == pytest.approx(high, rel=1e-12)


@given(st.floats(ZERO_THRESHOLD, 1e9, exclude_min=True))
def test_a_bucket_ends_where_the_next_one_begins(seconds: float) -> None:
    at = index_of(seconds)
    assert bound_of(at - 1) < seconds <= bound_of(at)
    assert (index_of(bound_of(at)), index_of(math.nextafter(bound_of(at), math.inf))) == (at, at + 1)


def test_past_the_limit_the_resolution_halves_and_no_value_is_lost() -> None:
    spread = [round(10 ** (decade / 40)) for decade in range(400)]  # from 1 µs to nearly three hours
    native = observed(spread)
    assert native.schema < SCHEMA
    assert len(native.buckets) <= BUCKETS_MAX
    assert native.count == len(spread)
    finer = {
        at: sum(1 for each in spread if -(-index_of(each / 1e6) // 2 ** (SCHEMA - native.schema)) == at)
        for at in native.buckets
    }
    assert finer == native.buckets


def test_what_took_no_time_is_in_the_zero_bucket() -> None:
    assert ZERO_THRESHOLD < 1e-6
    assert observed([0, 0, 1]).zero == 2


@given(st.lists(values, max_size=100))
def test_spans_and_differences_give_the_buckets_back(microseconds: list[int]) -> None:
    native = observed(microseconds)
    runs, deltas = native.spans()
    found, end, count = {}, 0, 0
    left = list(deltas)
    for number, (offset, length) in enumerate(runs):
        assert length > 0
        assert offset > 0 or number == 0
        for at in range(end + offset, end + offset + length):
            count += left.pop(0)
            found[at] = count
        end += offset + length
    assert (found, left) == (native.buckets, [])


def test_a_copy_and_what_was_stored_change_with_nobody() -> None:
    native = observed([1, 2, 3])
    copy, stored = native.copied(), msgspec.json.encode(native)
    native.observe_all([1.0])
    assert copy.count == 3
    assert msgspec.json.decode(stored, type=Native) == copy


def test_a_quantile_read_off_its_buckets_is_within_the_resolution() -> None:
    worst = max(
        Fraction(bounds(at, SCHEMA)[1] / math.sqrt(bounds(at, SCHEMA)[0] * bounds(at, SCHEMA)[1]))
        for at in range(-80, 80)
    )
    assert worst < Fraction(1045, 1000)  # 4.4 % off the middle, at most
