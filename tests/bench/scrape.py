"""What a scrape costs, against prometheus_client in the same run: `.venv/bin/python -m tests.bench.scrape`.

The exporter's page, from its state on disk, in a process of its own, read here over HTTP as a scraper reads it: at rest,
each time after a poll that has changed 1 % of the integrations (decoded, committed, published), and while such polls go on
without a pause. Beside it the same series in prometheus_client, at its best, and what the machine itself needs to move
the bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from exporter.__main__ import GC_THRESHOLDS
from exporter.exposition import FORMATS
from exporter.negotiation import CONTENT_TYPES
from exporter.records import read_page
from exporter.server import Server
from tests.bench.far import memory
from tests.bench.figures import MB, percentile, table
from tests.bench.rivals.client import GENERATE, Client
from tests.bench.wired import LOGS_EACH, Far, Wired, build, integrations, page

SERIES = (1_000, 10_000, 100_000, 350_000)
NUMBER = 100
SECONDS = 4.0
TICK_SECONDS = 0.001
CHANGED_SHARE = 0.01
HEAD = ("page", "MB", "render ms: rest", "changed", "client", "x", "HTTP ms: rest", "changed", "client", "x",
        "committing", "loop ms: changed", "committing", "copy ms",
        "socket ms")  # fmt: skip
MEANING = """\
Times are p50 / p99 in ms, of {number} or as many as {seconds:g} s allow (of fewer than 100, p99 is the highest). render: the page in
memory; HTTP: from the request to the last byte. rest: nothing new since the last scrape; changed: 1 % of the
integrations are. client: prometheus_client {version} with the same series, ready-made; x: its p50 by ours, changed.
committing: over HTTP too, while one such change after the other is decoded, committed and published without a pause.
loop: the longest that a timer of 1 ms came late in the exporter's event loop during a scrape after a change, and then.
copy: the page's bytes copied in memory; socket: sent through the loopback device, p50.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of page; times in seconds."""

    form: str
    packed: bool
    size: int  # bytes
    rest: Sequence[float]
    changed: Sequence[float]
    client: Sequence[float]  # empty: it has no such format
    http_rest: Sequence[float]
    http_changed: Sequence[float]
    http_client: Sequence[float]
    http_committing: Sequence[float]
    late: float  # of the event loop's timer, at most, in scrapes after a change
    late_committing: float
    copy: float
    sent: float


@dataclass(frozen=True, slots=True)
class Result:
    series: int
    integrations: int
    lines: Sequence[Line]
    late_at_rest: float
    grown: int  # bytes of resident memory over an exporter that knows nothing, after all these scrapes
    client_grown: int  # of prometheus_client's for the series alone


