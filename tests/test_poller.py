"""The whole way from EPCC's logs to the scraped text, on a virtual clock: what is counted, and how each fault ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import ORDERS, Manners
from exporter.shop import Integration, Shop
from tests.world import SECOND, START_NS, World, virtual

MakeWorld = Callable[..., World]
ATTEMPTS = "epcc_integration_attempts_total{integration_id=shipping}"
DELIVERY = "epcc_integration_"


def at(seconds: float) -> int:
    return START_NS + round(seconds * SECOND)


def shop_of(manners: Manners, seed: int = 1, **changes: Any) -> Epcc:
    from exporter.shop import SCENARIOS

    scenario = replace(SCENARIOS["shop"], history_seconds=120.0, **changes)
    return Epcc(manners, seed=seed, shop=Shop(scenario, seed, START_NS))


def simple(*seconds: float, manners: Manners | None = None, **changes: Any) -> Epcc:
    """An EPCC with one integration, `shipping`, and a log at each of these times."""
    epcc = Epcc(manners)
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(*[log(f"l{second:g}", at(second), **changes) for second in seconds])
    return epcc


async def settled(world: World) -> None:
    """Until every late log is visible, and a complete walk has ended well."""
    await asyncio.sleep(world.config.lookback)
    world.poller._complete_at = None
    world.epcc.manners = replace(world.epcc.manners, faults={}, down=None)
    for _ in range(20):
        await world.poller.poll()
        if world.poller.failure is None:
            return
        await asyncio.sleep(5)
    raise AssertionError(f"polls still fail: {world.poller.failure}")


def assert_exact(world: World) -> None:
    assert world.tallied() == world.truth()
    assert world.poller.intake.marks.gaps == {}


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
async def test_retention_that_overtook_an_outage_is_a_gap(world: MakeWorld) -> None:
    epcc = simple(*range(-30, 0, 5))
    w = world(epcc)
    await w.polls()
    epcc.add(*[log(f"n{i}", at(1000 + i)) for i in range(5)])
    await asyncio.sleep(2000)
    epcc.delete_logs(older_than_ns=at(1002))
    await w.polls()
    assert (await w.scrape())["epcc_exporter_gaps_total{cause=retention}"] == 1


# --- faults


@pytest.mark.parametrize(
    ("down", "reason"),
    [("429", "rate_limited"), ("500", "server_error"), ("502", "server_error"), ("503", "server_error"),
     ("403", "forbidden"), ("401", "auth"), ("truncated", "invalid_response"), ("hang", "timeout"), ("drip", "timeout"),
     ("reset", "connection"), ("not_json", "invalid_response"), ("other_shape", "invalid_response"),
     ("data_null", "invalid_response"), ("gzip_bomb", "invalid_response"), ("deep_nesting", "invalid_response"),
     ("redirect", "other")],
)  # fmt: skip
def test_a_fault_fails_the_poll_with_its_reason_loses_nothing_and_passes(tmp_path: Any, down: str, reason: str) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(simple(-5), request_timeout=2.0)
        await w.polls()
        w.epcc.manners = replace(w.epcc.manners, down=down)
        w.epcc.add(log("meanwhile", at(12)))
        await w.polls(2)
        samples = await w.scrape()
        assert (w.poller.failure, samples["epcc_up"]) == (reason, 0)
        assert samples[f"epcc_exporter_poll_failures_total{{reason={reason}}}"] >= 1
        assert samples[ATTEMPTS] == 1
        w.epcc.manners = replace(w.epcc.manners, down=None)
        await w.polls(2)
        samples = await w.scrape()
        assert (samples["epcc_up"], samples[ATTEMPTS]) == (1, 2)

    test(tmp_path)


@virtual
async def test_a_rotated_secret_is_found_without_a_restart(world: MakeWorld) -> None:
    epcc = simple(-5)
    epcc.client_secret = "rotated"
    w = world(epcc)
    secret_file = w.folder.parent / "secret"
    secret_file.write_text("old")
    w.config = replace(w.config, client_secret=None, client_secret_file=secret_file)
    w._poller = None
    await w.polls()
    assert w.poller.failure == "auth"
    secret_file.write_text("rotated\n")
    await w.polls()
    assert w.poller.failure is None


@virtual
async def test_a_token_is_renewed_before_it_ends_and_not_for_every_request(world: MakeWorld) -> None:
    epcc = simple(-5, manners=Manners(token_lifetime_seconds=100))
    w = world(epcc)
    await w.polls(30)
    assert 3 <= epcc.requests["token"] <= 5
    assert ("logs", "401") not in w.requests


@virtual
async def test_an_idle_store_costs_one_request_a_poll(world: MakeWorld) -> None:
    w = world(simple(*range(-5000, 0, 50)), lookback=3600.0, poll_interval=600.0)
    await w.polls(2)
    before = w.epcc.requests["logs"]
    await w.polls(10)
    assert w.epcc.requests["logs"] - before == 10


@virtual
async def test_a_full_disk_shows_nothing_new_fails_the_poll_and_loses_nothing(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    assert w.store is not None
    w.store._ready().execute("PRAGMA max_page_count = 1")
    w.epcc.add(*[log(f"x{i}" * 30, at(5 + i / 1000)) for i in range(500)])
    await w.poller.poll()
    assert (w.poller.failure, (await w.scrape())[ATTEMPTS]) == ("storage", 1)
    await w.polls(2)
    assert (w.poller.failure, (await w.scrape())[ATTEMPTS]) == (None, 501)


@virtual
async def test_a_malformed_record_is_counted_as_rejected_once_and_stops_nothing(world: MakeWorld) -> None:
    w = world(simple(-9, -8))
    w.epcc.add(log("bad", at(-7), override={"id": None}))
    await w.polls(5)
    samples = await w.scrape()
    assert samples["epcc_exporter_logs_rejected_total{reason=no_id}"] == 1
    assert samples[ATTEMPTS] == 2


# --- jobs


@virtual
async def test_a_job_without_a_log_is_looked_up_and_counted_as_unlogged_until_its_log_appears(world: MakeWorld) -> None:
    epcc = simple(-5)
    w = world(epcc, reconcile_interval=30.0)
    await w.polls()
    epcc.manners = replace(epcc.manners, jobs_unlogged={"shipping": ("ghost",)})
    await w.polls(20)
    unlogged = "epcc_integration_jobs_unlogged{integration_id=shipping}"
    samples = await w.scrape()
    assert samples[unlogged] == 1
    assert samples["epcc_integration_jobs_total{integration_id=shipping}"] == 1
    assert epcc.requests["job_logs"] == 3
    epcc.add(log("at-last", at(230), job_id="ghost"))
    await w.polls(10)
    assert (await w.scrape())[unlogged] == 0


@virtual
async def test_a_log_that_the_feeds_missed_is_counted_from_its_job(world: MakeWorld) -> None:
    epcc = simple(-5)
    w = world(epcc, reconcile_interval=30.0)
    await w.polls()
    epcc.add(log("hidden", at(12)), feeds=("job",))
    await w.polls(20)
    await w.announce()
    assert (await w.scrape())[ATTEMPTS] == 2


@virtual
async def test_jobs_that_were_listed_before_the_first_look_are_never_asked_about(world: MakeWorld) -> None:
    epcc = simple(-5, manners=Manners(jobs_unlogged={"shipping": ("old-ghost",)}))
    w = world(epcc, reconcile_interval=30.0)
    await w.polls(20)
    assert epcc.requests["job_logs"] == 0


# --- integrations come and go


@virtual
async def test_a_renamed_integration_keeps_its_series_and_its_info_moves(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    w.epcc.add_integration(replace(w.epcc.integrations["shipping"], name="Renamed", enabled=False))
    await w.polls(10)
    samples = await w.scrape()
    infos = [name for name in samples if name.startswith("epcc_integration_info")]
    assert [("Renamed" in name) for name in infos] == [True]
    assert (samples[ATTEMPTS], samples["epcc_integration_enabled{integration_id=shipping}"]) == (1, 0)


@virtual
async def test_a_deleted_integration_keeps_its_series_for_a_day(world: MakeWorld) -> None:
    w = world(simple(-5), poll_interval=600.0)
    await w.polls()
    w.epcc.remove_integration("shipping")
    await w.polls(100, every=600)
    assert ATTEMPTS in await w.scrape()
    await w.polls(60, every=600)
    assert ATTEMPTS not in await w.scrape()
