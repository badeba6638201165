"""The whole way from EPCC's logs to the scraped text, on a virtual clock: what is counted, and how each fault ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import ORDERS, Manners
from exporter.shop import Integration
from tests.world import ATTEMPTS, SECOND, MakeWorld, assert_exact, at, settled, shop_of, simple, virtual

DELIVERY = "epcc_integration_"


# --- first start, and what is shown when


@virtual
async def test_nothing_is_shown_before_the_first_walk_has_ended(world: MakeWorld) -> None:
    w = world(simple(-5, manners=Manners(down="503")))
    await w.polls()
    assert not [name for name in await w.scrape() if name.startswith(DELIVERY)]
    assert (await w.scrape())["epcc_up"] == 0


@virtual
async def test_with_history_skip_what_was_there_before_counts_nothing(world: MakeWorld) -> None:
    w = world(simple(-50, -40, -30, -20, -10, status_code=500), history="skip")
    await w.polls()
    samples = await w.scrape()
    assert samples[ATTEMPTS] == 0
    assert samples["epcc_integration_consecutive_failures{integration_id=shipping}"] == 5
    assert samples["epcc_integration_responses_total{integration_id=shipping,status_code=500}"] == 0
    w.epcc.add(log("new", at(9)))
    await w.polls()
    await w.announce()
    assert (await w.scrape())[ATTEMPTS] == 1


@virtual
async def test_with_history_skip_logs_older_than_the_first_page_never_count_either(world: MakeWorld) -> None:
    w = world(simple(*[-1000 - i / 10 for i in range(400)]), history="skip", lookback=900.0)
    await w.polls(60)
    await settled(w)
    assert w.poller.intake.tallies["shipping"].attempts == 0


@virtual
async def test_with_history_count_the_reachable_list_is_the_baseline_and_shown_at_once(world: MakeWorld) -> None:
    w = world(simple(*[-7.0 * i for i in range(1, 400)]))
    await w.polls()
    assert (await w.scrape())[ATTEMPTS] == 399


@virtual
async def test_how_late_logs_show_is_told_of_those_that_came_since_and_not_of_the_baseline(world: MakeWorld) -> None:
    """Nobody saw the baseline come: its age would look like a lateness that no `lookback` covers."""
    w = world(simple(*[-7.0 * i for i in range(1, 400)]))
    await w.polls()
    assert (await w.scrape())["epcc_exporter_logs_counted_total"] == 399
    assert (await w.scrape())["epcc_exporter_arrival_delay_seconds_count"] == 0
    w.epcc.add(log("new", at(9)))
    await w.polls()
    assert (await w.scrape())["epcc_exporter_arrival_delay_seconds_count"] == 1


@virtual
async def test_every_known_integration_has_its_series_at_zero_from_the_first_poll(world: MakeWorld) -> None:
    w = world(simple(), history="skip")
    await w.polls()
    samples = await w.scrape()
    for name in ("attempts_total", "retries_total", "jobs_total", "jobs_failing", "jobs_unlogged"):
        assert samples[f"{DELIVERY}{name}{{integration_id=shipping}}"] == 0
    assert sum(1 for name in samples if name.startswith(f"{DELIVERY}attempt_failures_total")) == 8
    assert samples["epcc_integration_info{integration_id=shipping,integration_name=Order shipping,"
                   "integration_type=webhook}"] == 1  # fmt: skip


@virtual
async def test_a_new_series_shows_zero_until_it_was_announced_and_again_after_a_crash_before_that(
    world: MakeWorld,
) -> None:
    w = world(simple(), history="skip")
    await w.polls()
    w.epcc.add(log("a", at(9), status_code=503))
    await w.polls()
    failed = "epcc_integration_responses_total{integration_id=shipping,status_code=503}"
    assert (await w.scrape())[failed] == 0
    w.boot()
    await w.polls()
    assert (await w.scrape())[failed] == 0
    await w.announce()
    assert (await w.scrape())[failed] == 1
    w.boot()
    await w.polls()
    assert (await w.scrape())[failed] == 1


# --- exactly once, whatever the manners

MANNERS = {
    "no totals": Manners(envelope="2026"),
    "old envelope": Manners(envelope="2025"),
    "both envelopes": Manners(envelope="both"),
    "no envelope": Manners(envelope="neither"),
    "a total that saturates": Manners(envelope="2025", total_manner="half"),
    "a page cap of 25": Manners(page_length_max=25),
    "late logs": Manners(lateness_seconds=50),
    "equal times": Manners(ties_ns=10 * SECOND, ties_permuted=True),
    "no times": Manners(missing=frozenset({"created_at"})),
    "some times missing": Manners(missing=frozenset({"created_at"}), missing_probability=0.2),
    "milliseconds and another zone": Manners(time_digits=3, time_zone="+02:00"),
    "seconds": Manners(time_digits=0),
    "times in the past": Manners(created_skew_seconds=-4000),
    "times in the future": Manners(created_skew_seconds=400),
    "no Date": Manners(date_header=False),
    "duplicates in a page": Manners(faults={"duplicate_in_page": 0.3}),
    "short pages": Manners(faults={"short_page": 0.3}),
    "empty pages": Manners(faults={"empty_page": 0.2}),
    "strings": Manners(strings=frozenset({"attempt", "status_code"})),
    "trouble": Manners(
        faults={"429": 0.05, "500": 0.05, "502": 0.05, "503": 0.05, "truncated": 0.05, "reset": 0.05, "not_json": 0.05,
                "data_null": 0.05, "401": 0.05},
        retry_after="date",
    ),
}  # fmt: skip


@pytest.mark.parametrize("manner", list(MANNERS))
@pytest.mark.parametrize("order", [order for order in ORDERS if order != "shuffled"])
def test_every_attempt_counts_once_whatever_the_order_and_manners(tmp_path: Any, order: str, manner: str) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(shop_of(replace(MANNERS[manner], order=order)))
        await w.polls(12)
        w.boot()
        await w.polls(6)
        await settled(w)
        assert sum(counted["attempts"] for counted in w.truth().values()) > 200
        missing = "created_at" in w.epcc.manners.missing
        found, truth = w.tallied(), w.truth()
        assert found == truth
        assert missing or w.poller.intake.marks.gaps == {}

    test(tmp_path)


@virtual
async def test_a_crash_in_the_middle_of_a_walk_neither_loses_nor_doubles(world: MakeWorld) -> None:
    w = world(shop_of(Manners(latency_seconds=(0.1, 0.3))))
    for pause in (0.25, 0.7, 1.3, 2.0, 0.4):
        polling = asyncio.ensure_future(w.polls(5))
        await asyncio.sleep(pause)
        polling.cancel()
        await asyncio.wait([polling])
        w.boot()
    await w.polls(3)
    await settled(w)
    assert_exact(w)


@virtual
async def test_more_logs_than_the_offset_limit_are_read_from_the_integrations_own_lists(world: MakeWorld) -> None:
    epcc = Epcc(Manners(offset_limit=200))
    for name in ("a", "b", "c"):
        epcc.add_integration(Integration(name, name))
    w = world(epcc, history="skip")
    await w.polls()
    epcc.add(*[log(f"{name}{i}", at(5 + i / 100), integration_id=name) for name in "abc" for i in range(200)])
    await w.polls(2)
    await settled(w)
    assert_exact(w)
    assert epcc.requests["integration_logs"] > 3


@virtual
async def test_past_every_lists_limit_the_jobs_logs_are_read(world: MakeWorld) -> None:
    epcc = simple(manners=Manners(offset_limit=100, jobs_paged=False))
    w = world(epcc, history="skip")
    await w.polls()
    epcc.add(*[log(f"x{i}", at(5 + i / 100)) for i in range(500)])
    await w.polls(2)
    await settled(w)
    assert_exact(w)
    assert epcc.requests["job_logs"] >= 500


@pytest.mark.parametrize("answer", ["400", "empty", "last_page"])
def test_a_job_list_past_its_own_offset_limit_is_not_taken_for_whole(tmp_path: Any, answer: str) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        epcc = simple(manners=Manners(offset_limit=100, offset_limit_answer=answer))
        w = world(epcc, history="skip")
        await w.polls()
        epcc.add(*[log(f"x{i}", at(5 + i / 100)) for i in range(500)])
        await w.polls(1)
        assert (await w.scrape())["epcc_exporter_gap_open{cause=offset_limit}"] == 1

    test(tmp_path)


@virtual
async def test_what_no_list_reaches_is_a_gap_that_says_so_and_closes(world: MakeWorld) -> None:
    epcc = simple(manners=Manners(offset_limit=100))
    w = world(epcc, history="skip")
    await w.polls()
    epcc.add(*[log(f"x{i}", at(5 + i / 100)) for i in range(1500)])
    await w.polls(1)
    samples = await w.scrape()
    assert samples["epcc_exporter_gaps_total{cause=offset_limit}"] == 1
    assert samples["epcc_exporter_gap_open{cause=offset_limit}"] == 1
    for i in range(40):
        epcc.add(log(f"y{i}", at(30 + i * 10)))
        await w.polls(1)
    samples = await w.scrape()
    assert samples["epcc_exporter_gaps_total{cause=offset_limit}"] == 1
    assert samples["epcc_exporter_gap_open{cause=offset_limit}"] == 0


@virtual
async def test_few_included_integrations_are_read_from_their_own_lists(world: MakeWorld) -> None:
    epcc = shop_of(Manners())
    wanted = next(iter(epcc.integrations.values()))
    w = world(epcc, include=(wanted.name,))
    await w.polls(5)
    await settled(w)
    assert set(w.tallied()) == {wanted.id}
    assert w.tallied()[wanted.id] == w.truth()[wanted.id]
    assert epcc.requests["logs"] == 0


@virtual
async def test_an_excluded_integration_is_not_shown(world: MakeWorld) -> None:
    epcc = shop_of(Manners())
    unwanted = next(iter(epcc.integrations.values()))
    w = world(epcc, exclude=(unwanted.id,))
    await w.polls(5)
    await settled(w)
    assert unwanted.id not in w.tallied()
    assert not [name for name in await w.scrape() if unwanted.id in name]
    assert w.tallied() == {key: value for key, value in w.truth().items() if key != unwanted.id}


@virtual
async def test_an_integration_that_is_new_in_the_logs_counts_from_its_first_attempt_if_its_name_is_wanted(
    world: MakeWorld,
) -> None:
    epcc = simple(-5)
    w = world(epcc, include=("Order shipping", "Brand new"), lookback=300.0)
    await w.polls(2)
    epcc.add_integration(Integration("new", "Brand new"))
    epcc.add_integration(Integration("unwanted", "Another"))
    epcc.add(*[log(f"{name}{i}", at(15 + i), integration_id=name) for name in ("new", "unwanted") for i in range(3)])
    await w.polls(4)
    assert {name: counted["attempts"] for name, counted in w.tallied().items()} == {"shipping": 1, "new": 3}


@virtual
async def test_catching_up_takes_as_long_as_the_budget_says_and_not_longer(world: MakeWorld) -> None:
    epcc = simple(*[-i / 10 for i in range(1, 10_000)], manners=Manners(latency_seconds=(0.4, 0.4)))
    w = world(epcc, requests_per_second=10.0, lookback=3600.0)
    await w.poller.poll()
    assert w.tallied() == w.truth()
    requests, seconds = len(w.requests), w.clock.monotonic()
    assert requests <= 120
    in_turn = 12  # token, integrations, the list's order, its end: each needs the answer before it
    assert seconds <= (requests - 10) / 10 + in_turn * 0.4


@virtual
async def test_a_store_whose_paging_is_ignored_is_shown_with_its_gap_and_never_called_complete(
    world: MakeWorld,
) -> None:
    w = world(simple(*[-float(i) for i in range(1, 300)], manners=Manners(paging_ignored=True)), lookback=3600.0)
    await w.polls(2)
    samples = await w.scrape()
    assert samples["epcc_exporter_gap_open{cause=paging_ignored}"] == 1
    assert samples[ATTEMPTS] == 100
    assert "epcc_exporter_complete_through_timestamp_seconds" not in samples


@virtual
async def test_a_log_later_than_the_lookback_and_below_keep_is_a_gap(world: MakeWorld) -> None:
    epcc = simple(*range(-100, 0, 5), manners=Manners(order="newest_visible_first"))
    w = world(epcc, history="skip")
    for i in range(40):
        epcc.add(log(f"n{i}", at(i * 10 + 1)))
        await w.polls()
    epcc.add(log("late", at(5), visible_ns=at(395)))
    epcc.add(log("more", at(399)))
    await w.polls(2)
    assert (await w.scrape())["epcc_exporter_gaps_total{cause=late}"] == 1


@virtual
async def test_logs_that_are_late_within_the_lookback_are_no_gap_in_a_list_by_arrival(world: MakeWorld) -> None:
    w = world(shop_of(Manners(order="newest_visible_first", lateness_seconds=50)), history="skip")
    await w.polls(30)
    assert w.poller.intake.marks.feeds[""].order == "newest_first"
    assert w.poller.intake.marks.gaps == {}


@pytest.mark.parametrize("order", ["newest_first", "newest_visible_first", "oldest_first", "oldest_visible_first"])
@pytest.mark.parametrize("lateness", [59, 100])
def test_a_log_counts_up_to_a_lookback_late_and_up_to_keep_at_the_next_audit(
    tmp_path: Any, order: str, lateness: int
) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        epcc = simple(*range(-600, 0, 5), manners=Manners(order=order))
        w = world(epcc, page_limit=5)  # short pages: what lies below the floor is not read by chance
        epcc.add(*[log(f"n{i}", at(i)) for i in range(0, 700, 5)])
        await w.polls(30)
        newest = w.clock.monotonic() // 5 * 5
        epcc.add(log("late", at(newest - lateness), visible_ns=at(newest)))
        await w.polls(20)
        await settled(w)
        assert_exact(w)

    test(tmp_path)


@pytest.mark.parametrize("order", ["newest_visible_first", "oldest_visible_first"])
def test_a_list_by_arrival_is_walked_in_its_order_again_when_a_late_log_has_sunk(tmp_path: Any, order: str) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(simple(*range(-2000, 0, 5), manners=Manners(order=order)), history="skip", page_limit=25)
        arrived = 0

        async def arrive(number: int) -> None:
            nonlocal arrived
            for _ in range(number):
                w.epcc.add(log(f"n{arrived}", at(w.clock.monotonic() - 1)))
                arrived += 1
                await w.polls(every=5)

        def feed() -> str:
            return w.poller.intake.marks.feeds[""].order

        await w.polls()
        await arrive(60)
        assert feed() == order.replace("_visible", "")
        now = w.clock.monotonic()
        w.epcc.add(log("late", at(now - 250), visible_ns=at(now - 0.5)))
        await arrive(20)
        # Newest-first a walk goes on behind it; oldest-first the whole list is read for a while.
        assert feed() == ("unordered" if order.startswith("oldest") else "newest_first")
        await arrive(60)
        assert feed() == order.replace("_visible", "")
        before = w.epcc.requests["logs"]
        await arrive(20)
        assert w.epcc.requests["logs"] - before < 20 * 8, "the list is swept still"
        assert (w.poller.intake.marks.gaps, w.poller.open_gaps) == ({"late": 1}, {})
        await settled(w)
        assert w.tallied()["shipping"]["attempts"] == arrived

    test(tmp_path)


@virtual
async def test_the_first_log_after_a_list_has_emptied_is_no_gap(world: MakeWorld) -> None:
    epcc = simple(*range(-30, 0, 5), manners=Manners(retention_seconds=300.0))
    w = world(epcc)
    await w.polls(60)
    for i in range(3):
        epcc.add(log(f"n{i}", at(w.clock.monotonic() + 1)))
        await asyncio.sleep(2)
        w.poller._complete_at = None
        await w.polls(60)
    assert w.poller.intake.marks.gaps == {}
    assert w.tallied()["shipping"]["attempts"] == 6 + 3


@virtual
async def test_retention_that_overtook_an_outage_is_a_gap(world: MakeWorld) -> None:
    epcc = simple(*range(-30, 0, 5))
    w = world(epcc)
    await w.polls()
    epcc.add(*[log(f"n{i}", at(1000 + i)) for i in range(5)])
    await asyncio.sleep(2000)
    epcc.delete_logs(older_than_ns=at(1002))
    await w.polls()
    assert (await w.scrape())["epcc_exporter_gaps_total{cause=retention}"] == 1
