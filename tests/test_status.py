"""The status: which state an integration is in, and the JSON of a store on a virtual clock."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter import remedies, status
from exporter.board import Board, Boards
from exporter.epcc import log
from exporter.manners import Manners
from exporter.metrics import GAP_CAUSES, POLL_FAILURE_REASONS
from exporter.shop import Integration
from tests.world import START_NS, MakeWorld, World, at, simple, virtual

NOW = 1_000_000.0
HEALTHY: dict[str, Any] = {
    "enabled": True, "listed": True, "consecutive_failures": 0, "hour": (100, 0), "last_attempt": NOW - 60, "now": NOW,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "healthy"),
        ({"consecutive_failures": 5}, "failing"),
        ({"consecutive_failures": 4}, "degraded"),
        ({"hour": (100, 6)}, "degraded"),
        ({"hour": (100, 5)}, "healthy"),  # a share of 5 % is not above it
        ({"hour": (5, 4)}, "healthy"),  # too few to say
        ({"hour": None}, "healthy"),
        ({"last_attempt": NOW - 3600}, "healthy"),
        ({"last_attempt": NOW - 3601}, "silent"),
        ({"last_attempt": None}, "silent"),
        ({"last_attempt": NOW - 9999, "consecutive_failures": 5}, "failing"),
        ({"enabled": False, "consecutive_failures": 5}, "disabled"),
        ({"enabled": None, "listed": False, "consecutive_failures": 5}, "deleted"),
        ({"enabled": None}, "healthy"),
    ],
)
def test_an_integrations_state(changes: dict[str, Any], state: str) -> None:
    assert status.integration_state(**{**HEALTHY, **changes}) == state


def test_every_failure_of_a_poll_and_every_gap_says_what_to_do() -> None:
    assert set(remedies.POLL_FAILURES) == set(POLL_FAILURE_REASONS)
    assert set(remedies.GAPS) == set(GAP_CAUSES)


def boards(world: World) -> Boards:
    return Boards(lambda: {"acme": world.followed}, world.clock, version="1.2.3", metrics="/m", grafana=None)


def store_of(world: World, *, texts: bool = True) -> status.Store:
    (store,) = boards(world).status(texts=texts).stores
    return store


@virtual
async def test_a_store_says_what_it_is_doing_before_during_and_after_its_first_poll(world: MakeWorld) -> None:
    w = world(simple(-5, manners=Manners(down="503")))
    assert (store_of(w).state, store_of(w).advice) == ("starting", remedies.STARTING)
    await w.polls()
    failing = store_of(w)
    assert (failing.state, failing.error) == ("failing", "server_error")
    assert failing.advice == remedies.POLL_FAILURES["server_error"]
    w.epcc.manners = Manners()
    await w.polls(1, every=2.0)
    polled = store_of(w)
    assert (polled.state, polled.error, polled.advice) == ("polled", None, None)
    assert polled.last_poll is not None
    assert polled.complete_through is not None
    assert polled.lag_seconds == pytest.approx(2.0, abs=1.1)
    assert 0 < polled.budget_used_ratio < 0.02


@virtual
async def test_no_more_than_the_whole_budget_is_used_however_short_the_time(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    for _ in range(10_000):
        w.followed.board.note_request()
    assert store_of(w).budget_used_ratio == 1.0


@virtual
async def test_a_store_without_integrations_says_so(world: MakeWorld) -> None:
    w = world(simple())
    w.epcc.remove_integration("shipping")
    await w.polls()
    assert (store_of(w).integrations_total, store_of(w).advice) == (0, remedies.NO_INTEGRATIONS)


@virtual
async def test_a_breaking_integration_is_told_with_its_hour_its_reason_and_its_job(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    w.epcc.add(*[log(f"f{i}", at(9 + i / 10), status_code=503, error_detail="broken") for i in range(5)])
    await w.polls()
    (each,) = store_of(w).integrations
    assert (each.state, each.consecutive_failures, each.jobs_failing) == ("failing", 5, 5)
    assert (each.name, each.type, each.attempts, each.failed) == ("Order shipping", "webhook", 6, 5)
    assert each.last_success == pytest.approx(at(-5) / 1e9)
    assert each.hour is not None
    assert (each.hour.attempts, each.hour.failed, each.hour.success_ratio) == (5, 5, 0.0)
    assert (each.hour.attempts_by_slot, each.hour.failed_by_slot) == ((5,), (5,))
    assert each.failure is not None
    assert (each.failure.reason, each.failure.status_code, each.failure.job) == ("http_5xx", "503", "job-f4")
    assert status.in_words(each, START_NS / 1e9) == "failing: 5 failures in a row, last success 5 s ago"
    assert [failure.job for failure in store_of(w).recent_failures] == [f"job-f{i}" for i in range(4, -1, -1)]


@virtual
async def test_errors_texts_are_told_only_where_answers_may_be(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    w.epcc.add(log("f", at(9), status_code=None, error_detail='Post "https://h.example/?token=s3cret": EOF'))
    await w.polls()
    assert store_of(w).recent_failures[0].error == 'Post "https://h.example/…": EOF'
    told = msgspec.json.encode(boards(w).status(texts=False))
    assert b"h.example" not in told
    assert b"s3cret" not in msgspec.json.encode(boards(w).status(texts=True))


@virtual
async def test_a_restart_keeps_the_state_and_says_how_much_of_the_hour_it_has_seen(world: MakeWorld) -> None:
    w = world(simple(*[-5.0 - i for i in range(5)], status_code=500))
    await w.polls()
    w.boot()
    await w.poller.begin()
    (each,) = store_of(w).integrations
    assert (each.state, each.attempts, each.failure) == ("failing", 5, None)
    assert each.hour is not None
    assert (each.hour.attempts, store_of(w).observed_seconds) == (0, 0)
    await asyncio.sleep(90)
    assert store_of(w).observed_seconds == 90
    await asyncio.sleep(9000)
    assert store_of(w).observed_seconds == 3600


@virtual
async def test_a_disabled_and_a_deleted_integration_are_told_as_such(world: MakeWorld) -> None:
    w = world(simple(-5))
    w.epcc.add_integration(Integration("off", "Off", enabled=False))
    w.epcc.add_integration(Integration("gone", "Gone"))
    await w.polls()
    w.epcc.remove_integration("gone")
    await asyncio.sleep(60)
    await w.polls()
    assert {each.id: each.state for each in store_of(w).integrations} == {
        "shipping": "healthy", "off": "disabled", "gone": "deleted",
    }  # fmt: skip
    assert store_of(w).states == {"failing": 0, "degraded": 0, "silent": 0, "healthy": 1, "disabled": 1, "deleted": 1}


@virtual
async def test_a_gap_is_told_with_what_to_do(world: MakeWorld) -> None:
    w = world(simple(*[-i / 10 for i in range(1, 400)], manners=replace(Manners(), offset_limit=100)))
    await w.polls()
    gaps = store_of(w).gaps
    assert gaps
    assert [gap.cause for gap in gaps] == sorted(w.poller.intake.marks.gaps)
    assert all(gap.advice == remedies.GAPS[gap.cause] for gap in gaps)


@virtual
async def test_past_the_limit_the_worst_are_told_and_all_are_numbered(world: MakeWorld) -> None:
    epcc = simple()
    for i in range(4):
        epcc.add_integration(Integration(f"int-{i}", f"Integration {i}"))
        epcc.add(log(f"l{i}", at(-5), integration_id=f"int-{i}", status_code=500 if i == 3 else 200))
    w = world(epcc)
    await w.polls()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(status, "INTEGRATIONS_MAX", 2)
        told = store_of(w)
    assert (told.integrations_total, len(told.integrations), told.integrations[0].id) == (5, 2, "int-3")
    assert told.states["healthy"] == 3


@virtual
async def test_the_status_touches_no_disk(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    w.close()
    w.store = None
    assert store_of(w).integrations_total == 1


def test_the_board_hands_on_what_is_published() -> None:
    published: list[Any] = []

    class Publisher:
        def publish(self, store: str, changes: Any) -> None:
            published.append((store, changes))

    class Standing:
        def monotonic(self) -> float:
            return 0.0

    board = Board(Publisher(), Standing())  # type: ignore[arg-type]
    board.publish("acme", {"a": None})
    assert published == [("acme", {"a": None})]


def fields(kind: type) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def test_every_field_of_the_json_is_documented_and_no_other() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    table = readme.partition("| object of the JSON |")[2].partition("\n\n")[0]
    documented = {
        re.split(r"[` ]+", row)[1]: set(re.findall(r"`([a-z0-9_]+)`", row.split("|")[2]))
        for row in table.splitlines()[2:]
    }
    kinds = (status.Status, status.Store, status.Gap, status.Integration, status.Hour, status.Failure)
    assert documented == {kind.__name__.lower(): fields(kind) for kind in kinds}
