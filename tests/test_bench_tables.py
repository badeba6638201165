"""What the benchmarks make of their figures: no process here, and no time."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.bench import places, sampling
from tests.bench.figures import Spread, family, percentile, table, use

LOOP = "<module> (tests/bench/exporting.py:43);run (asyncio/runners.py:190)"
POOL = "_worker (concurrent/futures/thread.py:83)"
STACKS = f"""\
thread (7): MainThread;{LOOP};Fetch.get (exporter/fetch.py:50);_attempt (exporter/records.py:170);_PyEval (libpython.so) 30
thread (7): MainThread;{LOOP};_read_ready (asyncio/selector_events.py:9);feed_data (aiohttp/streams.py:1);memcpy (libc.so) 10
thread (7): MainThread;{LOOP};read_page (exporter/records.py:99);gc_collect_main (libpython.so) 5
thread (7): MainThread;{LOOP};EpollSelector.select (selectors.py:468);epoll_wait (libc.so) 40
thread (7): MainThread;<module> (exporter/app.py:3);_find (<frozen importlib._bootstrap>:241);exec (aiohttp/web.py:1) 8
thread (8): writer_0;{POOL};Store._transaction (exporter/store.py:273);fdatasync (libc.so.6) 15
thread (8): writer_0;{POOL};Store._transaction (exporter/store.py:273);pthread_cond_timedwait (libc.so.6);0x7f (libc.so.6) 4
thread (8): writer_0;{POOL};PyThread_acquire_lock_timed (libpython.so);0x7f (libc.so.6) 60
thread (9);start_thread (libc.so.6) 1
"""


def test_a_sample_belongs_to_the_innermost_function_of_the_exporter_and_waiting_is_apart() -> None:
    profile = sampling.judged(sampling.read(STACKS))
    assert profile.functions == {
        "exporter/records.py _attempt": 30,
        "aiohttp": 10,
        "garbage collection": 5,
        "exporter/store.py Store._transaction: fdatasync": 15,
        "native code": 1,
    }
    assert profile.files["exporter/store.py"] == 15
    assert profile.threads == {"MainThread": 45, "writer_0": 15, "without a name": 1}
    assert profile.waiting == {
        ("MainThread", "something to do"): 40,
        ("writer_0", "something to do"): 60,
        ("writer_0", "the interpreter's lock"): 4,
    }
    assert profile.start == 8
    text = sampling.shown(profile, 1234.5)
    assert re.search(r"^exporter/records.py _attempt +49.2 %$", text, re.MULTILINE)
    assert "61 samples of threads at work (MainThread 74 %" in text


@pytest.mark.parametrize(("share", "found"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_a_value_that_was_measured(share: float, found: int) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == found


def test_a_spread_shows_its_ends() -> None:
    assert Spread((3.0, 1000.4, 2.0)).text() == "3 (2 to 1,000)"


def test_a_table_has_words_on_the_left_and_numbers_on_the_right() -> None:
    assert (
        table(("who", "n"), [("exporter", "1"), ("b", "1,000")])
        == "who           n\nexporter      1\nb         1,000\n"
    )


def test_a_process_uses_something_and_belongs_to_its_own_family() -> None:
    assert os.getpid() in family(os.getpid())
    used = use([os.getpid()])
    assert used.cpu_seconds > 0
    assert used.peak_bytes > 1_000_000


def test_what_cannot_be_fetched_is_missing_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "WORK", tmp_path)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = places.environment("airbyte")
    assert isinstance(missing, places.Missing)
    assert missing.reason.endswith("FileNotFoundError")
    assert places.mtail() == places.Missing("no mtail on PATH, and no Debian to fetch it from")
    broken = tmp_path / "apt-get"
    broken.write_text("#!/bin/sh\necho E: no archive here\nexit 100\n")
    (tmp_path / "dpkg-deb").write_text("")
    for program in (broken, tmp_path / "dpkg-deb"):
        program.chmod(0o755)
    assert places.mtail() == places.Missing("apt-get: E: no archive here")
