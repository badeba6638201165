"""What the real process makes of a state file that is spoilt, newer, in a bad place, or on a disk that takes no more.

The disk that is full is a limit on the size of the process's files, set from outside while it runs: that needs no mount
and no rights, and to SQLite it is a write that fails.
"""

from __future__ import annotations

import os
import random
import resource
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from exporter.epcc import Epcc, log
from exporter.shop import Integration
from tests.integration.process import Exporter

pytestmark = pytest.mark.integration

ATTEMPTS = "epcc_integration_attempts_total{integration_id=shipping}"
LOST = "epcc_exporter_gaps_total{cause=state_lost}"


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Exporter]:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    async with Exporter(tmp_path, epcc) as made:
        yield made


async def counted(exporter: Exporter, number: int) -> Path:
    """A first life that counted so many; its state file."""
    async with exporter.running() as process:
        await exporter.ready()
        exporter.epcc.add(*[log(f"first{i}", time.time_ns()) for i in range(number)])
        await exporter.sample(ATTEMPTS, number)
        await process.end()
    return exporter.folder / "data" / "state.db"


def overwritten(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_program(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs(x)")
    connection.close()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def counting_less(path: Path) -> None:
    """A tally that was made smaller: the file is whole, and the sums do not agree."""
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM tally")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("spoil", [overwritten, emptied, of_another_program, a_folder, counting_less])
async def test_a_state_that_cannot_be_trusted_is_moved_aside_loudly_and_counters_begin_at_0(
    exporter: Exporter, spoil: Callable[[Path], None]
) -> None:
    path = await counted(exporter, 9)
    for companion in path.parent.glob("state.db-*"):
        companion.unlink()
    spoil(path)
    exporter.configure(history="count")  # even then: a smaller number, or the history again, would be a giant spike
    async with exporter.running() as process:
        await exporter.ready()
        samples = await exporter.scrape()
        assert (samples[LOST], samples[ATTEMPTS]) == (1, 0)
        assert "level=ERROR" in process.output
        assert "the state was damaged: it was moved aside, and counters begin at 0" in process.output
        exporter.epcc.add(log("second", time.time_ns()))
        await exporter.sample(ATTEMPTS, 1)
    (aside,) = path.parent.glob("state.db.damaged-*Z")
    assert aside.is_dir() == (spoil is a_folder)


async def test_a_state_of_a_newer_version_is_left_untouched_and_refused_with_what_to_do(exporter: Exporter) -> None:
    path = await counted(exporter, 3)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(AssertionError, match="it ended at once") as ended:
        async with exporter.running():
            pass
    said = str(ended.value)
    assert "was written by a newer version (schema 99" in said
    assert "start that version, or give another --storage.path" in said
    assert "Traceback" not in said
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["a file", "below a file"])
async def test_a_storage_path_that_cannot_be_a_folder_ends_with_a_line_that_names_it(
    exporter: Exporter, place: str
) -> None:
    path = exporter.folder / "data"
    path.write_text("in the way")
    with pytest.raises(AssertionError, match="it ended at once") as ended:
        async with exporter.running(*([f"--storage.path={path / 'deeper'}"] if place == "below a file" else [])):
            pass
    assert str(path) in str(ended.value)
    assert "Traceback" not in str(ended.value)


async def test_on_a_full_disk_nothing_new_is_shown_the_poll_fails_and_all_is_counted_once_there_is_space(
    exporter: Exporter,
) -> None:
    async with exporter.running() as process:
        await exporter.ready()
        exporter.epcc.add(*[log(f"first{i}", time.time_ns()) for i in range(5)])
        await exporter.sample(ATTEMPTS, 5)
        _, hard = resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (0, hard))
        exporter.epcc.add(*[log(f"more{i}", time.time_ns()) for i in range(7)])
        await exporter.sample("epcc_up{}", 0)
        samples = await exporter.scrape()
        assert samples[ATTEMPTS] == 5
        assert samples["epcc_exporter_poll_failures_total{reason=storage}"] >= 1
        assert (await exporter.get("/-/healthy"))[0] == 200
        assert "polls of the store fail" in process.output
        assert "reason=storage" in process.output
        resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await exporter.sample(ATTEMPTS, 12)
        await exporter.sample("epcc_up{}", 1)
    assert not list((exporter.folder / "data").glob("*.damaged-*"))


async def test_a_state_file_and_its_folder_are_for_their_owner_alone(exporter: Exporter) -> None:
    path = await counted(exporter, 1)
    assert os.stat(path).st_mode & 0o077 == 0
    assert os.stat(path.parent).st_mode & 0o077 == 0
