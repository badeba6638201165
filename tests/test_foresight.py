"""Pages are fetched ahead as far as a walk is likely to go, and no further: requests are what EPCC limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from exporter.epcc import log
from exporter.fetch import CONCURRENCY, Pages
from exporter.foresight import pages_left
from exporter.manners import Manners
from exporter.questions import Goal
from exporter.records import Page
from tests.shelf import NOW, SECOND, attempt
from tests.world import MakeWorld, at, simple, virtual


def page(ages: Sequence[float | None]) -> Page:
    """Of records so many seconds old."""
    times = [None if age is None else NOW - round(age * SECOND) for age in ages]
    attempts = tuple(attempt(f"l{place}", time) for place, time in enumerate(times))
    return Page(attempts, (), tuple(each.id for each in attempts), None)


def left(
    ages: Sequence[float | None], order: str, *, known: float | None = None, stop: float | None = None
) -> int | None:
    """`known`, `stop`: ages. A poll that may stop at known records, if `known` is given."""
    goal = Goal(
        lookback_ns=900 * SECOND, floor_ns=None, stop_ns=None if stop is None else NOW - round(stop * SECOND), whole=False,
        quick=stop is None, order=order, tail_hint=None,
    )  # fmt: skip
    return pages_left(goal, 0 if known is None else NOW - round(known * SECOND), page(ages), NOW)


@pytest.mark.parametrize(
    ("ages", "wanted", "number"),
    [
        # A poll: as many as it takes to what is known, and one of that.
        ([0, 4, 10], {"order": "newest_first", "known": 10}, 1),
        ([0, 4, 10], {"order": "newest_first", "known": 11}, 2),
        ([0, 4, 10], {"order": "newest_first", "known": 20}, 2),
        ([0, 4, 10], {"order": "newest_first", "known": 21}, 3),
        ([10, 14, 20], {"order": "newest_first", "known": 60}, 5),
        ([10, 20, 14], {"order": "newest_first", "known": 60}, 5),  # nearly in order
        ([10, None, 20], {"order": "newest_first", "known": 60}, 5),
        ([0, 4, 10], {"order": "newest_first", "known": 5}, 1),
        ([0, 4, 10], {"order": "newest_first", "known": 0}, 1),
        # What it goes on for is something else.
        ([1, 4, 10], {"order": "newest_first", "known": 0.5}, None),
        ([0, 4, 10], {"order": "newest_first", "known": None}, None),
        # A complete walk: to the floor, below which it needs no page of its own.
        ([0, 4, 10], {"order": "newest_first", "known": 5, "stop": 40}, 3),
        ([0, 4, 10], {"order": "newest_first", "known": 5, "stop": 7}, 0),
        # Oldest-first: to the present, and another look at the end.
        ([50, 44, 40], {"order": "oldest_first", "known": 60}, 5),
        ([50, 44, 40], {"order": "oldest_first", "stop": 60}, 5),
        ([50, 44, 39], {"order": "oldest_first", "known": 60}, 5),
        ([9, 2, 0], {"order": "oldest_first", "known": 60}, 1),
        ([9, 2, -1], {"order": "oldest_first", "known": 60}, 1),
        # Nothing says.
        ([50, 44, 40], {"order": "unordered", "known": 60}, None),
        ([50, 44, 40], {"order": "unknown", "known": 60}, None),
        ([10, 10, 10], {"order": "newest_first", "known": 60}, None),
        ([10, 10, 10], {"order": "oldest_first", "known": 60}, None),
        ([10, None], {"order": "newest_first", "known": 60}, None),
        ([], {"order": "newest_first", "known": 60}, None),
    ],
)  # fmt: skip
def test_as_many_pages_are_left_as_the_time_that_is_left_takes(
    ages: Sequence[float | None], wanted: dict[str, Any], number: int | None
) -> None:
    assert left(ages, **wanted) == number


@pytest.mark.parametrize("most", [None, 1, 2, 3, 100])
async def test_no_more_pages_are_fetched_ahead_than_are_likely_to_be_wanted(most: int | None) -> None:
    asked: list[int] = []

    def fetch(offset: int) -> asyncio.Future[tuple[Page, int] | None]:
        asked.append(offset)
        answer: asyncio.Future[tuple[Page, int] | None] = asyncio.Future()
        answer.set_result((Page((), (), (), None), offset))
        return answer

    heard: list[int] = []

    def left(page: Page, server_ns: int) -> int | None:
        heard.append(server_ns)
        return most

    pages = Pages(fetch, left)
    for number in range(5):
        await pages.at(number * 99, 99 if number else 0)
    ahead = max(asked) // 99 - 4
    assert ahead == (CONCURRENCY - 1 if most is None else min(most - 1, CONCURRENCY - 1))
    assert heard == [0, 99, 198, 297, 396]  # the server's clock: here, its offset
    await pages.close()


async def test_a_refused_page_says_nothing_of_how_many_are_left() -> None:
    asked: list[int] = []

    def fetch(offset: int) -> asyncio.Future[tuple[Page, int] | None]:
        asked.append(offset)
        answer: asyncio.Future[tuple[Page, int] | None] = asyncio.Future()
        answer.set_result(None if offset == 198 else (Page((), (), (), None), offset))
        return answer

    pages = Pages(fetch, lambda page, server_ns: 1)
    for offset in (0, 99, 198):
        await pages.at(offset, 99 if offset else 0)
    assert asked == [0, 99, 198]
    await pages.at(297, 99)
    assert asked[3:] == [297, 396, 495, 594, 693]
    await pages.close()


@pytest.mark.parametrize("order", ["newest_first", "newest_visible_first", "oldest_first", "oldest_visible_first"])
def test_a_poll_of_a_thousand_logs_asks_for_the_pages_that_they_are_on(tmp_path: Any, order: str) -> None:
    """Eleven, since each overlaps the last by a record, and one of what is known; oldest-first, two looks at the end."""

    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(simple(*[-i / 50 for i in range(1, 3000)], manners=Manners(order=order)), lookback=10.0)
        await w.polls(2)
        w.epcc.add(*[log(f"n{i}", at(i / 50)) for i in range(1000)])
        await asyncio.sleep((at(20) - w.clock.wall_ns()) / SECOND)
        before = w.epcc.requests["logs"]
        w.poller._complete_at = w.clock.monotonic()  # a poll that may stop at what is known
        await w.poller.poll()
        assert w.poller.intake.tallies["shipping"].attempts == 3999
        assert w.epcc.requests["logs"] - before == (12 if order.startswith("newest") else 13)

    test(tmp_path)
