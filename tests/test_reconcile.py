"""Jobs against logs: what is listed without a log, and that looking at jobs never holds up the walk through the logs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from exporter.epcc import log
from exporter.manners import Manners
from exporter.shop import Integration
from tests.world import ATTEMPTS, MakeWorld, at, simple, virtual

UNLOGGED = "epcc_integration_jobs_unlogged{integration_id=shipping}"


@virtual
async def test_a_job_without_a_log_is_looked_up_and_counted_as_unlogged_until_its_log_appears(world: MakeWorld) -> None:
    epcc = simple(-5)
    w = world(epcc, reconcile_interval=30.0)
    await w.polls()
    epcc.manners = replace(epcc.manners, jobs_unlogged={"shipping": ("ghost",)})
    await w.polls(20)
    samples = await w.scrape()
    assert samples[UNLOGGED] == 1
    assert samples["epcc_integration_jobs_total{integration_id=shipping}"] == 1
    assert epcc.requests["job_logs"] == 3
    epcc.add(log("at-last", at(230), job_id="ghost"))
    await w.polls(10)
    assert (await w.scrape())[UNLOGGED] == 0


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


@virtual
async def test_a_job_list_that_grows_while_it_is_read_does_not_hold_up_the_walk(world: MakeWorld) -> None:
    epcc = simple(-5, manners=Manners(order="oldest_first", latency_seconds=(1.0, 1.0)))
    epcc.add(*(log(f"log-{second}", at(second), job_id=f"job-{second}") for second in range(300)))
    w = world(epcc, reconcile_interval=30.0, lookback=10.0)
    began = asyncio.get_running_loop().time()
    await w.poller.poll()
    assert asyncio.get_running_loop().time() - began < 60
    assert w.poller.intake.marks.looked


@virtual
async def test_a_look_at_many_integrations_goes_on_after_the_next_walk_and_misses_none(world: MakeWorld) -> None:
    epcc = simple(-5, manners=Manners(latency_seconds=(2.0, 2.0)))
    names = [f"int-{number}" for number in range(9)]
    for name in names:
        epcc.add_integration(Integration(name, name))
    w = world(epcc, reconcile_interval=100.0, poll_interval=10.0)
    for _ in range(6):
        began, walks = asyncio.get_running_loop().time(), epcc.requests["logs"]
        await w.poller.poll()
        # A walk of some requests, a look of ten seconds, and the integration that it was at.
        assert asyncio.get_running_loop().time() - began < 35
        assert epcc.requests["logs"] > walks
    assert w.poller.intake.marks.looked
    epcc.manners = replace(epcc.manners, jobs_unlogged=dict.fromkeys(names, ("ghost",)))
    await w.polls(60)
    samples = await w.scrape()
    assert [samples[f"epcc_integration_jobs_unlogged{{integration_id={name}}}"] for name in names] == [1] * 9


@virtual
async def test_a_look_that_fails_is_begun_anew_when_it_is_due(world: MakeWorld) -> None:
    epcc = simple(-5, manners=Manners(down="403", fault_endpoints=frozenset({"jobs"})))
    w = world(epcc, reconcile_interval=30.0)
    await w.polls(1)
    assert (w.poller.failure, epcc.requests["jobs"]) == ("forbidden", 1)
    await w.polls(1)
    assert (w.poller.failure, epcc.requests["jobs"]) == (None, 1)
    await w.polls(2)
    assert epcc.requests["jobs"] == 2


@virtual
async def test_an_old_job_that_a_part_of_the_list_hides_for_a_time_does_not_come_back_as_new(world: MakeWorld) -> None:
    ghosts = tuple(f"ghost-{number}" for number in range(30))
    epcc = simple(-5, manners=Manners(order="oldest_first", jobs_unlogged={"shipping": ghosts}))
    w = world(epcc, reconcile_interval=30.0, page_limit=10)
    await w.polls(4)
    epcc.manners = replace(epcc.manners, offset_limit=10, fault_endpoints=frozenset({"jobs"}))
    await w.polls(10)
    epcc.manners = replace(epcc.manners, offset_limit=None)
    await w.polls(20)
    assert (await w.scrape())[UNLOGGED] == 0
    assert epcc.requests["job_logs"] == 0
