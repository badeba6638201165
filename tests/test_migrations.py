"""A state file of an older version is brought up to this one, and goes on counting where it was."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from exporter import statefile
from exporter.rows import Batch
from exporter.store import Store
from tests.shelf import NOW, SECOND, attempt

VERSION_1_JOBS = """
CREATE TABLE was(store INTEGER NOT NULL, integration TEXT NOT NULL, job TEXT NOT NULL, first_ns INTEGER NOT NULL,
                 last_ns INTEGER NOT NULL, first_known INTEGER NOT NULL, delivered_ns INTEGER, counted INTEGER NOT NULL,
                 failing INTEGER NOT NULL, pending INTEGER NOT NULL, PRIMARY KEY(store, integration, job)) WITHOUT ROWID;
INSERT INTO was SELECT store, integration, job, first_ns, last_ns, first_known, delivered_ns, counted, failing, pending
    FROM job;
DROP TABLE job;
DROP TABLE delivered;
ALTER TABLE was RENAME TO job;
CREATE INDEX job_by_age ON job(store, last_ns);
PRAGMA user_version=1;
"""


def of_version_1(folder: Path) -> None:
    connection = sqlite3.connect(folder / statefile.NAME, isolation_level=None)
    connection.executescript(VERSION_1_JOBS)
    statefile._seal_schema(connection)
    connection.close()


def test_jobs_of_version_1_are_known_to_this_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path, NOW)
    store.begin("acme", NOW)
    failed = {"succeeded": False, "status_code": "500", "reason": "http_5xx"}
    store.commit("acme", Batch(NOW, [
        attempt("a", NOW, job_id="delivered", number=None), attempt("b", NOW, job_id="failing", **failed),
    ]))  # fmt: skip
    store.close()
    of_version_1(tmp_path)

    store = Store.open(tmp_path, NOW)
    assert store.moved_aside is None
    later = NOW + SECOND
    done = store.commit("acme", Batch(NOW, [
        attempt("c", later, job_id="delivered", number=2), attempt("d", later, job_id="failing", number=2),
    ]))  # fmt: skip
    tally = done.tallies["int-1"]
    assert (tally.attempts, tally.jobs, tally.jobs_failing) == (4, 2, 0)
    assert (tally.delivered_first, tally.delivered_retry) == (1, 1)
    store.close()
    assert (tmp_path / f"{statefile.NAME}.v1").exists()
    Store.open(tmp_path, NOW).close()  # and the sums agree


def test_jobs_are_found_though_their_hashes_are_the_same(tmp_path: Path) -> None:
    chance = random.Random(1)
    by_hash: dict[int, str] = {}
    other = first = ""
    while other == first:
        other = f"{chance.getrandbits(128):x}"
        first = by_hash.setdefault(statefile.job_hash("int-1", other), other)
    store = Store.open(tmp_path, NOW)
    store.begin("acme", NOW)
    store.commit("acme", Batch(NOW, [attempt("a", NOW, job_id=first)]))
    store.commit("acme", Batch(NOW, [attempt("b", NOW + SECOND, job_id=other)]))
    done = store.commit("acme", Batch(NOW, [attempt("c", NOW + 2 * SECOND, job_id=first, number=2)]))
    assert done.tallies["int-1"].jobs == 2
    store.close()


VERSION_2_JOBS = """
CREATE TABLE was AS SELECT * FROM job;
DROP TABLE job;
DROP TABLE delivered;
CREATE TABLE job(ref INTEGER PRIMARY KEY, store INTEGER NOT NULL, hash INTEGER NOT NULL, integration TEXT NOT NULL,
                 job TEXT NOT NULL, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, first_known INTEGER NOT NULL,
                 delivered_ns INTEGER, counted INTEGER NOT NULL, failing INTEGER NOT NULL, pending INTEGER NOT NULL);
CREATE INDEX job_by_hash ON job(hash);
CREATE INDEX job_by_age ON job(store, last_ns);
INSERT INTO job SELECT row_number() OVER (ORDER BY last_ns, store), store, hash, integration, job, first_ns, last_ns,
                       first_known, delivered_ns, counted, failing, pending FROM was;
DROP TABLE was;
PRAGMA user_version=2;
"""


def test_jobs_of_version_2_come_to_the_stretches_of_their_stores(tmp_path: Path) -> None:
    store = Store.open(tmp_path, NOW)
    failed = {"succeeded": False, "status_code": "500", "reason": "http_5xx"}
    for number, name in enumerate(("acme", "south")):
        store.begin(name, NOW)
        store.commit(name, Batch(NOW, [
            attempt("a", NOW + number, job_id="delivered", number=None),
            attempt("b", NOW + number, job_id="failing", **failed),
        ]))  # fmt: skip
    store.close()
    connection = sqlite3.connect(tmp_path / statefile.NAME, isolation_level=None)
    connection.executescript(VERSION_2_JOBS)
    statefile._seal_schema(connection)
    connection.close()

    store = Store.open(tmp_path, NOW)
    assert store.moved_aside is None
    for name in ("acme", "south"):
        later = [attempt(each, NOW + SECOND, job_id=each, number=2) for each in ("delivered", "failing", "new")]
        tally = store.commit(name, Batch(NOW, later)).tallies["int-1"]
        assert (tally.jobs, tally.jobs_failing, tally.delivered_first, tally.delivered_retry) == (3, 0, 1, 2)
    rows = store._reading(lambda connection: connection.execute("SELECT store, ref FROM job").fetchall())
    assert len(rows) == 6  # with those that older versions would have made of all jobs
    assert all(ref // statefile.JOB_REFS == number for number, ref in rows)
    store.close()
    assert (tmp_path / f"{statefile.NAME}.v2").exists()
    Store.open(tmp_path, NOW).close()  # and the sums agree


def test_a_file_of_version_3_is_taken_over_with_its_jobs(tmp_path: Path) -> None:
    store = Store.open(tmp_path, NOW)
    store.begin("acme", NOW)
    store.commit("acme", Batch(NOW, [attempt("a", NOW, job_id="before", number=None)]))
    store.close()
    connection = sqlite3.connect(tmp_path / statefile.NAME, isolation_level=None)
    connection.executescript("DROP TABLE delivered; PRAGMA user_version=3;")
    statefile._seal_schema(connection)
    connection.close()

    for number in (1, 2):  # and once more, of what the newer version has written
        store = Store.open(tmp_path, NOW)
        assert store.moved_aside is None
        later = NOW + number * SECOND
        tally = store.commit("acme", Batch(later, [
            attempt(f"b{number}", later, job_id="before", number=1 + number),
            attempt(f"c{number}", later, job_id="after", number=number),
        ])).tallies["int-1"]  # fmt: skip
        assert (tally.jobs, tally.delivered_first, tally.delivered_retry) == (2, 2, 0)
        store.close()
    assert (tmp_path / f"{statefile.NAME}.v3").exists()
