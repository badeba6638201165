"""Attempts on disk, for as long as a backfill runs: each once, in the order of time, whatever the lists made of them.

A temporary SQLite file that nobody else reads and no crash has to be survived by: it is written without a journal. What
is sorted spills into files beside it. The primary key is the state's: an attempt shown by two lists is one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from exporter.curves import TooMuchError
from exporter.history import Past
from exporter.records import Attempt, Page

BYTES_MAX: Final = 16 * 1024**3  # about a hundred million logs; sorting takes as much again
_PAGE_BYTES: Final = 8192
_SCHEMA: Final = """
CREATE TABLE attempt(store INTEGER NOT NULL, created_ns INTEGER NOT NULL, id TEXT NOT NULL,
                     integration INTEGER NOT NULL, job TEXT, number INTEGER, succeeded INTEGER, code TEXT NOT NULL,
                     reason TEXT, processing_us INTEGER, PRIMARY KEY(store, created_ns, id)) WITHOUT ROWID;
CREATE TABLE untimed(store INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY(store, id)) WITHOUT ROWID;
CREATE TABLE rejected(store INTEGER NOT NULL, key TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(store, key))
WITHOUT ROWID;
"""


class Spool:
    """Stores and integrations are named, and known by small numbers inside."""

    def __init__(self, folder: Path) -> None:
        """`folder` takes the files, and nobody else's."""
        os.environ["SQLITE_TMPDIR"] = str(folder)  # there is no other way to say where sorting may spill
        self._connection = sqlite3.connect(folder / "spool.db", isolation_level=None, check_same_thread=False)
        execute = self._connection.execute
        execute(f"PRAGMA page_size={_PAGE_BYTES}")
        execute("PRAGMA journal_mode=OFF")
        execute("PRAGMA synchronous=OFF")
        execute("PRAGMA locking_mode=EXCLUSIVE")
        execute("PRAGMA temp_store=FILE")
        execute("PRAGMA cache_size=-16384")
        execute(f"PRAGMA max_page_count={BYTES_MAX // _PAGE_BYTES}")
        self._connection.executescript(_SCHEMA)
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []

    def close(self) -> None:
        self._connection.close()

    def enter(self, store: str, page: Page) -> int:
        """How many of its attempts are new. Raises TooMuchError, OSError."""
        ref = self._number(store)
        rows = [
            (ref, a.created_ns, a.id, self._number(a.integration_id), a.job_id, a.number, a.succeeded, a.status_code,
             a.reason, a.processing_us)
            for a in page.attempts if a.created_ns is not None
        ]  # fmt: skip
        untimed = [(ref, a.id) for a in page.attempts if a.created_ns is None]
        many = self._connection.executemany
        try:
            new = (
                many("INSERT OR IGNORE INTO attempt VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows).rowcount if rows else 0
            )
            if untimed:
                many("INSERT OR IGNORE INTO untimed VALUES(?, ?)", untimed)
            if page.rejected:
                refused = [(ref, each.key, each.reason) for each in page.rejected]
                many("INSERT OR IGNORE INTO rejected VALUES(?, ?, ?)", refused)
        except sqlite3.Error as error:
            raise _meaning(error) from error
        return new

    def has_first_attempt(self, store: str, job_id: str, after_ns: int) -> bool:
        """Whether a job's attempt 1 is here, and was created after a time."""
        self._connection.execute("CREATE INDEX IF NOT EXISTS first_attempt ON attempt(store, job) WHERE number = 1")
        row = self._connection.execute(
            "SELECT 1 FROM attempt WHERE store = ? AND job = ? AND number = 1 AND created_ns > ?",
            (self._number(store), job_id, after_ns),
        ).fetchone()
        return row is not None

    def read(self, store: str) -> tuple[int, int, dict[str, int]]:
        """Attempts with a time, those without, and records that cannot be counted, by reason."""
        ref = (self._number(store),)
        (timed,) = self._connection.execute("SELECT count(*) FROM attempt WHERE store = ?", ref).fetchone()
        (untimed,) = self._connection.execute("SELECT count(*) FROM untimed WHERE store = ?", ref).fetchone()
        rejected = self._connection.execute(
            "SELECT reason, count(*) FROM rejected WHERE store = ? GROUP BY reason", ref
        )
        return timed, untimed, dict(rejected.fetchall())

    def oldest_ns(self, store: str, after_ns: int) -> dict[str, int]:
        """By integration, of the attempts created after a time."""
        rows = self._connection.execute(
            "SELECT integration, min(created_ns) FROM attempt WHERE store = ? AND created_ns > ? GROUP BY integration",
            (self._number(store), after_ns),
        )
        return {self._names[number]: at_ns for number, at_ns in rows}

    def codes(self, store: str) -> list[tuple[str, str]]:
        """Each integration with each of its status codes, by when it was first seen."""
        rows = self._connection.execute(
            "SELECT integration, code FROM attempt WHERE store = ? GROUP BY integration, code"
            " ORDER BY min(created_ns), integration, code",
            (self._number(store),),
        )
        return [(self._names[number], code) for number, code in rows]

    def rename(self, store: str, names: Mapping[tuple[str, str], tuple[str, str]]) -> None:
        """Integrations and status codes that count under others."""
        ref = self._number(store)
        self._connection.executemany(
            "UPDATE attempt SET integration = ?, code = ? WHERE store = ? AND integration = ? AND code = ?",
            [(self._number(to), to_code, ref, self._number(name), code)
             for (name, code), (to, to_code) in names.items()],
        )  # fmt: skip

    def pasts(self, store: str) -> Iterator[Past]:
        """All attempts with a time: integration by integration, in the order of their numbers, each in that of time."""
        rows = self._connection.execute(
            "SELECT integration, created_ns, id, job, number, succeeded, code, reason, processing_us,"
            " lead(created_ns) OVER (PARTITION BY integration, job ORDER BY created_ns, coalesce(number, 0), id)"
            " FROM attempt WHERE store = ? ORDER BY integration, created_ns, coalesce(number, 0), id",
            (self._number(store),),
        )
        names = self._names
        for integration, created_ns, log_id, job, number, succeeded, code, reason, processing_us, next_ns in rows:
            flag = None if succeeded is None else bool(succeeded)
            yield Past(
                Attempt(log_id, names[integration], job, created_ns, number, flag, code, reason, processing_us, ()),
                next_ns,
            )

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
        return number


def _meaning(error: sqlite3.Error) -> Exception:
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name == "SQLITE_FULL":
        return TooMuchError(f"the disk is full, or the logs take more than {BYTES_MAX // 1024**3} GiB on it")
    return OSError(f"the temporary file beside the output cannot be written ({name})")
