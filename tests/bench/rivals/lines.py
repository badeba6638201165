"""The bare loop, and each log a line of a file for mtail: `python -m tests.bench.rivals.lines URL FILE [IDS]`.

IDS: a file in which the ids of all lines are kept, as a poller needs it that comes again or is started again: without
it each poll counts all that is still listed once more. As favourable as can be: the exporter's key, its batch, one sync
for each. What mtail counts lives in memory either way.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any, TextIO

from exporter.intake import BATCH_ATTEMPTS
from tests.bench.rivals.loop import pages


def line(record: dict[str, Any]) -> str:
    integration = record["relationships"]["integration"]["data"]["id"]
    return (
        f"{integration} {record.get('status_code') or 'none'} {int(record['succeeded'])} "
        f"{record['attempt']} {record['processing_time']}\n"
    )


class Once:
    """Writes a record's line when its id is kept, and not again."""

    def __init__(self, path: str, file: TextIO) -> None:
        self._file = file
        self._waiting: list[dict[str, Any]] = []
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE seen(created_at TEXT, id TEXT, PRIMARY KEY(created_at, id)) WITHOUT ROWID"
        )

    def enter(self, records: list[dict[str, Any]]) -> None:
        self._waiting += records
        if len(self._waiting) >= BATCH_ATTEMPTS:
            self.flush()

    def flush(self) -> None:
        records, self._waiting = self._waiting, []
        rows = [(record["meta"]["timestamps"]["created_at"], record["id"]) for record in records]
        self._connection.execute("BEGIN IMMEDIATE")
        entered = self._connection.executemany("INSERT OR IGNORE INTO seen VALUES(?, ?)", rows).rowcount
        if entered != len(rows):
            raise AssertionError("the list was read while it moved: this loop is for one that stands still")
        self._file.writelines(map(line, records))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._connection.execute("COMMIT")


async def main() -> None:
    number = 0
    with Path(sys.argv[2]).open("a") as file:  # noqa: ASYNC230  it is the loop's own work
        once = Once(sys.argv[3], file) if len(sys.argv) > 3 else None
        async for records in pages(sys.argv[1]):
            if once is not None:
                once.enter(records)
            else:
                file.writelines(map(line, records))
                file.flush()
            number += len(records)
        if once is not None:
            once.flush()
    sys.stdout.write(f"done {number}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main())
