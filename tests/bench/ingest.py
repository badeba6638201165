"""How fast logs come in, against others in the same run: `.venv/bin/python -m tests.bench.ingest [--profile]`.

A server of its own process has all pages ready, so that reading them is what is measured. Each contestant begins with
nothing; its time runs from its first request until it has every log where it keeps it. Runs take turns. Programs to
compare with are fetched at the first time, below .cache/bench; what cannot be had is named as missing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import sampling
from tests.bench.contestants import BASE, EXPORTER, Contestant, FailedError, Run, fetched, own, run
from tests.bench.figures import MB, Spread, table
from tests.bench.places import PACKAGES, Missing
from tests.bench.standin import Standin, standin

LOGS = (20_000, 100_000)
LATENCIES = (0.0, 1.0)  # ms: of a server on the same host, and of one over the internet at the very least
RUNS = 5
HEAD = ("contestant", "what it keeps", "logs/s: median (least to most)", "time / bare loop", "CPU µs/log", "CPU / bare loop",
        "peak MB", "requests")  # fmt: skip
MEANING = """\
logs/s: of {runs} runs in turns, from the first request until every log is where the contestant keeps it. time and CPU:
medians, divided by those of the bare loop (aiohttp, json.loads, page after page, nothing kept). peak: highest resident
memory of all its processes. The server alone, with the wait, gives {limit:,.0f} logs/s to one client that looks at no byte.
epcc-exporter is its own process with the limit on requests lifted; 100 requests/s is the most that a user can configure.
Fetched: {fetched}; mtail as Debian or the host has it.
"""


@dataclass(frozen=True, slots=True)
class Result:
    logs: int
    latency_seconds: float  # before each answer
    limit: float  # logs/s of the server alone
    runs: Mapping[str, Sequence[Run]]  # by contestant
    missing: Mapping[str, str]  # contestant → why there is no figure


async def measure(
    logs: int, runs: int, field: Mapping[str, Contestant | Missing], latency_seconds: float = 0.0
) -> Result:
    """Every contestant `runs` times, taking turns; one that fails is out, with its reason."""
    done: dict[str, list[Run]] = {name: [] for name, each in field.items() if isinstance(each, Contestant)}
    missing = {name: each.reason for name, each in field.items() if isinstance(each, Missing)}
    with standin(logs, latency_seconds) as server:
        limit = await asyncio.to_thread(server_limit, server)
        for turn in range(runs):
            names = [name for name in done if name not in missing]
            first = turn % max(1, len(names))  # nobody is always first, nor always after the same one
            for name in names[first:] + names[:first]:
                contestant = field[name]
                assert isinstance(contestant, Contestant)
                with tempfile.TemporaryDirectory(prefix="epcc-exporter-bench-") as folder:
                    try:
                        done[name].append(await run(contestant, server, Path(folder)))
                    except FailedError as error:
                        missing[name] = f"failed: {error}"
    return Result(
        logs, latency_seconds, limit, {name: each for name, each in done.items() if name not in missing}, missing
    )


def server_limit(server: Standin) -> float:
    """Logs a second to a socket whose reader only counts bytes, page after page."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        room = bytearray(1 << 20)
        began = time.monotonic()
        for offset in range(0, server.logs, 100):
            query = f"page[limit]=100&page[offset]={offset}"
            connection.sendall(f"GET /v2/integrations/logs?{query} HTTP/1.1\r\n\r\n".encode())
            size = connection.recv_into(room)
            head = bytes(room[:size]).partition(b"\r\n\r\n")[0]
            left = len(head) + 4 + int(head.rpartition(b"Content-Length: ")[2]) - size
            while left > 0:
                left -= connection.recv_into(room)
        return server.logs / (time.monotonic() - began)


def shown(result: Result, keeps: Mapping[str, str]) -> str:
    base = result.runs.get(BASE)
    rows = []
    for name, runs in result.runs.items():
        seconds = Spread(tuple(each.seconds for each in runs)).median
        cpu = Spread(tuple(each.cpu_seconds for each in runs)).median
        base_seconds = Spread(tuple(each.seconds for each in base)).median if base else 0.0
        base_cpu = Spread(tuple(each.cpu_seconds for each in base)).median if base else 0.0
        rows.append(
            (
                name, keeps.get(name, ""), Spread(tuple(result.logs / each.seconds for each in runs)).text(),
                f"{seconds / base_seconds:.2f}" if base_seconds else "-", f"{cpu / result.logs * 1e6:.1f}",
                f"{cpu / base_cpu:.2f}" if base_cpu else "-", f"{max(each.peak_bytes for each in runs) / MB:.0f}",
                f"{runs[-1].requests:,}",
            )
        )  # fmt: skip
    number = max((len(each) for each in result.runs.values()), default=0)
    missing = "".join(f"missing: {name}: {reason}\n" for name, reason in result.missing.items())
    wait = f", {result.latency_seconds * 1000:g} ms before each answer" if result.latency_seconds else ""
    title = f"{result.logs:,} logs, pages of 100{wait}\n"
    return (
        title
        + table(HEAD, rows, texts=2)
        + missing
        + MEANING.format(runs=number, limit=result.limit, fetched=", ".join((*PACKAGES["airbyte"], *PACKAGES["dlt"])))
    )


async def profiled(logs: int, latency_seconds: float) -> int:
    with standin(logs, latency_seconds) as server, tempfile.TemporaryDirectory(prefix="epcc-exporter-bench-") as folder:
        found = await sampling.profile(server, Path(folder))
    if isinstance(found, Missing):
        sys.stderr.write(f"there is no profiler: {found.reason}\n")
        return 1
    sys.stdout.write(f"{EXPORTER}: {logs:,} logs, pages of 100\n{sampling.shown(*found)}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.ingest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logs", type=int, nargs="+", default=list(LOGS), help="sizes (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each contestant (default: %(default)s)")
    parser.add_argument("--latency", type=float, nargs="+", default=list(LATENCIES), metavar="MS",
                        help="before each answer (default: %(default)s)")  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these contestants; the bare loop always runs")
    parser.add_argument("--profile", action="store_true", help="instead: where the exporter's time goes, by py-spy")
    arguments = parser.parse_args()
    if arguments.profile:
        return asyncio.run(profiled(max(arguments.logs), min(arguments.latency) / 1000))
    field = {**own(), **fetched()}
    if arguments.only:
        if unknown := set(arguments.only) - field.keys():
            parser.error(f"no contestant {', '.join(sorted(unknown))}; there are {', '.join(field)}")
        field = {name: each for name, each in field.items() if name in {*arguments.only, BASE}}
    keeps = {name: each.keeps for name, each in field.items() if isinstance(each, Contestant)}
    well = True
    for logs, latency in itertools.product(arguments.logs, arguments.latency):
        result = asyncio.run(measure(logs, arguments.runs, field, latency / 1000))
        sys.stdout.write(f"{shown(result, keeps)}\n")
        sys.stdout.flush()
        well = well and not any(reason.startswith("failed") for reason in result.missing.values())
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
