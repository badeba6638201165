"""Rows of the state file: what each table holds of a store, written and read inside the store's transaction.

Theory: `marks.digest` is the sum of a hash over every remembered id, and `marks.counted` the sum of all attempts. They
are changed in the same transaction as the rows: a file in which they disagree was not written by us (`check_sums`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import adler32, crc32

import msgspec

from exporter import ledger
from exporter.checked import decode, encode
from exporter.jobs import Jobs
from exporter.ledger import Book, Entry
from exporter.records import Attempt
from exporter.statefile import DamagedError
from exporter.tally import Tally

RANGE_TIMES: Final = 4  # ids read for a page's stretch of time, by the page's length, before they are asked for singly
FORGET_MAX: Final = 10_000  # ids that one transaction deletes, and jobs that it looks at: some 50 ms
_DIGEST_MASK: Final = (1 << 63) - 1
_TIME: Final = 10**18  # added to times, which have 62 bits, so that all have 19 digits
_UNFAILED: Final = f"CAST(substr(value, 1, 19) AS INTEGER) - {_TIME}, substr(value, 20), NULL"


class Feed(msgspec.Struct):
    """What is known of one list: of all logs (key "") or of an integration's."""

    order: str = "unknown"
    dissent: int = 0  # votes in a row for another order; two turn it over
    strong: bool = False  # the evidence for the order was strong
    tail_at: int | None = None  # oldest-first: offset of the last record, a hint
    newest_ns: int | None = None  # newest created_at that the last complete walk saw on it


class Marks(msgspec.Struct):
    """Where a store stands. Times in ns since 1970, by the server's clock."""

    born_ns: int
    floor_ns: int | None = None  # nothing above it is missing, up to lateness; None: no walk has ended yet
    keep_ns: int | None = None  # ids above it are remembered; a record below it is ignored
    complete_through_ns: int | None = None
    begun: bool = False  # the first walk has ended: delivery metrics are shown
    begun_ns: int | None = None  # when, by the host's clock; None: not yet, or an older version did not note it
    begins_at_zero: bool = False  # a damaged state was moved aside: no baseline may be counted, whatever `history` says
    counted: int = 0  # attempts in all tallies: they must add up
    digest: int = 0  # of all remembered ids, so that a changed row does not count twice unseen
    feeds: dict[str, Feed] = msgspec.field(default_factory=dict)
    gaps: dict[str, int] = msgspec.field(default_factory=dict)  # by cause, ever
    looked: bool = False  # the job lists were looked at once: what they held then is not asked about
    gone: dict[str, int] = msgspec.field(default_factory=dict)  # integration → since when EPCC lists it no more

    def copied(self) -> Marks:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(self), type=Marks)


@dataclass(frozen=True, slots=True)
class Gap:
    cause: str
    from_ns: int | None  # None: not known
    to_ns: int  # the gap is open until `keep` has passed it
    integrations: tuple[str, ...] = ()  # whose logs may be missing; empty: not known


@dataclass(slots=True)
class Batch:
    """One transaction's worth. `marks` None: unchanged (but for the sums that the store keeps in them)."""

    now_ns: int
    attempts: Sequence[Attempt] = ()
    counting: bool = True
    excluded: frozenset[str] = frozenset()  # integrations whose attempts are remembered, and count nowhere
    integrations: Iterable[str] = ()  # that must have a tally
    marks: Marks | None = None
    announce: Sequence[tuple[str, str | None]] = ()  # (integration, status code; None: its other series)
    announce_all: bool = False  # a baseline is shown whole, at once: its series need no first zero
    gaps: Sequence[Gap] = ()
    forget: bool = False  # after a complete walk: what the marks allow to forget
    listed: frozenset[str] | None = None  # after a complete sweep: ids that are still listed
    drop: Sequence[str] = ()  # integrations whose tallies leave
    max_series: int = 1_000_000  # of the store; what comes beyond is folded


