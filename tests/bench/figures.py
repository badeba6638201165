"""Figures of processes, of several runs, and tables of both."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Use:
    """Of a process and its descendants."""

    cpu_seconds: float
    peak_bytes: int  # the sum of each one's own highest resident size


def use(pids: Iterable[int]) -> Use:
    """Children that have ended count by the time that their parents waited for; their memory does not."""
    cpu, peak = 0.0, 0
    for pid in pids:
        for each in family(pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
                cpu += sum(int(field) for field in fields[11:15]) / _TICK
                peak += _bytes(each, "VmHWM")
    return Use(cpu, peak)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{each}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            found.append(each)
    return found


def _bytes(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


@dataclass(frozen=True, slots=True)
class Spread:
    """What several runs gave."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, form: str = ",.0f") -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.median:{form}} ({low:{form}} to {high:{form}})"


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-round(share * 1000) * len(ordered) // 1000) - 1))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """The first `texts` columns are words, the others numbers."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "".join(
        "  ".join(
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )
