"""Lists that grow at their end as fast as they are read: the walk ends among what arrived since it began."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exporter.questions import Arrivals, Evidence, up_to
from exporter.records import Attempt
from tests.shelf import NOW, SECOND, Shelf, attempt, ids, newest_first

ENDLESS = 200  # requests; a walk that has not ended by then follows the list for ever


@pytest.mark.parametrize(
    ("at", "page"),
    [(NOW, False), (NOW + 1, True), (NOW + 40 * SECOND, True), (NOW + 40 * SECOND + 1, False)],
)
def test_an_arrival_is_newer_than_the_walk_and_no_more_than_half_a_lookback_ahead_of_its_answer(
    at: int, *, page: bool
) -> None:
    arrivals = Arrivals(Evidence(60 * SECOND))
    arrivals.read([at], NOW, NOW + 10 * SECOND)
    assert arrivals.pages == page


def test_times_up_to_one_are_those_that_are_no_later() -> None:
    assert [list(up_to(latest, (3, 5, 1))) for latest in (5, 4, 3, 0)] == [[3, 5, 1], [3, 1], [3, 1], []]
    assert list(up_to(0, ())) == []


def test_a_page_is_counted_once_whatever_arrived_on_it() -> None:
    arrivals = Arrivals(Evidence(60 * SECOND))
    for pages in (1, 2):
        arrivals.read([NOW - 1, NOW + 1, NOW + 2], NOW, NOW)
        assert arrivals.pages == pages


def growing(each: int, *, skew: int = 0, until: int = ENDLESS) -> Callable[[Shelf, int], None]:
    """`each` logs a second arrive, and a request takes a second. `skew`: seconds by which their clock is ahead."""

    def grow(shelf: Shelf, number: int) -> None:
        assert number < until, "the walk does not end"
        shelf.now_ns = NOW + number * SECOND
        if number > 0:
            at = shelf.now_ns + skew * SECOND
            shelf.logs += [attempt(f"new{number:03}-{i:02}", at - (each - 1 - i)) for i in range(each)]

    return grow


@pytest.mark.parametrize("each", [1, 3, 15])
@pytest.mark.parametrize("order", ["oldest_first", "unknown"])
def test_a_list_that_grows_with_every_look_at_its_end_is_walked_to_the_present(order: str, each: int) -> None:
    logs = newest_first(300)[::-1]
    shelf = Shelf(list(logs), before=growing(each), limit=20)
    ended = shelf.walk(order=order, floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND, tail_hint=299)
    assert (ended.complete, ended.how, ended.clamp_ns, ended.newest_ns) == (True, "present", NOW, NOW)
    assert ids(logs[240:]) <= set(shelf.counted)
    assert ended.tail_at is not None
    assert shelf.logs[ended.tail_at].id in shelf.counted


@pytest.mark.parametrize("doubt", [0, 20])
@pytest.mark.parametrize("counts", [{"floor_ns": NOW - 60 * SECOND, "stop_ns": NOW - 60 * SECOND}, {"whole": True}, {}])
def test_a_walk_that_counts_nothing_leaves_only_what_is_new_beyond_doubt(counts: dict[str, Any], doubt: int) -> None:
    shelf = Shelf(newest_first(300)[::-1], before=growing(3), doubt_ns=doubt * SECOND)
    ended = shelf.walk(order="oldest_first", tail_hint=299, **counts)
    assert (ended.complete, ended.how, ended.clamp_ns) == (True, "present", NOW)
    young = [at for each in shelf.logs if (at := each.created_ns or 0) > NOW and each.id not in shelf.counted]
    assert (min(young) > NOW + 20 * SECOND) == (not counts and doubt > 0)


def test_a_quick_poll_of_a_growing_list_ends_too_and_proves_nothing() -> None:
    logs = newest_first(300)[::-1]
    shelf = Shelf(list(logs), before=growing(2), known=ids(logs[:-1]))
    ended = shelf.walk(quick=True, order="oldest_first", tail_hint=299, floor_ns=NOW - 60 * SECOND)
    assert (ended.complete, ended.how) == (False, "present")


def test_three_pages_with_new_arrivals_make_the_present_and_two_do_not() -> None:
    def arrive(times: int) -> Shelf:
        def grow(shelf: Shelf, number: int) -> None:
            shelf.now_ns = NOW + number * SECOND
            if 0 < number <= times:
                shelf.logs.append(attempt(f"new{number}", shelf.now_ns))

        return Shelf(newest_first(5)[::-1], before=grow)

    # From its beginning: the first request already finds the list as it was.
    assert arrive(2).walk(order="oldest_first", whole=True).how == "end"
    assert arrive(3).walk(order="oldest_first", whole=True).how == "present"


@pytest.mark.parametrize("created_ns", [NOW, NOW + 3600 * SECOND, None])
def test_neither_what_was_created_before_nor_a_date_in_the_future_nor_a_record_without_one_is_the_present(
    created_ns: int | None,
) -> None:
    def late(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * SECOND
        if number < 30:
            shelf.logs.append(attempt(f"late{number:02}", created_ns))

    shelf = Shelf(newest_first(30)[::-1], before=late)
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND, tail_hint=29)
    assert ended.how == "end"
    assert {f"late{i:02}" for i in range(30)} <= set(shelf.counted)


def test_a_record_shown_twice_on_a_page_is_no_witness_of_the_present() -> None:
    def grow(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * SECOND
        if number < 30:
            shelf.logs.append(attempt(f"new{number:02}", shelf.now_ns))

    def doubled(page: list[Attempt], number: int) -> list[Attempt]:
        return page + page[-1:] if number < 30 else page

    shelf = Shelf(newest_first(5)[::-1], before=grow, shape=doubled)
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND, tail_hint=4)
    assert (ended.how, len(shelf.asked) > 30) == ("end", True)


def test_a_growing_list_whose_order_is_not_known_is_followed_until_its_times_show_one() -> None:
    shelf = Shelf(newest_first(10)[::-1], before=growing(1))
    ended = shelf.walk(order="unknown", whole=True)
    assert (ended.how, ended.evidence) == ("present", None)
    # A lookback of 60 s: the new logs, one a second, have shown twice as much and four witnesses.
    assert 110 < len(shelf.asked) < 130


def test_an_unordered_list_that_grows_at_its_end_has_no_present() -> None:
    logs = newest_first(40)
    jumble = [logs[(i * 17) % 40] for i in range(40)]
    shelf = Shelf(jumble, before=growing(1, until=61), limit=20)
    with pytest.raises(AssertionError, match="does not end"):
        shelf.walk(order="unordered", lookback_ns=5 * SECOND)


def test_a_list_of_which_nobody_vouches_for_the_order_has_no_present_however_it_looks_today() -> None:
    shelf = Shelf(newest_first(40)[::-1], before=growing(1, until=61), limit=20)
    with pytest.raises(AssertionError, match="does not end"):
        shelf.walk(order="unordered", lookback_ns=5 * SECOND)


def test_a_list_with_a_record_without_a_time_has_no_present() -> None:
    logs = newest_first(300)[::-1]
    logs[298] = attempt("untimed", None)
    shelf = Shelf(logs, before=growing(1, until=61), limit=20)
    with pytest.raises(AssertionError, match="does not end"):
        shelf.walk(order="oldest_first", floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND, tail_hint=299)


def test_a_list_taken_for_newest_first_has_no_present() -> None:
    def grow(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * 20 * SECOND
        if 0 < number < 30:
            shelf.logs.append(attempt(f"new{number:02}", shelf.now_ns))

    assert Shelf(newest_first(3)[::-1], before=grow).walk(order="newest_first", whole=True).how == "end"


def test_a_list_that_runs_both_ways_has_no_present() -> None:
    def grow(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * 100 * SECOND
        if number < 20:
            # The newest first, each more than a lookback older than the one before it.
            shelf.logs.append(attempt(f"new{number:02}", NOW + (2_000 - number * 61) * SECOND))

    shelf = Shelf(newest_first(5)[::-1], before=grow, now_ns=NOW)
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND, tail_hint=4)
    assert ended.how == "end"


def test_newest_first_arrivals_end_nothing() -> None:
    def arrive(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * SECOND
        shelf.logs[:0] = [attempt(f"new{number:03}", shelf.now_ns)]

    shelf = Shelf(newest_first(200), before=arrive)
    ended = shelf.walk(floor_ns=NOW - 60 * SECOND, stop_ns=NOW - 60 * SECOND)
    assert (ended.complete, ended.how) == (True, "floor")
