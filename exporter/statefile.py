"""The state file: its lock, its identity, its schema, and what is done with one that cannot be trusted.

A missing file is a first start. Any other file is used as it is, or refused (written by a newer version), or moved
aside with a time in its name: a counter that went on from a *smaller* number would be a giant spike to Prometheus, so a
file that lost anything must not be used. SQLite's `quick_check` passes some broken files (an empty one, one cut in
half), so each row carries a checksum and the sums must agree (`store` checks them when it loads).
"""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

NAME: Final = "state.db"
LOCK_NAME: Final = "lock"
APPLICATION_ID: Final = 0x45504358  # "EPCX", in SQLite's header
VERSION: Final = 4  # of the schema; raise it together with a step in MIGRATIONS
WAL_PAGES: Final = 4000  # 16 MB beside the file; with SQLite's own 1000 a long catching-up copies pages more often
LOST_NAME: Final = "state.lost"  # says, until a new file stands, that the one before was damaged, and when (ns)

JOB_REFS: Final = 1 << 40  # a store's own, from its number times this: its jobs are found without an index of them
_JOB_COLUMNS: Final = """ref INTEGER PRIMARY KEY, store INTEGER NOT NULL, hash INTEGER NOT NULL,
                 integration TEXT NOT NULL, job TEXT NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL,
                 first_known INTEGER NOT NULL, delivered_ns INTEGER, counted INTEGER NOT NULL,
                 failing INTEGER NOT NULL, pending INTEGER NOT NULL"""
