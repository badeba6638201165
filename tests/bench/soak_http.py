"""The real process over real HTTP for some minutes: `.venv/bin/python -m tests.bench.soak_http [--minutes N]`.

A busy shop, a poll each second, two scrapers each second (one of them on a new connection each time, and in a hurry), a
changed configuration each ten seconds, an outage now and then. Memory, threads, files and connections must stay as they
were.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp

from exporter import statefile
from exporter.epcc import Epcc
from exporter.manners import Manners
from exporter.shop import SCENARIOS, Shop
from tests.bench.far import memory
from tests.integration.process import SCRAPER, Exporter

MB = 1_000_000
RETENTION = 120.0
SAMPLES = 10
RELOAD_SECONDS = 10
OUTAGE_SECONDS = 25  # from one to the next; each lasts a second
COLUMNS = ("logs", "minutes", "CPU s", "RSS MB", "peak MB", "state MB", "threads", "files", "sockets")


def epcc() -> Epcc:
    scenario = replace(SCENARIOS["busy"], history_seconds=60.0, retention_seconds=RETENTION)
    shop = Shop(scenario, 1, time.time_ns())
    return Epcc(Manners(retention_seconds=RETENTION, latency_seconds=(0.02, 0.08)), seed=1, shop=shop)


def figures(pid: int, folder: Path) -> list[str]:
    process = Path(f"/proc/{pid}")
    handles = [os.readlink(process / "fd" / each) for each in os.listdir(process / "fd")]
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    cpu_seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return [
        f"{cpu_seconds:.1f}",
        f"{memory('VmRSS', str(pid)) / MB:.1f}",
        f"{memory('VmHWM', str(pid)) / MB:.1f}",
        f"{statefile.size_bytes(folder / 'data') / MB:.1f}",
        str(len(list((process / "task").iterdir()))),
        str(len(handles)),
        str(sum(handle.startswith("socket:") for handle in handles)),
    ]


async def each(seconds: float, act: Callable[[], object]) -> None:
    while True:
        await asyncio.sleep(seconds)
        done = act()
        if asyncio.iscoroutine(done):
            await done


def configure(exporter: Exporter, number: int) -> None:
    """Each another one than the last, so that the store is begun anew."""
    exporter.configure(
        poll_interval="1s", lookback="20s", reconcile_interval="30s", history="count", request_timeout="2s",
        page_limit=str(100 - number % 2),
    )  # fmt: skip


async def soak(minutes: float) -> bool:
    store = epcc()
    polite = store.manners

    async def outage() -> None:
        store.manners = replace(polite, down="hang")
        await asyncio.sleep(1)
        store.manners = polite

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Exporter(folder, store) as exporter:
            configure(exporter, 0)
            async with exporter.running() as process:
                await exporter.ready()

                async def anew() -> None:
                    async with (
                        aiohttp.ClientSession() as session,
                        session.get(f"{exporter.url}/metrics", headers=SCRAPER),
                    ):
                        return  # it leaves without having read the page

                configurations = itertools.count(1)

                def reload() -> None:
                    configure(exporter, next(configurations))
                    process.child.send_signal(signal.SIGHUP)

                others = [
                    asyncio.create_task(each(1.0, exporter.scrape)),
                    asyncio.create_task(each(1.0, anew)),
                    asyncio.create_task(each(RELOAD_SECONDS, reload)),
                    asyncio.create_task(each(OUTAGE_SECONDS, outage)),
                ]
                sys.stdout.write("  ".join(column.rjust(9) for column in COLUMNS) + "\n")
                for sample in range(1, SAMPLES + 1):
                    await asyncio.sleep(minutes * 60 / SAMPLES)
                    for other in others:
                        if other.done():
                            other.result()
                    logs = sum(each["attempts"] for each in store.truth(time.time_ns())["integrations"].values())
                    line = [f"{logs:,}", f"{minutes * sample / SAMPLES:.1f}", *figures(process.child.pid, folder)]
                    sys.stdout.write("  ".join(cell.rjust(9) for cell in line) + "\n")
                    sys.stdout.flush()
                for other in others:
                    other.cancel()
                await asyncio.wait(others)
                code = await process.end()
                told = Counter(re.findall(r'level=(\w+) .*?msg=("[^"]+"|\S+)', process.output))
                sys.stdout.write(
                    "".join(f"{number} x {level} {what}\n" for (level, what), number in told.most_common())
                )
                sys.stdout.write(f"ended with {code}\n")
                return code == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak_http", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    return 0 if asyncio.run(soak(parser.parse_args().minutes)) else 1


if __name__ == "__main__":
    sys.exit(main())
