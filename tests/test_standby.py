"""A standby that is told to end at the worst moment, or that takes over with a file that cannot be used."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest

from exporter.__main__ import OK, _stand_by
from exporter.clock import Clock
from exporter.config import Config, ConfigError
from exporter.guard import Guard
from exporter.sharding import Shard
from exporter.store import Store
from tests.integration.process import until

DEADLINE_SECONDS = 10.0


def arguments(folder: Path) -> argparse.Namespace:
    return argparse.Namespace(
        storage_path=folder / "data",
        telemetry_path="/metrics",
        shard=Shard(),
        listen_addresses=[("127.0.0.1", 0)],
        grafana_url=None,
        auto_reload=False,
    )


def forget_signals() -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(number)


async def test_a_signal_between_the_take_over_and_the_first_page_ends_it_and_frees_the_state(tmp_path: Path) -> None:
    def load() -> Config:
        os.kill(os.getpid(), signal.SIGTERM)
        return Config(())

    standing = _stand_by(Config(()), arguments(tmp_path), load, Guard(None, Clock()))
    try:
        assert await asyncio.wait_for(standing, DEADLINE_SECONDS) == OK
    finally:
        forget_signals()
    Store.open(tmp_path / "data", 0).close()


async def test_who_takes_over_with_a_configuration_that_has_a_problem_says_that_it_runs_with_an_older_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def load() -> Config:
        raise ConfigError(["config.yaml:1: stores: missing"])

    async def listening() -> str | None:
        found = [str(each.__dict__["fields"]["address"]) for each in caplog.records if each.msg == "listening"]
        return found[0] if found else None

    before = Clock().wall_ns() / 1e9
    standing = asyncio.create_task(_stand_by(Config(()), arguments(tmp_path), load, Guard(None, Clock())))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as session:
            address = await until(listening, "a page")
            after = Clock().wall_ns() / 1e9
            async with session.get(f"http://{address}/metrics") as answer:
                page = await answer.text()
            os.kill(os.getpid(), signal.SIGTERM)
            assert await standing == OK
    finally:
        forget_signals()
    assert "\nepcc_exporter_config_last_reload_successful 0.0\n" in page
    (loaded,) = re.findall(r"(?m)^epcc_exporter_config_last_reload_success_timestamp_seconds (\S+)$", page)
    assert before <= float(loaded) <= after
    assert [each.msg for each in caplog.records].count("the configuration was not reloaded") == 1