@dataclass(slots=True)
class Committed:
    """What is durable now. `tallies` holds the changed ones; they are the caller's to show and nobody's to change."""

    marks: Marks
    tallies: dict[str, Tally]
    fresh: list[Entry] = field(default_factory=list)
    duplicates: int = 0
    ignored: list[Attempt] = field(default_factory=list)  # below `keep`
    folded: frozenset[tuple[str, str]] = frozenset()  # label and value, of what became `other`
    gaps: list[Gap] = field(default_factory=list)  # to tell of
    forgetful: bool = False  # more is to be forgotten than one transaction should


def insert_ids(
    connection: sqlite3.Connection, ref: int, batch: Batch, keep_ns: int | None, done: Committed
) -> list[Entry]:
    """The attempts of a batch that no transaction has counted yet; from here on they are remembered.

    Those of integrations that are excluded are remembered alone.
    """
    timed, untimed = _entries(batch, keep_ns, done)
    fresh = [
        *_inserted(connection, "seen(store, created_ns, id, failed_of)", ref, timed),
        *_inserted(connection, "untimed(store, at_ns, id, failed_of)", ref, untimed),
    ]
    done.duplicates += len(timed) + len(untimed) - len(fresh)
    named = [(entry.attempt.created_ns, entry.attempt.id) for entry in fresh]
    done.marks.digest = (done.marks.digest + _digest(named)) & _DIGEST_MASK
    if not batch.excluded:
        return fresh
    return [entry for entry in fresh if entry.attempt.integration_id not in batch.excluded]


def _entries(batch: Batch, keep_ns: int | None, done: Committed) -> tuple[list[Entry], list[Entry]]:
    """Of the attempts that may count: those with a time, and those without."""
    timed: list[Entry] = []
    untimed: list[Entry] = []
    for attempt in batch.attempts:
        created_ns = attempt.created_ns
        if created_ns is None:
            untimed.append(Entry(attempt, batch.now_ns))
        elif keep_ns is not None and created_ns < keep_ns:
            # It may have been counted and forgotten: never count it.
            done.ignored.append(attempt)
        else:
            timed.append(Entry(attempt, created_ns))
    return timed, untimed


def _inserted(connection: sqlite3.Connection, into: str, ref: int, entries: list[Entry]) -> list[Entry]:
    """Those of which the primary key says that they are new: all at once, as they mostly are, or else one by one.

    All at once is one statement over a list in JSON, through which SQLite goes without the interpreter's lock.
    """
    if not entries:
        return []
    connection.execute("SAVEPOINT ids")
    # Most have not failed: a text for each is taken apart in two thirds of the time of a list. Both go in oldest first:
    # the other way each row splits the tree's pages into halves, and the file is two thirds larger.
    others = sorted(
        [f"{each.at_ns + _TIME}{each.attempt.id}" for each in entries if each.attempt.succeeded is not False]
    )
    failed = sorted([_row(each) for each in entries if each.attempt.succeeded is False])
    fields = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(3))
    inserted = [
        connection.execute(
            f"INSERT OR IGNORE INTO {into} SELECT ?, {values} FROM json_each(?)",  # fixed
            (ref, msgspec.json.encode(rows).decode()),
        ).rowcount
        for values, rows in ((_UNFAILED, others), (fields, failed))
    ]
    if sum(inserted) == len(entries):
        connection.execute("RELEASE ids")
        return entries
    connection.execute("ROLLBACK TO ids")
    connection.execute("RELEASE ids")
    one = f"INSERT OR IGNORE INTO {into} VALUES(?, ?, ?, ?)"
    return [each for each in entries if connection.execute(one, (ref, *_row(each))).rowcount == 1]


def _row(entry: Entry) -> tuple[int, str, str | None]:
    """`created_at` or the time that it stands under, id, whose failure it is."""
    attempt = entry.attempt
    return entry.at_ns, attempt.id, attempt.integration_id if attempt.succeeded is False else None


