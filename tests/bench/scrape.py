"""What a scrape costs: `.venv/bin/python -m tests.bench.scrape [--series N …]`.

The page of one store with so many series, served over HTTP by a process of its own and read by this one, with nothing
changing and with 1 % of the integrations changing before each scrape. The rival, in the same run: the same series as
objects of `prometheus_client`, rendered by its `generate_latest`, as exporters do. The limit: a copy of the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest as text_by_library
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_by_library

from exporter.exposition import Exposition
from exporter.folding import SERIES
from exporter.metrics import FAMILIES, OwnMetrics, Shown
from exporter.negotiation import CONTENT_TYPES
from exporter.records import Integration
from exporter.server import Server
from exporter.tally import DELIVERY_BOUNDS, PROCESSING_BOUNDS, Tally

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SIZES: Final = (1_000, 10_000, 100_000, 350_000)
SHARE: Final = 100  # one integration in so many changes before a scrape
TICK_SECONDS: Final = 0.001
ACCEPT: Final = {name: kind.replace(" ", "").replace(";charset=utf-8", "") for name, kind in CONTENT_TYPES.items()}


@dataclass(frozen=True)
class Measured:
    """Milliseconds, but for what is named otherwise."""

    series: int
    page_bytes: int
    idle_p50: float  # gzipped text, as Prometheus asks for it
    idle_p99: float
    idle_plain: float  # not gzipped
    idle_protobuf: float  # gzipped
    changed_p50: float
    changed_p99: float
    changed_plain: float
    library_text: float
    library_openmetrics: float
    copy: float
    loop_delay: float  # the longest that the exporter's loop was held up while pages changed and were read
    rss_mb: float


# --- the exporter's side, in a process of its own


def view(number: int, seen: int) -> Shown:
    tally = Tally(
        attempts=seen + 2, responses={"200": seen, "503": 2}, retries=1, jobs=seen, delivered_first=seen,
        last_attempt_ns=10**18 + seen, last_success_ns=10**18, last_failure_ns=10**18, announced=True,
        announced_codes=["200", "503"], born_ns=10**18,
    )  # fmt: skip
    for step in range(20):
        tally.processing.observe(50_000 + 11_000 * ((step + number + seen) % 40))
    tally.delivery.observe(seen)
    return Shown(tally, Integration(f"id-{number}", f"Integration {number}", "webhook", True))


def identity(number: int) -> str:
    return f"{number:08x}-0b1c-4d2e-8f3a-{number:012x}"


async def serve(integrations: int, *, changing: bool) -> None:
    own = OwnMetrics()
    own.add_store("bench")
    exposition = Exposition(own)
    exposition.publish("bench", {identity(number): view(number, 7) for number in range(integrations)})
    turn = 0

    def scraped(*_: object) -> None:
        nonlocal turn
        if changing:
            turn += 1
            changed = range(turn % SHARE, integrations, SHARE)
            exposition.publish("bench", {identity(number): view(number, 7 + turn) for number in changed})

    server = Server(
        exposition=exposition, telemetry_path="/metrics", unready=list, status=list, scraped=scraped,
        reload=lambda: asyncio.sleep(0, []),
    )  # fmt: skip
    ((_, port),) = await server.start([("127.0.0.1", 0)])
    say(str(port))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    delay, before = 0.0, time.perf_counter()
    settled = before + 1.0  # the start is not measured
    while not ended.done():
        await asyncio.sleep(TICK_SECONDS)
        now = time.perf_counter()
        if now > settled:
            delay = max(delay, now - before - TICK_SECONDS)
        before = now
    await server.stop()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(json.dumps({"loop_delay": delay * 1000, "rss_mb": rss}))


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# --- the scraper's side


async def read(
    integrations: int, *, changing: bool, scrapes: int
) -> tuple[dict[str, list[float]], int, dict[str, float]]:
    """Milliseconds of each scrape by format, the plain page's length, and what the other process says of itself."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.scrape",
        "--serve",
        str(integrations),
        *(["--changing"] if changing else []),
    ]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: ASYNC220
    assert child.stdout is not None
    port = int(await asyncio.to_thread(child.stdout.readline))
    found: dict[str, list[float]] = {}
    size = 0
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        wanted = [("text", "gzip"), ("text", "identity"), *([] if changing else [("protobuf", "gzip")])]
        for form, encoding in wanted:
            headers = {"Accept": ACCEPT[form], "Accept-Encoding": encoding}  # type: ignore[index]
            times = []
            for _ in range(scrapes + 2):
                began = time.perf_counter()
                async with session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as response:
                    length = len(await response.read())
                times.append((time.perf_counter() - began) * 1000)
                size = length if encoding == "identity" else size
            found[f"{form} {encoding}"] = times[2:]  # the first renders all, or what changed since
    said, _ = await asyncio.to_thread(child.communicate, "")
    return found, size, json.loads(said)


