"""Who runs in `ingest`: how each is started, and how it is seen that it has all logs.

A contestant's clock runs from its first request until it has everything where it keeps it. A program says so itself by
a line `done NUMBER` and then waits, so that its figures can be read; the exporter and mtail are asked for `/metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.bench.figures import Use, family, use
from tests.bench.places import ROOT, Missing, environment, mtail
from tests.bench.standin import Standin

RIVALS = Path(__file__).parent / "rivals"
EXPORTER = "epcc-exporter"
BASE = "bare loop"
# Looks at its file each 10 ms, which is the shortest that pays: by default it would wait for up to 250 ms at the end.
MTAIL_FLAGS = ("--address=127.0.0.1", "--port=0", "--logtostderr", "--poll_interval=10ms", "--poll_log_interval=10ms")
RUN_SECONDS = 900.0
END_SECONDS = 30.0
LOOK_SECONDS = 0.002
ASK_SECONDS = 0.02  # between two looks at /metrics: how exactly the end is known
_CONFIG = """\
stores:
  - name: acme
    api_url: {url}
    client_id: standin
    client_secret: standin
    history: count
    poll_interval: 1h
    reconcile_interval: 0s
    requests_per_second: 100
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str
    keeps: str  # in a few words: what stands for its work when it is done
    commands: Callable[[Standin, Path], list[list[str | Path]]]  # each started in turn; the last one asks the server
    counter: str | None = None  # the counter on /metrics of the first command that must reach the number of logs
    listening: str = ""  # how the first command says where /metrics is


@dataclass(frozen=True, slots=True)
class Run:
    seconds: float  # from its first request until all logs are where it keeps them
    cpu_seconds: float  # in that time, of all its processes
    peak_bytes: int
    requests: int


class FailedError(Exception):
    """A contestant that did not do what is measured."""


def own() -> dict[str, Contestant | Missing]:
    """By name, what runs with the project's own environment: the exporter, and the bare loop that all are compared with."""
    python, listening, attempts = sys.executable, r"msg=listening address=(\S+)", "epcc_integration_attempts_total"

    def configured(server: Standin, folder: Path) -> Path:
        (folder / "config.yaml").write_text(_CONFIG.format(url=server.url))
        return folder / "config.yaml"

    def lifted(server: Standin, folder: Path) -> list[list[str | Path]]:
        return [[python, "-m", "tests.bench.exporting", configured(server, folder), folder / "data"]]

    def whole(server: Standin, folder: Path) -> list[list[str | Path]]:
        flags = [f"--config.file={configured(server, folder)}", f"--storage.path={folder / 'data'}"]
        return [[python, "-m", "exporter", *flags, "--web.listen-address=127.0.0.1:0"]]

    every = (
        Contestant(EXPORTER, "exact counters, ids, jobs: on disk and on /metrics", lifted, attempts, listening),
        Contestant(f"{EXPORTER}, 100 requests/s", "the same, the most to be configured", whole, attempts, listening),
        Contestant(BASE, "nothing", lambda server, _: [[python, "-m", "tests.bench.rivals.loop", server.url]]),
    )
    return {each.name: each for each in every}


def fetched() -> dict[str, Contestant | Missing]:
    """By name, what has to be fetched first, which takes minutes at the first time."""
    airbyte, dlt, mtailing = environment("airbyte"), environment("dlt"), mtail()

    def program(folder: Path | Missing, name: str) -> list[str | Path]:
        assert isinstance(folder, Path)  # commands are asked of contestants alone
        return [folder / "python", RIVALS / name]

    def watched(server: Standin, folder: Path, *ids: str) -> list[list[str | Path]]:
        assert isinstance(mtailing, Path)
        log = folder / "attempts.log"
        log.touch()
        flags = [f"--progs={RIVALS / 'integrations.mtail'}", f"--logs={log}", *MTAIL_FLAGS]
        kept = [folder / each for each in ids]
        return [[mtailing, *flags], [sys.executable, "-m", "tests.bench.rivals.lines", server.url, log, *kept]]

    every = (
        (airbyte, Contestant("airbyte-cdk", "nothing", lambda server, _: [[*program(airbyte, "airbyte.py"), server.url]])),
        (dlt, Contestant("dlt, merge in DuckDB", "records, deduped by id",
                         lambda server, folder: [[*program(dlt, "loaded.py"), server.url, folder, "duckdb"]])),
        (dlt, Contestant("dlt, Parquet files", "records; a cursor, which late ones pass by",
                         lambda server, folder: [[*program(dlt, "loaded.py"), server.url, folder, "files"]])),
        (mtailing, Contestant("mtail", "counters in memory, no ids", watched, "attempts_total", r"Listening on (\S+)")),
        (mtailing, Contestant("mtail, ids kept", "counters in memory; ids on disk",
                              lambda server, folder: watched(server, folder, "ids.db"), "attempts_total", r"Listening on (\S+)")),
    )  # fmt: skip
    return {each.name: had if isinstance(had, Missing) else each for had, each in every}


