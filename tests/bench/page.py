"""What the status page costs who looks and who is looked at: `.venv/bin/python -m tests.bench.page`.

The exporter as a process of its own on a simulated store with many integrations, each with attempts, and the page in a
real Chromium. What the page's scripts take is read from Chromium's own trace, beside what it needs to parse the same
JSON, without which nobody can draw it. (Its metric `ScriptDuration` leaves out what goes on after an await.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from playwright.async_api import Page

from exporter.epcc import Epcc, log
from exporter.shop import Integration
from tests.bench.figures import table
from tests.integration.browser import Browser, browsing
from tests.integration.process import Exporter, until

INTEGRATIONS: Final = (10, 1_000, 5_000)
LOADS: Final = 5
LIMIT_MS: Final = 200.0  # of scripts, until the page stands
LIMIT_KB: Final = 100.0  # over the wire, until the page stands
FAILING: Final = 100
# Of Chromium's trace, that stand for scripts at work: each holds whatever it calls.
SCRIPT_EVENTS: Final = frozenset(
    {
        "EvaluateScript",
        "FunctionCall",
        "RunMicrotasks",
        "v8.compile",
        "v8.compileModule",
        "v8.evaluateModule",
        "v8.parseOnBackground",
        "TimerFire",
        "EventDispatch",
    }
)
# Chromium's clock shows pages tenths of a millisecond, and a short answer is parsed in less: a round goes on for fifty of
# them. The quickest round counts, because other processes' turns only ever make one longer.
PARSE_SECONDS: Final = """async () => {
    const text = await (await fetch("api/v1/status")).text();
    let quickest = Infinity;
    for (let round = 0; round < 5; round++) {
        const began = performance.now();
        let times = 0;
        let taken = 0;
        while (taken < 5) {
            JSON.parse(text);
            times++;
            taken = performance.now() - began;
        }
        quickest = Math.min(quickest, taken / times);
    }
    return quickest / 1000;
}"""
HEAD: Final = ("integrations", "kB", "of 100", "script ms", "of 200", "refresh ms", "parse ms", "x", "status ms", "loop ms")  # fmt: skip
MEANING: Final = """\
kB: everything that a first look fetches, over the wire; script ms: what the page's scripts take until it stands, and
refresh ms at each later refresh; parse ms: JSON.parse of the same answer, again and again; x: script by it. status ms:
one answer of /api/v1/status; loop ms: the longest that /-/healthy waited meanwhile. Medians of {loads} loads, loop ms
the longest of all.
The page has the 2,000 worst integrations at most.
"""


@dataclass(frozen=True, slots=True)
class Load:
    size: int  # bytes
    script: float  # seconds, as are all
    refresh: float
    parse: float
    status: float
    loop: float


async def measure(integrations: int, loads: int = LOADS) -> list[Load]:
    epcc = Epcc()
    now = time.time_ns()
    for i in range(integrations):
        epcc.add_integration(Integration(f"integration-{i:05}", f"Receiver {i:05}"))
        code = 503 if i % max(1, integrations // FAILING) == 0 else 200
        epcc.add(*[log(f"l{i}-{j}", now, integration_id=f"integration-{i:05}", status_code=code) for j in range(6)])
    with tempfile.TemporaryDirectory() as folder:
        async with Exporter(Path(folder), epcc) as exporter:
            exporter.configure(max_series="1000000", poll_interval="1m", lookback="1h", history="count")
            async with exporter.running():

                async def all_there() -> bool:
                    status = json.loads((await exporter.get("/api/v1/status"))[1])
                    return bool(status["stores"][0]["integrations_total"] == integrations)

                await until(all_there, f"{integrations} integrations", 900)
                return [await _load(exporter) for _ in range(loads)]


async def _load(exporter: Exporter) -> Load:
    async with browsing(origin=exporter.url, hurried=False) as browser:
        page = await browser.open(exporter.url + "/-/healthy")  # what the first page of a browser costs is not ours
        await _trace(browser, page)
        await page.goto(exporter.url)
        await _drawn_after(page, 0)
        script = await _script_seconds(browser)
        size = int(
            await page.evaluate("performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)")
        )
        await _trace(browser, page)
        await _drawn_after(page, await _drawings(page))  # a slow machine has drawn again before the trace began
        refresh = await _script_seconds(browser)
        parse = float(await page.evaluate(PARSE_SECONDS))
        status, loop = await _asked(exporter)
        return Load(size, script, refresh, parse, status, loop)


async def _trace(browser: Browser, page: Page) -> None:
    assert browser.context.browser is not None
    await browser.context.browser.start_tracing(page=page, categories=["devtools.timeline", "v8"])


async def _script_seconds(browser: Browser) -> float:
    """In which any script of the page ran, or was compiled; what waits inside another is counted once."""
    assert browser.context.browser is not None
    events = json.loads(await browser.context.browser.stop_tracing())["traceEvents"]
    spans = sorted((each["ts"], each["ts"] + each["dur"]) for each in events if each["ph"] == "X" and _is_script(each))
    total, until_us = 0, 0
    for begin, end in spans:
        total += max(0, end - max(begin, until_us))
        until_us = max(until_us, end)
    return total / 1e6


def _is_script(event: dict[str, Any]) -> bool:
    return event["name"] in SCRIPT_EVENTS


async def _drawings(page: Page) -> int:
    return int(await page.evaluate("performance.getEntriesByName('drawn').length"))


async def _drawn_after(page: Page, drawings: int) -> None:
    async def once_more() -> bool:
        return await _drawings(page) > drawings

    await until(once_more, f"the page drawn more than {drawings} times")


async def _asked(exporter: Exporter) -> tuple[float, float]:
    """Seconds of one answer that is made anew, and the longest that the health check beside it took."""
    await asyncio.sleep(3)  # an answer that was made is kept for a while
    waited = []

    async def beside() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                began = time.perf_counter()
                async with session.get(f"{exporter.url}/-/healthy") as response:
                    await response.read()
                waited.append(time.perf_counter() - began)

    checking = asyncio.create_task(beside())
    await asyncio.sleep(0.1)
    began = time.perf_counter()
    async with exporter.session.get(f"{exporter.url}/api/v1/status") as response:
        await response.read()
    taken = time.perf_counter() - began
    checking.cancel()
    await asyncio.wait([checking])
    return taken, max(waited)


def row(integrations: int, loads: Sequence[Load]) -> tuple[str, ...]:
    def middle(field: str) -> float:
        return float(statistics.median(getattr(load, field) for load in loads))

    size, script = middle("size") / 1000, middle("script") * 1000
    return (
        f"{integrations:,}", f"{size:.1f}", f"{size / LIMIT_KB:.2f}", f"{script:.1f}", f"{script / LIMIT_MS:.2f}",
        f"{middle('refresh') * 1000:.1f}", f"{middle('parse') * 1000:.2f}", f"{middle('script') / middle('parse'):.0f}",
        f"{middle('status') * 1000:.1f}", f"{max(load.loop for load in loads) * 1000:.1f}",
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--integrations", type=int, nargs="+", default=INTEGRATIONS)
    parser.add_argument("--loads", type=int, default=LOADS)
    arguments = parser.parse_args()
    rows = [row(each, asyncio.run(measure(each, arguments.loads))) for each in arguments.integrations]
    sys.stdout.write(table(HEAD, rows) + "\n" + MEANING.format(loads=arguments.loads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
