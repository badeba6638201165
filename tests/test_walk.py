"""Which page next, and when a walk is complete: each test loses a record if the rule that it names is taken away."""

from __future__ import annotations

import random

import pytest

from exporter.records import Attempt
from exporter.stitching import IDLE_MAX
from tests.shelf import NOW, SECOND, Shelf, attempt, ids, newest_first


def test_a_newest_first_walk_ends_at_the_first_record_below_the_floor() -> None:
    shelf = Shelf(newest_first(100))
    ended = shelf.walk(floor_ns=NOW - 25 * SECOND, stop_ns=NOW - 25 * SECOND)
    assert (ended.complete, ended.how) == (True, "floor")
    assert {f"l{i:04}" for i in range(74, 100)} <= set(shelf.counted)
    assert len(shelf.asked) == 3


def test_each_page_overlaps_the_one_before_by_a_record() -> None:
    shelf = Shelf(newest_first(100))
    shelf.walk(floor_ns=NOW - 25 * SECOND, stop_ns=NOW - 25 * SECOND)
    assert shelf.asked == [0, 9, 18]


def test_a_page_overlaps_by_the_whole_group_of_records_with_the_same_time() -> None:
    logs = [attempt(f"l{i}", NOW - (i // 4) * SECOND) for i in range(40)]
    shelf = Shelf(logs)
    shelf.walk(floor_ns=NOW - 5 * SECOND, stop_ns=NOW - 5 * SECOND)
    assert shelf.asked[1] == 8  # of 10 records the last two share a time


def test_records_inserted_at_the_head_while_paging_hide_nothing() -> None:
    def insert(shelf: Shelf, number: int) -> None:
        shelf.logs[:0] = [attempt(f"new{number}-{i}", NOW + number * SECOND) for i in range(4)]

    shelf = Shelf(newest_first(60), before=insert)
    ended = shelf.walk(floor_ns=NOW - 30 * SECOND, stop_ns=NOW - 30 * SECOND)
    assert ended.complete
    assert {f"l{i:04}" for i in range(29, 60)} <= set(shelf.counted)


def test_a_deletion_before_our_place_is_seen_by_the_missing_overlap_and_stepped_back_over() -> None:
    def delete(shelf: Shelf, number: int) -> None:
        if number == 2:
            del shelf.logs[2:9]

    shelf = Shelf(newest_first(60), before=delete)
    ended = shelf.walk(floor_ns=NOW - 40 * SECOND, stop_ns=NOW - 40 * SECOND)
    assert ended.complete
    assert ended.broken
    assert {f"l{i:04}" for i in range(19, 51)} <= set(shelf.counted)


def test_a_burst_larger_than_a_page_between_two_requests_starts_the_walk_over() -> None:
    def burst(shelf: Shelf, number: int) -> None:
        if number == 1:
            shelf.logs[:0] = [attempt(f"new{i}", NOW + SECOND) for i in range(50)]

    shelf = Shelf(newest_first(60), before=burst)
    ended = shelf.walk(floor_ns=NOW - 20 * SECOND, stop_ns=NOW - 20 * SECOND)
    assert ended.complete
    assert ended.broken
    assert {f"l{i:04}" for i in range(39, 60)} <= set(shelf.counted)


def test_a_burst_of_several_pages_far_down_a_walk_is_passed_by() -> None:
    def burst(shelf: Shelf, number: int) -> None:
        if number == 4:
            shelf.logs[:0] = [attempt(f"new{i}", NOW + SECOND) for i in range(45)]

    shelf = Shelf(newest_first(100), before=burst)
    ended = shelf.walk(floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND)
    assert (ended.complete, ended.how, ended.broken) == (True, "floor", False)
    assert shelf.asked[:6] == [0, 9, 18, 27, 36, 45]  # on at once, with no look at where the last record stood
    assert {f"l{i:04}" for i in range(39, 100)} <= set(shelf.counted)


@pytest.mark.parametrize("number", [1, 2, 3, 9, 10, 11, 19, 20, 21, 95])
@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "unknown", "unordered"])
def test_a_list_that_ends_above_the_floor_is_read_to_its_last_record(number: int, order: str) -> None:
    logs = newest_first(number)
    shelf = Shelf(logs[::-1] if order == "oldest_first" else logs)
    ended = shelf.walk(whole=True, order=order)
    assert (ended.complete, ended.how) == (True, "end")
    assert set(shelf.counted) == ids(logs)


def test_an_empty_list_is_complete_after_three_empty_answers() -> None:
    shelf = Shelf([])
    ended = shelf.walk(whole=True)
    assert (ended.complete, ended.how, shelf.asked) == (True, "end", [0, 0, 0])


@pytest.mark.parametrize("glitch", range(6))
def test_an_empty_page_is_not_the_end(glitch: int) -> None:
    shelf = Shelf(newest_first(45), shape=lambda page, number: [] if number == glitch else page)
    ended = shelf.walk(whole=True)
    assert ended.complete
    assert set(shelf.counted) == ids(shelf.logs)


@pytest.mark.parametrize("seed", range(20))
def test_a_short_page_is_not_the_end(seed: int) -> None:
    rng = random.Random(seed)
    shelf = Shelf(
        newest_first(45), shape=lambda page, number: page[: rng.randint(1, 10)] if rng.random() < 0.3 else page
    )
    ended = shelf.walk(whole=True)
    assert ended.complete
    assert set(shelf.counted) == ids(shelf.logs)


@pytest.mark.parametrize("past_limit", ["refused", "empty", "last_page"])
@pytest.mark.parametrize("order", ["newest_first", "unordered"])
def test_the_offset_limit_is_not_the_end(past_limit: str, order: str) -> None:
    shelf = Shelf(newest_first(200), offset_limit=50, past_limit=past_limit)
    ended = shelf.walk(whole=True, order=order)
    assert (ended.complete, ended.how) == (False, "capped")


def test_a_server_that_ignores_paging_is_told_from_a_short_list() -> None:
    logs = newest_first(30)
    shelf = Shelf(logs, shape=lambda page, number: logs[:10])
    assert shelf.walk(whole=True).how == "paging_ignored"


def test_an_oldest_first_walk_finds_the_far_end_without_a_total() -> None:
    shelf = Shelf(newest_first(400)[::-1])
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 30 * SECOND, stop_ns=NOW - 30 * SECOND)
    assert (ended.complete, ended.how, ended.tail_at) == (True, "end", 399)
    assert {f"l{i:04}" for i in range(369, 400)} <= set(shelf.counted)
    assert len(shelf.asked) < 30