async def run(contestant: Contestant, server: Standin, folder: Path) -> Run:
    """One run from nothing. Raises FailedError."""
    server.reset()
    async with contextlib.AsyncExitStack() as stack:
        watching = aiohttp.ClientSession()
        await stack.enter_async_context(watching)
        try:
            async with asyncio.timeout(RUN_SECONDS):
                programs: list[_Program] = []
                address = ""
                for number, command in enumerate(contestant.commands(server, folder)):
                    programs.append(await stack.enter_async_context(_started(command)))
                    if number == 0 and contestant.listening:
                        address = await programs[0].said(contestant.listening)
                while server.seen().first is None:
                    programs[-1].check()
                    await asyncio.sleep(LOOK_SECONDS)
                before = _use(programs)
                await _all_kept(contestant, server, programs, watching, address)
                end, after, seen = time.monotonic(), _use(programs), server.seen()
        except TimeoutError:
            raise FailedError(f"{contestant.name}: not done within {RUN_SECONDS:g} s") from None
        except (OSError, aiohttp.ClientError) as error:
            raise FailedError(f"{contestant.name}: {error!r}") from None
    assert seen.first is not None
    return Run(end - seen.first, after.cpu_seconds - before.cpu_seconds, after.peak_bytes, seen.requests)


async def _all_kept(
    contestant: Contestant, server: Standin, programs: list[_Program], watching: aiohttp.ClientSession, address: str
) -> None:
    if contestant.counter is None:
        number = int(await programs[-1].said(r"^done (\d+)$"))
        if number != server.logs:
            raise FailedError(f"{contestant.name}: {number} logs of {server.logs}")
        return
    while server.seen().last is None:
        for program in programs:
            program.check()
        await asyncio.sleep(LOOK_SECONDS)
    sample = re.compile(rf"^{contestant.counter}{{.*}} (\S+)", re.MULTILINE)
    while True:
        async with watching.get(f"http://{address}/metrics") as response:
            number = round(sum(map(float, sample.findall(await response.text()))))
        if number == server.logs:
            return
        if number > server.logs:
            raise FailedError(f"{contestant.name}: {number} logs of {server.logs}")
        programs[0].check()
        await asyncio.sleep(ASK_SECONDS)


class _Program:
    """A child process that is heard while it runs."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self._output = ""
        self._heard = asyncio.Condition()
        self._hearing = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        assert self.child.stdout is not None
        while chunk := await self.child.stdout.read(65536):
            async with self._heard:
                self._output += chunk.decode(errors="replace")
                self._heard.notify_all()
        async with self._heard:
            self._heard.notify_all()

    async def said(self, pattern: str) -> str:
        """The pattern's group, once it was said."""
        async with self._heard:
            while not (found := re.search(pattern, self._output, re.MULTILINE)):
                if self.child.stdout is None or self.child.stdout.at_eof():
                    raise FailedError(f"it ended: {self._output[-2000:]}")
                await self._heard.wait()
        return found[1]

    async def end(self) -> None:
        """Politely, the innermost first: who runs another one, as a profiler does, ends with it and writes what it has."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        for pid in reversed(family(self.child.pid)[1:] or [self.child.pid]):
            _signal(pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(self.child.wait(), END_SECONDS)
        except TimeoutError:
            for pid in reversed(family(self.child.pid)):
                _signal(pid, signal.SIGKILL)
            await self.child.wait()
        await self._hearing

    def check(self) -> None:
        if self.child.returncode is not None:
            raise FailedError(f"it ended with {self.child.returncode}: {self._output[-2000:]}")


@contextlib.asynccontextmanager
async def _started(command: list[str | Path]) -> AsyncIterator[_Program]:
    child = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
    )  # fmt: skip
    program = _Program(child)
    try:
        yield program
    finally:
        await program.end()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


def _use(programs: list[_Program]) -> Use:
    return use(program.child.pid for program in programs)
