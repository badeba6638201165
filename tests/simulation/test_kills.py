"""A process that dies at any bytecode of a commit or a publication, or at any write of the disk, and a disk that fails at
any of them: what was shown is never taken back, and the next poll ends exact.

Each try is a child of its own with a copy of one prepared state; the parent opens what it left.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import exporter
from exporter import statefile
from exporter.announce import Announcer
from exporter.config import Secret, StoreConfig
from exporter.exposition import Exposition
from exporter.intake import Intake, Writer
from exporter.metrics import OwnMetrics
from exporter.records import Attempt, Page
from exporter.rows import Batch, Marks
from exporter.scrapers import Client
from exporter.store import StorageError, Store
from exporter.tally import Tally
from tests.shelf import NOW, SECOND, attempt
from tests.simulation import iofaults, observer
from tests.simulation.play import FAST
from tests.world import VirtualClock, run

# Where something is made durable, or shown. Rendering the page is left out: it changes nothing that outlives it.
PACKAGE = Path(exporter.__file__).parent
TRACED = {str(PACKAGE / f"{name}.py") for name in
          ("announce", "intake", "ledger", "rows", "scrapers", "statefile", "store", "tally")}  # fmt: skip
SHARES = 8  # of the bytecodes, each a test of its own: two workers end together
BEFORE = [attempt(f"b{i}", NOW + i * SECOND, succeeded=i != 1, job_id="job") for i in range(3)]
NEW = [
    attempt("n0", NOW + 10 * SECOND, succeeded=False, reason="http_5xx", status_code="503"),
    attempt("n1", NOW + 11 * SECOND, integration_id="int-2"),
    attempt("n2", None),
    attempt("b2", NOW + 2 * SECOND, job_id="job"),  # known already
]


def marks_of(held: Marks, floor_ns: int) -> Marks:
    moved = held.copied()
    moved.begun, moved.floor_ns, moved.keep_ns = True, floor_ns, floor_ns - SECOND
    return moved


def commit(store: Store, attempts: list[Attempt], floor_ns: int) -> dict[str, Tally]:
    """What a poll does to the state: a batch with its marks, and what they allow to forget."""
    held, _ = store.begin("acme", NOW)
    marks = marks_of(held, floor_ns)
    done = store.commit("acme", Batch(now_ns=NOW + 20 * SECOND, attempts=attempts, marks=marks, forget=True))
    return done.tallies


def counted(store: Store) -> dict[str, tuple[int, int, int]]:
    _, tallies = store.begin("acme", NOW)
    return {name: (tally.attempts, tally.failed, tally.jobs) for name, tally in sorted(tallies.items())}


TRUTH = {"int-1": (5, 1, 3), "int-2": (1, 0, 1)}


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder:
        store = Store.open(Path(folder) / "prepared", NOW)
        commit(store, BEFORE, NOW - 60 * SECOND)
        store.close()
        yield Path(folder)


def copy_of(prepared: Path, name: str) -> Path:
    target = prepared / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(prepared / "prepared", target)
    return target


def poll(folder: Path) -> None:
    """The part of a life that is killed: commit, publish, show, announce, show."""
    store = Store.open(folder, NOW)
    config = StoreConfig(
        name="acme", api_url="http://epcc.test", client_id=Secret("id"), client_secret=Secret("secret")
    )
    own = OwnMetrics()
    own.add_store("acme")
    exposition = Exposition(own)

    async def life() -> None:
        announcer = Announcer(exposition, own, VirtualClock(), lambda _: intake, known=(), keep=no_one)
        intake = Intake(config=config, store=store, writer=Writer(), publisher=announcer, own=own, gaps={})
        await intake.begin(NOW)
        started()
        await intake.enter(page_of(NEW), NOW)
        await intake.flush(NOW + 20 * SECOND, marks=marks_of(intake.marks, NOW - SECOND))
        show(folder, exposition)
        await intake.announce([("int-1", None), ("int-1", "503"), ("int-2", None), ("int-2", "200")], NOW)
        show(folder, exposition)

    run(life())


async def no_one(clients: Sequence[Client]) -> None:
    raise AssertionError("nobody scrapes here")


def page_of(attempts: list[Attempt]) -> Page:
    return Page(tuple(attempts), (), tuple(each.id for each in attempts), None)


def show(folder: Path, exposition: Exposition) -> None:
    """What a scrape would read, where the parent finds it."""
    samples = observer.shown(exposition)
    lines = [f"{name} {value}" for name, value in samples.items() if "attempts_total" in name]
    (folder / "shown.new").write_text("\n".join(lines))
    (folder / "shown.new").rename(folder / "shown")


def started() -> None:
    """From here on bytecodes count; the tracer looks for the call."""


def in_child(work: Callable[[], None]) -> int:
    """Its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(folder: Path, number: int, work: Callable[[Path], None]) -> bool:
    """Whether the work was killed at this bytecode of the exporter's after `started`; False: it had fewer."""
    left = number
    counting = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left, counting
        if event == "call":
            counting = counting or frame.f_code is started.__code__
            if frame.f_code.co_filename not in TRACED:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode" and counting:
            left -= 1
            if left == 0:
                os._exit(9)
        return trace

    def traced() -> None:
        sys.settrace(trace)
        work(folder)

    code = in_child(traced)
    assert code in (0, 9)
    return code == 9