# --- the rival


def library(integrations: int) -> CollectorRegistry:
    """The same series as objects of the library."""
    registry = CollectorRegistry()
    views = {identity(number): view(number, 7) for number in range(integrations)}
    for family in FAMILIES:
        names = ["store", "integration_id", *(name for name in family.labels if name != "le")]
        if family.kind == "histogram":
            bounds = PROCESSING_BOUNDS if "processing" in family.name else DELIVERY_BOUNDS
            histogram = Histogram(family.name, family.help, names, buckets=bounds, registry=registry)
            for integration in views:
                histogram.labels("bench", integration).observe(0.1)
            continue
        metric = (Counter if family.kind == "counter" else Gauge)(family.name, family.help, names, registry=registry)
        for integration, shown in views.items():
            for _, extra, value in family.samples(shown):
                child = metric.labels("bench", integration, *dict(extra).values())
                child.inc(value)
    return registry


def milliseconds(work: Callable[[], Any], times: int) -> float:
    """The median."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def measured(series: int, scrapes: int) -> Measured:
    integrations = max(1, series // (SERIES + 1))
    idle, size, _ = asyncio.run(read(integrations, changing=False, scrapes=scrapes))
    changed, _, exporter = asyncio.run(read(integrations, changing=True, scrapes=scrapes))
    registry = library(integrations)
    page = bytes(size)
    return Measured(
        series=integrations * (SERIES + 1), page_bytes=size,
        **_percentiles("idle", idle["text gzip"]), idle_plain=statistics.median(idle["text identity"]),
        idle_protobuf=statistics.median(idle["protobuf gzip"]), **_percentiles("changed", changed["text gzip"]),
        changed_plain=statistics.median(changed["text identity"]),
        library_text=milliseconds(lambda: text_by_library(registry), 3),
        library_openmetrics=milliseconds(lambda: openmetrics_by_library(registry), 3),  # type: ignore[no-untyped-call]
        copy=milliseconds(lambda: bytearray(page), 20), **exporter,
    )  # fmt: skip


def _percentiles(name: str, times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        f"{name}_p50": statistics.median(ordered),
        f"{name}_p99": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
    }


def table(rows: list[Measured]) -> str:
    head = (
        "series", "page MB", "idle p50", "p99", "plain", "protobuf", "1 % changed p50", "p99", "plain", "library: text",
        "OpenMetrics", "idle: times faster", "changed: times faster", "copy", "loop held up", "RSS MB",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    lines += ["| " + " | ".join(_cells(each)) + " |" for each in rows]
    return "\n".join(lines)


def _cells(each: Measured) -> list[str]:
    """Times in milliseconds. The library's time is for the plain page, and so are ours that it is held against."""
    times = (each.idle_p50, each.idle_p99, each.idle_plain, each.idle_protobuf, each.changed_p50, each.changed_p99,
             each.changed_plain)  # fmt: skip
    return [
        f"{each.series:,}", f"{each.page_bytes / 1e6:.1f}", *(f"{time:.1f}" for time in times),
        f"{each.library_text:.0f}", f"{each.library_openmetrics:.0f}", f"{each.library_text / each.idle_plain:.0f}",
        f"{each.library_text / each.changed_plain:.0f}", f"{each.copy:.1f}", f"{each.loop_delay:.0f}",
        f"{each.rss_mb:.0f}",
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scrape", description=__doc__)
    parser.add_argument("--series", type=int, nargs="*", default=SIZES)
    parser.add_argument("--scrapes", type=int, default=50, help="of each kind")
    parser.add_argument("--json", action="store_true", help="figures as JSON lines")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--changing", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve, changing=options.changing))
        return 0
    rows = [measured(series, options.scrapes) for series in options.series]
    say("\n".join(json.dumps(asdict(row)) for row in rows) if options.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
