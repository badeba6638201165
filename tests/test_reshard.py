"""States that move from folder to folder: whole, once, and so that no exporter can run in between."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from exporter import reshard as module
from exporter import seam, statefile
from exporter.reshard import Move, ReshardError, reshard
from exporter.rows import Batch, Feed, Gap
from exporter.sharding import MisplacedError, Shard, claim, shard_of
from exporter.statefile import DamagedError
from exporter.store import Store
from exporter.takeover import home_key
from tests.shelf import NOW, SECOND, attempt
from tests.test_sharding import opened

STORES = ("acme", "north", "south", "west", "east")  # of 1, 2 and 3 shards some stay and some move
FAILED = {"succeeded": False, "status_code": "500", "reason": "http_5xx"}


def enter(folder: Path, name: str, number: int = 5, *, through_ns: int = NOW) -> None:
    """A store with a row in every table, and `number` attempts."""
    store = Store.open(folder, NOW)
    marks = store.begin(name, NOW)[0].copied()
    marks.begun, marks.complete_through_ns, marks.floor_ns = True, through_ns, NOW - SECOND
    marks.feeds[""] = Feed("newest_first")
    attempts = [
        attempt(f"{name}-{i}", NOW + i, job_id=f"job-{i // 2}", number=1 + i % 2, **FAILED) for i in range(number)
    ]
    attempts.append(attempt(f"{name}-untimed", None, integration_id="int-2"))
    store.commit(name, Batch(NOW, attempts, marks=marks, gaps=[Gap("late", NOW, NOW)], announce=[("int-1", None)]))
    store.commit(name, Batch(NOW, announce=[("int-1", None), ("int-1", "500")]))
    store.reconciling(
        lambda jobs: jobs.connection.execute(
            "INSERT INTO listed VALUES(?, 'int-1', 'job-1', ?, 1, 'open')", (jobs.ref, NOW)
        ),
        name,
    )
    store.keep_note(home_key(name), "host")
    store.close()


def rows(folder: Path) -> dict[str, dict[str, list[Any]]]:
    """Of each store, all that is kept of it, without the numbers that files give."""
    if not (folder / statefile.NAME).exists():
        return {}
    with closing(sqlite3.connect(folder / statefile.NAME)) as connection:
        return {
            name: {
                "store": [(body, crc)],
                **{
                    table: connection.execute(
                        f"SELECT {columns} FROM {table} WHERE store = ? ORDER BY "  # noqa: S608  fixed
                        f"{'ref' if table == 'job' else columns}",
                        (ref,),
                    ).fetchall()
                    for table, columns in module._TABLES.items()
                },
            }
            for ref, name, body, crc in connection.execute("SELECT ref, name, body, crc FROM store").fetchall()
        }


def folders(tmp_path: Path, number: int) -> list[Path]:
    return [tmp_path / f"data-{i}" for i in range(number)]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Path]]:
    """The folders of two shards, with their stores."""
    made = folders(tmp_path, 2)
    for ordinal, folder in enumerate(made):
        opened(folder, Shard(ordinal, 2))
    for number, name in enumerate(STORES, 3):
        enter(made[shard_of(name, 2)], name, number)
    return made  # type: ignore[return-value]


def everything(made: list[Path]) -> dict[str, dict[str, list[Any]]]:
    held = [rows(folder) for folder in made]
    names = [name for each in held for name in each]
    assert len(names) == len(set(names)), "a store in two folders"
    return {name: each[name] for each in held for name in each}


def placed(made: list[Path]) -> None:
    """Each store where it falls, each folder opened by its shard alone, and its sums agree."""
    for ordinal, folder in enumerate(made):
        assert [shard_of(name, len(made)) for name in rows(folder)] == [ordinal] * len(rows(folder))
        opened(folder, Shard(ordinal, len(made)))
        with pytest.raises(MisplacedError):
            opened(folder, Shard(ordinal, len(made) + 1))


def test_every_table_with_a_store_moves_with_all_its_columns(tmp_path: Path) -> None:
    statefile.create(tmp_path)
    with closing(sqlite3.connect(tmp_path / statefile.NAME)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] for table in tables}
    assert {table: set(names) - {"store", "ref"} for table, names in columns.items() if "store" in names} == {
        table: set(names.split(", ")) for table, names in module._TABLES.items()
    }


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_states_move_whole_to_the_folders_of_their_shards(two: list[Path], tmp_path: Path, number: int) -> None:
    before, made = everything(two), folders(tmp_path, number)
    assert all(rows for name in before for rows in before[name].values())
    moves = reshard(made, two[number:], dry_run=False)
    assert everything([*made, *two[number:]]) == before
    placed(made)
    assert {move.store for move in moves} == {n for n in STORES if two[shard_of(n, 2)] != made[shard_of(n, number)]}
    assert reshard(made, two[number:], dry_run=False) == []


def test_a_moved_store_goes_on_counting_where_it_was(two: list[Path], tmp_path: Path) -> None:
    made = folders(tmp_path, 3)
    reshard(made, [], dry_run=False)
    for number, name in enumerate(STORES, 3):
        store = Store.open(made[shard_of(name, 3)], NOW)
        assert store.note(home_key(name)) in (None, "host")
        _, tallies = store.begin(name, NOW)
        assert (tallies["int-1"].attempts, tallies["int-1"].announced_codes) == (number, ["500"])
        done = store.commit(name, Batch(NOW, [attempt(f"{name}-0", NOW, job_id="job-0", **FAILED),
                                              attempt(f"{name}-new", NOW + 9, job_id="job-0")]))  # fmt: skip
        assert (done.duplicates, len(done.fresh)) == (1, 1)
        tally = done.tallies["int-1"]
        assert (tally.attempts, tally.jobs) == (number + 1, (number + 1) // 2)
        assert tally.jobs_failing == (number + 1) // 2 - 1
        store.close()


def test_where_the_counting_of_a_store_began_moves_with_it(two: list[Path], tmp_path: Path) -> None:
    names = list(everything(two))

    def seams(made: list[Path]) -> dict[str, tuple[int, int | None, frozenset[str]]]:
        found = ((name, seam.read(folder, name)) for folder in made for name in names)
        return {
            name: (each.begun_ns, each.keep_ns, each.ids) for name, each in found if each is not None and each.exact
        }

    before = seams(two)
    assert before.keys() == set(names)
    made = folders(tmp_path, 3)
    reshard(made, [folder for folder in two if folder not in made], dry_run=False)
    assert seams(made) == before


def test_where_a_store_was_shown_does_not_move_with_it(two: list[Path], tmp_path: Path) -> None:
    made = folders(tmp_path, 3)
    moved = {move.store for move in reshard(made, [], dry_run=False)}
    assert 0 < len(moved) < len(STORES)
    for name in STORES:
        store = Store.open(made[shard_of(name, 3)], NOW)
        assert (store.note(home_key(name)) is None) == (name in moved)
        store.close()


def test_a_dry_run_says_what_would_move_and_moves_nothing(two: list[Path], tmp_path: Path) -> None:
    before, made = everything(two), folders(tmp_path, 3)
    moves = reshard(made, [], dry_run=True)
    assert everything(two) == before
    assert not made[2].exists()
    assert moves == reshard(made, [], dry_run=False)
    assert str(Move("a", Path("b"), Path("c"), 7, dropped=False)) == "a: b -> c (7 attempts)"
    assert (
        str(Move("a", Path("b"), Path("c"), 7, dropped=True))
        == "a: b (7 attempts) is no newer than another, and dropped"
    )


class DeathError(Exception):
    pass


def dying(work: Callable[..., None], steps: list[None]) -> Callable[..., None]:
    def step(*arguments: Any) -> None:
        if not steps:
            raise DeathError
        steps.pop()
        work(*arguments)

    return step


def starts(made: list[Path]) -> bool:
    """Whether any exporter starts on one of the folders, which were there before, as one of so many shards."""
    started = False
    for ordinal, folder in enumerate(made[:2]):
        with contextlib.suppress(MisplacedError):
            opened(folder, Shard(ordinal, len(made)))
            started = True
    return started


@pytest.mark.parametrize("number", range(14))
def test_a_move_that_ends_anywhere_is_ended_by_the_same_command_and_nobody_starts_before(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before, made, steps = everything(two), folders(tmp_path, 3), [None] * number
    with monkeypatch.context() as patched, contextlib.suppress(DeathError):
        for name in ("_copy", "_remove", "_sign"):
            patched.setattr(module, name, dying(getattr(module, name), steps))
        reshard(made, [], dry_run=False)
    held = [sorted(rows(folder)) for folder in made]
    assert starts(made) <= (held == [[n for n in sorted(STORES) if shard_of(n, 3) == i] for i in range(3)])
    assert starts(two) <= (held == [[n for n in sorted(STORES) if shard_of(n, 2) == i] for i in range(3)])
    # Three folders are marked, two states are copied and removed, and three folders are given to their shards.
    assert (starts(two), starts(made)) == (number < 2, number > 7)
    reshard(made, [], dry_run=False)
    assert everything(made) == before
    placed(made)


def test_a_state_that_leaves_and_comes_back_was_shown_nowhere(two: list[Path], tmp_path: Path) -> None:
    made = folders(tmp_path, 3)
    moved = [move.store for move in reshard(made, [], dry_run=False)]
    reshard(two, made[2:], dry_run=False)
    placed(two)
    for name in moved:
        store = Store.open(two[shard_of(name, 2)], NOW)
        assert store.note(home_key(name)) is None
        store.close()


def test_of_two_equal_states_the_one_that_is_in_its_place_is_left_there(tmp_path: Path) -> None:
    made = folders(tmp_path, 2)
    assert shard_of("north", 2) == 1
    for folder in made:
        enter(folder, "north")
    assert reshard(made, [], dry_run=True) == [Move("north", made[0], made[1], 6, dropped=True)]
    assert reshard(made[:1], made[1:], dry_run=True) == [Move("north", made[1], made[0], 6, dropped=True)]


@pytest.mark.parametrize("later", ["source", "target"])
def test_of_two_states_of_a_store_the_one_that_was_polled_last_is_kept(tmp_path: Path, later: str) -> None:
    made = folders(tmp_path, 2)
    target, source = made[shard_of("acme", 2)], made[1 - shard_of("acme", 2)]
    enter(source, "acme", 7, through_ns=NOW + (later == "source"))
    enter(target, "acme", 3, through_ns=NOW + (later == "target"))
    kept = rows({"source": source, "target": target}[later])
    moves = reshard(made, [], dry_run=False)
    assert everything(made) == kept
    dropped = {
        "source": Move("acme", target, target, 4, dropped=True),
        "target": Move("acme", source, target, 8, dropped=True),
    }
    assert dropped[later] in moves
    assert len(moves) == {"source": 2, "target": 1}[later]
    placed(made)


def test_an_emptied_folder_is_nobodys_until_states_are_moved_to_it_again(two: list[Path], tmp_path: Path) -> None:
    reshard(two[:1], two[1:], dry_run=False)
    for shard in (Shard(1, 2), Shard()):
        with pytest.raises(MisplacedError, match="was emptied by a move, and this is shard"):
            opened(two[1], shard)
    reshard(two, [], dry_run=False)
    placed(two)


def test_nothing_moves_while_an_exporter_runs_on_any_of_the_folders(two: list[Path], tmp_path: Path) -> None:
    before = everything(two)
    store = Store.open(two[1], NOW)
    with pytest.raises(ReshardError, match=r"data-1 is in use by pid \d+ on .*: stop all shards first"):
        reshard(folders(tmp_path, 3), [], dry_run=False)
    store.close()
    assert everything(two) == before


@pytest.mark.parametrize(
    ("targets", "sources", "wrong"),
    [(["a", "b", "a"], [], "a is named twice"), (["a"], ["./b/../a"], "is named twice"),
     (["a"], ["nowhere"], "nowhere holds no state"), ([f"f{i}" for i in range(101)], [], "101 shards, wanted at most 100")],
)  # fmt: skip
def test_wrong_folders_are_refused_before_anything_is_touched(
    tmp_path: Path, targets: list[str], sources: list[str], wrong: str
) -> None:
    with pytest.raises(ReshardError, match=wrong):
        reshard([tmp_path / name for name in targets], [tmp_path / name for name in sources], dry_run=False)
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_was_forgotten_is_asked_for(two: list[Path], tmp_path: Path) -> None:
    wrong = r"data-0 holds the state of shard 0/2, and no folder that of 1/2: name it with --from"
    for dry_run in (True, False):
        with pytest.raises(ReshardError, match=wrong):
            reshard([two[0], tmp_path / "new-1", tmp_path / "new-2"], [], dry_run=dry_run)
    shutil.rmtree(two[1])
    opened(two[1], Shard(1, 2))
    reshard(folders(tmp_path, 3), [], dry_run=False)
    placed(folders(tmp_path, 3))


def test_an_exporter_without_shards_is_made_into_several_and_back(tmp_path: Path) -> None:
    for name in STORES:
        enter(tmp_path / "data", name)
    before, made = everything([tmp_path / "data"]), folders(tmp_path, 3)
    reshard(made, [tmp_path / "data"], dry_run=False)
    placed(made)
    assert everything([tmp_path / "data", *made]) == before
    reshard([tmp_path / "data"], made, dry_run=False)
    assert rows(tmp_path / "data") == before
    opened(tmp_path / "data", Shard())


def test_a_damaged_state_is_found_before_anything_moves_and_its_shard_starts_as_before(
    two: list[Path], tmp_path: Path
) -> None:
    made = folders(tmp_path, 3)
    before = [sorted(rows(folder)) for folder in two]
    (move, *_) = reshard(made, [], dry_run=True)
    with closing(sqlite3.connect(move.source / statefile.NAME)) as connection:
        connection.execute("UPDATE seen SET id = id || 'x' WHERE store = (SELECT ref FROM store WHERE name = ?)",
                           (move.store,))  # fmt: skip
        connection.commit()
    wrong = r"data-\d is damaged \(the remembered ids are not those that were written\): start its shard once as it was"
    with pytest.raises(ReshardError, match=wrong):
        reshard(made, [], dry_run=False)
    assert [sorted(rows(folder)) for folder in two] == before
    for ordinal, folder in enumerate(two):
        opened(folder, Shard(ordinal, 2))


def test_a_copy_that_is_not_what_was_copied_is_not_committed(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, made = everything(two), folders(tmp_path, 3)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_TABLES", {t: c for t, c in module._TABLES.items() if t != "seen"})
        with pytest.raises(DamagedError):
            reshard(made, [], dry_run=False)
    assert everything(made) == before
    reshard(made, [], dry_run=False)
    assert everything(made) == before
    placed(made)


def test_claim_is_what_the_exporter_asks(tmp_path: Path) -> None:
    store = Store.open(tmp_path, NOW)
    claim(store, Shard(1, 2), tmp_path)
    assert (store.names, store.note("shard"), store.note("other")) == ([], "1/2", None)
    store.close()
