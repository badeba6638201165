"""Rows of the table `job`: what is remembered of each job, written and read inside the store's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from exporter.ledger import Book, Job, JobKey
from exporter.statefile import JOB_REFS, insert, job_hash

_CHUNK: Final = 500  # jobs looked up by one statement
_MARKS: Final = ", ".join("?" * _CHUNK)


class Jobs:
    """Of one store: appended in the order of arrival, and found by a hash of the ids.

    Keyed by the ids themselves, which are random, each row of a batch would dirty a page of its own; the hashes are so
    short that a batch dirties each page of their index many times. A store's rows are its own stretch of the table.
    """

    _COLUMNS: Final = "first_ns, last_ns, first_known, delivered_ns, counted, failing, pending, ref"

    def __init__(self, connection: sqlite3.Connection, ref: int) -> None:
        self.connection = connection
        self.ref = ref
        self._hashes: dict[JobKey, int] = {}  # of the keys that were looked for
        self._refs = (ref * JOB_REFS, (ref + 1) * JOB_REFS - 1)

    def read(self, keys: Iterable[JobKey]) -> dict[JobKey, Job]:
        wanted = {key: job_hash(*key) for key in keys}
        self._hashes.update(wanted)
        found = {}
        for hashes in _chunks(sorted(set(wanted.values()))):
            rows = self.connection.execute(
                f"SELECT integration, job, {self._COLUMNS} FROM job INDEXED BY job_by_hash"  # fixed
                f" WHERE hash IN ({_MARKS}) AND store = ?",
                (*hashes, self.ref),
            )
            found.update({(row[0], row[1]): _job(row[2:]) for row in rows if (row[0], row[1]) in wanted})
        return found

    def where(self, condition: str, *values: int) -> dict[JobKey, Job]:
        rows = self.connection.execute(
            f"SELECT integration, job, {self._COLUMNS} FROM job WHERE store = ? AND {condition}",  # fixed
            (self.ref, *values),
        )
        return {(row[0], row[1]): _job(row[2:]) for row in rows}

    def write(self, book: Book) -> None:
        changed, book.changed_jobs = book.changed_jobs, {}
        if not changed:
            return
        self.connection.executemany(
            "UPDATE job SET first_ns = ?, last_ns = ?, first_known = ?, delivered_ns = ?, counted = ?, failing = ?,"
            " pending = ? WHERE ref = ?",
            [(*_fields(job), job.ref) for job in changed.values() if job.ref is not None],
        )
        (last,) = self.connection.execute(
            "SELECT coalesce(max(ref), ?1) FROM job WHERE ref BETWEEN ?1 AND ?2", self._refs
        ).fetchone()
        rows = []
        for key, job in changed.items():
            if job.ref is None:
                last += 1
                job.ref = last
                rows.append((last, self.ref, self._hashes[key], *key, *_fields(job)))
        insert(self.connection, "INSERT INTO job", rows)

    def forget(self, keep_ns: int, old_ns: int, most: int) -> int:
        """Deletes jobs whose last attempt was before `keep_ns`, of undelivered ones before `old_ns`; how many, of
        `most` at most."""
        return self.connection.execute(
            "DELETE FROM job WHERE ref IN (SELECT ref FROM job WHERE ref BETWEEN ? AND ? AND last_ns < ?"
            " AND NOT pending AND (delivered_ns IS NOT NULL OR last_ns < ?) LIMIT ?)",
            (*self._refs, keep_ns, old_ns, most),
        ).rowcount

    def drop(self, integration_id: str) -> None:
        self.connection.execute(
            "DELETE FROM job WHERE ref BETWEEN ? AND ? AND integration = ?", (*self._refs, integration_id)
        )


def _job(row: Sequence[Any]) -> Job:
    first_ns, last_ns, first_known, delivered_ns, counted, failing, pending, ref = row
    return Job(first_ns, last_ns, bool(first_known), delivered_ns, bool(counted), bool(failing), bool(pending), ref)


def _fields(job: Job) -> tuple[Any, ...]:
    return (
        job.first_ns, job.last_ns, job.first_known, job.delivered_ns, job.counted, job.failing, job.pending
    )  # fmt: skip


def _chunks(hashes: list[int]) -> Iterator[list[int]]:
    """For one prepared statement: each as long as the others, the last filled up with what it has."""
    for start in range(0, len(hashes), _CHUNK):
        chunk = hashes[start : start + _CHUNK]
        yield chunk + chunk[-1:] * (_CHUNK - len(chunk))
