"""A list by arrival in which a log stands out finds its order again, by its new end alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from exporter.questions import NEWEST_FIRST, OLDEST_FIRST, UNORDERED, Ends, Row
from exporter.records import Attempt
from tests.shelf import NOW, SECOND, Shelf, attempt, ids, newest_first

LOOKBACK = 60  # seconds
OUTLIER = -100_000


def row_of(times: Sequence[int]) -> Row:
    row = Row(LOOKBACK)
    assert [row.takes(each) for each in times] == [True] * len(times)
    return row


@pytest.mark.parametrize(
    ("times", "long"),
    [
        ([-4 * i for i in range(32)], True),
        ([-4 * i for i in range(31)], False),  # too few
        ([0] * 31 + [-121], False),  # one alone stands off
        ([0] * 28 + [-61, -61, -61, -121], True),
        ([0] * 28 + [-60, -61, -61, -121], False),  # three do
        ([0] * 28 + [-61, -61, -61, -120], False),  # no more than two lookbacks
        ([-4 * i - 3 * (i % 2) for i in range(32)], True),  # up and down, by less than a lookback
    ],
)
def test_a_row_is_long_if_no_jumble_would_look_like_that(times: list[int], *, long: bool) -> None:
    assert row_of(times).long == long


@pytest.mark.parametrize(("rise", "takes"), [(LOOKBACK, True), (LOOKBACK + 1, False)])
def test_a_row_ends_with_a_record_that_stands_more_than_a_lookback_above_its_lowest(rise: int, *, takes: bool) -> None:
    row = row_of([500, 300, 310])
    assert row.takes(300 + rise) == takes
    assert row.number == 3 + takes


def ends_of(times: Sequence[int | None], news: Sequence[int] = ()) -> str:
    ends = Ends(Row(LOOKBACK), Row(LOOKBACK))
    for place, each in enumerate(times):
        ends.read(each, unknown=place in news)
    return ends.verdict


DOWN = [-5 * i for i in range(40)]
UP = DOWN[::-1]


@pytest.mark.parametrize(
    ("times", "news", "verdict"),
    [
        ([*DOWN, OUTLIER, *DOWN], [], NEWEST_FIRST),
        ([*DOWN, OUTLIER, *DOWN], [0, 39, 40], NEWEST_FIRST),  # an outlier below ends no row: what follows it does
        ([*DOWN, OUTLIER, *DOWN], [41], UNORDERED),  # ... that a walk along the row would not have met
        ([*DOWN, OUTLIER, None, *DOWN], [41], NEWEST_FIRST),  # without a time it ends no row either
        ([*DOWN, OUTLIER, 0, None], [42], UNORDERED),
        ([OUTLIER, *DOWN], [], UNORDERED),
        ([*UP, OUTLIER, *UP], [], OLDEST_FIRST),
        ([*UP, OUTLIER, *UP], [42, 80], OLDEST_FIRST),
        ([*UP, OUTLIER, *UP], [40], OLDEST_FIRST),
        ([*UP, OUTLIER, *UP], [39], UNORDERED),
        ([*UP, None, OUTLIER, *UP], [40], UNORDERED),
        ([*UP, OUTLIER], [], UNORDERED),
        ([*DOWN, *UP], [], NEWEST_FIRST),
        ([*DOWN, OUTLIER, *UP], [60], OLDEST_FIRST),
        ([-(7919 * i) % 1009 for i in range(500)], [], UNORDERED),
    ],
)
def test_an_end_shows_the_order_if_its_row_is_long_and_holds_all_that_is_new(
    times: list[int | None], news: list[int], verdict: str
) -> None:
    assert ends_of(times, news) == verdict


def test_a_row_is_below_the_floor_with_a_record_that_is_and_where_there_is_a_floor() -> None:
    ends = Ends(Row(LOOKBACK), Row(LOOKBACK))
    for each in DOWN:
        ends.read(each, unknown=False)
    assert [ends.below(stop) for stop in (min(DOWN), min(DOWN) + 1, None)] == [False, True, False]


# --- in a walk


def standing_out(place: int, number: int = 200) -> list[Attempt]:
    """Newest first, a log a second, and at `place` one that is much older."""
    logs = newest_first(number)
    return [*logs[:place], attempt("late", NOW - 5_000 * SECOND), *logs[place:]]


def swept(logs: list[Attempt], news: Sequence[Attempt] = (), **settings: Any) -> str | None:
    shelf = Shelf(logs, known=ids(logs) - ids(news), **settings)
    floor_ns = NOW - 10 * SECOND
    return shelf.walk(order="unordered", floor_ns=floor_ns, stop_ns=floor_ns, lookback_ns=10 * SECOND).evidence


def test_a_sweep_sees_the_order_of_a_list_in_which_one_log_stands_out() -> None:
    logs = standing_out(150)
    assert swept(logs) == NEWEST_FIRST
    assert swept(logs, news=logs[:40]) == NEWEST_FIRST
    assert swept(logs, news=logs[170:171]) == UNORDERED
    assert swept(logs[::-1]) == OLDEST_FIRST
    # With the late one below, a row of 32 and one of 31.
    assert [swept(standing_out(place)) for place in (31, 30)] == [NEWEST_FIRST, UNORDERED]


def test_a_log_of_the_future_is_of_no_row() -> None:
    logs = standing_out(150)
    logs[5] = replace_time(logs[5], NOW + 5_000 * SECOND)
    assert swept(logs) == NEWEST_FIRST
    assert swept(logs[::-1]) == OLDEST_FIRST


def test_a_new_log_shown_twice_on_its_page_is_new_all_the_same() -> None:
    logs = standing_out(150)
    logs[172:172] = [logs[171]]
    assert swept(logs, news=logs[171:172]) == UNORDERED


def test_records_that_are_shown_again_are_read_once() -> None:
    """Eight logs arrive during the second pass, and what was read before the late one comes once more behind it."""
    logs = standing_out(60)

    def arrive(shelf: Shelf, number: int) -> None:
        if number == len(shelf.asked) == arrival:
            shelf.logs[:0] = [attempt(f"n{i}", NOW + SECOND) for i in range(8)]

    arrival = 1_000
    floor_ns = NOW - 10 * SECOND
    goal = {"order": "unordered", "floor_ns": floor_ns, "stop_ns": floor_ns, "lookback_ns": 10 * SECOND}
    still = Shelf(list(logs), known=ids(logs[59:]), before=arrive)
    assert still.walk(**goal).evidence == NEWEST_FIRST
    arrival = next(i for i, offset in enumerate(still.asked) if i > 30 and offset > 60)
    shelf = Shelf(list(logs), known=ids(logs[59:]), before=arrive)
    assert shelf.walk(**goal).evidence == NEWEST_FIRST
    assert shelf.asked != still.asked


def test_a_list_without_times_shows_no_order_by_its_end() -> None:
    logs = standing_out(150)
    logs[199] = attempt("untimed", None)
    assert swept(logs) == UNORDERED


def test_where_the_offset_limit_hides_the_end_only_the_beginning_counts() -> None:
    assert swept(standing_out(150, 300), offset_limit=200) == NEWEST_FIRST
    assert swept(standing_out(150, 300)[::-1], offset_limit=250) == UNORDERED


# --- newest-first, where a log has come late


def walked_by(logs: list[Attempt], news: Sequence[Attempt] = (), order: str = "newest_first", **settings: Any) -> Any:
    """The walk's end, and how far into the list it looked; lookback 10 s, floor 60 s ago."""
    shelf = Shelf(logs, known=ids(logs) - ids(news), **settings)
    floor_ns = NOW - 60 * SECOND
    ended = shelf.walk(order=order, floor_ns=floor_ns, stop_ns=floor_ns, lookback_ns=10 * SECOND)
    assert ids(news) <= set(shelf.counted)
    return ended, max(shelf.asked)


