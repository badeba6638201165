"""One job's attempts, asked of the simulated EPCC: what is found, and how each refusal ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from exporter import joblook
from exporter.epcc import Epcc, log
from exporter.joblook import LOOKS_MAX, Looks
from exporter.jobpage import LOOK_SECONDS, PAGE_LIMIT, PAGES_MAX, Look
from exporter.manners import Manners
from exporter.shop import Integration
from tests.world import MakeWorld, World, at, virtual


def tried(*seconds: float, manners: Manners | None = None, **changes: object) -> Epcc:
    """One job of `shipping`, tried at these times."""
    epcc = Epcc(manners)
    epcc.add_integration(Integration("shipping", "Order shipping"))
    fields = {"job_id": "job", "status_code": 503, "error_detail": "broken", **changes}
    epcc.add(*[log(f"l{i}", at(each), attempt=i + 1, **fields) for i, each in enumerate(seconds)])  # type: ignore[arg-type]
    return epcc


async def looked(w: World, job_id: str = "job", integration_id: str = "shipping") -> Look:
    return await Looks().look(w.followed.fetch, integration_id, job_id)


@virtual
async def test_attempts_come_in_order_of_time_with_what_the_receiver_answered(world: MakeWorld) -> None:
    w = world(tried(-30, -10, -20))
    for order in ("newest_first", "oldest_first", "unordered"):
        w.epcc.manners = Manners(order=order)
        look = await looked(w)
        assert (look.outcome, look.more) == ("found", False)
        assert [each.attempt.id for each in look.details] == ["l0", "l2", "l1"]
        assert {(each.answer, each.attempt.error_text) for each in look.details} == {
            ("Dear ada.muster@example.com", "broken")
        }


@virtual
async def test_every_page_of_a_job_is_read_and_a_short_page_is_not_the_end(world: MakeWorld) -> None:
    w = world(tried(*range(-90, 0), manners=Manners(page_length_max=40)))
    assert len((await looked(w)).details) == 90
    assert len(w.requests) == 1 + 3 + 1  # a token, the pages, and one with nothing new


@virtual
async def test_a_job_without_end_is_cut_after_some_pages_and_says_so(world: MakeWorld) -> None:
    w = world(tried(*[-i / 10 for i in range(1, PAGES_MAX * PAGE_LIMIT + 50)]))
    look = await looked(w)
    assert (len(look.details), look.more) == (PAGES_MAX * PAGE_LIMIT, True)


@virtual
async def test_paging_that_is_ignored_shows_the_first_page_once(world: MakeWorld) -> None:
    look = await looked(world(tried(-3, -2, -1, manners=Manners(paging_ignored=True))))
    assert (len(look.details), look.more) == (3, False)


@virtual
async def test_an_unknown_job_and_an_unknown_integration_are_not_found(world: MakeWorld) -> None:
    w = world(tried(-1))
    assert await looked(w, "nope") == Look("not_found", reason="not_found", code=404)
    assert (await looked(w, integration_id="nope")).outcome == "not_found"
    assert (await looked(w, "../../x")).outcome == "not_found"


@virtual
async def test_a_job_without_a_log_is_known_and_empty(world: MakeWorld) -> None:
    w = world(tried(manners=Manners(jobs_unlogged={"shipping": ("job",)})))
    assert await looked(w) == Look("nothing")


@virtual
async def test_an_epcc_that_does_not_help_is_told_with_its_reason(world: MakeWorld) -> None:
    w = world(tried(-1))
    for down, outcome, reason in (
        ("503", "down", "server_error"),
        ("reset", "down", "connection"),
        ("401", "refused", "auth"),
        ("403", "refused", "forbidden"),
        ("not_json", "down", "invalid_response"),
    ):
        w.epcc.manners = Manners(down=down)
        look = await looked(w)
        assert (look.outcome, look.reason) == (outcome, reason)


@virtual
async def test_one_that_hangs_ends_in_time(world: MakeWorld) -> None:
    w = world(tried(-1, manners=Manners(down="hang")), request_timeout=15.0)
    began = w.clock.monotonic()
    look = await looked(w)
    assert (look.outcome, look.reason) == ("slow", "timeout")
    assert w.clock.monotonic() - began <= LOOK_SECONDS


@virtual
async def test_a_429_says_when_to_come_again_and_pauses_the_polls_too(world: MakeWorld) -> None:
    w = world(tried(-1, manners=Manners(down="429", retry_after_seconds=30)))
    look = await looked(w)
    assert (look.outcome, look.retry_after) == ("rate_limited", 30.0)
    w.epcc.manners = replace(w.epcc.manners, down=None)
    again = await looked(w)
    assert again.outcome == "rate_limited"
    assert again.retry_after is not None
    assert 25 < again.retry_after <= 30
    await asyncio.sleep(30)
    assert (await looked(w)).outcome == "found"


@virtual
async def test_few_looks_go_on_at_once_and_the_next_may_come_when_one_has_ended(world: MakeWorld) -> None:
    w = world(tried(-1, manners=Manners(latency_seconds=(1.0, 1.0))))
    looks, fetch = Looks(), w.followed.fetch
    going_on = [asyncio.create_task(looks.look(fetch, "shipping", "job")) for _ in range(LOOKS_MAX)]
    await asyncio.sleep(0)
    assert (await looks.look(fetch, "shipping", "job")).outcome == "busy"
    assert {(await each).outcome for each in going_on} == {"found"}
    assert (await looks.look(fetch, "shipping", "job")).outcome == "found"


@virtual
async def test_a_look_that_is_given_up_makes_room_for_another(world: MakeWorld) -> None:
    w = world(tried(-1, manners=Manners(down="hang")))
    looks, fetch = Looks(), w.followed.fetch
    going_on = [asyncio.create_task(looks.look(fetch, "shipping", "job")) for _ in range(LOOKS_MAX)]
    await asyncio.sleep(1)
    for each in going_on:
        each.cancel()
    await asyncio.gather(*going_on, return_exceptions=True)
    w.epcc.manners = Manners()
    assert (await looks.look(fetch, "shipping", "job")).outcome == "found"


@virtual
async def test_a_looks_requests_take_from_the_stores_budget(world: MakeWorld) -> None:
    w = world(tried(-1), requests_per_second=1.0)
    began = w.clock.monotonic()
    await looked(w)
    assert w.clock.monotonic() - began >= len(w.requests) - 1
    assert joblook.TRIES == 2


@virtual
async def test_what_was_looked_at_is_not_counted(world: MakeWorld) -> None:
    w = world(tried(-1))
    await looked(w)
    assert w.poller.intake.tallies == {}
