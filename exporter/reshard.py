"""Moves the states of stores to the folders of the shards that they fall to from now on: the command `reshard`.

What must hold: the sum that Prometheus sees stays exact. No attempt counts for two shards, because the locks of all
folders are held, so no exporter runs on any of them, and because a folder says whose it is (`sharding`). None is lost,
because a state moves whole: ids, tallies, jobs, marks and what is announced; the shard that takes it goes on from the
same numbers, and EPCC keeps the logs meanwhile.

A move is a copy, committed and held against its sums, and then a removal. A death in between leaves two equal copies,
of which the shards run none but the right one; the same command again ends the move. Where two differ, one of them has
been polled since: the one that is complete through the later time is kept, for its numbers were shown last, and the
other is dropped and named. Until all is done every folder says that it is being moved, and no exporter starts on it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from exporter import seam, statefile
from exporter.checked import decode
from exporter.delivered import Delivered
from exporter.rows import Marks, check_sums
from exporter.sharding import EMPTIED, MOVING, NOTE, SHARDS_MAX, Shard, shard_of
from exporter.statefile import JOB_REFS, DamagedError, LockedError
from exporter.takeover import home_key
from exporter.tally import Tally

# With a column `store`; each with its other columns. `job` has a key of its own beside them.
_TABLES: Final = {
    "tally": "integration, body, crc",
    "seen": "created_ns, id, failed_of, absent",
    "untimed": "id, at_ns, failed_of, absent",
    "job": "hash, integration, job, first_ns, last_ns, first_known, delivered_ns, counted, failing, pending",
    "delivered": "body, crc",
    "gap": "cause, from_ns, to_ns, found_ns",
    "listed": "integration, job, first_ns, tries, state",
}


class ReshardError(Exception):
    """Nothing was moved; the text says what is in the way."""


@dataclass(frozen=True, slots=True)
class Move:
    """A store's state that goes from a folder to another's. `dropped`: it is not taken along, a later one is kept."""

    store: str
    source: Path
    target: Path
    attempts: int  # counted in it
    dropped: bool

    def __str__(self) -> str:
        if self.dropped:
            return f"{self.store}: {self.source} ({self.attempts} attempts) is no newer than another, and dropped"
        return f"{self.store}: {self.source} -> {self.target} ({self.attempts} attempts)"


def reshard(targets: Sequence[Path], sources: Sequence[Path], *, dry_run: bool) -> list[Move]:
    """Moves every state to the folder of its shard; `targets` in the order of the shards, made where there is none yet.

    Raises ReshardError, NewerStateError, OSError or sqlite3.Error; DamagedError where a copy is not what was copied.
    """
    folders = _checked(targets, sources)
    with ExitStack() as stack:
        for folder in folders:
            if folder.exists() or not dry_run:
                stack.enter_context(_locked(folder))
        present = [folder for folder in folders if (folder / statefile.NAME).exists()]
        states = {folder: _states(folder) for folder in present}
        _mind_missing({folder: _signed(folder) for folder in present})
        moves = _plan(targets, states)
        if not dry_run:
            for folder in folders:
                if folder not in present:
                    statefile.create(folder)
                statefile.migrate(folder)
                _sign(folder, MOVING)
            _move(moves)
            for ordinal, target in enumerate(targets):
                _sign(target, str(Shard(ordinal, len(targets))))
            for source in sources:
                _sign(source, EMPTIED)
        return moves


def _move(moves: Sequence[Move]) -> None:
    for move in moves:
        if not move.dropped:
            _copy(move)
    for move in moves:
        if move.source != move.target:  # what a copy took the place of has gone with it
            _remove(move)


def _checked(targets: Sequence[Path], sources: Sequence[Path]) -> list[Path]:
    if len(targets) > SHARDS_MAX:
        raise ReshardError(f"{len(targets)} shards, wanted at most {SHARDS_MAX}")
    folders = [*targets, *sources]
    seen: dict[Path, Path] = {}
    for folder in folders:
        if folder.resolve() in seen:
            raise ReshardError(f"{folder} is named twice")
        seen[folder.resolve()] = folder
    for source in sources:
        if not (source / statefile.NAME).exists():
            raise ReshardError(f"{source} holds no state: there is no {source / statefile.NAME}")
    return folders


def _locked(folder: Path) -> IO[str]:
    try:
        return statefile.take_lock(folder)
    except LockedError as error:
        holder = str(error).partition(";")[0]
        raise ReshardError(f"{holder}: stop all shards first, and start none before the states have moved") from None


@contextmanager
def _connected(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(statefile.connect(folder / statefile.NAME)) as connection:
        yield connection


def _states(folder: Path) -> dict[str, Marks]:
    """By the names of the stores, held against their sums: a move that begins must be able to end."""
    try:
        statefile.inspect(folder / statefile.NAME)
        with _connected(folder) as connection:
            return {
                name: _checked_marks(connection, ref)
                for ref, name in connection.execute("SELECT ref, name FROM store").fetchall()
            }
    except DamagedError as error:
        raise ReshardError(
            f"{folder} is damaged ({error}): start its shard once as it was, which moves the file aside and begins anew"
        ) from None


def _checked_marks(connection: sqlite3.Connection, ref: int) -> Marks:
    """Raises DamagedError where rows or sums are not what was written."""
    body, crc = connection.execute("SELECT body, crc FROM main.store WHERE ref = ?", (ref,)).fetchone()
    marks: Marks = decode(body, crc, Marks)
    tallies = connection.execute("SELECT integration, body, crc FROM main.tally WHERE store = ?", (ref,)).fetchall()
    check_sums(connection, ref, marks, {integration: decode(body, crc, Tally) for integration, body, crc in tallies})
    for _ in Delivered(ref).load(connection):
        pass  # to its end, or to a row that is not what was written
    return marks


def _signed(folder: Path) -> str | None:
    with _connected(folder) as connection:
        row = connection.execute("SELECT value FROM meta WHERE key = ?", (statefile.note_key(NOTE),)).fetchone()
    return None if row is None else str(row[0])


def _mind_missing(signed: dict[Path, str | None]) -> None:
    """The shards of before must all be there: stores of one that was forgotten would begin anew."""
    if MOVING in signed.values():
        return  # they were all there when the move began
    there = {whose: folder for folder, whose in signed.items() if whose not in (None, EMPTIED)}
    for whose, folder in there.items():
        total = int(str(whose).partition("/")[2])
        absent = [f"{ordinal}/{total}" for ordinal in range(total) if f"{ordinal}/{total}" not in there]
        if absent:
            raise ReshardError(
                f"{folder} holds the state of shard {whose}, and no folder that of {', '.join(absent)}: name it with "
                "--from; of one that is lost, start the shard once on an empty folder"
            )


def _plan(targets: Sequence[Path], states: dict[Path, dict[str, Marks]]) -> list[Move]:
    moves = []
    for name in sorted({name for each in states.values() for name in each}):
        target = targets[shard_of(name, len(targets))]
        holders = [folder for folder, each in states.items() if name in each]
        # Of two equal ones the target's: then there is nothing left to copy.
        kept = max(holders, key=lambda folder: (states[folder][name].complete_through_ns or 0, folder == target))
        moves += [
            Move(name, folder, target, states[folder][name].counted, dropped=folder != kept)
            for folder in holders
            if folder not in (target, kept) or kept != target
        ]
    return moves


def _copy(move: Move) -> None:
    """In one transaction of the target, held against its sums before the commit. Raises DamagedError."""
    with _connected(move.target) as connection:
        connection.execute("ATTACH DATABASE ? AS source", (str(move.source / statefile.NAME),))
        connection.execute("BEGIN IMMEDIATE")
        _delete(connection, move.store)
        (ref,) = connection.execute("SELECT ref FROM source.store WHERE name = ?", (move.store,)).fetchone()
        connection.execute(
            "INSERT INTO main.store(name, body, crc) SELECT name, body, crc FROM source.store WHERE ref = ?", (ref,)
        )
        (own,) = connection.execute("SELECT ref FROM main.store WHERE name = ?", (move.store,)).fetchone()
        for table, columns in _TABLES.items():
            # A job's key is the order of its arrival, in the stretch of its store.
            into, key = (", ref", f", ? * {JOB_REFS} + ref % {JOB_REFS}") if table == "job" else ("", "")
            connection.execute(
                f"INSERT INTO main.{table}(store, {columns}{into}) SELECT ?, {columns}{key} FROM source.{table}"
                " WHERE store = ?",
                (own, own, ref) if key else (own, ref),
            )
        connection.execute(
            "INSERT OR REPLACE INTO main.meta SELECT ?, value FROM source.meta WHERE key = ?",
            (seam.key(own), seam.key(ref)),
        )
        _checked_marks(connection, own)
        connection.execute("COMMIT")


def _remove(move: Move) -> None:
    with _connected(move.source) as connection:
        connection.execute("BEGIN IMMEDIATE")
        _delete(connection, move.store)
        connection.execute("COMMIT")


def _delete(connection: sqlite3.Connection, store: str) -> None:
    """Where it was shown is forgotten with it: whoever takes a state has shown nothing of it yet."""
    for table in _TABLES:
        connection.execute(
            f"DELETE FROM main.{table} WHERE store IN (SELECT ref FROM main.store WHERE name = ?)", (store,)
        )
    for (ref,) in connection.execute("SELECT ref FROM main.store WHERE name = ?", (store,)).fetchall():
        connection.execute("DELETE FROM main.meta WHERE key = ?", (seam.key(ref),))
    connection.execute("DELETE FROM main.store WHERE name = ?", (store,))
    connection.execute("DELETE FROM main.meta WHERE key = ?", (statefile.note_key(home_key(store)),))


def _sign(folder: Path, whose: str) -> None:
    with _connected(folder) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (statefile.note_key(NOTE), whose))
