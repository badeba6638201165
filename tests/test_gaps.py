"""What may have been missed is told of: a line for each stretch with its time, once, when it is durable."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from exporter.epcc import log
from exporter.manners import Manners
from exporter.shop import Integration
from exporter.store import StorageError
from tests.world import MakeWorld, World, at, simple, virtual


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [each.__dict__["fields"] for each in caplog.records if "a gap" in each.getMessage()]


async def followed(world: MakeWorld) -> World:
    """By arrival, so that a log below `keep` shows that it is late."""
    w = world(simple(*range(-100, 0, 5), manners=Manners(order="newest_visible_first")), history="skip")
    for i in range(40):
        w.epcc.add(log(f"n{i}", at(i * 10 + 1)))
        await w.polls()
    return w


async def back_too_late(world: MakeWorld) -> World:
    """After an outage in which retention has taken two of five logs."""
    w = world(simple(*range(-30, 0, 5)))
    await w.polls()
    w.epcc.add(*[log(f"n{i}", at(1000 + i)) for i in range(5)])
    await asyncio.sleep(2000)
    w.epcc.delete_logs(older_than_ns=at(1002))
    return w


def add_late(w: World, name: str) -> None:
    now = w.clock.monotonic()
    w.epcc.add(log(name, at(now - 390), visible_ns=at(now - 5)), log(f"after {name}", at(now - 1)))


def test_logs_that_retention_took_during_an_outage_are_told_of_with_their_time(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = await back_too_late(world)
        with caplog.at_level(logging.WARNING):
            await w.polls(20)
        (line,) = told(caplog)
        assert line == {
            "store": "acme", "cause": "retention", "since": "2023-11-14T22:12:15Z", "until": "2023-11-14T22:46:50Z",
            "integrations": "unknown",
        }  # fmt: skip

    test(tmp_path)


def test_late_logs_are_told_of_once_until_their_gaps_have_closed_and_each_is_counted(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = await followed(world)
        with caplog.at_level(logging.WARNING):
            for number in range(2):
                add_late(w, f"late {number}")
                await w.polls(3)
            assert w.poller.intake.marks.gaps == {"late": 2}
            (line,) = told(caplog)
            assert (line["cause"], line["integrations"]) == ("late", "shipping")
            assert line["since"] < line["until"]
            for i in range(60):
                w.epcc.add(log(f"m{i}", at(w.clock.monotonic())))
                await w.polls()
            assert w.poller.open_gaps == {}
            add_late(w, "late again")
            await w.polls(2)
            assert len(told(caplog)) == 2

    test(tmp_path)


def test_a_late_log_whose_commit_fails_is_told_of_when_it_is_durable(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = await followed(world)
        assert w.store is not None
        commit = w.store.commit

        def failing(name: str, batch: Any) -> Any:
            raise StorageError("SQLITE_FULL")

        with caplog.at_level(logging.WARNING):
            w.store.commit = failing  # type: ignore[method-assign]
            add_late(w, "late")
            await w.polls(2)
            assert (told(caplog), w.poller.failure) == ([], "storage")
            w.store.commit = commit  # type: ignore[method-assign]
            await w.polls(4)
            assert (len(told(caplog)), w.poller.intake.marks.gaps) == (1, {"late": 1})

    test(tmp_path)


def test_a_gap_that_goes_on_walk_after_walk_is_told_of_once(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(simple(*[-float(i) for i in range(1, 300)], manners=Manners(paging_ignored=True)), lookback=60.0)
        with caplog.at_level(logging.WARNING):
            await w.polls(20)
        assert w.poller.intake.marks.gaps == {"paging_ignored": 1}
        assert [each["cause"] for each in told(caplog)] == ["paging_ignored"]

    test(tmp_path)


@virtual
async def test_logs_can_have_come_and_gone_in_more_than_two_lookbacks(world: MakeWorld) -> None:
    w = world(simple(-5), lookback=60.0)
    through = [None, at(-120), at(-120.001)]
    assert [w.poller._feeds._long_ago(each, at(0)) for each in through] == [True, False, True]


@pytest.mark.parametrize("kind", ["complete", "quick", "overtaken", "of the first integration", "of the second"])
def test_whatever_a_walk_was_what_it_lost_is_a_gap(tmp_path: Any, kind: str) -> None:
    include: dict[str, Any] = {"include": ("a", "b")} if kind.startswith("of") else {}

    @virtual
    async def test(world: MakeWorld) -> None:
        epcc = simple(*range(-300, 0, 10), manners=Manners(order="oldest_first"))
        for integration in "ab":
            epcc.add_integration(Integration(integration, integration))
            epcc.add(log(f"of {integration}", at(-5), integration_id=integration))
        w = world(epcc, **include)
        await w.polls(2)
        feeds = w.poller._feeds
        walk_list = feeds._walk_list

        async def walked(key: str, *arguments: Any) -> Any:
            ended = await walk_list(key, *arguments)
            if kind == "overtaken":
                ended = replace(ended, complete=False, how="overtaken")
            return replace(ended, lapsed=key == {"of the first integration": "a", "of the second": "b"}.get(kind, ""))

        feeds._walk_list = walked  # type: ignore[method-assign,assignment]
        if kind != "quick":
            w.poller._complete_at = None
        assert w.poller.intake.marks.gaps == {}
        await w.polls()
        assert w.poller.intake.marks.gaps == {"retention": 1}

    test(tmp_path)


@virtual
async def test_what_left_the_list_while_it_was_read_is_a_gap(world: MakeWorld) -> None:
    manners = Manners(order="oldest_first", retention_seconds=60.0)
    epcc = simple(*[i / 4 for i in range(-300, 2400)], manners=manners)
    w = world(epcc, page_limit=25, lookback=20.0, request_timeout=30.0)
    await w.polls(4)
    assert w.poller.intake.marks.gaps == {}
    epcc.manners = replace(manners, latency_seconds=(8.0, 8.0))
    await w.polls(4)
    assert w.poller.intake.marks.gaps == {"retention": 1}


@virtual
async def test_what_retention_took_is_a_gap_though_the_first_walk_after_it_fails(world: MakeWorld) -> None:
    w = await back_too_late(world)
    feeds = w.poller._feeds
    walk_list = feeds._walk_list

    async def stuck(*arguments: Any) -> Any:
        return replace(await walk_list(*arguments), complete=False, how="stuck")

    feeds._walk_list = stuck  # type: ignore[method-assign,assignment]
    await w.polls()
    assert (w.poller.failure, w.poller.intake.marks.gaps) == ("invalid_response", {})
    feeds._walk_list = walk_list  # type: ignore[method-assign]
    await w.polls()
    assert w.poller.intake.marks.gaps == {"retention": 1}


@virtual
async def test_a_gap_of_a_list_in_no_order_closes_too(world: MakeWorld) -> None:
    """Such a list moves no `keep`: its ids are remembered for as long as they are listed."""
    w = world(simple(*range(-300, 0, 5), manners=Manners(order="unordered")), page_limit=25)
    await w.polls(3)
    w.epcc.manners = replace(w.epcc.manners, paging_ignored=True)
    w.poller._complete_at = None
    await w.polls(2)
    w.epcc.manners = replace(w.epcc.manners, paging_ignored=False)
    opened = dict(w.poller.open_gaps)
    assert len(opened) == 1
    for i in range(30):
        w.epcc.add(log(f"n{i}", at(w.clock.monotonic() - 1)))
        await w.polls()
    assert w.poller.intake.marks.feeds[""].order == "unordered"
    assert w.poller.open_gaps == {}
