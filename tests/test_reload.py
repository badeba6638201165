"""When the configuration is read anew: on a wish, and by itself when the content of a file has changed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter.clock import Clock
from exporter.config import Config, load
from exporter.guard import Guard
from exporter.metrics import OwnMetrics
from exporter.reload import INTERVAL_SECONDS, Reloader
from tests.certificates import replace
from tests.world import VirtualClock, run

SECRET = "s3cret-of-acme"
GOOD = """\
stores:
  - name: acme
    api_url: https://api.example
    client_id: my-client
    client_secret_file: secret
"""


class Wired:
    """A reloader on real files below `folder`; the stores that it was brought to, in order."""

    def __init__(self, folder: Path, clock: Clock, *, web: str | None = None) -> None:
        self.folder = folder
        self.write("secret", SECRET)
        self.write("config.yaml", GOOD)
        self.applied: list[list[str]] = []
        self.own = OwnMetrics()
        if web is not None:
            self.write("web.yml", web)
        self.guard = Guard(folder / "web.yml" if web is not None else None, clock)
        self.reloader = Reloader(self.load(), self.load, self._apply, self.guard, self.own, clock)
        self.broken: Exception | None = None

    def load(self) -> Config:
        return load(self.folder / "config.yaml", {})

    def write(self, name: str, text: str) -> None:
        replace(self.folder / name, text)

    @property
    def well(self) -> float | None:
        return self.own.registry.get_sample_value("epcc_exporter_config_last_reload_successful")

    async def _apply(self, config: Config) -> None:
        if self.broken is not None:
            raise self.broken
        self.applied.append([store.name for store in config.stores])


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_wish_brings_the_stores_to_the_file_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    wired = Wired(tmp_path, Clock())
    assert await wired.reloader.reload() == []
    assert (wired.applied, wired.well) == ([["acme"]], 1)
    wired.write("config.yaml", GOOD.replace("client_id", "client"))
    (problem,) = [each for each in await wired.reloader.reload() if "unknown key" in each]
    assert problem.startswith(f"{tmp_path}/config.yaml:4: ")
    assert (wired.applied, wired.well) == ([["acme"]], 0)
    wired.write("config.yaml", GOOD)
    assert await wired.reloader.reload() == []
    assert wired.well == 1


async def test_a_broken_web_configuration_is_told_to_whoever_asks_for_a_reload(tmp_path: Path) -> None:
    wired = Wired(tmp_path, Clock(), web="rate_limit: {interval: 1s, burst: 5}\n")
    assert await wired.reloader.reload() == []
    wired.write("web.yml", "rate_limt: {}\n")
    problems = await wired.reloader.reload()
    assert any("rate_limt" in each for each in problems)
    assert wired.applied == [["acme"], ["acme"]]  # the stores' own file is good
    assert wired.well == 0
    wired.write("web.yml", "rate_limit: {interval: 2s, burst: 5}\n")
    assert await wired.reloader.reload() == []
    assert wired.well == 1


async def test_who_asks_while_a_reload_runs_gets_one_that_begins_after_it_asked(tmp_path: Path) -> None:
    wired = Wired(tmp_path, Clock())
    reading, go_on = threading.Event(), threading.Event()
    loads = []

    def slow() -> Config:
        loads.append(1)
        reading.set()
        go_on.wait(10)
        return load(tmp_path / "config.yaml", {})

    reloader = Reloader(wired.load(), slow, wired._apply, wired.guard, wired.own, Clock())
    first = asyncio.create_task(reloader.reload())
    await asyncio.to_thread(reading.wait, 10)
    wired.write("config.yaml", GOOD.replace("acme", "other"))
    later = [asyncio.create_task(reloader.reload()) for _ in range(20)]
    await asyncio.sleep(0)
    go_on.set()
    assert [await each for each in (first, *later)] == [[]] * 21
    assert len(loads) == 2
    assert wired.applied[-1] == ["other"]


async def test_a_reload_that_is_asked_for_by_one_who_leaves_goes_on(tmp_path: Path) -> None:
    wired = Wired(tmp_path, Clock())
    asking = asyncio.create_task(wired.reloader.reload())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    for _ in range(200):
        if wired.applied:
            break
        await asyncio.sleep(0.01)
    assert wired.applied == [["acme"]]


async def test_what_breaks_an_invariant_is_raised(tmp_path: Path) -> None:
    wired = Wired(tmp_path, Clock())
    wired.broken = RuntimeError("an invariant")
    with pytest.raises(RuntimeError, match="an invariant"):
        await wired.reloader.reload()


async def watched(wired: Wired, changes: Sequence[Any]) -> None:
    """Each change, and then time for two looks."""
    watching = asyncio.create_task(wired.reloader.watch(INTERVAL_SECONDS))
    try:
        for change in changes:
            change()
            await asyncio.sleep(2 * INTERVAL_SECONDS + 1)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def test_by_itself_it_reloads_what_has_another_content_and_nothing_else(tmp_path: Path) -> None:
    async def whole() -> None:
        wired = Wired(tmp_path, VirtualClock())
        await watched(wired, [
            lambda: None,
            lambda: wired.write("config.yaml", GOOD),  # touched, and the same
            lambda: wired.write("config.yaml", GOOD.replace("acme", "other")),
            lambda: wired.write("secret", "another"),  # a file that it names
        ])  # fmt: skip
        assert wired.applied == [["other"], ["other"]]

    run(whole())


def test_by_itself_a_broken_file_is_told_once_until_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def whole() -> None:
        wired = Wired(tmp_path, VirtualClock())
        await watched(wired, [lambda: wired.write("config.yaml", "stores: 5\n"), lambda: None, lambda: None])
        assert told(caplog) == ["the configuration was not reloaded"]
        assert wired.well == 0
        await watched(wired, [(tmp_path / "config.yaml").unlink, lambda: None])
        assert len(told(caplog)) == 2
        await watched(wired, [lambda: wired.write("config.yaml", GOOD)])
        assert (wired.applied, wired.well) == ([["acme"]], 1)

    run(whole())


def test_by_itself_a_file_that_was_missing_is_found_when_it_comes(tmp_path: Path) -> None:
    async def whole() -> None:
        wired = Wired(tmp_path, VirtualClock())
        await watched(wired, [(tmp_path / "secret").unlink])
        assert wired.well == 0
        await watched(wired, [lambda: wired.write("secret", "it is back")])
        assert wired.well == 1

    run(whole())


class SetClock(Clock):
    now_ns = 1_000_000_000

    def wall_ns(self) -> int:
        return self.now_ns


async def test_one_that_goes_on_from_another_knows_its_problems_its_time_and_its_files(tmp_path: Path) -> None:
    clock = SetClock()
    wired = Wired(tmp_path, clock)
    clock.now_ns = 61_000_000_000
    wired.write("config.yaml", GOOD.replace("client_id", "client"))
    assert await wired.reloader.reload() != []
    own, applied = OwnMetrics(), list[Config]()

    async def apply(config: Config) -> None:
        applied.append(config)

    after = Reloader(Config(()), wired.load, apply, wired.guard, own, clock, wired.reloader)
    name = "epcc_exporter_config_last_reload_success"
    assert own.registry.get_sample_value(f"{name}ful") == 0
    assert own.registry.get_sample_value(f"{name}_timestamp_seconds") == 1
    assert not after._files.changed()
    wired.write("config.yaml", GOOD)
    assert (await after.reload(), len(applied)) == ([], 1)
    assert own.registry.get_sample_value(f"{name}ful") == 1
    assert own.registry.get_sample_value(f"{name}_timestamp_seconds") == 61
