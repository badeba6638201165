"""The exporter in a process of its own, and the simulated EPCC in the one that started it.

What that process holds and spends is the exporter's: the simulator, whose truth remembers every job there ever was, is
not in it. Requests and answers cross a pipe. The virtual clock is the exporter's, and each request brings its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, cast

from exporter import statefile
from exporter.epcc import Epcc
from exporter.manners import Answer, Manners
from exporter.shop import SCENARIOS, Shop
from tests.world import START_NS, World, run

SCRAPE_SECONDS: Final = 15.0
SCRAPER: Final = ("127.0.0.1", "Prometheus/3.5.3")
POLLS_AT_END: Final = 20  # that may fail before one must have ended well
TRACED: Final = 12  # places in the code shown by `trace`
# Often enough that whatever an error leaves behind would be seen.
FAULTS: Final = {
    "503": 0.002, "429": 0.001, "reset": 0.002, "hang": 0.0005, "truncated": 0.001, "not_json": 0.001, "empty_page": 0.002,
    "short_page": 0.002, "stale_page": 0.001, "duplicate_in_page": 0.002,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A store that keeps `retention` seconds of logs, and an exporter that follows it until it has counted `logs`."""

    logs: int
    jobs_per_second: float = SCENARIOS["busy"].jobs_per_second
    retention: float = 600.0
    lookback: float = 60.0
    poll_interval: float = 10.0
    reconcile_interval: float = 300.0
    samples: int = 10
    order: str = "newest_first"  # one of manners.ORDERS
    untimed: float = 0.0  # share of the records that come without `created_at`
    trace: bool = False  # where in the code what was not there at half-time was allocated, at the end


@dataclass(frozen=True)
class Sample:
    """What the exporter's process holds at a moment, and has spent until then."""

    logs: int
    seconds: float  # of the virtual clock
    cpu_seconds: float
    rss_bytes: int
    peak_bytes: int
    state_bytes: int
    rows: Mapping[str, int]
    tasks: int
    files: int
    undelivered: int  # jobs counted and not delivered: those are remembered for a day


@dataclass(frozen=True)
class End:
    counted: Mapping[str, Any]
    truth: Mapping[str, Any]
    gaps: Mapping[str, int]
    trace: tuple[str, ...]


def soak(plan: Plan, folder: Path) -> Iterator[Sample | End]:
    """Samples as they are taken, and one `End`. Raises RuntimeError where the exporter's process has failed."""
    context = get_context("spawn")  # a forked one would begin with this process's memory
    ours, theirs = context.Pipe()
    process = context.Process(target=_exporter, args=(theirs, folder, plan))
    process.start()
    theirs.close()
    try:
        yield from _serve(ours, _epcc(plan))
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"the exporter's process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()
        ours.close()


# --- the simulated EPCC's side


def _epcc(plan: Plan) -> Epcc:
    scenario = replace(
        SCENARIOS["busy"],
        jobs_per_second=plan.jobs_per_second,
        history_seconds=plan.lookback,
        retention_seconds=plan.retention,
    )
    manners = Manners(
        order=plan.order, retention_seconds=plan.retention, latency_seconds=(0.02, 0.08), faults=FAULTS, token_lifetime_seconds=600,
        missing=frozenset({"created_at"} if plan.untimed else ()), missing_probability=plan.untimed,
    )  # fmt: skip
    return Epcc(manners, seed=1, shop=Shop(scenario, 1, START_NS))


def _serve(connection: Connection, epcc: Epcc) -> Iterator[Sample | End]:
    end_ns: int | None = None
    while True:
        try:
            what, *arguments = connection.recv()
        except EOFError:
            return
        if what == "sample":
            yield arguments[0]
            continue
        now_ns = arguments[-1] if end_ns is None else end_ns
        if what == "answer":
            method, path, query, headers, form, _ = arguments
            connection.send(epcc.answer(method, path, query, headers, form, now_ns))
        elif what == "truth":
            connection.send(epcc.truth(now_ns))
        elif what == "close":
            # From now on it stands still: what is visible stays visible, and is all there will be.
            end_ns = now_ns
            epcc.manners = replace(epcc.manners, faults={}, retention_seconds=None)
            connection.send(None)
        else:
            raise AssertionError(what)