class Target:
    """The exporter's page and server, from a state file; called through `Far`."""

    def __init__(self, folder: Path) -> None:
        gc.set_threshold(*GC_THRESHOLDS)  # as the exporter's process does
        self._before = memory("VmRSS")
        self._began = time.perf_counter()
        self._opened = 0.0
        self._world = Wired(folder)
        self._polls = 0
        self._late = 0.0
        self._committing: asyncio.Task[None] | None = None
        self._ticking = asyncio.create_task(self._tick())
        world = self._world
        self._server = Server(
            exposition=world.exposition, telemetry_path="/metrics", unready=lambda: (), reload=_nothing,
            scraped=world.announcer.note_scrape,
        )  # fmt: skip
        self._port = 0

    @classmethod
    async def made(cls, folder: Path, number: int) -> Target:
        target = cls(folder)
        await target._world.poller.begin()
        target._opened = time.perf_counter() - target._began
        await target._world.poller.intake.learn(integrations(number))
        ((_, target._port),) = await target._server.start([("127.0.0.1", 0)])
        return target

    async def close(self) -> None:
        await self.commits(False)
        self._ticking.cancel()
        await self._server.stop()
        await self._world.end()

    async def _tick(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            self._late = max(self._late, time.perf_counter() - began - TICK_SECONDS)

    async def port(self) -> int:
        return self._port

    async def opened(self) -> float:
        """Seconds from nothing to what a first scrape needs."""
        return self._opened

    async def grown(self) -> int:
        return memory("VmRSS") - self._before

    async def late(self) -> float:
        """The longest that the timer came late since this was asked last."""
        late, self._late = self._late, 0.0
        return late

    async def page(self, form: str, packed: bool) -> bytes:
        return (await self._world.exposition.rendered(form, gzip=packed)).body  # type: ignore[arg-type]  # of FORMATS

    async def poll(self) -> None:
        """A share of the integrations, in turns, gets a log: decoded, committed, published."""
        intake = self._world.poller.intake
        ids = list(intake.integrations)
        number = max(1, round(CHANGED_SHARE * len(ids)))
        first = self._polls * number % len(ids)
        self._polls += 1
        now_ns = time.time_ns()
        changed = (ids + ids)[first : first + number]
        await intake.enter(read_page(page(changed, number, now_ns, f"p{self._polls:x}")), now_ns)
        await intake.flush(now_ns)

    async def commits(self, on: bool) -> int:
        """Polls without a pause, or no more; how many there have been."""
        if on:
            self._committing = asyncio.create_task(self._commit())
        elif self._committing is not None:
            committing, self._committing = self._committing, None
            committing.cancel()
            await asyncio.wait([committing])
            # What the thread was at when it was cancelled is not in memory: as at the start of a poll.
            await self._world.poller.intake.begin(time.time_ns())
        return self._polls

    async def _commit(self) -> None:
        while True:
            await self.poll()

    async def times(self, form: str, packed: bool, number: int, seconds: float, polled: bool) -> list[float]:
        times: list[float] = []
        await self.page(form, packed)
        end = time.perf_counter() + seconds
        while not times or (len(times) < number and time.perf_counter() < end):
            if polled:
                await self.poll()
            began = time.perf_counter()
            await self.page(form, packed)
            times.append(time.perf_counter() - began)
        return times


async def _nothing() -> Sequence[str]:
    return ()


def measure(series: int, number: int = NUMBER, seconds: float = SECONDS) -> Result:
    """Every kind of page of so many delivery series, or a few more."""
    with tempfile.TemporaryDirectory(prefix="epcc-exporter-bench-") as name:
        folder = Path(name)
        build(folder / "one", 1, LOGS_EACH)
        with Far(Target.made, folder / "one", 1) as target:
            each, empty = _series(target.ask("page", "text", False)), target.ask("grown")
        integrations_number = -(-series // each)
        build(folder / "many", integrations_number, 2 * integrations_number * LOGS_EACH)
        with Far(Target.made, folder / "many", integrations_number) as target:
            text = target.ask("page", "text", False)
            (folder / "page").write_bytes(text)
            target.ask("late")
            late = _slept(target)
            with Far(Client.made, folder / "page") as client:
                lines = [
                    _line(target, client, form, packed, number, seconds) for form in FORMATS for packed in (False, True)
                ]
                client_grown = client.ask("grown")
            return Result(_series(text), integrations_number, lines, late, target.ask("grown") - empty, client_grown)


def _series(text: bytes) -> int:
    """Of deliveries: the exporter's own are not the point."""
    return sum(line.startswith(b"epcc_integration_") for line in text.splitlines())


def _slept(target: Far) -> float:
    threading.Event().wait(1.0)
    late: float = target.ask("late")
    return late


def _line(target: Far, client: Far, form: str, packed: bool, number: int, seconds: float) -> Line:  # noqa: PLR0917
    port, body = target.ask("port"), target.ask("page", form, packed)
    rest = target.ask("times", form, packed, number, seconds, False)
    changed = target.ask("times", form, packed, number, seconds, True)
    late = [0.0]

    def poll() -> None:
        target.ask("poll")
        target.ask("late")

    with _reader(port, form, packed) as read:
        http_rest = _times(read, number, seconds)
        http_changed = _times(read, number, seconds, before=poll, after=lambda: late.append(target.ask("late")))
        target.ask("late")
        before = target.ask("commits", True)
        http_committing = _times(read, number, seconds)
        if target.ask("commits", False) == before:
            raise RuntimeError("nothing was committed meanwhile")
        late_committing = target.ask("late")
    theirs: list[float] = []
    http_theirs: list[float] = []
    if form in GENERATE:
        theirs = client.ask("times", form, packed, number, seconds)
        with _reader(client.ask("port"), form, packed) as read:
            http_theirs = _times(read, number, seconds)
    copies = _times(lambda: bytearray(body), number, seconds)
    with _pipe(body) as send:
        sent = _times(send, number, seconds)
    return Line(
        form, packed, len(body), rest, changed, theirs, http_rest, http_changed, http_theirs, http_committing, max(late), late_committing,
        percentile(copies, 0.5), percentile(sent, 0.5),
    )  # fmt: skip


def _times(
    act: Callable[[], object], number: int, seconds: float, *,
    before: Callable[[], object] = lambda: None, after: Callable[[], object] = lambda: None,
) -> list[float]:  # fmt: skip
    times: list[float] = []
    act()
    end = time.perf_counter() + seconds
    while not times or (len(times) < number and time.perf_counter() < end):
        before()
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
        after()
    return times


@contextmanager
def _reader(port: int, form: str, packed: bool) -> Iterator[Callable[[], None]]:
    """A scrape, as Prometheus makes it, on a connection that is kept where the server lets it be."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Accept": CONTENT_TYPES[form], "Accept-Encoding": "gzip" if packed else "identity",  # type: ignore[index]
               "X-Prometheus-Scrape-Timeout-Seconds": "10"}  # fmt: skip

    def read() -> None:
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        response.read()
        encoded = response.headers.get("Content-Encoding", "identity")
        if response.status != 200 or encoded != headers["Accept-Encoding"]:
            raise RuntimeError(f"{response.status} {encoded} is not what was asked for")

    try:
        yield read
    finally:
        connection.close()


@contextmanager
def _pipe(body: bytes) -> Iterator[Callable[[], None]]:
    """The bytes through a TCP connection on the loopback device, into memory that is there already."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
        room = memoryview(bytearray(len(body)))

        def send() -> None:
            thread = threading.Thread(target=sender.sendall, args=(body,))
            thread.start()
            got = 0
            while got < len(body):
                got += receiver.recv_into(room[got:])
            thread.join()

        with sender, receiver:
            yield send


def shown(result: Result, number: int = NUMBER, seconds: float = SECONDS) -> str:
    def both(times: Sequence[float]) -> str:
        return f"{percentile(times, 0.5) * 1e3:.2f} / {percentile(times, 0.99) * 1e3:.2f}" if times else "-"

    def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
        return f"{percentile(theirs, 0.5) / percentile(ours, 0.5):.1f}" if theirs else "-"

    rows = [
        (
            f"{line.form}{', gzip' if line.packed else ''}", f"{line.size / MB:.2f}", both(line.rest), both(line.changed),
            both(line.client), ratio(line.client, line.changed), both(line.http_rest), both(line.http_changed),
            both(line.http_client), ratio(line.http_client, line.http_changed), both(line.http_committing),
            f"{line.late * 1e3:.1f}", f"{line.late_committing * 1e3:.1f}", f"{line.copy * 1e3:.2f}", f"{line.sent * 1e3:.2f}",
        )
        for line in result.lines
    ]  # fmt: skip
    return (
        f"{result.series:,} series of {result.integrations:,} integrations; memory for them {result.grown / MB:.0f} MB, "
        f"prometheus_client's {result.client_grown / MB:.0f} MB; loop at rest {result.late_at_rest * 1e3:.1f} ms\n"
        + table(HEAD, rows)
        + MEANING.format(number=number, seconds=seconds, version=version("prometheus_client"))
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.scrape", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", type=int, nargs="+", default=list(SERIES), help="sizes (default: %(default)s)")
    parser.add_argument("--number", type=int, default=NUMBER, help="scrapes of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="at most, for each kind (default: %(default)s)")
    arguments = parser.parse_args()
    for series in arguments.series:
        result = measure(series, arguments.number, arguments.seconds)
        sys.stdout.write(f"{shown(result, arguments.number, arguments.seconds)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
