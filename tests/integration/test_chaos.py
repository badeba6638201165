"""The real process, killed again and again while logs arrive and EPCC misbehaves: exact at the end, and no number that
was once read is ever taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import Integration
from tests.integration.process import Exporter

pytestmark = pytest.mark.integration

KILLS = 20
LOGS_PER_SECOND = 50
SCRAPE_SECONDS = 0.1
EXACT_SECONDS = 60.0  # for the last life to come to the truth, pauses after a 429 included
INTEGRATIONS = ("shipping", "erp", "mail")
FAULTS = {
    "429": 0.01, "500": 0.03, "502": 0.02, "503": 0.03, "reset": 0.03, "truncated": 0.03, "401": 0.02,
    "empty_page": 0.03, "short_page": 0.03, "duplicate_in_page": 0.03, "not_json": 0.02,
}  # fmt: skip


class Reader:
    """Scrapes whoever answers, and holds what must never fall."""

    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self.falls: list[str] = []
        self.reads = 0
        self._highest: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, AssertionError):
                self.take(await self.exporter.scrape())
            await asyncio.sleep(SCRAPE_SECONDS)

    def take(self, samples: dict[str, float]) -> None:
        self.reads += 1
        for name, value in samples.items():
            metric = name.partition("{")[0]
            if metric.startswith("epcc_integration_") and metric.endswith(("_total", "_bucket", "_count", "_sum")):
                before = self._highest.get(name, 0.0)
                if value < before:
                    self.falls.append(f"{name} fell from {before:g} to {value:g}")
                self._highest[name] = max(before, value)


async def arrive(epcc: Epcc, chooser: random.Random) -> None:
    """Logs at an even rate: jobs that fail now and then, and are tried again a moment later."""
    number = 0
    again: list[tuple[int, int, str]] = []
    began = time.monotonic()
    while True:
        due = int((time.monotonic() - began) * LOGS_PER_SECOND)
        for _ in range(due - number):
            number += 1
            job, attempt, name = (
                again.pop(0) if again and chooser.random() < 0.3 else (number, 1, chooser.choice(INTEGRATIONS))
            )
            code = chooser.choice([200, 200, 200, 503, None])
            epcc.add(log(f"log-{number}", time.time_ns(), integration_id=name, job_id=f"job-{job}", attempt=attempt,
                         status_code=code, visible_ns=time.time_ns() + chooser.choice([0, 0, 10**9])))  # fmt: skip
            if code != 200 and attempt < 4:
                again.append((job, attempt + 1, name))
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def going_on(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in done), done


def differences(truth: dict[str, Any], samples: dict[str, float]) -> list[str]:
    """What a page shows that is not what was sent."""
    wrong = []
    for integration, counted in truth.items():
        wanted = {
            f"attempts_total{{integration_id={integration}}}": counted["attempts"],
            f"retries_total{{integration_id={integration}}}": counted["retries"],
            f"jobs_total{{integration_id={integration}}}": counted["jobs"],
            **{f"jobs_delivered_total{{attempt={which},integration_id={integration}}}": counted["delivered"][which]
               for which in ("first", "retry")},
            **{f"responses_total{{integration_id={integration},status_code={code}}}": number
               for code, number in counted["responses"].items()},
        }  # fmt: skip
        wrong += [
            f"{name} is {samples.get(f'epcc_integration_{name}')}, and {value} is true"
            for name, value in wanted.items()
            if samples.get(f"epcc_integration_{name}") != value
        ]
    return wrong


async def test_killed_twenty_times_under_load_and_faults_it_ends_exact_and_no_counter_ever_fell(tmp_path: Path) -> None:
    chooser = random.Random(20)
    epcc = Epcc(Manners(latency_seconds=(0.001, 0.03)))
    for name in INTEGRATIONS:
        epcc.add_integration(Integration(name, name))
    async with Exporter(tmp_path, epcc) as exporter:
        reader = Reader(exporter)
        async with exporter.running():  # a first walk of a store without logs: from here on everything counts
            await exporter.ready()
        epcc.manners = replace(epcc.manners, faults=FAULTS)
        async with going_on(reader.run()):
            async with going_on(arrive(epcc, chooser)):
                for _ in range(KILLS):
                    async with exporter.running() as process:
                        await asyncio.sleep(chooser.uniform(0.05, 1.2))
                        assert await process.end(signal.SIGKILL) == -signal.SIGKILL
            epcc.manners = replace(epcc.manners, faults={})
            async with exporter.running() as process:
                end = time.monotonic() + EXACT_SECONDS
                wrong = ["nothing was read"]
                while wrong and time.monotonic() < end:
                    await asyncio.sleep(0.3)
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        wrong = differences(epcc.truth(time.time_ns())["integrations"], await exporter.scrape())
                assert not wrong, "\n".join([*wrong[:10], process.output[-2000:]])
        assert not reader.falls
        assert reader.reads > KILLS
        sent = sum(counted["attempts"] for counted in epcc.truth()["integrations"].values())
        assert sent > KILLS * LOGS_PER_SECOND * 0.3