def test_an_oldest_first_walk_survives_retention_at_the_head() -> None:
    def retain(shelf: Shelf, number: int) -> None:
        if number % 2 and number < 30:
            del shelf.logs[:7]

    shelf = Shelf(newest_first(400)[::-1], before=retain)
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND, tail_hint=399)
    assert ended.complete
    assert {f"l{i:04}" for i in range(340, 400)} <= set(shelf.counted)


def test_a_quick_poll_of_an_idle_store_is_one_request_either_way_round() -> None:
    logs = newest_first(50)
    head = Shelf(logs, known=ids(logs))
    assert head.walk(quick=True, floor_ns=NOW - 600 * SECOND, stop_ns=NOW - 600 * SECOND).how == "known"
    assert head.asked == [0]
    tail = Shelf(logs[::-1], known=ids(logs))
    ended = tail.walk(quick=True, order="oldest_first", tail_hint=49, floor_ns=NOW - 600 * SECOND)
    assert (ended.how, tail.asked) == ("known", [47])


def test_a_quick_poll_oldest_first_reads_on_to_what_is_new() -> None:
    logs = newest_first(80)[::-1]
    shelf = Shelf(logs, known=ids(logs[:50]))
    shelf.walk(quick=True, order="oldest_first", tail_hint=49, floor_ns=NOW - 600 * SECOND)
    assert ids(logs[50:]) <= set(shelf.counted)


def test_a_complete_walk_does_not_stop_at_known_records() -> None:
    logs = newest_first(60)
    shelf = Shelf(logs, known=ids(logs) - {"l0010"})  # an island of known ids above a hole
    shelf.walk(floor_ns=NOW - 55 * SECOND, stop_ns=NOW - 55 * SECOND)
    assert "l0010" in shelf.counted


@pytest.mark.parametrize("seconds_apart", [0.01, 5, 30])
@pytest.mark.parametrize(("turned", "order"), [(False, "newest_first"), (True, "oldest_first")])
def test_the_order_is_observed_where_times_spread_more_than_the_lookback(
    seconds_apart: float, turned: bool, order: str
) -> None:
    logs = newest_first(300, seconds_apart)
    ended = Shelf(logs[::-1] if turned else logs).walk(order="unknown", whole=True)
    assert ended.evidence == (order if seconds_apart > 1 else None)
    assert ended.complete


def test_a_dense_first_page_is_compared_with_a_far_one() -> None:
    logs = newest_first(2000, seconds_apart=0.5)
    shelf = Shelf(logs)
    ended = shelf.walk(order="unknown")
    assert (ended.how, ended.evidence) == ("floor", "newest_first")
    assert len(shelf.asked) < 40


def test_a_list_that_turned_round_is_swept_instead_of_believed() -> None:
    logs = newest_first(100)[::-1]
    shelf = Shelf(logs, known=ids(logs[:80]))
    ended = shelf.walk(order="newest_first", floor_ns=NOW - 25 * SECOND, stop_ns=NOW - 25 * SECOND)
    assert (ended.complete, ended.swept) == (True, True)
    assert set(shelf.counted) == ids(logs[80:])


