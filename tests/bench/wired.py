"""The exporter's parts on the host's clock, filled by hand: what scrapes and state cost, apart from how logs come in."""

from __future__ import annotations

import asyncio
import time
import uuid
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import msgspec

from exporter.clock import Clock
from exporter.epcc import log
from exporter.manners import Manners, log_record
from exporter.outbound import new_session
from exporter.records import Integration, read_page
from tests.world import VirtualClock, World

LOGS_EACH = 5  # of an integration, so that all of its series have a number
CHUNK = 5_000
_MANNERS = Manners()


class Wired(World):
    """What it polls is at `api_url`, over HTTP; pages may be handed in as well."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, max_series=1_000_000, **settings)  # the most that can be configured: nothing is folded

    def boot(self) -> None:
        self.clock = cast("VirtualClock", Clock())
        super().boot()
        self._session = new_session()

    async def end(self) -> None:
        await self._session.close()
        self.close()


def integrations(number: int) -> dict[str, Integration]:
    ids = (str(uuid.uuid5(uuid.NAMESPACE_OID, str(each))) for each in range(number))  # as dense as a store's, for gzip
    return {each: Integration(each, f"Receiver {place}", "webhook", True) for place, each in enumerate(ids)}


def page(ids: list[str], number: int, newest_ns: int, tag: str) -> bytes:
    """`number` logs, newest first. First their integrations take turns, LOGS_EACH of every kind; the others fall where
    they may, so that no two integrations have the same numbers. A job has one log, but for every fifth, which has two."""
    records = []
    for place in range(number):
        integration, kind = place % len(ids), place // len(ids) % LOGS_EACH
        if place >= LOGS_EACH * len(ids):
            integration, kind = place * 2_654_435_761 // 65_536 % len(ids), 0
        status, job = (
            (503, f"{tag}-{place}") if kind == 3 else (200, f"{tag}-{place - len(ids) if kind == 4 else place}")
        )
        detail = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)" if kind == 2 else ""
        records.append(
            log(
                f"{tag:>8}-0000-4000-a000-{place:012x}", newest_ns - place * 1_000_000,
                integration_id=ids[integration], job_id=f"00000000-0000-4000-a000-{job:>12}",
                attempt=2 if kind == 3 else 1, status_code=None if detail else status, error_detail=detail,
                processing_time=0.03 * (place % 97),
            )
        )  # fmt: skip
    return msgspec.json.encode({"data": [log_record(each, _MANNERS) for each in records]})


async def fill(world: World, known: dict[str, Integration], logs: int) -> None:
    """As a first walk with `history: count` would: `logs` counted and remembered, and everything shown."""
    intake, ids, now_ns = world.poller.intake, list(known), time.time_ns()
    await world.poller.begin()
    await intake.learn(known)
    chunk = max(CHUNK, LOGS_EACH * len(ids))
    for number, first in enumerate(range(0, logs, chunk)):
        newest_ns = now_ns - first * 1_000_000
        await intake.enter(read_page(page(ids, min(chunk, logs - first), newest_ns, f"{number:x}")), now_ns)
        await intake.flush(now_ns)
    marks = intake.marks.copied()
    marks.begun, marks.complete_through_ns = True, now_ns
    await intake.flush(now_ns, marks=marks, announce_all=True)


def build(folder: Path, integrations_number: int, logs: int) -> None:
    """A state file with so much in it, made in a process of its own: the next one is not to hold what that took."""
    process = get_context("spawn").Process(target=_build, args=(folder, integrations_number, logs))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError("the state was not made")


def _build(folder: Path, integrations_number: int, logs: int) -> None:
    async def run() -> None:
        world = Wired(folder)
        await fill(world, integrations(integrations_number), logs)
        await world.end()

    asyncio.run(run())


class Far:
    """An object in a process of its own, whose coroutines are called from here: `far.ask("name", …)`."""

    def __init__(self, make: Any, *arguments: Any) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_far, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid or 0

    def ask(self, name: str, *arguments: Any) -> Any:
        self._connection.send((name, arguments))
        return self._connection.recv()

    def __enter__(self) -> Far:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()  # it ends then
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _far(connection: Connection, make: Any, arguments: tuple[Any, ...]) -> None:
    asyncio.run(_answers(connection, make, arguments))


async def _answers(connection: Connection, make: Any, arguments: tuple[Any, ...]) -> None:
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), asked.set)
    one = await make(*arguments)
    while True:
        while not connection.poll():
            asked.clear()
            await asked.wait()
        try:
            name, given = connection.recv()
        except EOFError:
            await one.close()
            return
        connection.send(await getattr(one, name)(*given))