@pytest.mark.parametrize("settings", [{}, {"offset_limit": 120}])
@pytest.mark.parametrize("place", [1, 12, 47])
def test_a_late_log_has_a_walk_go_on_to_a_long_row_of_known_ones_below_the_floor_and_no_further(
    place: int, settings: dict[str, Any]
) -> None:
    logs = standing_out(place, 1_000)
    ended, furthest = walked_by(logs, logs[: place + 1], **settings)
    assert (ended.how, ended.complete, ended.swept, ended.stop_ns) == ("floor", True, False, NOW - 60 * SECOND)
    assert (ended.evidence, ended.strong) == (NEWEST_FIRST, True)
    assert 50 <= furthest <= place + 60
    assert ended.pages <= (place + furthest) // 9 + 3, "one pass in order, and one behind the late one"


def test_what_is_new_behind_a_late_log_is_read_before_the_row_begins() -> None:
    logs = standing_out(3, 1_000)
    ended, furthest = walked_by(logs, logs[:80])
    assert (ended.how, 100 < furthest < 130) == ("floor", True)


def test_no_row_ends_the_walk_of_a_list_whose_newest_log_of_before_is_not_in_it() -> None:
    logs = standing_out(47, 400)
    shelf = Shelf(logs, known=ids(logs))
    floor_ns = NOW - 60 * SECOND
    goal = {"order": "newest_first", "floor_ns": floor_ns, "stop_ns": floor_ns, "lookback_ns": 10 * SECOND}
    assert [shelf.walk(**goal, head_ns=NOW + each).how for each in (0, 1)] == ["floor", "end"]


def test_a_list_that_has_turned_round_or_had_no_order_is_read_whole() -> None:
    assert walked_by(newest_first(300)[::-1])[0].how == "end"
    assert walked_by(standing_out(47, 300), order="unordered")[0].how == "end"
    assert walked_by(standing_out(47, 300)[::-1], order="oldest_first")[0].how == "end"


@pytest.mark.parametrize(("number", "how"), [(60 + 31, "end"), (60 + 32, "floor")])
def test_a_row_must_be_long(number: int, how: str) -> None:
    """Of the list's logs the newest sixty are new."""
    logs = standing_out(3, number)
    shelf = Shelf(logs, known=ids(logs[61:]), limit=100)
    floor_ns = NOW - 60 * SECOND
    ended = shelf.walk(order="newest_first", floor_ns=floor_ns, stop_ns=floor_ns, lookback_ns=10 * SECOND)
    assert (ended.how, ended.complete) == (how, True)


def replace_time(log: Attempt, created_ns: int) -> Attempt:
    return attempt(log.id, created_ns)
