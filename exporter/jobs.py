"""What is remembered of each job, written and read inside the store's transaction: rows of `job`, and `delivered`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from exporter.delivered import Delivered
from exporter.ledger import Book, Job, JobKey, delivered_job
from exporter.statefile import JOB_REFS, job_hash

LOOKS: Final = 8  # rows looked at for each new one: what can be forgotten is an eighth of all at most
LOOKS_MIN: Final = 1_000  # at each time

# Rows come as one text each, all of them by one statement: SQLite goes through them without the interpreter's lock,
# which it would give back and take again for each of rows that come one by one. Numbers have a fixed length in a text,
# by what is added to them: hashes have 32 bits, times 62, and ids 200 characters at most.
_HASH: Final = 10**10
_TIME: Final = 10**18
_LENGTH: Final = 100
_FLAGS: Final = 10
_FLAGS_READ: Final = f"CAST(substr(value, 69, 2) AS INTEGER) - {_FLAGS}"
_LENGTH_READ: Final = f"CAST(substr(value, 71, 3) AS INTEGER) - {_LENGTH}"
_INSERT: Final = f"""
INSERT INTO job SELECT
  ?1 + key, ?2, CAST(substr(value, 1, 11) AS INTEGER) - {_HASH},
  substr(value, 74, {_LENGTH_READ}), substr(value, 74 + {_LENGTH_READ}),
  CAST(substr(value, 12, 19) AS INTEGER) - {_TIME}, CAST(substr(value, 31, 19) AS INTEGER) - {_TIME},
  ({_FLAGS_READ}) & 1,
  CASE ({_FLAGS_READ}) & 16 WHEN 0 THEN CAST(substr(value, 50, 19) AS INTEGER) - {_TIME} END,
  ({_FLAGS_READ}) >> 1 & 1, ({_FLAGS_READ}) >> 2 & 1, ({_FLAGS_READ}) >> 3 & 1
FROM json_each(?3)
"""


class Memory:
    """What is held in memory of one store's jobs; after a transaction that failed it is loaded anew.

    The look for rows that can be forgotten goes round and round, so that it costs what is new and not what is kept.
    """

    def __init__(self, ref: int) -> None:
        self.known: set[int] = set()  # hashes of all that are remembered: most are not, and need no look into the file
        self.delivered = Delivered(ref)
        self.after = 0  # the key of the row that was looked at last
        self.due = 1 << 62  # how many more are to be looked at: all, at first

    def load(self, connection: sqlite3.Connection, ref: int) -> None:
        """Raises DamagedError."""
        self.known.update(map(hash, self.delivered.load(connection)))
        rows = connection.execute("SELECT integration, job FROM job WHERE ref BETWEEN ? AND ?", stretch(ref))
        self.known.update(map(hash, rows))


def stretch(ref: int) -> tuple[int, int]:
    """The first and the last key that a store's rows of `job` can have."""
    return ref * JOB_REFS, (ref + 1) * JOB_REFS - 1


