"""What a simulated run can be struck by from below: the death of the process at a chosen point, and a bad disk.

Points are every request, every SQL statement, before and after every COMMIT, and every publication. After a death
nothing of that life may act any more, so every later point dies as well: no `finally` clause can put things right.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

from exporter import statefile

WRITES = ("INSERT", "UPDATE", "DELETE", "CREATE", "COMMIT")


class KilledError(BaseException):
    """SIGKILL, as a simulation has it."""


class Reaper:
    """Kills at the k-th point after it was armed."""

    def __init__(self, reached: Counter[str]) -> None:
        self.dead = False
        self._left: int | None = None
        self._reached = reached

    def arm(self, points: int) -> None:
        self._left = points

    def disarm(self) -> None:
        self._left = None

    def revive(self) -> None:
        self.dead, self._left = False, None

    def point(self, kind: str) -> None:
        if self.dead:
            raise KilledError
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            self.dead = True
            self._reached[f"killed at: {kind}"] += 1
            raise KilledError


class Disk:
    """`mode`: `full` (writes fail), `io` (anything fails), `unknown` (a commit happens and fails), or None: it works."""

    def __init__(self, reaper: Reaper, chooser: random.Random, reached: Counter[str]) -> None:
        self.mode: str | None = None
        self.probability = 1.0
        self.reaper = reaper
        self._chooser = chooser
        self._reached = reached

    def before(self, sql: str) -> None:
        verb = sql.lstrip().split(" ", 1)[0]
        self.reaper.point("before commit" if verb == "COMMIT" else "statement")
        if self.mode == "io" and self._strikes():
            raise _error("SQLITE_IOERR")
        if self.mode == "full" and verb in WRITES and self._strikes():
            raise _error("SQLITE_FULL")

    def after(self, sql: str) -> None:
        if sql != "COMMIT":
            return
        self.reaper.point("after commit")
        if self.mode == "unknown" and self._strikes():
            raise _error("SQLITE_IOERR_FSYNC")

    def _strikes(self) -> bool:
        struck = self._chooser.random() < self.probability
        if struck:
            self._reached[f"disk: {self.mode}"] += 1
        return struck


def _error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorname = name
    return error


class _Connection:
    """A connection on a disk with faults."""

    def __init__(self, real: sqlite3.Connection, disk: Disk) -> None:
        self._real = real
        self._disk = disk

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        self._disk.before(sql)
        cursor = self._real.execute(sql, parameters)
        self._disk.after(sql)
        return cursor

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        self._disk.before(sql)
        return self._real.executemany(sql, parameters)

    def close(self) -> None:
        self._real.close()


@contextlib.contextmanager
def on(disk: Disk) -> Iterator[None]:
    """Every connection that the exporter opens meanwhile is on this disk."""
    real = statefile.connect

    def connect(path: Any) -> Any:
        disk.before("CONNECT")
        connection = real(path)
        connection.execute("PRAGMA synchronous=OFF")  # a real sync per commit is what the kill tests are for
        return _Connection(connection, disk)

    statefile.connect = connect
    try:
        yield
    finally:
        statefile.connect = real