def unknown_ids(connection: sqlite3.Connection, ref: int, attempts: Sequence[Attempt], keep_ns: int | None) -> set[str]:
    """The ids that `insert_ids` would call new."""
    untimed = [each.id for each in attempts if each.created_ns is None]
    timed = [
        (each.created_ns, each.id)
        for each in attempts
        if each.created_ns is not None and (keep_ns is None or each.created_ns >= keep_ns)
    ]
    found = {
        log_id
        for log_id in untimed
        if connection.execute("SELECT 1 FROM untimed WHERE store = ? AND id = ?", (ref, log_id)).fetchone() is None
    }
    if not timed:
        return found
    # A page in order of time spans little more than itself; one that is not is asked about id by id.
    most = RANGE_TIMES * len(timed)
    rows = connection.execute(
        "SELECT created_ns, id FROM seen WHERE store = ? AND created_ns BETWEEN ? AND ? LIMIT ?",
        (ref, min(timed)[0], max(timed)[0], most),
    ).fetchall()
    if len(rows) < most:
        return found | {log_id for _, log_id in set(timed).difference(rows)}
    one = "SELECT 1 FROM seen WHERE store = ? AND created_ns = ? AND id = ?"
    return found | {
        log_id for at_ns, log_id in timed if connection.execute(one, (ref, at_ns, log_id)).fetchone() is None
    }


def forget(jobs: Jobs, now_ns: int, marks: Marks, book: Book, *, first: bool) -> bool:
    """What the marks allow to forget: memory and disk follow lookback and rate, not history. True: more is left.

    `first`: nothing of the store is shown yet, and will be when this is committed; rows are deleted afterwards.

    A baseline of all that EPCC lists leaves nearly all of its ids to forget: in one transaction it would hold up the
    other stores for as long as it took to write them.
    """
    connection, ref = jobs.connection, jobs.ref
    jobs.write(book)
    if marks.floor_ns is not None:
        ledger.settle(book, jobs.where("pending AND delivered_ns < ?", marks.floor_ns))
    jobs.write(book)
    old_ns = now_ns - ledger.JOB_FAILING_NS
    ledger.cease_failing(book, jobs.where("failing AND last_ns < ?", old_ns))
    jobs.write(book)
    if marks.keep_ns is None:
        return False
    if first:
        return True
    more = jobs.forget(marks.keep_ns, old_ns, FORGET_MAX)
    until_ns = marks.keep_ns
    first_kept = connection.execute(
        "SELECT created_ns FROM seen WHERE store = ? AND created_ns < ? ORDER BY created_ns LIMIT 1 OFFSET ?",
        (ref, until_ns, FORGET_MAX),
    ).fetchone()
    if first_kept is not None:
        until_ns, more = first_kept[0] + 1, True  # with those of its own time: there may be any number of them
    _delete_seen(connection, ref, marks, "created_ns < ?", until_ns)
    connection.execute(
        "DELETE FROM gap WHERE store = ? AND to_ns < ? AND found_ns < ?", (ref, marks.keep_ns, marks.keep_ns)
    )
    return more


def _delete_seen(connection: sqlite3.Connection, ref: int, marks: Marks, condition: str, *values: int) -> None:
    rows = connection.execute(
        f"DELETE FROM seen WHERE store = ? AND {condition} RETURNING created_ns, id",  # fixed texts
        (ref, *values),
    ).fetchall()
    marks.digest = (marks.digest - _digest(rows)) & _DIGEST_MASK