class Jobs:
    """Of one store: rows in the order of arrival, found by a hash of the ids.

    Keyed by the ids themselves, which are random, each row of a batch would dirty a page of its own; the hashes are so
    short that a batch dirties each page of their index many times. A store's rows are its own stretch of the table.
    """

    _COLUMNS: Final = "first_ns, last_ns, first_known, delivered_ns, counted, failing, pending, ref"

    def __init__(self, connection: sqlite3.Connection, ref: int, memory: Memory) -> None:
        self.connection = connection
        self.ref = ref
        self._memory = memory
        self._stretch = stretch(ref)

    def enter(self, keys: Sequence[JobKey]) -> dict[JobKey, Job]:
        """`read` of jobs each of which this transaction writes, if it is not there."""
        known, hashes = self._memory.known, list(map(hash, keys))
        met = known.intersection(hashes)
        found = self.read([key for key, each in zip(keys, hashes, strict=True) if each in met])
        known.update(hashes)
        return found

    def read(self, keys: Iterable[JobKey]) -> dict[JobKey, Job]:
        """Those that are remembered. Raises DamagedError."""
        known = self._memory.known
        wanted = {key for key in keys if hash(key) in known}
        if not wanted:
            return {}
        rows = self.connection.execute(
            f"SELECT integration, job, {self._COLUMNS} FROM json_each(?) CROSS JOIN job INDEXED BY job_by_hash"  # fixed
            " ON hash = value WHERE store = ?",
            (msgspec.json.encode(sorted({job_hash(*key) for key in wanted})).decode(), self.ref),
        )
        found = {(row[0], row[1]): _job(row[2:]) for row in rows if (row[0], row[1]) in wanted}
        others = wanted - found.keys()
        if others:
            delivered = self._memory.delivered.find(self.connection, others)
            found.update({key: delivered_job(at_ns) for key, at_ns in delivered.items()})
        return found

    def where(self, condition: str, *values: int) -> dict[JobKey, Job]:
        """Of the rows of `job`."""
        rows = self.connection.execute(
            f"SELECT integration, job, {self._COLUMNS} FROM job WHERE store = ? AND {condition}",  # fixed
            (self.ref, *values),
        )
        return {(row[0], row[1]): _job(row[2:]) for row in rows}

    def write(self, book: Book) -> None:
        """Of jobs that were entered, or read from the file."""
        delivered, book.delivered = book.delivered, {}
        self._memory.delivered.write(self.connection, delivered)
        changed, book.changed_jobs = book.changed_jobs, {}
        if not changed:
            return
        self.connection.executemany(
            "UPDATE job SET first_ns = ?, last_ns = ?, first_known = ?, delivered_ns = ?, counted = ?, failing = ?,"
            " pending = ? WHERE ref = ?",
            [(*_fields(job), job.ref) for job in changed.values() if job.ref is not None],
        )
        news = {key: job for key, job in changed.items() if job.ref is None}
        if not news:
            return
        (last,) = self.connection.execute(
            "SELECT coalesce(max(ref), ?1) FROM job WHERE ref BETWEEN ?1 AND ?2", self._stretch
        ).fetchone()
        texts = msgspec.json.encode([_text(key, job) for key, job in news.items()]).decode()
        self.connection.execute(_INSERT, (last + 1, self.ref, texts))
        for place, job in enumerate(news.values(), last + 1):
            job.ref = place
        self._memory.due += LOOKS * len(news)

    def forget(self, keep_ns: int, old_ns: int, most: int) -> bool:
        """Deletes jobs whose last attempt was before `keep_ns`, of undelivered ones before `old_ns`, among those whose
        turn it is, `most` at most. True: the turn of more has come."""
        memory, (first, last) = self._memory, self._stretch
        gone, more = memory.delivered.forget(self.connection, keep_ns, most)
        memory.known.difference_update(map(hash, gone))
        after = max(memory.after, first - 1)
        memory.due = max(memory.due, LOOKS_MIN)
        number = min(memory.due, most)
        until = self.connection.execute(
            "SELECT ref FROM job WHERE ref > ? AND ref <= ? ORDER BY ref LIMIT 1 OFFSET ?", (after, last, number - 1)
        ).fetchone()
        rows = self.connection.execute(
            "DELETE FROM job WHERE ref > ? AND ref <= ? AND last_ns < ? AND NOT pending"
            " AND (delivered_ns IS NOT NULL OR last_ns < ?) RETURNING integration, job",
            (after, last if until is None else until[0], keep_ns, old_ns),
        )
        memory.known.difference_update(map(hash, rows.fetchall()))
        memory.after, memory.due = (0, 0) if until is None else (until[0], memory.due - number)
        return more or memory.due > 0

    def drop(self, integration_id: str) -> None:
        """Forgets the jobs of an integration. Raises DamagedError."""
        rows = self.connection.execute(
            "DELETE FROM job WHERE ref BETWEEN ? AND ? AND integration = ? RETURNING integration, job",
            (*self._stretch, integration_id),
        )
        self._memory.known.difference_update(map(hash, rows.fetchall()))
        self._memory.known.difference_update(map(hash, self._memory.delivered.drop(self.connection, integration_id)))


def _job(row: Sequence[Any]) -> Job:
    first_ns, last_ns, first_known, delivered_ns, counted, failing, pending, ref = row
    return Job(first_ns, last_ns, bool(first_known), delivered_ns, bool(counted), bool(failing), bool(pending), ref)


def _fields(job: Job) -> tuple[Any, ...]:
    return (
        job.first_ns, job.last_ns, job.first_known, job.delivered_ns, job.counted, job.failing, job.pending
    )  # fmt: skip


def _text(key: JobKey, job: Job) -> str:
    """As `_INSERT` reads it."""
    flags = job.first_known + 2 * job.counted + 4 * job.failing + 8 * job.pending + 16 * (job.delivered_ns is None)
    integration_id, job_id = key
    return (
        f"{job_hash(*key) + _HASH}{job.first_ns + _TIME}{job.last_ns + _TIME}{(job.delivered_ns or 0) + _TIME}"
        f"{flags + _FLAGS}{len(integration_id) + _LENGTH}{integration_id}{job_id}"
    )
