"""When newborn series are announced: on the virtual clock, with a disk that may refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from exporter.announce import RETRY_SECONDS, Announcer
from exporter.exposition import Exposition
from exporter.metrics import OwnMetrics, Shown
from exporter.scrapers import PATIENCE_SECONDS, Client
from exporter.store import StorageError
from exporter.tally import Tally
from tests.world import MakeWorld, VirtualClock, run, simple, virtual

A, B = ("10.0.0.1", "Prometheus/3.5"), ("10.0.0.2", "Prometheus/3.5")


class Announcing:
    """An announcer of one store whose announcements are noted: when (seconds). So is whom it keeps for the next life."""

    def __init__(self, answers: list[bool | Exception], known: Sequence[Client] = ()) -> None:
        self.answers = answers
        self.tried: list[float] = []
        self.kept: list[Sequence[Client]] = []
        self.disk_full = False
        own, intake = OwnMetrics(), cast("Any", SimpleNamespace(announce=self._announce))
        own.add_store("acme")
        self.announcer = Announcer(
            Exposition(own), own, VirtualClock(), {"acme": intake}.get, known=known, keep=self._keep
        )

    async def _keep(self, clients: Sequence[Client]) -> None:
        if self.disk_full:
            raise StorageError("SQLITE_FULL")
        self.kept.append(clients)

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


def announced(
    script: Callable[[Announcing], Coroutine[Any, Any, None]], *answers: bool | Exception, known: Sequence[Client] = ()
) -> list[float]:
    async def go() -> list[float]:
        return await Announcing(list(answers), known).until(script)

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


async def two_scrapers_come_one_after_the_other(made: Announcing) -> None:
    made.announcer.publish("acme", {"int-1": Shown(Tally(), None)})
    made.scrape(A, 1)
    await asyncio.sleep(3)
    made.scrape(B, 1)
    await asyncio.sleep(300)


async def they_are_kept_as_they_come_and_once(made: Announcing) -> None:
    await two_scrapers_come_one_after_the_other(made)
    assert made.kept == [[A], [A, B]]


def test_scrapers_are_kept_for_the_next_life_before_anything_is_announced_to_them() -> None:
    assert announced(they_are_kept_as_they_come_and_once) == [0.0]


@virtual
async def test_scrapers_are_known_again_after_a_restart(world: MakeWorld) -> None:
    w = world(simple(1))
    for lives in range(2):
        announcing = asyncio.create_task(w.announcer.run())
        w.announcer.note_scrape(A if lives else B, True, 1)
        await asyncio.sleep(1)
        announcing.cancel()
        w.boot()
    assert w.store is not None
    assert w.store.scrapers == [A, B]


def test_after_a_restart_the_first_scraper_to_come_back_does_not_end_the_wait_for_the_others() -> None:
    assert announced(two_scrapers_come_one_after_the_other, known=[A, B]) == [3.0]


async def the_disk_is_full_for_a_while(made: Announcing) -> None:
    made.disk_full = True
    made.announcer.publish("acme", {"int-1": Shown(Tally(), None)})
    made.scrape(A, 1)
    await asyncio.sleep(1.5)
    made.disk_full = False
    await asyncio.sleep(300)


def test_nothing_is_announced_to_scrapers_that_the_next_life_would_not_know() -> None:
    assert announced(the_disk_is_full_for_a_while) == [2 * RETRY_SECONDS]
