"""A backfill on the virtual clock, and what its file says: series with their samples, and a scraper's view of them."""

from __future__ import annotations

import asyncio
import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import aiohttp

from exporter.backfill import Backfill, Plan
from exporter.config import Secret, StoreConfig
from exporter.epcc import Epcc
from exporter.progress import Progress
from tests.world import FakeSession, VirtualClock

STEP = 30
Samples = list[tuple[int, float]]  # seconds since 1970, value


class _Session(FakeSession):
    async def __aenter__(self) -> _Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def store_config(name: str = "acme", **settings: Any) -> StoreConfig:
    return StoreConfig(
        **{
            "name": name, "api_url": "http://epcc.test", "client_id": Secret("demo"), "lookback": 60.0,
            "client_secret": Secret("demo-secret"), "requests_per_second": 100.0, **settings,
        }
    )  # fmt: skip


class Filled:
    """One run: its summary and its file."""

    def __init__(self, path: Path, summary: str) -> None:
        self.summary = summary
        self.text = path.read_text()
        self.series: dict[str, Samples] = {}
        for line in self.text.splitlines():
            if not line.startswith("#"):
                head, value, seconds = line.rsplit(" ", 2)
                self.series.setdefault(_known(head), []).append((int(seconds), float(value)))

    def at(self, name: str, seconds: float) -> float | None:
        """As Prometheus would answer: the last sample of the five minutes before."""
        samples = self.series.get(name, [])
        place = bisect_right(samples, seconds, key=lambda sample: sample[0]) - 1
        return samples[place][1] if place >= 0 and seconds - samples[place][0] < 300 else None


def _known(head: str) -> str:
    """A series without the labels that all have."""
    return re.sub(r'(instance|job|store)="[^"]*",?', "", head).replace(",}", "}")


async def backfill(
    folder: Path, epcc: Epcc, *, configs: Sequence[StoreConfig] = (), stop: asyncio.Event | None = None, **plan: Any
) -> Filled:
    clock = VirtualClock()
    stores = tuple(configs) or (store_config(),)
    asked = Plan(
        **{
            "stores": stores, "output": folder / "history.om", "storage_path": folder / "data", "since": 86_400.0 * 30,
            "until_ns": None, "step_seconds": STEP, "labels": (("instance", "x:1"), ("job", "epcc")), **plan,
        }
    )  # fmt: skip

    def session(_: StoreConfig) -> aiohttp.ClientSession:
        return cast("aiohttp.ClientSession", _Session(epcc, clock))

    run = Backfill(asked, clock, stop or asyncio.Event(), session, Progress(clock, io.StringIO()))
    return Filled(asked.output, await run.run())
