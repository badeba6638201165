"""Jobs that were delivered at their first attempt and had no other one, as nearly all are: a row for all of a commit's.

Each is remembered by its ids and one time. As a row of its own in `job`, with an entry at a random place of an index,
it cost as much as everything else that a commit does for its attempt. Here it is appended with the others, and looked
for only when another attempt of it turns up; then it becomes a row of `job`, which stands above this one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator

from exporter.checked import decode, encode
from exporter.ledger import JobKey

Jobs = dict[str, dict[str, int]]  # integration id → job id → when its attempt was created (ns)


class Delivered:
    """Of one store. What it holds in memory is the file's, so a transaction that fails needs a new one."""

    def __init__(self, ref: int) -> None:
        self._ref = ref
        self._rows: dict[int, tuple[int, int]] = {}  # key → when the newest of its jobs was delivered (ns), how many

    def load(self, connection: sqlite3.Connection) -> Iterator[JobKey]:
        """All jobs, as they are in the file, of which one row at a time is in memory. Raises DamagedError."""
        for key, body, crc in connection.execute("SELECT ref, body, crc FROM delivered WHERE store = ?", (self._ref,)):
            jobs: Jobs = decode(body, crc, Jobs)
            self._note(key, jobs)
            yield from _keys(jobs)

    def find(self, connection: sqlite3.Connection, wanted: Collection[JobKey]) -> dict[JobKey, int]:
        """Those that are here, and when they were delivered: looks through the rows until all are found.

        Raises DamagedError.
        """
        by_integration: dict[str, set[str]] = {}
        for integration_id, job_id in wanted:
            by_integration.setdefault(integration_id, set()).add(job_id)
        found: dict[JobKey, int] = {}
        for key in reversed(self._rows):
            if len(found) == len(wanted):
                break
            for integration_id, jobs in self._read(connection, key).items():
                for job_id in by_integration.get(integration_id, set()) & jobs.keys():
                    found[integration_id, job_id] = jobs[job_id]
        return found

    def write(self, connection: sqlite3.Connection, jobs: Jobs) -> None:
        jobs = {integration_id: own for integration_id, own in jobs.items() if own}
        if not jobs:
            return
        row = (self._ref, *encode(jobs))
        cursor = connection.execute("INSERT INTO delivered(store, body, crc) VALUES(?, ?, ?)", row)
        self._note(int(cursor.lastrowid or 0), jobs)

    def forget(self, connection: sqlite3.Connection, keep_ns: int, most: int) -> tuple[list[JobKey], bool]:
        """Deletes rows whose jobs were all delivered before `keep_ns`: one, or more of together `most` jobs.

        Returns the jobs, and whether more rows are to go. Raises DamagedError.
        """
        gone: list[JobKey] = []
        for key, (newest_ns, number) in list(self._rows.items()):
            if newest_ns >= keep_ns:
                continue
            if gone and len(gone) + number > most:
                return gone, True
            gone += _keys(self._read(connection, key))
            self._delete(connection, key)
        return gone, False

    def drop(self, connection: sqlite3.Connection, integration_id: str) -> list[JobKey]:
        """Deletes the jobs of an integration, and returns them. Raises DamagedError."""
        gone: list[JobKey] = []
        for key in list(self._rows):
            jobs = self._read(connection, key)
            own = jobs.pop(integration_id, None)
            if own is not None:
                gone += [(integration_id, job_id) for job_id in own]
                self._delete(connection, key)
                self.write(connection, jobs)
        return gone

    def _read(self, connection: sqlite3.Connection, key: int) -> Jobs:
        body, crc = connection.execute("SELECT body, crc FROM delivered WHERE ref = ?", (key,)).fetchone()
        jobs: Jobs = decode(body, crc, Jobs)
        return jobs

    def _delete(self, connection: sqlite3.Connection, key: int) -> None:
        connection.execute("DELETE FROM delivered WHERE ref = ?", (key,))
        del self._rows[key]

    def _note(self, key: int, jobs: Jobs) -> None:
        self._rows[key] = (max(max(own.values()) for own in jobs.values()), sum(map(len, jobs.values())))


def _keys(jobs: Jobs) -> Iterator[JobKey]:
    return ((integration_id, job_id) for integration_id, own in jobs.items() for job_id in own)
