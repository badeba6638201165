"""How far it has come: drawn for who looks at a terminal, told now and then to who reads a log."""

from __future__ import annotations

import io
import logging

import pytest

from exporter.clock import Clock
from exporter.progress import Progress


class _Clock(Clock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_is_drawn_over_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    clock, out = _Clock(), _Terminal()
    progress = Progress(clock, out)
    progress.tell("reading acme", 0.5, "at once")  # too soon after the beginning
    assert not out.getvalue()
    clock.now = 1.0
    progress.tell("reading acme", 0.5, "1,000 logs")
    assert out.getvalue() == "\r" + f"{'reading acme [############............]  50%  1,000 logs':<59}" + "\r"
    clock.now = 2.0
    progress.tell("reading acme", None, "x" * 100)
    assert len(out.getvalue()) == 2 * 61
    progress.clear()
    progress.clear()
    assert out.getvalue().endswith(f"\r{'':<59}\r")
    assert len(out.getvalue()) == 3 * 61


def test_a_log_gets_a_line_each_half_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, out = _Clock(), io.StringIO()
    progress = Progress(clock, out)
    for second in range(95):
        clock.now = float(second)
        progress.tell("counting acme", second / 100, f"{second} logs")
    progress.clear()
    assert [(r.message, getattr(r, "fields")) for r in caplog.records] == [  # noqa: B009
        ("counting acme", {"done": f"{second}%", "so_far": f"{second} logs"}) for second in (30, 60, 90)
    ]
    assert not out.getvalue()
