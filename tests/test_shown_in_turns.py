"""Many integrations are shown some at a time, so that the event loop is never held for long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from exporter import intake
from exporter.epcc import Epcc, log
from exporter.metrics import Shown
from exporter.shop import Integration
from tests.world import MakeWorld, World, at, virtual


def store_of(number: int) -> Epcc:
    epcc = Epcc()
    for place in range(number):
        epcc.add_integration(Integration(f"int-{place}", f"Number {place}"))
        epcc.add(log(f"l{place}", at(-1 - place / 1000), integration_id=f"int-{place}"))
    return epcc


class Turns:
    """How many integrations each publication shows, and in which turn of the event loop."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._turn = 0
        self._shown: list[tuple[int, int]] = []
        self.wanted: asyncio.Task[None] | None = None  # cancelled at the next publication
        self._publish = world.poller.intake._publisher.publish
        monkeypatch.setattr(world.poller.intake._publisher, "publish", self._noted)

    def _noted(self, store: str, changes: Mapping[str, Shown | None]) -> None:
        self._shown.append((self._turn, len(changes)))
        asyncio.get_running_loop().call_soon(self._next)
        if self.wanted is not None:
            self.wanted.cancel()
        self._publish(store, changes)

    def _next(self) -> None:
        self._turn += 1

    def taken(self) -> list[tuple[int, int]]:
        taken, self._shown = self._shown, []
        return taken


def test_a_first_walks_numbers_names_and_a_new_life_are_shown_in_turns(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SHOWN_AT_ONCE", 100)
    number = 210

    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(store_of(number), max_series=1_000_000)
        turns = Turns(w, monkeypatch)
        await w.poller.poll()
        began = turns.taken()
        renamed = {i: Integration(i, f"{each.name}!") for i, each in w.epcc.integrations.items()}
        for each in renamed.values():
            w.epcc.add_integration(each)
        w.poller._integrations_at = None
        await w.poller.poll()
        again = turns.taken()
        w.poller.intake._stale = True  # as after a disk that failed
        await w.poller.poll()
        for shown in (began, again, turns.taken()):
            sizes = [size for _, size in shown]
            assert sizes == [100, 100, 10]
            assert len({turn for turn, _ in shown}) == 3
        assert len([name for name in await w.scrape() if name.startswith("epcc_integration_attempts_total")]) == number

    test(tmp_path)


def test_what_was_not_shown_yet_when_it_was_cancelled_is_shown_by_the_next_beginning(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SHOWN_AT_ONCE", 1)

    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(store_of(3))
        turns = Turns(w, monkeypatch)
        polling = turns.wanted = asyncio.create_task(w.poller.poll())
        with pytest.raises(asyncio.CancelledError):
            await polling
        assert len(turns.taken()) == 1
        await w.poller.begin()
        assert len([name for name in await w.scrape() if name.startswith("epcc_integration_attempts_total")]) == 3

    test(tmp_path)