class _FarEpcc:
    """The part of `Epcc` that a World asks for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def answer(  # noqa: PLR0917  as the real one
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], form: Mapping[str, str], now_ns: int,
    ) -> Answer:  # fmt: skip
        return cast("Answer", self._ask("answer", method, path, dict(query), dict(headers), dict(form), now_ns))

    def truth(self, now_ns: int) -> dict[str, Any]:
        return cast("dict[str, Any]", self._ask("truth", now_ns))

    def close(self, now_ns: int) -> None:
        self._ask("close", now_ns)

    def tell(self, found: Sample | End) -> None:
        self._connection.send(("sample", found))

    def _ask(self, *message: Any) -> Any:
        self._connection.send(message)
        return self._connection.recv()


# --- the exporter's side


def _exporter(connection: Connection, folder: Path, plan: Plan) -> None:
    run(_Soak(_FarEpcc(connection), folder, plan).run())


class _Soak:
    def __init__(self, far: _FarEpcc, folder: Path, plan: Plan) -> None:
        self._far = far
        self._folder = folder
        self._plan = plan
        self._taken = 0
        self._over = asyncio.Event()
        self._snapshot: tracemalloc.Snapshot | None = None
        self._cpu = time.process_time()

    async def run(self) -> None:
        plan = self._plan
        world = World(
            self._folder, cast("Epcc", self._far), poll_interval=plan.poll_interval, lookback=plan.lookback,
            reconcile_interval=plan.reconcile_interval,
        )  # fmt: skip
        if plan.trace:
            tracemalloc.start()
        running = [
            asyncio.create_task(world.announcer.run()),
            asyncio.create_task(self._scrape(world)),
            asyncio.create_task(world.poller.run(lambda: self._polled(world))),
        ]
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait([over, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.wait(running)
        trace = self._grown() if plan.trace else ()
        await self._settle(world)
        self._far.tell(End(world.tallied(), world.truth(), world.poller.intake.marks.gaps, trace))
        world.close()

    async def _scrape(self, world: World) -> None:
        while True:
            for form in ("text", "openmetrics"):
                page = await world.exposition.rendered(form, gzip=True)
                world.announcer.note_scrape(SCRAPER, True, page.version)
            await asyncio.sleep(SCRAPE_SECONDS)

    async def _polled(self, world: World) -> None:
        world.requests.clear()  # the world's own note of them, for other tests
        counted = world.poller.intake.marks.counted
        if counted < self._plan.logs * (self._taken + 1) / self._plan.samples:
            return
        self._taken += 1
        self._far.tell(self._sample(world, counted))
        if self._plan.trace and self._taken == self._plan.samples // 2:
            self._snapshot = tracemalloc.take_snapshot()
        if counted >= self._plan.logs:
            self._over.set()

    def _sample(self, world: World, counted: int) -> Sample:
        tallies = world.poller.intake.tallies.values()
        return Sample(
            logs=counted,
            seconds=world.clock.monotonic(),
            cpu_seconds=time.process_time() - self._cpu,
            rss_bytes=memory("VmRSS"),
            peak_bytes=memory("VmHWM"),
            state_bytes=statefile.size_bytes(self._folder),
            rows=rows(self._folder),
            tasks=len(asyncio.all_tasks()),
            files=files(),
            undelivered=sum(t.jobs - t.delivered_first - t.delivered_retry for t in tallies),
        )

    async def _settle(self, world: World) -> None:
        """Nothing new comes: after a complete walk that ended well, what was visible is counted."""
        self._far.close(world.clock.wall_ns())
        await asyncio.sleep(self._plan.lookback)
        for _ in range(POLLS_AT_END):
            await world.poller.poll()
            if world.poller.failure is None:
                return
            await asyncio.sleep(self._plan.poll_interval)
        raise AssertionError(f"polls still fail: {world.poller.failure}")

    def _grown(self) -> tuple[str, ...]:
        assert self._snapshot is not None
        grown = tracemalloc.take_snapshot().compare_to(self._snapshot, "lineno")
        return tuple(str(each) for each in grown[:TRACED])


def memory(field: str, pid: str = "self") -> int:
    """A figure of Linux's about a process, in bytes: VmRSS or VmHWM, its highest."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def files(pid: str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def rows(folder: Path) -> dict[str, int]:
    """By table of the state file."""
    with contextlib.closing(sqlite3.connect(f"file:{folder / statefile.NAME}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables}  # noqa: S608
