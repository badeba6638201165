"""A store that was shown elsewhere is polled once its numbers were read here: on the virtual clock, with a real state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter.announce import Announcer
from exporter.exposition import Exposition
from exporter.intake import Writer
from exporter.metrics import OwnMetrics, Shown
from exporter.scrapers import PATIENCE_SECONDS, Client
from exporter.store import StorageError, Store
from exporter.takeover import Takeover, home_key, home_of
from exporter.tally import Tally
from tests.shelf import NOW
from tests.world import VirtualClock, run

A, B = ("10.0.0.1", "Prometheus/3.5"), ("10.0.0.2", "Prometheus/3.5")


class Life:
    """A process that goes on from a state with one store, which it shows, and the scrapers that the state knows."""

    def __init__(self, folder: Path, home: str, known: Sequence[Client]) -> None:
        own = OwnMetrics()
        own.add_store("acme")
        self.store = Store.open(folder, NOW)
        self.announcer = Announcer(Exposition(own), own, VirtualClock(), lambda _: None, known=known, keep=self._keep)
        self.takeover = Takeover(self.store, Writer(), home, self.announcer.read_by_all)
        self.announcer.publish("acme", {"int-1": Shown(Tally(announced=True), None)})

    async def _keep(self, clients: Sequence[Client]) -> None:
        raise AssertionError("nothing is announced here")

    async def settled(self, *, shown: bool = True) -> float:
        """After how many seconds the store may be polled."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self.takeover.settle("acme", shown=shown)
        return loop.time() - began

    def reads(self, client: Client, version: int, after: float) -> None:
        asyncio.get_running_loop().call_later(after, self.announcer.note_scrape, client, True, version)


def live(
    folder: Path, script: Callable[[Life], Coroutine[Any, Any, float]], home: str, known: Sequence[Client] = (A, B)
) -> float:
    async def go() -> float:
        life = Life(folder, home, known)
        try:
            return await script(life)
        finally:
            life.store.close()

    return run(go())


async def both_read(life: Life) -> float:
    life.reads(A, 0, 1)  # a page that was rendered before the store was there
    life.reads(A, 1, 4)
    life.reads(B, 1, 9)
    return await life.settled()


async def nobody_reads(life: Life) -> float:
    return await life.settled()


async def one_reads(life: Life) -> float:
    life.reads(A, 1, 4)
    return await life.settled()


async def shows_nothing(life: Life) -> float:
    return await life.settled(shown=False)


def test_a_store_that_was_shown_elsewhere_waits_until_every_scraper_has_read_it_here(tmp_path: Path) -> None:
    assert live(tmp_path, both_read, "here") == 9


def test_a_store_that_was_shown_here_before_waits_for_nobody(tmp_path: Path) -> None:
    live(tmp_path, both_read, "here")
    assert live(tmp_path, nobody_reads, "here") == 0
    assert live(tmp_path, both_read, "there") == 9
    assert live(tmp_path, both_read, "here") == 9


def test_a_scraper_that_does_not_come_is_waited_for_two_minutes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert live(tmp_path, one_reads, "here") == PATIENCE_SECONDS
    assert "a scraper of the life before did not come" in caplog.text
    assert live(tmp_path, nobody_reads, "here") == 0


def test_nobody_is_waited_for_where_no_scraper_is_known_or_nothing_was_shown(tmp_path: Path) -> None:
    assert live(tmp_path, nobody_reads, "one", known=()) == 0
    assert live(tmp_path, shows_nothing, "two") == 0
    assert live(tmp_path, nobody_reads, "two") == 0


def test_a_life_that_ends_while_it_waits_leaves_the_next_one_to_wait(tmp_path: Path) -> None:
    async def ends_early(life: Life) -> float:
        settling = asyncio.create_task(life.settled())
        await asyncio.sleep(60)
        settling.cancel()
        await asyncio.wait([settling])
        assert life.announcer._readings == []
        return 60

    live(tmp_path, ends_early, "here")
    assert live(tmp_path, both_read, "here") == 9


def test_a_disk_that_fails_keeps_no_store_from_being_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StorageError("SQLITE_FULL")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "keep_note", full)
        assert live(tmp_path, both_read, "here") == 9
    assert "where the store was shown could not be kept" in caplog.text
    assert live(tmp_path, both_read, "here") == 9


def test_a_home_is_the_same_after_a_restart_and_another_on_another_port() -> None:
    home = home_of([("", 10058), ("127.0.0.1", 10059)])
    assert home == home_of([("127.0.0.1", 10059), ("", 10058)])
    assert home != home_of([("", 10058)])
    assert home.isprintable()
    assert home_key("acme") != home_key("other")
