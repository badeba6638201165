"""Oldest-first lists that lose logs while they are read: what left unread is told of, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.shelf import NOW, SECOND, Shelf, attempt, ids, newest_first

FLOOR = NOW - 200 * SECOND


def _losing(each: int, *, future: bool) -> Any:
    """A list that loses `each` of its oldest logs at every look, while as many arrive."""

    def lose(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * 30 * SECOND
        if number > 2:
            del shelf.logs[:each]
            shelf.logs += [attempt(f"n{number}-{i}", shelf.now_ns - each + i) for i in range(each)]
            if future:
                shelf.logs[5] = attempt(f"f{number}", NOW * 2)

    return lose


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize("floor_ns", [FLOOR, None])
def test_a_list_that_loses_its_oldest_logs_faster_than_they_are_read_says_so_unless_nothing_was_counted_yet(
    floor_ns: int | None, *, future: bool
) -> None:
    shelf = Shelf(newest_first(300)[::-1], before=_losing(30, future=future))
    ended = shelf.walk(order="oldest_first", whole=True, floor_ns=floor_ns, stop_ns=floor_ns)
    assert (ended.broken, ended.lapsed) == (True, floor_ns is not None)


@pytest.mark.parametrize("each", [0, 3])
def test_a_list_that_loses_less_than_is_read_of_it_has_not_outrun_its_walk(each: int) -> None:
    shelf = Shelf(newest_first(300)[::-1], before=_losing(each, future=False))
    ended = shelf.walk(order="oldest_first", whole=True, floor_ns=FLOOR, stop_ns=FLOOR)
    assert (ended.complete, ended.lapsed) == (True, False)
    assert {each.id for each in shelf.logs if (each.created_ns or 0) <= NOW} <= set(shelf.counted)


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_a_walk_begun_anew_among_older_logs_or_in_a_list_that_turned_round_has_lost_none(
    *, turned: bool, future: bool
) -> None:
    """Pages from somewhere else, until the walk is back at the head of the list."""
    logs = newest_first(200)[:: 1 if turned else -1]
    if future:
        logs[5] = attempt("future", NOW * 2)

    def odd(page: list[Any], number: int) -> list[Any]:
        return [attempt(f"odd{number}", NOW - 100 * SECOND)] if 4 < number < 12 else page

    shelf = Shelf(logs, known=ids(logs[:140]), shape=odd)
    ended = shelf.walk(order="oldest_first", floor_ns=NOW - 50 * SECOND, stop_ns=NOW - 50 * SECOND, tail_hint=199)
    assert 0 in shelf.asked
    assert (ended.complete, ended.broken, ended.lapsed) == (True, True, False)


def test_a_walk_that_fell_behind_once_and_is_begun_anew_among_older_logs_later_has_lost_some() -> None:
    logs = newest_first(400)[::-1]

    def lose(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * SECOND
        if number == 3:
            del shelf.logs[:100]

    def odd(page: list[Any], number: int) -> list[Any]:
        return [attempt(f"odd{number}", NOW - 100 * SECOND)] if 20 < number < 27 else page

    shelf = Shelf(logs, before=lose, shape=odd)
    ended = shelf.walk(order="oldest_first", whole=True, floor_ns=NOW - 380 * SECOND, stop_ns=NOW - 380 * SECOND)
    assert (ended.complete, ended.broken, ended.lapsed) == (True, True, True)


def test_logs_of_the_time_of_the_last_that_was_read_do_not_show_that_any_left() -> None:
    def odd(page: list[Any], number: int) -> list[Any]:
        return [attempt(f"odd{number}", NOW)] if 2 < number < 12 else page

    shelf = Shelf([attempt(f"l{i:03}", NOW) for i in range(50)], shape=odd)
    ended = shelf.walk(order="oldest_first", whole=True, floor_ns=FLOOR, stop_ns=FLOOR)
    assert (ended.broken, ended.lapsed) == (True, False)


def test_a_burst_that_overtakes_a_newest_first_walk_has_lost_none() -> None:
    def burst(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * SECOND
        if number == 1:
            shelf.logs[:0] = [attempt(f"n{i}", NOW + SECOND) for i in range(30)]

    shelf = Shelf(newest_first(300), before=burst)
    ended = shelf.walk(order="newest_first", floor_ns=FLOOR, stop_ns=FLOOR)
    assert (ended.complete, ended.broken, ended.lapsed) == (True, True, False)


def _kept(seconds: int) -> Any:
    """By arrival, every third log a minute late; each is listed until it is so old; a look takes fifteen seconds."""
    made = [
        attempt(f"l{i}", NOW + (i - 1000) * SECOND - (0 if i % 3 else 55 * SECOND)) for i in range(3_000)
    ]  # the i-th arrives at NOW + i - 1000

    def keep(shelf: Shelf, number: int) -> None:
        shelf.now_ns = NOW + number * 15 * SECOND
        arrived = made[: 1001 + number * 15]
        oldest_ns = shelf.now_ns - seconds * SECOND
        shelf.logs[:] = [each for each in arrived if (each.created_ns or 0) >= oldest_ns]

    return made, keep


@pytest.mark.parametrize(("seconds", "hint", "lapsed"), [(900, 900, False), (400, 400, True), (400, 300, True)])
def test_late_logs_that_may_have_left_a_list_from_among_others_while_it_was_read_are_told_of(
    seconds: int, hint: int, *, lapsed: bool
) -> None:
    """As long as the oldest of the list are below the floor none that is younger can have left it."""
    made, keep = _kept(seconds)
    shelf = Shelf([], before=keep, limit=50)
    floor_ns = NOW - 300 * SECOND
    ended = shelf.walk(order="oldest_first", floor_ns=floor_ns, stop_ns=floor_ns, tail_hint=hint)
    assert (ended.complete, ended.broken, ended.lapsed) == (True, True, lapsed)
    missed = [a for a in made[:1001] if (a.created_ns or 0) >= floor_ns and a.id not in shelf.counted]
    assert bool(missed) <= ended.lapsed


def test_a_young_list_whose_first_log_is_newer_than_the_floor_has_lost_none() -> None:
    logs = newest_first(100)[::-1]
    shelf = Shelf(logs, shape=lambda page, number: [attempt(f"odd{number}", NOW)] if number == 15 else page)
    floor_ns = NOW - 300 * SECOND
    ended = shelf.walk(order="oldest_first", floor_ns=floor_ns, stop_ns=floor_ns)
    assert (ended.complete, ended.broken, ended.lapsed) == (True, True, False)
    assert set(shelf.counted) >= ids(logs)
