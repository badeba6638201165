"""How many logs a second come in: `.venv/bin/python -m tests.bench.ingest [--logs N] [--runs N] [--rivals]`.

The exporter, end to end and durable, against the least that a loop in Python can do (aiohttp, `json.loads`, one page
after the other, nothing kept) on the same stand-in server, run after run in turns; with `--rivals` against airbyte-cdk,
dlt and mtail too, which are fetched below .cache/bench. The budget of requests is lifted: a store allows 100 requests a
second, which are 10,000 logs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from typing import Any, Final

from tests.bench.standin import ROOT, serving

WORK: Final = ROOT / ".cache" / "bench"
PACKAGES: Final = ("airbyte-cdk", "dlt[duckdb]", "aiohttp")
SAID: Final = {
    "bare": "bare loop: aiohttp, json.loads, nothing kept",
    "exporter": "epcc-exporter: each log once, durable, on the page",
    "airbyte": "airbyte-cdk: a stream, read and thrown away",
    "dlt": "dlt into duckdb: merged by id, durable",
    "mtail": "mtail on a file that a poller writes: in memory",
}


def rivals() -> dict[str, dict[str, Any]]:
    """Those that can be had here: how to run each."""
    python = WORK / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(WORK / "venv")], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "-q"]
    found: dict[str, dict[str, Any]] = {}
    if subprocess.run([*pip, *PACKAGES], check=False).returncode == 0:
        found = {name: {"python": str(python)} for name in ("airbyte", "dlt")}
    if mtail := _mtail():
        found["mtail"] = {"python": sys.executable, "env": {"MTAIL": mtail}}
    return found


def _mtail() -> str | None:
    """On PATH, or out of Debian's package, without a change to the system."""
    program = WORK / "mtail" / "usr" / "bin" / "mtail"
    if shutil.which("mtail") or program.exists():
        return shutil.which("mtail") or str(program)
    if shutil.which("apt-get") is None:
        return None
    WORK.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["apt-get", "-qq", "download", "mtail"], cwd=WORK, check=False).returncode != 0:
        return None
    (package,) = WORK.glob("mtail_*.deb")
    subprocess.run(["dpkg-deb", "-x", package, WORK / "mtail"], check=True)
    return str(program)


def run(
    name: str, port: int, logs: int, python: str = sys.executable, env: dict[str, str] | None = None
) -> dict[str, float]:
    command = [python, "-m", "tests.bench.contestants", name, str(port), str(logs)]
    everything = {**os.environ, **(env or {})}
    done = subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def table(logs: int, found: dict[str, list[dict[str, float]]]) -> str:
    def rate(name: str, what: str) -> list[float]:
        return sorted(logs / each[what] for each in found[name])

    base, base_cpu = (statistics.median(rate("bare", what)) for what in ("seconds", "cpu_seconds"))
    lines = [
        "| who | logs/s | from to | of the bare loop | logs/CPU s | of the bare loop |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in found:
        wall, cpu = rate(name, "seconds"), statistics.median(rate(name, "cpu_seconds"))
        lines.append(
            f"| {SAID[name]} | {statistics.median(wall):,.0f} | {wall[0]:,.0f} to {wall[-1]:,.0f} |"
            f" {statistics.median(wall) / base:.2f} | {cpu:,.0f} | {cpu / base_cpu:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ingest", description=__doc__)
    parser.add_argument("--logs", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5, help="of each, in turns")
    parser.add_argument("--rivals", action="store_true", help="fetch and run them too")
    options = parser.parse_args()
    who: dict[str, dict[str, Any]] = {"bare": {}, "exporter": {}}
    if options.rivals:
        had = rivals()
        who |= had
        for name in SAID.keys() - who.keys():
            sys.stdout.write(f"not to be had here: {SAID[name]}\n")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in who}
    with serving(options.logs) as port:
        for _ in range(options.runs):
            for name, how in who.items():
                found[name].append(run(name, port, options.logs, **how))
    sys.stdout.write(table(options.logs, found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
