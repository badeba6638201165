"""Replaying attempts on a grid, against counting by hand; and which samples a series gets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.history import PAST, Grid, Past, Replay, SeriesKey, joined, sampled
from exporter.records import Attempt

SECOND = 10**9
DAY = 86_400
GRID = Grid(30)


def attempt(seconds: int, job: str | None, number: int | None, succeeded: bool | None, log_id: str) -> Attempt:
    code = "none" if succeeded is None else "200" if succeeded else "500"
    return Attempt(log_id, "shipping", job, seconds * SECOND, number, succeeded, code,
                   "http_5xx" if succeeded is False else None, 1000, ())  # fmt: skip


def pasts(attempts: Sequence[Attempt]) -> list[Past]:
    """As the spool gives them."""
    ordered = sorted(attempts, key=lambda a: (a.created_ns or 0, a.number or 0, a.id))
    return [
        Past(a, next((b.created_ns for b in ordered[i + 1 :] if b.job_id == a.job_id), None))
        for i, a in enumerate(ordered)
    ]  # fmt: skip


def replayed(attempts: Sequence[Attempt], first: int, last: int) -> dict[str, list[tuple[int, float]]]:
    changes: dict[SeriesKey, dict[int, float]] = {}
    order: dict[SeriesKey, int] = {}

    def put(key: SeriesKey, place: int, value: float) -> None:
        assert first <= place <= last
        assert place >= order.get(key, first), "places go back"
        order[key] = place
        changes.setdefault(key, {})[place] = value

    Replay(GRID, first, last, None, put).run(pasts(attempts))
    names = {}
    for (family, suffix, labels), curve in changes.items():
        shown = "".join(f"{{{name}={value}}}" for name, value in labels)
        names[PAST[family].name.removeprefix("epcc_integration_") + suffix + shown] = sorted(curve.items())
    return names


def value_at(curve: list[tuple[int, float]], place: int) -> float:
    return next(value for at, value in reversed(curve) if at <= place)


made = st.lists(
    st.tuples(
        st.integers(1, 400) | st.integers(DAY - 100, DAY + 400) | st.integers(2 * DAY, 2 * DAY + 200),
        st.sampled_from(["a", "b", "c"]),
        st.booleans(),
    ),
    min_size=1, max_size=25, unique_by=lambda each: each[0],
)  # fmt: skip


@given(made)
def test_at_each_place_the_numbers_are_those_of_all_attempts_until_then(tries: list[tuple[int, str, bool]]) -> None:
    numbers: dict[str, int] = {}
    attempts = []
    for seconds, job, succeeded in sorted(tries):
        numbers[job] = numbers.get(job, 0) + 1
        attempts.append(attempt(seconds, job, numbers[job], succeeded, f"{seconds}"))
    last = GRID.at_or_after((3 * DAY + 500) * SECOND)
    shown = replayed(attempts, 0, last)
    times = [a.created_ns // SECOND for a in attempts if a.created_ns is not None]
    for place in {GRID.at_or_after(t * SECOND) + d for t in times for d in (-1, 0, 1)} | {
        GRID.at_or_after((t + DAY) * SECOND) + d for t in times for d in (-1, 0, 1)
    }:
        if place < 0:
            continue
        now = GRID.ns(place)
        until = [a for a in attempts if (a.created_ns or 0) <= now]
        assert value_at(shown["attempts_total"], place) == len(until)
        assert value_at(shown["attempt_failures_total{reason=http_5xx}"], place) == sum(not a.succeeded for a in until)
        streak = list(itertools.takewhile(lambda a: not a.succeeded, reversed(until)))
        assert value_at(shown["consecutive_failures"], place) == len(streak)
        assert value_at(shown["jobs_failing"], place) == failing(until, now)


def failing(until: list[Attempt], now: int) -> int:
    """Jobs without a success, the latest attempt within a day; one that comes back after a day is a new one."""
    found = 0
    for job in {a.job_id for a in until}:
        own = [a for a in until if a.job_id == job]
        life: list[Attempt] = []
        for each in own:
            if life and (each.created_ns or 0) - (life[-1].created_ns or 0) > DAY * SECOND:
                life = []
            life.append(each)
        recent = now - (life[-1].created_ns or 0) < DAY * SECOND
        found += recent and not any(a.succeeded for a in life)
    return found


def test_a_delivery_whose_first_attempt_is_not_known_is_observed_from_the_first_that_is() -> None:
    shown = replayed([attempt(100, "a", 2, False, "x"), attempt(160, "a", 3, True, "y")], 0, 100)
    assert shown["job_delivery_seconds_sum"][-1][1] == 60
    assert shown["jobs_delivered_total{attempt=retry}"] == [(0, 0), (6, 1)]
    alone = replayed([attempt(160, "a", 3, True, "y")], 0, 100)
    assert alone["job_delivery_seconds_count"] == [(0, 0)], "a time of 0 would be invented"


def test_what_is_dated_after_the_last_place_counts_there() -> None:
    shown = replayed([attempt(s, None, 1, True, f"{s}") for s in (10, 290, 301, 900)], 0, 10)
    assert shown["attempts_total"] == [(0, 0), (1, 1), (10, 4)]
    assert shown["jobs_total"] == [(0, 0)]


def test_a_status_code_that_turns_up_later_was_0_from_the_beginning() -> None:
    shown = replayed([attempt(10, "a", 1, True, "x"), attempt(100, "b", 1, False, "y")], 0, 10)
    assert shown["responses_total{status_code=500}"] == [(0, 0), (4, 1)]


def test_what_was_never_is_no_sample() -> None:
    shown = replayed([attempt(10, "a", 1, True, "x")], 0, 10)
    assert shown["last_success_timestamp_seconds"] == [(1, 10.0)]
    assert "last_failure_timestamp_seconds" not in shown


@pytest.mark.parametrize(
    ("changes", "last", "expected"),
    [
        ([], 10, []),
        ([(3, 1.0)], 3, [(3, 1)]),
        ([(0, 0.0), (1, 1.0), (2, 2.0)], 2, [(0, 0), (1, 1), (2, 2)]),
        ([(0, 0.0), (3, 1.0)], 4, [(0, 0), (2, 0), (3, 1), (4, 1)]),
        ([(0, 0.0)], 9, [(0, 0), (4, 0), (8, 0), (9, 0)]),
        ([(0, 0.0), (9, 1.0)], 9, [(0, 0), (4, 0), (8, 0), (9, 1)]),
        ([(0, 0.0), (10, 1.0)], 10, [(0, 0), (4, 0), (8, 0), (9, 0), (10, 1)]),
    ],
)
def test_a_sample_stands_where_it_changes_before_that_at_the_end_and_four_places_apart(
    changes: list[tuple[int, float]], last: int, expected: Any
) -> None:
    assert list(sampled(changes, last, 4)) == expected


@given(st.dictionaries(st.integers(1, 200), st.integers(0, 5)), st.integers(200, 300), st.integers(1, 20))
def test_samples_say_the_same_as_the_changes_at_every_place(values: dict[int, int], last: int, regular: int) -> None:
    changes = [(0, 0.0), *((place, float(value)) for place, value in sorted(values.items()))]
    found = list(sampled(changes, last, regular))
    places = [place for place, _ in found]
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, last)
    assert all(b - a <= regular for a, b in itertools.pairwise(places))
    for place in range(last + 1):
        assert value_at(found, place) == value_at(changes, place)


def test_several_series_change_as_one() -> None:
    curves = [[(0, 0.0), (2, 1.0), (5, 2.0)], [(0, 0.0), (5, 7.0)], [(0, 9.0)]]
    assert list(joined(curves)) == [(0, (0, 0, 9)), (2, (1, 0, 9)), (5, (2, 7, 9))]


def test_the_grid_is_the_same_for_every_range() -> None:
    assert (GRID.at_or_before(59 * SECOND), GRID.at_or_after(59 * SECOND), GRID.at_or_after(60 * SECOND)) == (1, 2, 2)
    assert [Grid(step).regular for step in (1, 30, 60, 239, 240)] == [240, 8, 4, 1, 1]