def test_an_unordered_list_is_swept_until_two_passes_agree() -> None:
    logs = newest_first(100)
    random.Random(1).shuffle(logs)
    shelf = Shelf(logs)
    ended = shelf.walk(order="unordered", whole=True)
    assert (ended.complete, ended.listed) == (True, frozenset(ids(logs)))
    assert shelf.asked.count(0) == 2


def test_records_without_times_are_swept_and_never_end_a_walk() -> None:
    logs: list[Attempt] = [attempt(f"l{i}", None) for i in range(45)]
    shelf = Shelf(logs)
    ended = shelf.walk(order="unknown", whole=True)
    assert (ended.complete, ended.untimed, ended.newest_ns) == (True, True, None)
    assert set(shelf.counted) == ids(logs)


def test_a_time_in_the_future_moves_no_mark() -> None:
    logs = [attempt("future", NOW + 10**6 * SECOND), *newest_first(30)]
    ended = Shelf(logs).walk(floor_ns=NOW - 15 * SECOND, stop_ns=NOW - 15 * SECOND)
    assert (ended.complete, ended.newest_ns) == (True, NOW)


def test_more_equal_times_than_a_page_can_repeat_are_read_twice() -> None:
    logs = [attempt(f"l{i}", NOW) for i in range(45)]
    shelf = Shelf(logs)
    ended = shelf.walk(order="unknown", whole=True)
    assert ended.complete
    assert set(shelf.counted) == ids(logs)
    assert shelf.asked.count(0) >= 2


def test_a_duplicate_within_a_page_does_not_move_the_next_page_too_far() -> None:
    shelf = Shelf(newest_first(45), shape=lambda page, number: [*page[:3], page[0], *page[3:]])
    ended = shelf.walk(whole=True)
    assert ended.complete
    assert set(shelf.counted) == ids(shelf.logs)


def test_a_list_that_never_settles_ends_as_stuck_and_not_as_complete() -> None:
    shelf = Shelf(newest_first(45), shape=lambda page, number: page if number < 2 else [])
    ended = shelf.walk(whole=True)
    assert not ended.complete
    assert len(shelf.asked) <= 3 + IDLE_MAX


def test_equal_times_that_change_places_and_overflow_a_page_are_read_until_two_passes_agree_or_not_called_complete() -> (
    None
):
    rng = random.Random(7)
    logs = [attempt(f"l{i}", NOW - (i // 30) * SECOND) for i in range(90)]

    def permute(shelf: Shelf, number: int) -> None:
        groups = [shelf.logs[i : i + 30] for i in range(0, 90, 30)]
        for group in groups:
            rng.shuffle(group)
        shelf.logs[:] = [each for group in groups for each in group]

    shelf = Shelf(logs, before=permute)
    ended = shelf.walk(floor_ns=NOW - SECOND, stop_ns=NOW - SECOND)
    assert ended.how == "ties" or set(shelf.counted) >= {f"l{i}" for i in range(60)}
    assert shelf.asked.count(0) >= 2


def test_a_first_page_that_comes_again_far_from_the_head_is_an_offset_limit_and_not_ignored_paging() -> None:
    shelf = Shelf(newest_first(200)[::-1], offset_limit=60, past_limit="last_page")
    ended = shelf.walk(order="oldest_first", tail_hint=100, floor_ns=NOW - 30 * SECOND, stop_ns=NOW - 30 * SECOND)
    assert (ended.complete, ended.how) == (False, "capped")


@pytest.mark.parametrize(
    ("number", "past_limit"),
    [(1, "refused"), (1, "empty"), *[(n, p) for n in (5, 10, 11, 200) for p in ("refused", "empty", "last_page")]],
)
def test_the_far_end_is_found_in_few_requests_however_the_list_answers_past_it(number: int, past_limit: str) -> None:
    shelf = Shelf(newest_first(number, seconds_apart=10)[::-1], offset_limit=max(0, number - 1), past_limit=past_limit)
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 30 * SECOND, stop_ns=NOW - 30 * SECOND)
    assert (ended.complete, f"l{number - 1:04}" in shelf.counted) == (True, True)
    assert len(shelf.asked) < 40


def test_the_servers_clock_is_that_of_the_walks_first_answer_whatever_arrives_during_it() -> None:
    def pass_time(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * 100 * SECOND
        if number == 1:
            shelf.logs[:0] = [attempt("meanwhile", NOW + 90 * SECOND)]

    shelf = Shelf(newest_first(60), before=pass_time)
    ended = shelf.walk(floor_ns=NOW - 30 * SECOND, stop_ns=NOW - 30 * SECOND)
    assert (ended.complete, ended.clamp_ns, ended.newest_ns) == (True, NOW, NOW)
