"""The ledger on disk: ids, tallies, jobs and marks change in one transaction, or not at all.

The primary key of the ids decides what is new, inside the transaction: a check outside it would count twice after a
commit whose outcome is not known. What `commit` returns is durable, and nothing else may be shown. After any error the
connection is closed and everything is read again from the file: memory is not trusted. All calls come from one thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from exporter import ledger, seam, statefile
from exporter.checked import decode, encode
from exporter.folding import Room, series_of
from exporter.jobs import Jobs, Memory
from exporter.ledger import Book
from exporter.records import Attempt
from exporter.rows import (
    Batch,
    Committed,
    Gap,
    Marks,
    check_sums,
    enter_gaps,
    forget,
    forget_unlisted,
    insert_ids,
    read_scrapers,
    save_marks,
    unknown_ids,
    write_scrapers,
)
from exporter.statefile import DamagedError
from exporter.tally import Tally

_DAMAGE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")  # what SQLite says of a file, not of a disk

_Result = TypeVar("_Result")


class StorageError(Exception):
    """The disk refused: nothing of the batch counts. The next call opens the file anew."""


@dataclass(slots=True)
class _Held:
    ref: int
    marks: Marks
    tallies: dict[str, Tally]
    jobs: Memory
    series: int = 0  # of all tallies

    def replace(self, integration_id: str, tally: Tally | None) -> None:
        """What is committed of an integration; None: it leaves."""
        before = self.tallies.pop(integration_id, None)
        self.series -= 0 if before is None else series_of(before)
        if tally is not None:
            self.tallies[integration_id] = tally
            self.series += series_of(tally)


class Store:
    """All stores' state in one file."""

    def __init__(self, folder: Path, connection: sqlite3.Connection | None, lock: IO[str]) -> None:
        self._folder = folder
        self._connection = connection
        self._lock = lock
        self._held: dict[str, _Held] = {}
        self.scrapers: list[tuple[str, str]] = []  # those kept last
        self.moved_aside: Path | None = None

    @classmethod
    def open(cls, folder: Path, now_ns: int) -> Store:
        """Raises LockedError, NewerStateError, OSError or sqlite3.Error; a damaged file is moved aside and replaced."""
        lock = statefile.take_lock(folder)
        store = cls(folder, None, lock)
        try:
            path = folder / statefile.NAME
            if not path.exists() and not path.is_symlink():
                statefile.create(folder)
            try:
                statefile.inspect(path)
                statefile.migrate(folder)
                store._reopen()
            except DamagedError:
                store._disconnect()
                statefile.note_lost(folder, now_ns)
                store.moved_aside = statefile.move_aside(folder, now_ns)
                statefile.create(folder)
                store._reopen()
            statefile.forget_lost(folder)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        self._disconnect()
        self._lock.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _reopen(self) -> None:
        """Reads everything anew. Raises DamagedError where rows or sums are not what was written."""
        self._disconnect()
        self._connection = connection = statefile.connect(self._folder / statefile.NAME)
        self._held = {}
        try:
            self.scrapers = read_scrapers(connection)
            for ref, name, body, crc in connection.execute("SELECT ref, name, body, crc FROM store"):
                marks = decode(body, crc, Marks)
                self._held[name] = _Held(ref, marks, {}, Memory(ref))
            by_ref = {held.ref: held for held in self._held.values()}
            for ref, integration, body, crc in connection.execute("SELECT store, integration, body, crc FROM tally"):
                by_ref[ref].replace(integration, decode(body, crc, Tally).renewed())
            for held in self._held.values():
                check_sums(connection, held.ref, held.marks, held.tallies)
                held.jobs.load(connection, held.ref)
        except BaseException as error:
            self._disconnect()  # half of what was read is worse than nothing: the next call begins anew
            code = getattr(error, "sqlite_errorname", None)
            unreadable = isinstance(error, sqlite3.OperationalError) and code is None  # a text that is not UTF-8
            if unreadable or isinstance(error, (KeyError, UnicodeDecodeError)) or code in _DAMAGE:
                raise DamagedError(f"a table cannot be read ({code})") from error
            raise

    # --- reading

    def begin(self, name: str, now_ns: int) -> tuple[Marks, dict[str, Tally]]:
        """The state of a store, made now if there is none. Raises StorageError."""

        def work(connection: sqlite3.Connection) -> None:
            if name in self._held:
                return
            marks = Marks(born_ns=now_ns)
            (lost_ns,) = connection.execute("SELECT value FROM meta WHERE key = 'lost_ns'").fetchone()
            row = (name, *encode(marks))
            ref = int(connection.execute("INSERT INTO store(name, body, crc) VALUES(?, ?, ?)", row).lastrowid or 0)
            held = _Held(ref, marks, {}, Memory(ref))
            if lost_ns is not None:
                marks.begins_at_zero = True
                enter_gaps(connection, held.ref, marks, [Gap("state_lost", None, now_ns)], now_ns)
                save_marks(connection, held.ref, marks)
            created[name] = held

        created: dict[str, _Held] = {}
        self._transaction(work)
        self._held.update(created)
        held = self._held[name]
        return held.marks, dict(held.tallies)

    def unknown(self, name: str, attempts: Sequence[Attempt]) -> frozenset[str]:
        """The ids among `attempts` that a commit would count. A reading only: the primary key decides at the commit."""

        def work(connection: sqlite3.Connection) -> frozenset[str]:
            held = self._held[name]
            return frozenset(unknown_ids(connection, held.ref, attempts, held.marks.keep_ns))

        return self._reading(work)

    def newest_ns(self, name: str) -> int:
        """The newest `created_at` that is remembered; 0: none is."""

        def work(connection: sqlite3.Connection) -> int:
            (newest_ns,) = connection.execute(
                "SELECT max(created_ns) FROM seen WHERE store = ?", (self._held[name].ref,)
            ).fetchone()
            return newest_ns or 0

        return self._reading(work)

    def open_gaps(self, name: str, lookback_ns: int) -> dict[str, int]:
        """Gaps by cause that have not passed below `keep`, or where it would be: a jumbled list moves none."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            held = self._held[name]
            rows = connection.execute(
                "SELECT cause, count(*) FROM gap WHERE store = ? AND to_ns >= ? GROUP BY cause",
                (held.ref, max(held.marks.keep_ns or 0, (held.marks.floor_ns or 0) - lookback_ns)),
            )
            return dict(rows.fetchall())

        return self._reading(work)

    def job_owners(self, name: str, job_id: str, integration_ids: Sequence[str]) -> list[str]:
        """Which of these integrations have a job of this id among those that are remembered. Raises StorageError."""

        def work(connection: sqlite3.Connection) -> list[str]:
            held = self._held.get(name)
            if held is None:
                return []
            jobs = Jobs(connection, held.ref, held.jobs)
            return sorted(key[0] for key in jobs.read([(i, job_id) for i in integration_ids]))

        return self._reading(work)

    def size_bytes(self) -> int:
        return statefile.size_bytes(self._folder)

    # --- writing

    def commit(self, name: str, batch: Batch) -> Committed:
        """Counts a batch. Raises StorageError, after which nothing of it counts."""

        def work(connection: sqlite3.Connection) -> Committed:
            held = self._held[name]  # not before: a connection that had to be opened anew has read everything anew
            marks = (batch.marks or held.marks).copied()
            # The sums are the store's own: a caller's copy of the marks may be older than they are.
            marks.counted, marks.digest, marks.gaps = held.marks.counted, held.marks.digest, dict(held.marks.gaps)
            done = Committed(marks, {})
            # Before anything is forgotten: an open gap may go on.
            done.gaps = enter_gaps(connection, held.ref, marks, batch.gaps, batch.now_ns)
            self._enter(connection, held, batch, done)
            if marks.begun and not held.marks.begun:
                seam.write(connection, held.ref, marks, {**held.tallies, **done.tallies} if batch.announce_all else {})
            save_marks(connection, held.ref, marks)
            return done

        done = self._transaction(work)
        held = self._held[name]
        held.marks = done.marks
        for integration_id, tally in done.tallies.items():
            held.replace(integration_id, tally)
        for integration_id in batch.drop:
            held.replace(integration_id, None)
        return done

    def _enter(self, connection: sqlite3.Connection, held: _Held, batch: Batch, done: Committed) -> None:
        ref, marks = held.ref, done.marks

        def failures_after(integration_id: str, at_ns: int) -> int:
            (timed,) = connection.execute(
                "SELECT count(*) FROM seen WHERE store = ? AND created_ns > ? AND failed_of = ?",
                (ref, at_ns, integration_id),
            ).fetchone()
            (untimed,) = connection.execute(
                "SELECT count(*) FROM untimed WHERE store = ? AND at_ns > ? AND failed_of = ?",
                (ref, at_ns, integration_id),
            ).fetchone()
            return int(timed) + int(untimed)

        room = Room(held.tallies, batch.max_series - held.series)
        batch.attempts = room.fold(batch.attempts, batch.excluded)
        done.fresh = insert_ids(connection, ref, batch, held.marks.keep_ns, done)
        jobs = Jobs(connection, ref, held.jobs)
        wanted = [(e.attempt.integration_id, e.attempt.job_id) for e in done.fresh if e.attempt.job_id is not None]
        book = Book(
            tallies=_CopyOnTouch(held.tallies),
            jobs=jobs.enter(wanted),
            now_ns=batch.now_ns,
            failures_after=failures_after,
        )
        for integration_id in batch.integrations:
            if integration_id not in held.tallies and room.admits(integration_id):
                book.tally(integration_id)
        done.folded = frozenset(room.folded)
        ledger.count(book, done.fresh, counting=batch.counting)
        if batch.counting:
            marks.counted += len(done.fresh)
        if batch.forget:
            done.forgetful = forget(jobs, batch.now_ns, marks, book, first=marks.begun and not held.marks.begun)
        if batch.listed is not None:
            forget_unlisted(jobs, batch.now_ns, marks, batch.listed)
        _announce(book, batch, held)
        jobs.write(book)
        for integration_id in batch.drop:
            gone = held.tallies.get(integration_id)
            if gone is not None:
                marks.counted -= gone.attempts
                connection.execute("DELETE FROM tally WHERE store = ? AND integration = ?", (ref, integration_id))
                jobs.drop(integration_id)
                book.changed.discard(integration_id)
        for integration_id in sorted(book.changed):
            tally = done.tallies[integration_id] = book.tallies[integration_id]
            row = (ref, integration_id, *encode(tally))
            connection.execute("INSERT OR REPLACE INTO tally VALUES(?, ?, ?, ?)", row)

    # --- transactions

    def _transaction(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            connection = self._ready()
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._disconnect()  # rolls back, whatever state the transaction is in
            raise StorageError(_describe(error)) from error
        except BaseException:
            self._disconnect()
            raise
        return result

    def _reading(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        try:
            return work(self._ready())
        except (sqlite3.Error, OSError) as error:
            self._disconnect()
            raise StorageError(_describe(error)) from error

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            self._reopen()
        assert self._connection is not None  # noqa: S101  # _reopen raises where it cannot
        return self._connection

    def keep_scrapers(self, clients: Sequence[tuple[str, str]]) -> None:
        """Who reads newborn series, for the next life. Raises StorageError."""
        self._transaction(lambda connection: write_scrapers(connection, clients))
        self.scrapers = list(clients)

    @property
    def names(self) -> list[str]:
        """The stores that have a state here, configured or not."""
        return sorted(self._held)

    def note(self, key: str) -> str | None:
        """What `keep_note` has kept of this file. Raises StorageError."""

        def work(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (statefile.note_key(key),)).fetchone()
            return None if row is None else str(row[0])

        return self._reading(work)

    def keep_note(self, key: str, text: str) -> None:
        """Raises StorageError."""
        row = (statefile.note_key(key), text)
        self._transaction(lambda connection: connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", row))

    def reconciling(self, work: Callable[[Jobs], _Result], name: str) -> _Result:
        """A transaction on the tables of `reconcile`, which change no tally. Raises StorageError."""

        def held_work(connection: sqlite3.Connection) -> _Result:
            held = self._held[name]
            return work(Jobs(connection, held.ref, held.jobs))

        return self._transaction(held_work)


class _CopyOnTouch(dict[str, Tally]):
    """The held tallies, each copied when it is first asked for: a failed commit must leave the shown ones alone."""

    def __init__(self, held: dict[str, Tally]) -> None:
        super().__init__()
        self._originals = held

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self and key in self._originals:
            self[key] = self._originals[key].copied()
        return super().get(key, default)


def _announce(book: Book, batch: Batch, held: _Held) -> None:
    if batch.announce_all:
        for integration_id in sorted({*held.tallies, *book.changed}):
            tally = book.tally(integration_id)
            tally.announced, tally.announced_codes = True, sorted(tally.responses)
            tally.born_ns, tally.code_born_ns = 0, {}
    for integration_id, code in batch.announce:
        if integration_id not in held.tallies:
            continue  # left meanwhile
        tally = book.tally(integration_id)
        if code is None:
            tally.announced = True
        elif code in tally.responses:
            tally.announced_codes = sorted({*tally.announced_codes, code})


def _describe(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", None) or type(error).__name__
