"""SQLite's own writes and syncs, made to fail or to be the last thing that a process does: in the library, below SQL.

The library's default VFS is a struct in writable memory. Its `xOpen` is replaced by one that opens the file as before and
then gives it a copy of its table of methods, in which `xWrite`, `xSync` and `xTruncate` are ours. That needs no compiler,
no mount and no rights, and works wherever the library's symbols can be found (else the tests fail, and say so).
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
from collections.abc import Callable
from typing import Any

FULL, IOERR_WRITE, IOERR_FSYNC = 13, 778, 1034
ERRORS = {"ENOSPC": FULL, "EIO": IOERR_WRITE}

_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_Open = ctypes.CFUNCTYPE(_I, _P, _P, _P, _I, _P)
_Write = ctypes.CFUNCTYPE(_I, _P, _P, _I, _L)
_Truncate = ctypes.CFUNCTYPE(_I, _P, _L)
_Sync = ctypes.CFUNCTYPE(_I, _P, _I)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", _I),
        ("file_size", _I),
        ("path_max", _I),
        ("next", _P),
        ("name", _P),
        ("data", _P),
        ("open", _P),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("version", _I), ("close", _P), ("read", _P), ("write", _P), ("truncate", _P), ("sync", _P),
        *[(f"other{number}", _P) for number in range(13)],
    ]  # fmt: skip


class Trap:
    """Springs at the k-th write, sync or truncation after it was set. `act` gives the error code, or does not return."""

    def __init__(self) -> None:
        self.seen = 0
        self._at: int | None = None
        self._act: Callable[[Callable[[int], None]], int] = lambda half: 0

    def set(self, k: int, act: Callable[[Callable[[int], None]], int]) -> None:
        """`act` is given a function that really writes the first so many bytes of what was to be written."""
        self.seen, self._at, self._act = 0, k, act

    def lift(self) -> None:
        self._at = None

    def sprung(self, partly: Callable[[int], None]) -> int:
        if self._at is None:
            return 0
        self.seen += 1
        # A disk that is full stays full, until the trap is lifted.
        return self._act(partly) if self.seen >= self._at else 0


trap = Trap()
_kept: list[Any] = []  # callbacks and tables that SQLite holds pointers to


def _library() -> Any:
    for name in (None, _sqlite3.__file__, "libsqlite3.so.0", "libsqlite3.dylib"):
        try:
            found = ctypes.CDLL(name)
            found.sqlite3_vfs_find.restype = _P
        except (OSError, AttributeError):
            continue
        return found
    raise LookupError("SQLite's library cannot be found in this Python: no write can be made to fail")


def install() -> None:
    """Once per process; connections opened from now on are trapped."""
    if _kept:
        return
    vfs = _Vfs.from_address(_library().sqlite3_vfs_find(None))
    real_open = _Open(vfs.open)

    def opened(self: int, name: int, file: int, flags: int, out: int) -> int:
        code = real_open(self, name, file, flags, out)
        pointer = ctypes.cast(file, ctypes.POINTER(_P))
        if code == 0 and pointer[0]:
            pointer[0] = _trapped(pointer[0])
        return int(code)

    callback = _Open(opened)
    _kept.extend([callback, real_open])
    vfs.open = ctypes.cast(callback, _P).value


_tables: dict[int, int] = {}


def _trapped(methods: int) -> int:
    """A copy of a table of methods, with ours in it."""
    if methods in _tables:
        return _tables[methods]
    table = _Methods()
    ctypes.memmove(ctypes.byref(table), methods, ctypes.sizeof(_Methods))
    write, truncate, sync = _Write(table.write), _Truncate(table.truncate), _Sync(table.sync)

    def on_write(file: int, data: int, number: int, offset: int) -> int:
        return trap.sprung(lambda part: write(file, data, part, offset)) or int(write(file, data, number, offset))

    def on_truncate(file: int, size: int) -> int:
        return trap.sprung(lambda part: None) or int(truncate(file, size))

    def on_sync(file: int, flags: int) -> int:
        return trap.sprung(lambda part: None) or int(sync(file, flags))

    ours = _Write(on_write), _Truncate(on_truncate), _Sync(on_sync)
    table.write, table.truncate, table.sync = (ctypes.cast(each, _P).value for each in ours)
    _kept.extend([table, write, truncate, sync, *ours])
    _tables[methods] = ctypes.addressof(table)
    return _tables[methods]


def die(partly: Callable[[int], None]) -> int:
    os._exit(9)


def die_half_way(partly: Callable[[int], None]) -> int:
    partly(16)
    os._exit(9)
