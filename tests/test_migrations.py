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
        attempt("a", NOW, job_id="delivered"), attempt("b", NOW, job_id="failing", **failed),
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
