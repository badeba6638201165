"""When newborn series are announced: on the virtual clock, with a disk that may refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from exporter.announce import RETRY_SECONDS, Announcer
from exporter.exposition import Exposition
from exporter.metrics import OwnMetrics, Shown
from exporter.scrapers import PATIENCE_SECONDS
from exporter.store import StorageError
from exporter.tally import Tally
from tests.world import VirtualClock, run

A, B = ("10.0.0.1", "Prometheus/3.5"), ("10.0.0.2", "Prometheus/3.5")


class Announcing:
    """An announcer of one store whose announcements are noted: when (seconds)."""

    def __init__(self, answers: list[bool | Exception]) -> None:
        self.answers = answers
        self.tried: list[float] = []
        own, intake = OwnMetrics(), cast("Any", SimpleNamespace(announce=self._announce))
        own.add_store("acme")
        self.announcer = Announcer(Exposition(own), own, VirtualClock(), {"acme": intake}.get)

    async def _announce(self, series: list[tuple[str, str | None]], now_ns: int) -> bool:
        assert series == [("int-1", None)]
        self.tried.append(round(asyncio.get_running_loop().time(), 3))
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer

    def scrape(self, client: tuple[str, str], version: int) -> None:
        self.announcer.note_scrape(client, True, version)

    async def until(self, script: Callable[[Announcing], Coroutine[Any, Any, None]]) -> list[float]:
        announcing = asyncio.ensure_future(self.announcer.run())
        await script(self)
        announcing.cancel()
        await asyncio.wait([announcing])
        return self.tried


def announced(script: Callable[[Announcing], Coroutine[Any, Any, None]], *answers: bool | Exception) -> list[float]:
    async def go() -> list[float]:
        return await Announcing(list(answers)).until(script)

    return run(go())


async def one_of_two_scrapers_comes(made: Announcing) -> None:
    made.scrape(B, 0)
    made.announcer.publish("acme", {"int-1": Shown(Tally(), None)})
    made.scrape(A, 1)
    await asyncio.sleep(300)


def test_a_scraper_that_does_not_come_is_waited_for_two_minutes_and_not_until_the_next_scrape() -> None:
    assert announced(one_of_two_scrapers_comes) == [PATIENCE_SECONDS]


async def the_only_scraper_comes(made: Announcing) -> None:
    made.announcer.publish("acme", {"int-1": Shown(Tally(), None)})
    made.scrape(A, 1)
    await asyncio.sleep(300)


def test_a_series_that_everybody_has_read_is_announced_at_once_and_once() -> None:
    assert announced(the_only_scraper_comes) == [0.0]


@pytest.mark.parametrize("refusal", [StorageError("SQLITE_FULL"), False])
def test_what_could_not_be_made_durable_is_tried_again_after_a_pause(refusal: bool | Exception) -> None:
    assert announced(the_only_scraper_comes, refusal, refusal) == [
        0.0,
        RETRY_SECONDS,
        2 * RETRY_SECONDS,
    ]
