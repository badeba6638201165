"""Where a store's live counting began, to the log: written with the end of its first walk, read by the backfill.

Theory: a first walk remembers the ids of what it has met, down to `keep`. From then on the exporter counts a log if it
was created at or after `keep` and its id is not one of these, and never any other. So these ids and `keep` say of every
log on which side it is, however late it shows, whatever the clocks say. Live ids are forgotten within two lookbacks:
hence a row of its own. With `history: count` the first walk is a baseline; the tallies that were shown first are kept
as well, because that is where a history has to end.

Reading takes no lock of ours and writes nothing, neither to the state nor beside it: the exporter may be running.
"""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path
from urllib.parse import quote

import msgspec

from exporter import statefile
from exporter.checked import decode
from exporter.rows import Marks
from exporter.statefile import DamagedError, NewerStateError
from exporter.tally import Tally


class Seam(msgspec.Struct):
    """Of one store."""

    begun_ns: int  # the first walk's end, by the exporter's host: nothing was shown before
    keep_ns: int | None  # logs created before it are never counted live; None: there is no such time
    ids: frozenset[str]  # met by the first walk, created at or after keep_ns, or without a created_at
    baseline: dict[str, Tally]  # what was shown first, by integration; empty with `history: skip`
    exact: bool = True  # False: an older version kept no ids, and begun_ns decides
    replaces_damaged: bool = False  # the state before it was damaged: another exporter's life had been counted already

    def counted_live(self, created_ns: int | None, log_id: str) -> bool:
        """Whether the log is the live exporter's to count."""
        if not self.exact:
            return created_ns is not None and created_ns > self.begun_ns
        if created_ns is not None and self.keep_ns is not None and created_ns < self.keep_ns:
            return False
        return log_id not in self.ids


class NotBegunError(Exception):
    """The store is in the state, and its first walk has not ended."""


def key(ref: int) -> str:
    """Of the row in `meta`; a store's state moves with it (`reshard`)."""
    return f"seam:{ref}"


def write(connection: sqlite3.Connection, ref: int, marks: Marks, tallies: dict[str, Tally]) -> None:
    """In the transaction that ends the first walk; `tallies`: what is shown from then on, where it is a baseline."""
    keep_ns = marks.keep_ns
    # As one text: rows that come one by one took four times as long, and the first numbers wait for this.
    (ids,) = connection.execute(
        "SELECT json_group_array(id) FROM (SELECT id FROM seen WHERE store = ?1 AND created_ns >= ?2"
        " UNION ALL SELECT id FROM untimed WHERE store = ?1)",
        (ref, keep_ns or 0),
    ).fetchone()
    known = msgspec.json.decode(ids, type=frozenset[str])
    seam = Seam(marks.begun_ns or marks.born_ns, keep_ns, known, tallies)
    # zlib's own checksum is the row's. Ids are random: to look for what repeats in them takes time and finds nothing.
    packing = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    body = packing.compress(msgspec.msgpack.encode(seam)) + packing.flush()
    connection.execute("INSERT OR REPLACE INTO meta VALUES(?, ?)", (key(ref), body))


def read(folder: Path, store: str) -> Seam | None:
    """None: no exporter has begun this store there. Raises NotBegunError, DamagedError, NewerStateError, OSError,
    sqlite3.Error."""
    path = folder / statefile.NAME
    if not path.exists():
        return None
    connection = _connect(path)
    try:
        (identity,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if identity != statefile.APPLICATION_ID:
            raise DamagedError(f"{path} is not a state file of epcc-exporter")
        if version > statefile.VERSION:
            raise NewerStateError(f"{path} was written by a newer version (schema {version})")
        row = connection.execute("SELECT ref, body, crc FROM store WHERE name = ?", (store,)).fetchone()
        if row is None:
            return None
        ref, body, crc = row
        kept = connection.execute("SELECT value FROM meta WHERE key = ?", (key(ref),)).fetchone()
    finally:
        connection.close()
    marks: Marks = decode(body, crc, Marks)
    if not marks.begun:
        raise NotBegunError
    if kept is None:
        seam = Seam(marks.begun_ns or marks.born_ns, None, frozenset(), {}, exact=False)
    else:
        try:
            seam = msgspec.msgpack.decode(zlib.decompress(kept[0]), type=Seam)
        except (zlib.error, msgspec.MsgspecError) as error:
            raise DamagedError(f"{path}: the row of the seam cannot be read") from error
    seam.replaces_damaged = marks.begins_at_zero
    return seam


def _connect(path: Path) -> sqlite3.Connection:
    """Read-only. A state that was closed has no write-ahead log, and opening it the usual way would make one, which
    another user's exporter could then not write to; one that is in use, or was killed, is read with its log."""
    log = path.with_name(f"{path.name}-wal")
    in_use = log.exists() and log.stat().st_size > 0
    mode = "mode=ro&readonly_shm=1" if in_use else "immutable=1"
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?{mode}", uri=True, isolation_level=None, timeout=5.0)
