"""A month of logs backfilled, and made into blocks: `.venv/bin/python -m tests.bench.backfill [--logs N] [--days N]`.

The command in a process of its own, over HTTP from the ready-made store of the other benchmarks, then promtool on its
file, a block for the month. The store has no offset limit: what is measured is the most that there could be to do.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import MB, table
from tests.bench.standin import standin
from tests.integration.servers import names, program

LOGS = 1_000_000
DAYS = 30.0
LOOK_SECONDS = 0.5  # how often the size of the temporary files is looked at
MEANING = """\
Peak MB: the process's own highest resident size, for promtool with the pages of its input. Temporary MB: what stood in the
hidden folder beside the output at most, as seen every half second: the output before its renaming and sorting included. promtool: with --max-block-duration=744h, which makes one block of a month.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A process that has ended well."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    beside_bytes: int  # temporary files, at most
    told: str


def ran(command: Sequence[str | Path], folder: Path) -> Run:
    """`folder`: what is beside the output while it is made, hidden. Raises RuntimeError with what it told."""
    beside, began = 0, time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            beside = max(beside, hidden_bytes(folder))
            threading.Event().wait(LOOK_SECONDS)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        out.seek(0)
        told = out.read()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{told}")
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, beside, told)


def hidden_bytes(folder: Path) -> int:
    found = 0
    for path in folder.glob(".*/**/*"):
        try:
            found += path.stat().st_size
        except FileNotFoundError:
            continue  # it has just gone
    return found


def measure(logs: int, days: float) -> str:
    root = Path(__file__).parents[2]
    with standin(logs, span_seconds=days * 86_400) as store, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "config.yaml"
        config.write_text(
            f"stores:\n  - name: acme\n    api_url: {store.url}\n    client_id: bench\n    client_secret: bench-secret\n"
            "    requests_per_second: 100\n"
        )
        om = folder / "history.om"
        run = ran(
            ["env", f"PYTHONPATH={root}", sys.executable, "-m", "exporter", "backfill", f"--config.file={config}",
             f"--storage.path={folder / 'none'}", f"--output={om}", f"--since={days + 1:.0f}d",
             "--label=job=epcc-exporter", "--label=instance=shop:10058"], folder,
        )  # fmt: skip
        counted = int(found[1].replace(",", "")) if (found := re.search(r"read, ([\d,]+) counted", run.told)) else -1
        younger = re.search(r"([\d,]+) are younger", run.told)
        if counted + (int(younger[1].replace(",", "")) if younger else 0) != logs:
            raise RuntimeError(f"not every log was counted:\n{run.told}")
        series = re.search(r"([\d,]+) series, ([\d,]+) samples", run.told)
        assert series
        rows = [("backfill", f"{run.seconds:.0f}", f"{run.cpu_seconds:.0f}", f"{run.peak_bytes / MB:.0f}",
                 f"{run.beside_bytes / MB:.0f}", f"{om.stat().st_size / MB:.0f}")]  # fmt: skip
        for server in names():
            blocks = folder / f"blocks-{server}"
            made = ran([program("promtool", server), "tsdb", "create-blocks-from", "openmetrics",
                        "--max-block-duration=744h", om, blocks], folder)  # fmt: skip
            size = sum(path.stat().st_size for path in blocks.rglob("*") if path.is_file())
            rows.append((f"promtool, {server}", f"{made.seconds:.0f}", f"{made.cpu_seconds:.0f}",
                         f"{made.peak_bytes / MB:.0f}", "", f"{size / MB:.0f}"))  # fmt: skip
    head = ("", "seconds", "CPU s", "peak MB", "temporary MB", "output MB")
    return f"{logs:,} logs of {days:g} days: {series[1]} series, {series[2]} samples\n{table(head, rows)}{MEANING}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.backfill", description=__doc__)
    parser.add_argument("--logs", type=int, default=LOGS, help="(default: %(default)s)")
    parser.add_argument("--days", type=float, default=DAYS, help="over which they are spread (default: %(default)s)")
    arguments = parser.parse_args()
    sys.stdout.write(measure(arguments.logs, arguments.days))
    return 0


if __name__ == "__main__":
    sys.exit(main())
