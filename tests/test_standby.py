"""A standby that is told to end at the worst moment."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

from exporter.__main__ import OK, _stand_by
from exporter.clock import Clock
from exporter.config import Config
from exporter.guard import Guard
from exporter.sharding import Shard
from exporter.store import Store

DEADLINE_SECONDS = 10.0


async def test_a_signal_between_the_take_over_and_the_first_page_ends_it_and_frees_the_state(tmp_path: Path) -> None:
    def load() -> Config:
        os.kill(os.getpid(), signal.SIGTERM)
        return Config(())

    arguments = argparse.Namespace(
        storage_path=tmp_path / "data",
        telemetry_path="/metrics",
        shard=Shard(),
        listen_addresses=[("127.0.0.1", 0)],
        grafana_url=None,
        auto_reload=False,
    )
    standing = _stand_by(Config(()), arguments, load, Guard(None, Clock()))
    try:
        assert await asyncio.wait_for(standing, DEADLINE_SECONDS) == OK
    finally:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
    Store.open(tmp_path / "data", 0).close()
