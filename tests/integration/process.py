"""The exporter as a process of its own and the simulated EPCC in this one, on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from exporter import simulator
from exporter.epcc import Epcc

ROOT = Path(__file__).parent.parent.parent
DEADLINE_SECONDS = 30.0
SCRAPER = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}


async def until(condition: Callable[[], Awaitable[Any]], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Asks again and again until the answer is true. Real processes are waited for on the wall clock."""
    end = time.monotonic() + seconds
    while True:
        try:
            if answer := await condition():
                return answer
        except (aiohttp.ClientError, OSError):
            pass  # not listening yet, or not any more: the deadline judges
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.05)


class Process:
    """A child process and what it has written."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.output = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.child.stdout is not None
        while chunk := await self.child.stdout.read(65536):
            self.output += chunk.decode()

    async def ended(self, seconds: float = DEADLINE_SECONDS) -> int:
        code = await asyncio.wait_for(self.child.wait(), seconds)
        await self._reading
        return code

    async def end(self, number: int = signal.SIGTERM) -> int:
        if self.child.returncode is None:
            self.child.send_signal(number)
        return await self.ended()


@contextlib.asynccontextmanager
async def started(*command: str | Path, env: dict[str, str] | None = None) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        cwd=ROOT,
    )
    process = Process(child)
    try:
        yield process
    finally:
        await process.end(signal.SIGKILL)


class Exporter:
    """The exporter on one simulated EPCC, over real HTTP."""

    def __init__(self, folder: Path, epcc: Epcc) -> None:
        self.folder = folder
        self.epcc = epcc
        self.config = folder / "config.yaml"
        self.session = aiohttp.ClientSession()
        self.url = ""
        self._runner: Any = None
        self.port = 0

    async def __aenter__(self) -> Exporter:
        self.folder.mkdir(exist_ok=True)
        self._runner, self.port = await simulator.serve("127.0.0.1", 0, self.epcc)
        self.configure()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self._runner.cleanup()

    def configure(self, more: str = "", **settings: str) -> None:
        values = {"poll_interval": "200ms", "lookback": "5s", "reconcile_interval": "0s", "requests_per_second": "100"}
        lines = "".join(f"    {key}: {value}\n" for key, value in {**values, **settings}.items())
        self.config.write_text(
            f"stores:\n  - name: acme\n    api_url: http://127.0.0.1:{self.port}\n    client_id: {self.epcc.client_id}\n"
            f"    client_secret: {self.epcc.client_secret}\n{lines}{more}"
        )

    @contextlib.asynccontextmanager
    async def running(self, *flags: str) -> AsyncIterator[Process]:
        command = (sys.executable, "-m", "exporter", f"--config.file={self.config}",
                   f"--storage.path={self.folder / 'data'}", "--web.listen-address=127.0.0.1:0", *flags)  # fmt: skip
        async with started(*command) as process:

            async def listening() -> Any:
                if process.child.returncode is not None:
                    raise AssertionError(f"it ended at once:\n{process.output}")
                return re.search(r"msg=listening address=(\S+)", process.output)

            self.url = f"http://{(await until(listening, 'listening')).group(1)}"
            yield process

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.session.get(self.url + path, headers=headers) as response:
            return response.status, await response.text()

    async def ready(self) -> None:
        async def is_ready() -> bool:
            return (await self.get("/-/ready"))[0] == 200

        await until(is_ready, "the first poll")

    async def counted(self, attempts: int) -> None:
        """Waits until so many are, as the status page has it: no scraper's first sight of a series is spent on it."""

        async def all_there() -> bool:
            status = json.loads((await self.get("/api/v1/status"))[1])
            return bool(sum(each["attempts"] for each in status["stores"][0]["integrations"]) == attempts)

        await until(all_there, f"{attempts} attempts")

    async def scrape(self, *, as_scraper: bool = True) -> dict[str, float]:
        status, text = await self.get("/metrics", **(SCRAPER if as_scraper else {}))
        assert status == 200
        samples: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k != "store")
                samples[f"{sample.name}{{{labels}}}"] = sample.value
        return samples

    async def sample(self, name: str, wanted: float) -> None:
        """Waits until scrapes show a value."""

        async def shown() -> bool:
            return (await self.scrape()).get(name) == wanted

        try:
            await until(shown, name, 15)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {(await self.scrape()).get(name)}, wanted {wanted}") from None