def assert_goes_on_exactly(folder: Path) -> None:
    """The next life: nothing shown is missing, and the same poll again ends at the truth."""
    store = Store.open(folder, NOW)
    try:
        assert store.moved_aside is None
        _, tallies = store.begin("acme", NOW)
        assert sum(tally.attempts for tally in tallies.values()) in (3, 6), "a commit is whole, or not at all"
        for name, value in shown_in(folder).items():
            tally = tallies.get("int-2" if "int-2" in name else "int-1", Tally())
            assert (tally.attempts if tally.announced else 0) >= value, "what was shown is durable"
        commit(store, NEW, NOW - SECOND)
        assert counted(store) == TRUTH
    finally:
        store.close()


def shown_in(folder: Path) -> dict[str, float]:
    page = folder / "shown"
    lines = page.read_text().splitlines() if page.exists() else []
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_any_bytecode_of_a_commit_the_next_life_goes_on_exactly(prepared: Path, share: int) -> None:
    number, kills = 1 + share, 0
    while killed_at(folder := copy_of(prepared, f"bytecode-{share}"), number, poll):
        assert_goes_on_exactly(folder)
        number += SHARES
        kills += 1
    assert_goes_on_exactly(folder)
    assert kills > 100


def reopen(folder: Path) -> None:
    started()
    Store.open(folder, NOW).close()


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("before", ["no file", "a damaged file"])
def test_killed_at_any_bytecode_of_a_start_the_next_one_knows_whether_a_state_was_lost(
    prepared: Path, before: str, share: int
) -> None:
    damaged = before == "a damaged file"
    number, kills = 1 + share, 0
    while True:
        folder = copy_of(prepared, f"start-{damaged}-{share}")
        if damaged:
            (folder / statefile.NAME).write_bytes(b"not a database")
        else:
            (folder / statefile.NAME).unlink()
        killed = killed_at(folder, number, reopen)
        store = Store.open(folder, NOW)
        marks, _ = store.begin("acme", NOW)
        assert (marks.begins_at_zero, marks.gaps) == ((True, {"state_lost": 1}) if damaged else (False, {}))
        assert len(list(folder.glob("*.damaged-*"))) == damaged
        store.close()
        if not killed:
            break
        number += SHARES
        kills += 1
    assert kills > 10


NEWER = statefile.VERSION + 1
OLDER = "ALTER TABLE gap ADD COLUMN size INTEGER; CREATE TABLE more(x)"


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_any_bytecode_of_a_migration_the_file_is_of_the_old_version_or_of_the_new_one(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    monkeypatch.setattr(statefile, "VERSION", NEWER)
    monkeypatch.setattr(statefile, "MIGRATIONS", {**statefile.MIGRATIONS, NEWER - 1: OLDER})
    number, kills = 1 + share, 0
    while killed_at(folder := copy_of(prepared, f"migration-{share}"), number, reopen):
        assert_migrates(folder)
        number += SHARES
        kills += 1
    assert_migrates(folder)
    assert kills > 10


def assert_migrates(folder: Path) -> None:
    store = Store.open(folder, NOW)
    assert store.moved_aside is None
    _, tallies = store.begin("acme", NOW)
    assert tallies["int-1"].attempts == 3
    store.close()
    for name, version, columns in ((statefile.NAME, NEWER, 6), (f"{statefile.NAME}.v{NEWER - 1}", NEWER - 1, 5)):
        connection = sqlite3.connect(folder / name)
        assert connection.execute("PRAGMA user_version").fetchone() == (version,)
        assert len(connection.execute("PRAGMA table_info(gap)").fetchall()) == columns
        connection.close()


# --- the disk


def struck(folder: Path, k: int, act: Callable[[Callable[[int], None]], int]) -> Store:
    """A store, opened well, whose k-th write from now on goes wrong."""
    iofaults.install()
    store = Store.open(folder, NOW)
    store.begin("acme", NOW)
    iofaults.trap.set(k, act)
    return store


@pytest.mark.parametrize("error", [*iofaults.ERRORS])
def test_a_disk_that_fails_at_any_write_shows_nothing_new_and_ends_exact_with_a_restart_and_without(
    prepared: Path, error: str
) -> None:
    k = failed = 0
    while True:
        k += 1
        folder = copy_of(prepared, f"disk-{error}")
        store = struck(folder, k, lambda partly: iofaults.ERRORS[error])
        try:
            commit(store, NEW, NOW - SECOND)
            in_time = iofaults.trap.seen >= k  # it failed where the commit was done already: at the checkpoint
            if not in_time:
                break
        except StorageError:
            failed += 1
        finally:
            iofaults.trap.lift()
        if k % 2:
            store.close()
            store = Store.open(folder, NOW)
        assert store.moved_aside is None
        commit(store, NEW, NOW - SECOND)
        assert counted(store) == TRUTH
        store.close()
    store.close()
    assert failed >= 2, "no write of a commit was met"


@pytest.mark.parametrize("how", [iofaults.die, iofaults.die_half_way], ids=["before it", "half way through it"])
def test_killed_at_any_write_of_the_disk_the_next_life_goes_on_exactly(
    prepared: Path, how: Callable[[Callable[[int], None]], int]
) -> None:
    k, code = 0, 9
    while code == 9:
        k += 1
        folder = copy_of(prepared, how.__name__)

        def life(folder: Path = folder, k: int = k) -> None:
            store = struck(folder, k, how)
            commit(store, NEW, NOW - SECOND)
            store.close()

        code = in_child(life)
        assert_goes_on_exactly(folder)
    assert code == 0
    assert k > 3, "no write was met"
