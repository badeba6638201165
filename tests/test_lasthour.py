"""The last hour, from the differences of published tallies."""

from __future__ import annotations

import pytest

from exporter.lasthour import INTEGRATIONS_MAX, SLOT_SECONDS, SLOTS, Hour, LastHour, quantile
from exporter.metrics import Shown
from exporter.tally import PROCESSING_BOUNDS, Tally


def shown(attempts: int, failed: int = 0, *seconds: float) -> Shown:
    tally = Tally(attempts=attempts)
    tally.failures["http_5xx"] = failed
    for each in seconds:
        tally.processing.observe(round(each * 1e6))
    return Shown(tally, None)


def hour_at(now: float, *published: tuple[float, Shown | None]) -> Hour | None:
    hour = LastHour(0.0)
    for at, view in published:
        hour.note({"a": view}, at)
    return hour.of("a", now)


def test_what_is_shown_first_is_the_baseline_and_only_what_follows_counts() -> None:
    assert hour_at(1, (0, shown(1000, 500))) == Hour((0,), (0,), None)
    assert hour_at(61, (0, shown(1000, 500)), (60, shown(1003, 501))) == Hour((3,), (1,), None)


def test_an_integration_that_appears_later_counts_from_its_first_attempt() -> None:
    hour = LastHour(0.0)
    hour.note({"a": shown(5)}, 0)
    hour.note({"b": shown(2, 1)}, 10)
    assert hour.sums("b", 20) == (2, 1)


def test_slots_go_by_time_with_the_present_one_last_and_an_hour_later_they_are_gone() -> None:
    published = ((0.0, shown(0)), (10.0, shown(4, 1)), (2.5 * SLOT_SECONDS, shown(9, 1)))
    assert hour_at(2.9 * SLOT_SECONDS, *published) == Hour((4, 0, 5), (1, 0, 0), None)
    full = hour_at((SLOTS - 0.5) * SLOT_SECONDS, *published)
    assert full == Hour((4, 0, 5, *(0,) * (SLOTS - 3)), (1, *(0,) * (SLOTS - 1)), None)
    assert hour_at((SLOTS + 0.5) * SLOT_SECONDS, *published) == Hour((0, 5, *(0,) * (SLOTS - 2)), (0,) * SLOTS, None)
    assert hour_at(100 * SLOTS * SLOT_SECONDS, *published) == Hour((0,) * SLOTS, (0,) * SLOTS, None)


def test_a_counter_that_began_at_0_again_counts_nothing_backwards() -> None:
    assert hour_at(3, (0, shown(9, 3)), (1, shown(2, 0)), (2, shown(5, 1))) == Hour((3,), (1,), None)


def test_one_that_left_is_not_known_and_comes_back_from_0() -> None:
    assert hour_at(3, (0, shown(9)), (1, shown(12)), (2, None)) is None
    assert hour_at(3, (0, shown(9)), (2, None), (2, shown(1))) == Hour((1,), (0,), None)


def test_what_is_published_again_unchanged_counts_nothing() -> None:
    hour = LastHour(0.0)
    hour.note({"a": shown(1)}, 0)
    view = shown(3)
    for at in range(1, 5):
        hour.note({"a": view}, at)
    assert hour.sums("a", 5) == (2, 0)


def test_past_the_limit_an_integration_has_no_hour_and_the_others_go_on() -> None:
    hour = LastHour(0.0)
    hour.note({f"int-{i}": shown(0) for i in range(INTEGRATIONS_MAX)}, 0)
    hour.note({"beyond": shown(1), "int-7": shown(1)}, 1)
    assert hour.of("beyond", 2) is None
    assert hour.sums("beyond", 2) is None
    assert hour.sums("int-7", 2) == (1, 0)


def test_the_p95_is_that_of_the_last_hour_alone() -> None:
    slow, fast = [9.0] * 10, [0.2] * 10
    published = ((0.0, shown(0)), (1.0, shown(10, 0, *slow)), (SLOT_SECONDS + 1.0, shown(20, 0, *slow, *fast)))
    later = hour_at(SLOT_SECONDS * SLOTS + 1.0, *published)
    before = hour_at(SLOT_SECONDS + 2.0, *published)
    assert later is not None
    assert before is not None
    assert (sum(later.attempts), sum(before.attempts)) == (10, 20)
    assert later.p95_seconds == pytest.approx(0.1 + 0.15 * 0.95)
    assert before.p95_seconds == pytest.approx(5 + 5 * 0.9)


def test_a_quantile_is_what_prometheus_estimates() -> None:
    counts = [0] * (len(PROCESSING_BOUNDS) + 1)
    assert quantile(0.95, counts) is None
    assert quantile(0.5, [10, *counts[1:]]) == pytest.approx(0.025)
    assert quantile(0.5, [*counts[:7], 2, 0, 0]) == pytest.approx(7.5)


def test_a_quantile_above_the_time_out_is_the_time_out() -> None:
    counts = [0] * (len(PROCESSING_BOUNDS) + 1)
    assert quantile(0.95, [*counts[:-2], 3, 0]) == quantile(0.95, [*counts[:-1], 3]) == 10.0


def test_requests_a_second_are_those_of_the_last_minutes() -> None:
    hour = LastHour(0.0)
    for _ in range(30):
        hour.note_request(1.0)
    assert hour.requests_per_second(10.0) == pytest.approx(3.0)
    assert hour.requests_per_second(2 * SLOT_SECONDS + 1.0) == 0
    assert (hour.seconds(10.0), hour.seconds(9999.0)) == (10.0, 3600.0)
