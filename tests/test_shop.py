"""The shop: believable deliveries, and the same ones for the same seed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from exporter.shop import SCENARIOS, SECOND, Breakdown, Log, Scenario, Shop

START = 1_700_000_000 * SECOND
HOUR = 3600 * SECOND
SMALL = Scenario(2.0, history_seconds=600.0)


def by_job(logs: list[Log]) -> dict[str, list[Log]]:
    jobs: dict[str, list[Log]] = {}
    for log in logs:
        jobs.setdefault(log.job_id, []).append(log)
    return jobs


@pytest.mark.parametrize("step_seconds", [0.3, 7.0, 500.0])
def test_the_same_seed_gives_the_same_logs_however_often_it_is_asked(step_seconds: float) -> None:
    whole = Shop(SMALL, 7, START).until(START + HOUR // 4)
    asked, pieces = Shop(SMALL, 7, START), []
    now = START - HOUR
    while now < START + HOUR // 4:
        now = min(now + round(step_seconds * SECOND), START + HOUR // 4)
        pieces += asked.until(now)
    assert pieces == whole
    assert len(whole) > 1000


def test_another_seed_gives_another_shop() -> None:
    one, other = Shop(SMALL, 1, START), Shop(SMALL, 2, START)
    assert {i.id for i in one.integrations}.isdisjoint(i.id for i in other.integrations)
    assert {log.id for log in one.until(START)}.isdisjoint(log.id for log in other.until(START))


def test_a_time_before_the_last_brings_nothing() -> None:
    shop = Shop(SMALL, 1, START)
    assert shop.until(START)
    assert shop.until(START - HOUR) == []
    assert shop.until(START) == []


def test_logs_come_in_the_order_of_their_creation_with_ids_of_their_own() -> None:
    logs = Shop(SMALL, 1, START).until(START)
    created = [log.created_ns for log in logs]
    assert created == sorted(created)
    assert created[0] > START - 600 * SECOND
    assert created[-1] <= START
    assert len({log.id for log in logs}) == len(logs)


def test_logs_become_visible_after_their_creation_and_within_the_scenarios_lateness() -> None:
    late = [log.visible_ns - log.created_ns for log in Shop(SMALL, 1, START).until(START)]
    assert min(late) >= 0
    assert max(late) <= SMALL.late_seconds * SECOND
    assert max(late) > SMALL.late_seconds * SECOND / 2


def test_an_integration_shows_secrets_as_the_real_api_does() -> None:
    shop = Shop(SMALL, 1, START)
    assert [i.integration_type for i in shop.integrations].count("aws_sqs") == 1
    assert len(shop.integrations) == 6
    assert all("?token=" in i.url and len(i.secret_key) == 32 for i in shop.integrations)
    assert all(1 <= len(i.observes) <= 5 for i in shop.integrations)


def test_bodies_hold_personal_data_so_that_a_leak_can_be_seen() -> None:
    assert any("ada.muster@example.com" in log.body for log in Shop(SMALL, 1, START).until(START))


def test_a_failed_try_is_followed_by_the_next_one_later_each_time_and_a_success_by_none() -> None:
    scenario = replace(SMALL, breakdown=Breakdown(0, 1, 1, refusing_share=0.0))  # always broken
    retried = 0
    for tries in by_job(Shop(scenario, 1, START).until(START + 4 * HOUR)).values():
        assert [log.attempt for log in tries] == list(range(1, len(tries) + 1))
        assert not any(log.succeeded for log in tries[:-1])
        waits = [b.created_ns - a.created_ns for a, b in pairwise(tries)]
        if len(waits) > 3 and all(log.status_code == 503 for log in tries):
            retried += 1
            assert waits == sorted(waits)
        assert len(tries) <= scenario.attempts_max
    assert retried > 100


def test_the_breaking_receiver_answers_503_then_refuses_then_recovers() -> None:
    scenario = Scenario(5.0, Breakdown(120, 300, 1800), late_seconds=0)
    shop = Shop(scenario, 1, START)
    broken_id = next(i.id for i in shop.integrations if i.name == "Order shipping")
    logs = [log for log in shop.until(START + 1500 * SECOND) if log.integration_id == broken_id]

    def between(begin: int, end: int) -> list[Log]:
        return [log for log in logs if begin < (log.created_ns - START) / SECOND < end]

    assert sum(log.succeeded for log in between(0, 118)) > 0.9 * len(between(0, 118))
    assert {log.status_code for log in between(125, 265)} == {503}
    assert {log.status_code for log in between(275, 415)} == {None}
    assert all("connection refused" in log.error_detail for log in between(275, 415))
    assert sum(log.succeeded for log in between(425, 1500)) > 0.9 * len(between(425, 1500))
    assert any(log.succeeded and log.attempt > 1 for log in between(425, 1500))


def test_the_slow_receiver_times_out_at_ten_seconds_with_the_status_0() -> None:
    shop = Shop(SMALL, 1, START)
    slow_id = next(i.id for i in shop.integrations if i.name == "ERP sync")
    logs = [log for log in shop.until(START + HOUR) if log.integration_id == slow_id]
    timed_out = [log for log in logs if log.status_code == 0]
    assert timed_out
    assert all("Client.Timeout exceeded while awaiting headers" in log.error_detail for log in timed_out)
    assert all(10 <= (log.processing_time or 0) < 10.1 for log in timed_out)
    assert all((log.processing_time or 0) < 10 for log in logs if log.status_code != 0)


def test_busy_hours_have_more_logs_than_quiet_ones() -> None:
    logs = Shop(Scenario(0.5, history_seconds=86_400.0, daily_swing=0.8), 1, START).until(START)
    hours = [log.created_ns // SECOND % 86_400 // 3600 for log in logs]
    assert sum(13 <= h < 17 for h in hours) > 2 * sum(1 <= h < 5 for h in hours)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("shop", 1, 3), ("healthy", 1, 2.5), ("breaking", 1, 3), ("busy", 35, 75), ("quiet", 0.001, 0.01)],
)
def test_a_scenario_has_about_the_rate_that_it_is_named_for(name: str, low: float, high: float) -> None:
    history_seconds = 900.0 if name == "busy" else 86_400.0
    scenario = replace(SCENARIOS[name], history_seconds=history_seconds)
    assert low < len(Shop(scenario, 1, START).until(START)) / history_seconds < high


def test_in_a_healthy_shop_no_integration_fails_more_than_it_may_or_comes_near_the_time_out() -> None:
    shop = Shop(replace(SCENARIOS["healthy"], history_seconds=21_600.0), 1, START)
    logs = shop.until(START)
    for integration in shop.integrations:
        own = [log for log in logs if log.integration_id == integration.id]
        assert len(own) > 500
        assert sum(not log.succeeded for log in own) < 0.005 * len(own)
        assert sum((log.processing_time or 0) > 5 for log in own) < 0.01 * len(own)


def test_an_empty_shop_has_integrations_and_no_logs() -> None:
    shop = Shop(SCENARIOS["empty"], 1, START)
    assert len(shop.integrations) == 6
    assert shop.until(START + 24 * HOUR) == []


def test_a_scenario_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="daily_swing"):
        Scenario(1.0, daily_swing=1.5)
