"""The feeds at their limits: more logs than a list reaches, at the first start and between two polls, by every other
list that EPCC has; and what even those do not reach, told as a gap until it is too old to matter.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import pytest

from exporter import rows
from exporter.epcc import Epcc, log
from exporter.feeds import OFFSET_LIMIT
from exporter.manners import Manners
from exporter.shop import Integration
from tests.world import MakeWorld, assert_exact, at, settled, simple, virtual

OPEN = "epcc_exporter_gap_open{cause=offset_limit}"
TOTAL = "epcc_exporter_gaps_total{cause=offset_limit}"
THROUGH = "epcc_exporter_complete_through_timestamp_seconds"


def store_of(*names: str, **manners: object) -> Epcc:
    epcc = Epcc(Manners(**manners))  # type: ignore[arg-type]
    for name in names:
        epcc.add_integration(Integration(name, name.upper()))
    return epcc


@virtual
async def test_more_logs_than_the_documented_limit_between_two_polls_are_counted_from_each_integrations_list(
    world: MakeWorld,
) -> None:
    epcc = store_of("a", "b")
    w = world(epcc, history="skip")
    await w.polls()
    half = OFFSET_LIMIT * 6 // 10
    epcc.add(*[log(f"{name}{i}", at(5 + i / 10_000), integration_id=name) for name in "ab" for i in range(half)])
    await w.polls(2)
    await settled(w)
    assert_exact(w)
    assert sum(counted["attempts"] for counted in w.tallied().values()) == 2 * half


@virtual
async def test_a_history_longer_than_the_limit_is_the_baseline_where_each_integrations_list_reaches_its_own(
    world: MakeWorld,
) -> None:
    epcc = store_of("a", "b", "c", offset_limit=300)
    epcc.add(*[log(f"{name}{i}", at(-5 - i), integration_id=name) for name in "abc" for i in range(250)])
    w = world(epcc, history="count")
    await w.polls()
    assert_exact(w)
    samples = await w.scrape()
    assert samples["epcc_integration_attempts_total{integration_id=a}"] == 250
    assert samples.get(OPEN, 0) == 0


@virtual
async def test_a_store_past_every_limit_from_the_first_moment_is_shown_with_its_gap_and_counts_on(
    world: MakeWorld,
) -> None:
    epcc = store_of("a", offset_limit=100)
    epcc.add(*[log(f"h{i}", at(-5 - i)) for i in range(5)])
    epcc.add(*[log(f"a{i}", at(-5 - i / 100), integration_id="a") for i in range(1_500)])
    w = world(epcc, history="count")
    await w.polls()
    samples = await w.scrape()
    assert samples[OPEN] == 1
    baseline = samples["epcc_integration_attempts_total{integration_id=a}"]
    assert 0 < baseline <= 1_500
    epcc.add(*[log(f"n{i}", at(12 + i), integration_id="a") for i in range(5)])
    await w.polls(2)
    assert (await w.scrape())["epcc_integration_attempts_total{integration_id=a}"] == baseline + 5


def test_a_gap_names_its_integrations_and_its_time_once_and_is_open_until_keep_has_passed_it(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        epcc = store_of("a", "b", offset_limit=100)
        epcc.add(*[log(f"h{i}", at(-5 - 5 * i), integration_id="b") for i in range(50)])
        w = world(epcc, history="skip")
        await w.polls(2)
        before = (await w.scrape())[THROUGH]
        with caplog.at_level(logging.WARNING):
            epcc.add(*[log(f"x{i}", at(15 + i / 400), integration_id="a") for i in range(1_500)])
            epcc.add(*[log(f"y{i}", at(15 + i), integration_id="b") for i in range(5)])
            await w.polls(1)
        (line,) = [record for record in caplog.records if "a gap" in record.getMessage()]
        told = line.__dict__["fields"]
        assert (told["cause"], told["integrations"]) == ("offset_limit", "a")
        assert told["since"] < told["until"]
        samples = await w.scrape()
        assert (samples[TOTAL], samples[OPEN]) == (1, 1)
        assert samples[THROUGH] == before, "what is missing is not called complete"
        lookback, opened = w.config.lookback, w.clock.monotonic()
        closed = None
        for i in range(40):
            epcc.add(log(f"z{i}", at(w.clock.monotonic()), integration_id="b"))
            await w.polls(1)
            if (await w.scrape())[OPEN] == 0 and closed is None:
                closed = w.clock.monotonic()
        assert closed is not None
        assert lookback <= closed - opened <= 3 * lookback
        assert (await w.scrape())[TOTAL] == 1

    test(tmp_path)


@virtual
async def test_a_gap_doubles_nothing_when_the_limit_rises_and_the_lists_reach_down_again(world: MakeWorld) -> None:
    epcc = simple(manners=Manners(offset_limit=100))
    w = world(epcc, history="skip", lookback=600.0)
    await w.polls()
    epcc.add(*[log(f"x{i}", at(5 + i / 400)) for i in range(1_500)])
    await w.polls(1)
    told = w.tallied()["shipping"]["attempts"]
    assert told < 1_500
    epcc.manners = Manners()
    await settled(w)
    assert w.tallied() == w.truth()


@virtual
async def test_after_a_long_history_all_that_is_too_old_is_forgotten_in_several_transactions(
    world: MakeWorld,
) -> None:
    epcc = store_of("a")
    epcc.add(*[log(f"h{i}", at(-5 - i), integration_id="a") for i in range(1_000)])
    w = world(epcc, history="count", lookback=60.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "FORGET_MAX", 100)
        await w.polls()
    assert_exact(w)
    assert w.store is not None
    keep_ns = w.poller.intake.marks.keep_ns

    def old(connection: sqlite3.Connection) -> list[tuple[int]]:
        return connection.execute(
            "SELECT count(*) FROM seen WHERE created_ns < ?1 UNION ALL SELECT count(*) FROM job WHERE last_ns < ?1",
            (keep_ns,),
        ).fetchall()

    assert w.store._reading(old) == [(0,), (0,)]