def forget_unlisted(jobs: Jobs, now_ns: int, marks: Marks, listed: frozenset[str]) -> None:
    """Without an order to rely on, an id is remembered while it is listed, and for one sweep more; one above the floor
    for longer: the list keeps it, and a sweep that does not show it has met a replica that lags. A job is remembered
    while any id is that is no newer."""
    connection, ref = jobs.connection, jobs.ref
    floor_ns = marks.floor_ns if marks.floor_ns is not None else (1 << 63) - 1
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS still(id TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM still")
    connection.executemany("INSERT OR IGNORE INTO still VALUES(?)", ((key,) for key in listed))
    for table in ("seen", "untimed"):
        connection.execute(
            f"UPDATE {table} SET absent = 0 WHERE store = ? AND absent > 0 AND id IN (SELECT id FROM still)",
            (ref,),
        )
        connection.execute(
            f"UPDATE {table} SET absent = absent + 1 WHERE store = ? AND id NOT IN (SELECT id FROM still)",
            (ref,),
        )
    _delete_seen(connection, ref, marks, "absent >= 2 AND created_ns < ?", floor_ns)
    gone = connection.execute(
        "DELETE FROM untimed WHERE store = ? AND absent >= 2 AND at_ns < ? RETURNING NULL, id", (ref, floor_ns)
    ).fetchall()
    marks.digest = (marks.digest - _digest(gone)) & _DIGEST_MASK
    oldest = connection.execute(
        "SELECT min(created_ns) FROM seen WHERE store = ?1 UNION ALL SELECT min(at_ns) FROM untimed WHERE store = ?1",
        (ref,),
    ).fetchall()
    oldest_ns = min([at_ns for (at_ns,) in oldest if at_ns is not None], default=now_ns)
    jobs.forget(min(oldest_ns, floor_ns), now_ns - ledger.JOB_FAILING_NS, FORGET_MAX)


def enter_gaps(connection: sqlite3.Connection, ref: int, marks: Marks, gaps: Sequence[Gap], now_ns: int) -> list[Gap]:
    """Gaps are counted once: one that goes on from an open one of its cause, walk after walk, is the same gap.

    Returns those to tell of: new ones; but each late log is a gap of its own, and one tells of all until they close.
    """
    news = []
    for gap in gaps:
        if gap.cause == "late":
            others = "SELECT 1 FROM gap WHERE store = ? AND cause = ?"  # those that have closed are forgotten
            if connection.execute(others, (ref, gap.cause)).fetchone() is None:
                news.append(gap)
        else:
            since_ns = gap.to_ns if gap.from_ns is None else gap.from_ns
            longer = "UPDATE gap SET to_ns = max(to_ns, ?) WHERE store = ? AND cause = ? AND to_ns >= ?"
            if connection.execute(longer, (gap.to_ns, ref, gap.cause, since_ns)).rowcount:
                continue
            news.append(gap)
        connection.execute("INSERT INTO gap VALUES(?, ?, ?, ?, ?)", (ref, gap.cause, gap.from_ns, gap.to_ns, now_ns))
        marks.gaps[gap.cause] = marks.gaps.get(gap.cause, 0) + 1
    return news


def save_marks(connection: sqlite3.Connection, ref: int, marks: Marks) -> None:
    connection.execute("UPDATE store SET body = ?, crc = ? WHERE ref = ?", (*encode(marks), ref))


def write_scrapers(connection: sqlite3.Connection, clients: Sequence[tuple[str, str]]) -> None:
    body, crc = encode(clients)
    connection.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", [("scrapers", body), ("scrapers_crc", crc)])


def read_scrapers(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('scrapers', 'scrapers_crc')").fetchall())
    if not found:
        return []  # nobody has come yet, or only to a version that did not keep them
    clients: list[tuple[str, str]] = decode(found["scrapers"], found["scrapers_crc"], list[tuple[str, str]])
    return clients


def check_sums(connection: sqlite3.Connection, ref: int, marks: Marks, tallies: dict[str, Tally]) -> None:
    """The sums that must hold in every committed state. Raises DamagedError."""
    if sum(tally.attempts for tally in tallies.values()) != marks.counted:
        raise DamagedError("the tallies do not add up to the attempts counted")
    if any(sum(tally.responses.values()) != tally.attempts for tally in tallies.values()):
        raise DamagedError("a tally's responses do not add up to its attempts")
    digest = _digest(connection.execute("SELECT created_ns, id FROM seen WHERE store = ?", (ref,)))
    digest += _digest(connection.execute("SELECT NULL, id FROM untimed WHERE store = ?", (ref,)))
    if digest & _DIGEST_MASK != marks.digest:
        raise DamagedError("the remembered ids are not those that were written")
    failing = dict(
        connection.execute(
            "SELECT integration, count(*) FROM job WHERE store = ? AND failing GROUP BY integration", (ref,)
        ).fetchall()
    )
    if any(tally.jobs_failing != failing.get(integration, 0) for integration, tally in tallies.items()):
        raise DamagedError("the failing jobs are not those that were counted")


def _digest(rows: Iterable[tuple[int | None, str]]) -> int:
    """Of `created_at` and id, the sum over all rows."""
    digest = 0
    for created_ns, log_id in rows:
        text = f"{created_ns}:{log_id}".encode("utf-8", "surrogatepass")
        digest += (crc32(text) << 30) ^ adler32(text)
    return digest
