"""How late logs show: what is observed all at once shows what the library would, observing it one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from exporter.delays import Delays

BOUNDS = (1.0, 5.0, 15.0)
NAME, TEXT = "delay_seconds", "How late."
MICROSECOND = 1000  # ns


def page(collector: Delays | CollectorRegistry) -> str:
    if isinstance(collector, Delays):
        registry = CollectorRegistry()
        registry.register(collector)
        return page(registry)
    return generate_latest(collector).decode()


def one_by_one(by_store: dict[str, Sequence[int]]) -> str:
    registry = CollectorRegistry()
    histogram = Histogram(NAME, TEXT, ["store"], buckets=BOUNDS, registry=registry)
    for store, microseconds in by_store.items():
        child = histogram.labels(store)
        for each in microseconds:
            child.observe(each / 1e6)
    return "\n".join(line for line in page(registry).splitlines() if "_created" not in line)


DELAYS = st.lists(st.sampled_from([0, 1, 999_999, 1_000_000, 1_000_001, 5_000_000, 15_000_000, 15_000_001, 10**12]))


@given(DELAYS, DELAYS)
def test_all_at_once_is_as_one_by_one(first: list[int], second: list[int]) -> None:
    delays = Delays(NAME, TEXT, BOUNDS)
    delays.observe_all("acme", [each * MICROSECOND for each in first])
    delays.observe_all("acme", [each * MICROSECOND for each in second])
    delays.add("other")
    shown = page(delays).splitlines()
    expected = one_by_one({"acme": [*first, *second], "other": []}).splitlines()
    sums = [line for line in shown if "_sum" in line]
    assert [line for line in shown if line not in sums] == [line for line in expected if "_sum" not in line]
    # Ours is a sum of whole numbers, theirs of rounded ones.
    assert float(sums[0].split()[1]) == pytest.approx(sum([*first, *second]) / 1e6)
    assert sums[1].split()[1] == "0.0"


def test_to_add_a_store_again_takes_nothing_from_it() -> None:
    delays = Delays(NAME, TEXT, BOUNDS)
    delays.observe_all("acme", [2_000_000_000])
    delays.add("acme")
    assert 'delay_seconds_count{store="acme"} 1.0' in page(delays)


def test_a_store_that_left_is_not_shown() -> None:
    delays = Delays(NAME, TEXT, BOUNDS)
    delays.add("acme")
    delays.add("other")
    delays.remove("acme")
    delays.remove("acme")
    assert "acme" not in page(delays)
    assert 'delay_seconds_count{store="other"} 0.0' in page(delays)


def test_its_name_is_taken() -> None:
    registry = CollectorRegistry()
    registry.register(Delays(NAME, TEXT, BOUNDS))
    with pytest.raises(ValueError, match=NAME):
        registry.register(Delays(NAME, TEXT, BOUNDS))
