"""Rows of the table `job`: what is remembered of each job, written and read inside the store's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporter.ledger import Book, Job, JobKey
from exporter.statefile import JOB_REFS, job_hash

LOOKS: Final = 8  # jobs looked at for each new one: what can be forgotten is an eighth of all at most
LOOKS_MIN: Final = 1_000  # at each time
_CHUNK: Final = 500  # jobs looked up by one statement
_MARKS: Final = ", ".join("?" * _CHUNK)


@dataclass(slots=True)
class Turn:
    """Where the look for jobs that can be forgotten goes on: round and round, so that it costs what is new and not what
    is kept. It lives with the process, and begins with one look at all."""

    after: int = 0  # the ref that was looked at last
    due: int = 1 << 62  # how many more are to be looked at


class Jobs:
    """Of one store: appended in the order of arrival, and found by a hash of the ids.

    Keyed by the ids themselves, which are random, each row of a batch would dirty a page of its own; the hashes are so
    short that a batch dirties each page of their index many times. A store's rows are its own stretch of the table.
    """

    _COLUMNS: Final = "first_ns, last_ns, first_known, delivered_ns, counted, failing, pending, ref"

    def __init__(self, connection: sqlite3.Connection, ref: int, turn: Turn | None = None) -> None:
        self.connection = connection
        self.ref = ref
        self._turn = Turn() if turn is None else turn
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
        self.connection.executemany("INSERT INTO job VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._turn.due += LOOKS * len(rows)

    def forget(self, keep_ns: int, old_ns: int, most: int) -> bool:
        """Deletes jobs whose last attempt was before `keep_ns`, of undelivered ones before `old_ns`, among those whose
        turn it is, `most` at most. True: the turn of more has come."""
        turn, (first, last) = self._turn, self._refs
        after = max(turn.after, first - 1)
        turn.due = max(turn.due, LOOKS_MIN)
        number = min(turn.due, most)
        until = self.connection.execute(
            "SELECT ref FROM job WHERE ref > ? AND ref <= ? ORDER BY ref LIMIT 1 OFFSET ?", (after, last, number - 1)
        ).fetchone()
        self.connection.execute(
            "DELETE FROM job WHERE ref > ? AND ref <= ? AND last_ns < ? AND NOT pending"
            " AND (delivered_ns IS NOT NULL OR last_ns < ?)",
            (after, last if until is None else until[0], keep_ns, old_ns),
        )
        turn.after, turn.due = (0, 0) if until is None else (until[0], turn.due - number)
        return turn.due > 0

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