_JOBS: Final = f"""
-- Keyed by arrival: new rows are appended, where a random id would touch a page per row; `hash` finds a job (job_hash).
CREATE TABLE job({_JOB_COLUMNS});
CREATE INDEX job_by_hash ON job(hash);
-- Few of all: what would be an index of the others costs more than to look through them when it is time to forget.
CREATE INDEX job_pending ON job(store, delivered_ns) WHERE pending;
CREATE INDEX job_failing ON job(store, last_ns) WHERE failing;
"""
_DELIVERED: Final = """
-- One row for all jobs of a commit that were delivered at their first attempt (`delivered`).
CREATE TABLE delivered(ref INTEGER PRIMARY KEY, store INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL);
"""
_SCHEMA: Final = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE store(ref INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE tally(store INTEGER NOT NULL, integration TEXT NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL,
                   PRIMARY KEY(store, integration)) WITHOUT ROWID;
-- Keyed by time first: new ids are appended to the end of the tree, where a bare UUID would touch a page per row.
CREATE TABLE seen(store INTEGER NOT NULL, created_ns INTEGER NOT NULL, id TEXT NOT NULL, failed_of TEXT, absent INTEGER
                  NOT NULL DEFAULT 0, PRIMARY KEY(store, created_ns, id)) WITHOUT ROWID;
CREATE TABLE untimed(store INTEGER NOT NULL, id TEXT NOT NULL, at_ns INTEGER NOT NULL, failed_of TEXT, absent INTEGER
                     NOT NULL DEFAULT 0, PRIMARY KEY(store, id)) WITHOUT ROWID;
{_JOBS}{_DELIVERED}
CREATE TABLE gap(store INTEGER NOT NULL, cause TEXT NOT NULL, from_ns INTEGER, to_ns INTEGER NOT NULL,
                 found_ns INTEGER NOT NULL);
-- Jobs that EPCC lists: what `reconcile` has made of each of them.
CREATE TABLE listed(store INTEGER NOT NULL, integration TEXT NOT NULL, job TEXT NOT NULL, first_ns INTEGER NOT NULL,
                    tries INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY(store, integration, job)) WITHOUT ROWID;
"""
# Version → the statements that make the next one of it.
MIGRATIONS: Final[dict[int, str]] = {
    1: f"""
ALTER TABLE job RENAME TO was;
DROP INDEX job_by_age;
CREATE TABLE job({_JOB_COLUMNS});
CREATE INDEX job_by_hash ON job(hash);
CREATE INDEX job_by_age ON job(store, last_ns);
INSERT INTO job SELECT NULL, store, job_hash(integration, job), integration, job, first_ns, last_ns, first_known,
                       delivered_ns, counted, failing, pending FROM was ORDER BY last_ns;
DROP TABLE was;
""",
    2: f"""
ALTER TABLE job RENAME TO was;
DROP INDEX job_by_age;
DROP INDEX job_by_hash;
{_JOBS}
INSERT INTO job SELECT store * {JOB_REFS} + ref, store, hash, integration, job, first_ns, last_ns, first_known,
                       delivered_ns, counted, failing, pending FROM was ORDER BY store, ref;
DROP TABLE was;
""",
    3: _DELIVERED,
}


class LockedError(Exception):
    """Another exporter owns this storage path."""


class NewerStateError(Exception):
    """The state was written by a newer version; it is left untouched."""


class DamagedError(Exception):
    """The file is not a state that can be trusted."""


def take_lock(folder: Path) -> IO[str]:
    """The lock of a storage path, held until the returned file is closed. Raises LockedError naming the holder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.fdopen(os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = lock.read(200).strip() or "another process"
        lock.close()
        raise LockedError(f"{folder} is in use by {holder}; give each exporter a --storage.path of its own") from None
    lock.truncate(0)
    lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()
    return lock


def note_key(key: str) -> str:
    """In `meta`, of what `Store.keep_note` keeps; a state that is moved leaves its notes behind."""
    return f"note:{key}"


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the durability that the guarantee needs; transactions are begun by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        connection.execute("PRAGMA cache_size=-16384")
        connection.create_function("job_hash", 2, job_hash, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def job_hash(integration_id: str, job_id: str) -> int:
    """Tells most jobs apart; a row's ids tell the rest. Stored: another one needs a migration."""
    return zlib.crc32(f"{integration_id}\0{job_id}".encode("utf-8", "surrogatepass"))


def create(folder: Path) -> None:
    """A new file, whole or not there at all: made beside its name, synced, renamed. An empty file is never legitimate.

    After `note_lost` it knows that it takes the place of a damaged one; every store reports that when it begins anew.
    """
    path = folder / NAME
    lost_ns = _lost_ns(folder)
    fresh = folder / f"{NAME}.new"
    for leftover in (fresh, *_companions(fresh), *_companions(path)):
        leftover.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(fresh, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(
            f"BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; {_SCHEMA}"
            f"INSERT INTO meta VALUES('lost_ns', {'NULL' if lost_ns is None else int(lost_ns)});"
        )
        _seal_schema(connection)
        connection.execute("COMMIT")
    finally:
        connection.close()
    fresh.rename(path)
    _sync_folder(folder)


def note_lost(folder: Path, now_ns: int) -> None:
    """Before a damaged file is moved aside: a death in between must not make the next start look like a first one."""
    fresh = folder / f"{LOST_NAME}.new"
    with fresh.open("w") as note:
        note.write(str(now_ns))
        note.flush()
        os.fsync(note.fileno())
    fresh.rename(folder / LOST_NAME)
    _sync_folder(folder)


def forget_lost(folder: Path) -> None:
    """Once a file stands that knows it."""
    (folder / LOST_NAME).unlink(missing_ok=True)


def _lost_ns(folder: Path) -> int | None:
    note = folder / LOST_NAME
    return int(note.read_text()) if note.exists() else None


def migrate(folder: Path) -> None:
    """Brings a file of an older version up to this one, in one transaction; the old one is kept as `state.db.vN`."""
    connection = sqlite3.connect(folder / NAME, isolation_level=None, timeout=0.0)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        _keep_old(connection, folder / f"{NAME}.v{version}")
        connection.create_function("job_hash", 2, job_hash, deterministic=True)
        connection.execute("PRAGMA synchronous=FULL")
        steps = "".join(f"{MIGRATIONS[step]};" for step in range(version, VERSION))
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version={VERSION};")
        _seal_schema(connection)
        connection.execute("COMMIT")
    finally:
        connection.close()


def _schema_crc(connection: sqlite3.Connection) -> int:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    return zlib.crc32(repr(rows).encode())


def _seal_schema(connection: sqlite3.Connection) -> None:
    """A byte that has turned in a CREATE statement passes `quick_check`, and fails every write that comes to it."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES('schema_crc', ?)", (_schema_crc(connection),))


def _keep_old(connection: sqlite3.Connection, target: Path) -> None:
    fresh = target.with_name(f"{target.name}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    kept = sqlite3.connect(fresh)
    try:
        connection.backup(kept)
    finally:
        kept.close()
    fresh.rename(target)
    _sync_folder(target.parent)


def inspect(path: Path) -> None:
    """Raises NewerStateError or DamagedError where the file is not one of ours, whole and of this version."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size == 0:
        raise DamagedError("not a regular file, or an empty one")
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0.0)
        try:
            (identity,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if identity != APPLICATION_ID:
                raise DamagedError("not a state file of epcc-exporter")
            if version > VERSION:
                raise NewerStateError(
                    f"{path} was written by a newer version (schema {version}, this version knows {VERSION}): "
                    "start that version, or give another --storage.path"
                )
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != ("ok",):
                raise DamagedError("SQLite's quick_check fails")
            sealed = connection.execute("SELECT value FROM meta WHERE key = 'schema_crc'").fetchone()
            if sealed is None or sealed[0] != _schema_crc(connection):
                raise DamagedError("the schema is not the one that was written")
        finally:
            connection.close()
    except UnicodeDecodeError as error:  # in SQLite's own message, which names what it cannot read
        raise DamagedError("SQLite cannot read it") from error
    except sqlite3.DatabaseError as error:
        if _transient(error):
            raise
        raise DamagedError(f"SQLite cannot read it ({getattr(error, 'sqlite_errorname', None)})") from error


def _transient(error: sqlite3.DatabaseError) -> bool:
    """Whether an error says nothing of the file: no space, no permission, an I/O error, a lock."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_BUSY",
                            "SQLITE_LOCKED", "SQLITE_PERM", "SQLITE_NOMEM"))  # fmt: skip


def move_aside(folder: Path, now_ns: int) -> Path:
    """Renames the file and its companions, so that somebody can look at them; returns the new name."""
    stamp = datetime.fromtimestamp(now_ns // 1_000_000_000, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
    target = folder / f"{NAME}.damaged-{stamp}"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{NAME}.damaged-{stamp}-{number}"
    path = folder / NAME
    for companion in _companions(path):
        if companion.exists():
            companion.rename(companion.with_name(companion.name.replace(NAME, target.name, 1)))
    path.rename(target)
    _sync_folder(folder)
    return target


def size_bytes(folder: Path) -> int:
    """Of the file and its companions."""
    path = folder / NAME
    return sum(part.stat().st_size for part in (path, *_companions(path)) if part.exists())


def _companions(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
