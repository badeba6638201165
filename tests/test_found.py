"""What the simulation found, each as small as it can be told: a list, and the walk that went wrong on it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from exporter.epcc import log
from exporter.manners import Manners
from exporter.shop import Integration
from tests.shelf import NOW, SECOND, Shelf, attempt, ids, newest_first
from tests.world import MakeWorld, at, settled, simple, virtual


def test_the_last_page_before_an_offset_limit_shown_again_and_cut_short_is_not_the_end() -> None:
    def cut(page: list[Any], number: int) -> list[Any]:
        return page[:1] if number > 8 and number % 3 == 0 else page

    shelf = Shelf(newest_first(200), offset_limit=60, past_limit="last_page", shape=cut)
    ended = shelf.walk(whole=True)
    assert (ended.how, ended.complete) == ("capped", False)


@pytest.mark.parametrize(("empty", "number"), [(range(1, 9), 40), (range(1, 40), 10), (range(4), 0)])
def test_a_list_that_has_shown_a_record_is_not_empty_for_saying_so_three_times(empty: range, number: int) -> None:
    logs = newest_first(40)
    shelf = Shelf(logs, shape=lambda page, number: [] if number in empty else page)
    ended = shelf.walk(order="unknown", whole=True)
    assert (ended.how, ended.complete) == ("end", True)
    assert set(shelf.counted) == ids(logs[:number])


def test_an_end_that_only_a_page_from_before_an_offset_limit_can_show_is_found() -> None:
    logs = newest_first(131)[::-1]
    shelf = Shelf(logs, limit=100, offset_limit=70, past_limit="empty")
    ended = shelf.walk(order="oldest_first", whole=True, page_limit=100)
    assert (ended.how, ended.complete) == ("end", True)
    assert set(shelf.counted) == ids(logs)


@pytest.mark.parametrize("number", range(90, 97))
def test_a_list_whose_end_lies_within_the_last_page_before_the_offset_limit_ends_or_is_capped(number: int) -> None:
    shelf = Shelf(newest_first(number), limit=25, offset_limit=70, past_limit="empty")
    ended = shelf.walk(order="unordered", whole=True, page_limit=25)
    assert ended.how == ("end" if number < 95 else "capped")
    assert len(shelf.counted) == min(number, 95)


@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_a_first_walk_by_arrival_remembers_everything_above_the_floor_though_a_late_log_stands_among_it(
    order: str,
) -> None:
    """Below the late log stands one that is younger than the floor will be."""
    ages = [*range(60), 115, 59.5, *range(60, 200)]  # seconds, newest arrival first; 115 came nearly a lookback late
    logs = [attempt(f"l{age:g}", NOW - round(age * SECOND)) for age in ages]
    shelf = Shelf(logs if order == "newest_first" else logs[::-1], limit=10)
    ended = shelf.walk(order=order)
    assert ended.complete
    assert {each.id for each in logs if each.created_ns is not None and each.created_ns >= NOW - 60 * SECOND} <= set(
        shelf.counted
    )


def test_a_list_that_turned_round_is_seen_where_its_first_page_spans_less_than_a_lookback() -> None:
    """Nine logs below the floor, one above it: so looked the newest page too, when the list ran the other way."""
    logs = newest_first(100)[::-1]
    shelf = Shelf(logs, known=ids(logs[:60]))
    floor = logs[9].created_ns
    ended = shelf.walk(order="newest_first", floor_ns=floor, stop_ns=floor, head_ns=logs[59].created_ns)
    assert ended.complete
    assert set(shelf.counted) == ids(logs[60:])


def test_a_stretch_that_falls_in_a_list_believed_oldest_first_is_no_walk_through_it() -> None:
    logs = newest_first(300)
    random.Random(3).shuffle(logs)
    shelf = Shelf(logs)
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 90 * SECOND, stop_ns=NOW - 90 * SECOND, tail_hint=299)
    assert ended.swept
    assert set(shelf.counted) == ids(logs)


def test_a_jumble_of_few_records_that_looks_ordered_is_swept_all_the_same() -> None:
    ages = [0, 10, 70, 5, 2, 66]  # the first page falls by more than a lookback, by chance
    shelf = Shelf([attempt(f"l{age}", NOW - age * SECOND) for age in ages], limit=3)
    ended = shelf.walk(order="unknown", page_limit=3, floor_ns=NOW - 65 * SECOND, stop_ns=NOW - 65 * SECOND)
    assert ended.complete
    assert set(shelf.counted) == {f"l{age}" for age in ages}


def test_a_complete_walk_does_not_rely_on_an_order_that_rests_on_little() -> None:
    ages = [0, 70, 80, 5, 2, 66]
    shelf = Shelf([attempt(f"l{age}", NOW - age * SECOND) for age in ages], limit=3)
    goal = {"order": "newest_first", "page_limit": 3, "floor_ns": NOW - 65 * SECOND, "stop_ns": NOW - 65 * SECOND}
    quick = shelf.walk(**goal, trusted=False, quick=True)
    assert not quick.complete
    shelf.walk(**goal, trusted=False)
    assert set(shelf.counted) == {f"l{age}" for age in ages}


def test_logs_that_arrive_anywhere_in_a_jumble_between_two_sweeps_leave_it_complete() -> None:
    logs = newest_first(100)
    random.Random(5).shuffle(logs)

    def arrive(shelf: Shelf, number: int) -> None:
        if number % 7 == 6:
            shelf.logs.insert(number % 50, attempt(f"new{number}", NOW + number * SECOND // 10))

    shelf = Shelf(logs, before=arrive)
    ended = shelf.walk(order="unordered", floor_ns=NOW - 300 * SECOND, stop_ns=NOW - 300 * SECOND)
    assert (ended.how, ended.complete) == ("end", True)


def test_more_equal_times_than_pages_overlap_by_are_read_twice_oldest_first_too() -> None:
    logs = [attempt(f"l{i}", NOW - (i // 30) * SECOND) for i in range(90)]
    shuffled = random.Random(7)

    def permute(shelf: Shelf, number: int) -> None:
        for start in range(0, 90, 30):
            group = shelf.logs[start : start + 30]
            shuffled.shuffle(group)
            shelf.logs[start : start + 30] = group

    shelf = Shelf(logs[::-1], before=permute)
    ended = shelf.walk(order="oldest_first", whole=True)
    assert not ended.complete or set(shelf.counted) == ids(logs)


@virtual
async def test_what_a_first_walk_oldest_first_did_not_look_at_counts_in_no_audit(world: MakeWorld) -> None:
    epcc = simple(*range(-900, 0, 5), manners=Manners(order="oldest_first"))
    w = world(epcc, history="skip", page_limit=5)
    for i in range(40):
        epcc.add(log(f"n{i}", at(i * 10 + 1)))
        await w.polls()
    await settled(w)
    assert w.tallied()["shipping"]["attempts"] == 40


@virtual
async def test_the_second_walk_of_a_poll_stands_on_the_ground_of_the_first_and_tells_no_retention(
    world: MakeWorld,
) -> None:
    w = world(simple(manners=Manners(order="unordered", latency_seconds=(1.0, 1.0))), lookback=20.0)
    await w.polls()
    w.epcc.add(log("first", at(11)), log("second", at(14)))
    await w.polls(4)
    assert w.poller.intake.marks.gaps == {}


@pytest.mark.parametrize("order", ["newest_visible_first", "oldest_visible_first"])
@pytest.mark.parametrize("spoilt", ["record shown twice", "date in the future"])
def test_nothing_is_called_late_because_of_a(tmp_path: Any, spoilt: str, order: str) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        twice = spoilt == "record shown twice"
        epcc = simple(
            *range(-300, 0, 5), manners=Manners(order=order, faults={"duplicate_in_page": 0.9} if twice else {})
        )
        w = world(epcc, history="skip")
        for i in range(60):
            ahead = 100_000 if not twice and i % 7 == 0 else 0
            epcc.add(log(f"n{i}", at(i * 5 + 1 + ahead), visible_ns=at(i * 5 + 1)))
            await w.polls(every=5)
        assert w.poller.intake.marks.gaps == {}

    test(tmp_path)


@virtual
async def test_a_store_that_turns_its_list_round_is_followed(world: MakeWorld) -> None:
    epcc = simple(*range(-20, 0, 2))
    w = world(epcc, history="skip", page_limit=10)
    epcc.add(*[log(f"n{i}", at(i)) for i in range(1, 400, 2)])
    await w.polls(8)
    epcc.manners = replace(epcc.manners, order="oldest_first")
    await w.polls(32)
    await settled(w)
    assert w.tallied()["shipping"]["attempts"] == 200
    assert w.poller.intake.marks.gaps == {}


@virtual
async def test_an_untimed_record_below_a_first_walks_reach_counts_as_history(world: MakeWorld) -> None:
    epcc = simple(*range(-600, 0, 5), manners=Manners(missing=frozenset({"created_at"}), missing_probability=0.2))
    w = world(epcc, history="skip", page_limit=10)
    await w.polls(2)
    w.poller._complete_at = None
    epcc.manners = replace(epcc.manners, order="unordered")  # whatever makes a walk go through the whole list
    await w.polls(6)
    await settled(w)
    assert w.tallied()["shipping"]["attempts"] == 0
    epcc.add(log("new", at(w.clock.monotonic())))
    await w.polls(3)
    assert w.tallied()["shipping"]["attempts"] == 1


@virtual
async def test_a_young_id_is_not_forgotten_because_a_lagging_replica_does_not_show_it_twice(world: MakeWorld) -> None:
    epcc = simple(*range(-200, 0, 5), manners=Manners(order="unordered"))
    w = world(epcc, page_limit=100)
    await w.polls(3)
    epcc.add(log("young", at(w.clock.monotonic() + 1)))
    await w.polls(2)
    counted = w.tallied()["shipping"]["attempts"]
    epcc.manners = replace(epcc.manners, faults={"stale_page": 1.0}, stale_seconds=60.0)
    for _ in range(4):
        w.poller._complete_at = None
        await w.polls(every=0.1)
    epcc.manners = replace(epcc.manners, faults={})
    await settled(w)
    assert w.tallied()["shipping"]["attempts"] == counted


@pytest.mark.parametrize("dated", ["when it leaves", "when it was asked for"])
def test_a_first_walk_that_ends_at_the_present_leaves_nothing_of_before_it_to_be_counted(
    tmp_path: Any, dated: str
) -> None:
    """By `Date`, which tells no parts of a second, less the round trip, the walk began before it did."""
    latency, skew = (0.1, 0.0) if dated == "when it leaves" else (1.0, -1.0)
    began = 0.9 + 2 * latency  # when the integrations have been read

    @virtual
    async def test(world: MakeWorld) -> None:
        epcc = simple(
            *range(-100, 0),
            *[began - i * latency / 110 for i in range(1, 110)],
            manners=Manners(
                order="oldest_first", latency_seconds=(latency, latency), date_skew_seconds=skew, time_digits=9
            ),
        )
        epcc.add_integration(Integration("new", "New"))
        epcc.add(*[log(f"n{i}", at(began + i * latency / 10), integration_id="new") for i in range(1, 900)])
        w = world(epcc, history="skip", page_limit=5, lookback=20.0)
        await asyncio.sleep(0.9)
        await w.polls()
        assert w.clock.monotonic() < 60, "the walk did not end at the present"
        await w.polls(12)
        await settled(w)
        assert w.tallied()["shipping"]["attempts"] == 0
        assert w.tallied()["new"]["attempts"] > 450

    test(tmp_path)


@pytest.mark.parametrize("late", [1, 2])
def test_one_late_log_at_the_end_of_a_page_ends_no_walk(late: int) -> None:
    """Two of them do: what is new behind them is read when they have moved on."""
    logs = newest_first(100)
    logs[46 - late : 46 - late] = [attempt(f"late{i}", NOW - 100 * SECOND) for i in range(late)]
    shelf = Shelf(logs)
    ended = shelf.walk(order="newest_first", floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND)
    young = {each.id for each in logs if (each.created_ns or 0) >= NOW - 60 * SECOND}
    assert (ended.complete, young <= set(shelf.counted)) == (True, late == 1)


@pytest.mark.parametrize("length", [2, 3])
def test_a_walk_ends_at_the_floor_though_pages_are_short(length: int) -> None:
    logs = newest_first(100)
    shelf = Shelf(logs, limit=length, known=ids(logs[20:]))
    ended = shelf.walk(order="newest_first", floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND)
    assert (ended.how, ended.complete) == ("floor", True)
    assert max(shelf.asked) <= 62
