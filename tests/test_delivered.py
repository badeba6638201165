"""Jobs that were delivered at their first attempt: a row for all of a commit's, and every number as if each had one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter import rows
from exporter.jobs import Jobs, Memory
from exporter.records import Attempt
from exporter.rows import Batch
from exporter.statefile import NAME
from exporter.store import StorageError, Store
from exporter.tally import Tally
from tests.shelf import NOW, SECOND, attempt


class Kept:
    """A state file with one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder, NOW)
        self.store.begin("acme", NOW)

    def commit(self, *attempts: Attempt, now_ns: int = NOW, **changes: object) -> dict[str, Tally]:
        self.store.commit("acme", Batch(now_ns=now_ns, attempts=attempts, **changes))  # type: ignore[arg-type]
        return self.store.begin("acme", NOW)[1]

    def forget(self, keep_ns: int) -> bool:
        marks = self.store.begin("acme", NOW)[0].copied()
        marks.floor_ns = marks.keep_ns = keep_ns
        return self.store.commit("acme", Batch(now_ns=NOW, marks=marks, forget=True)).forgetful

    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder, NOW)
        self.store.begin("acme", NOW)

    def rows(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.folder / NAME)) as connection:
            return {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  fixed
                for table in ("job", "delivered")
            }

    @property
    def remembered(self) -> int:
        return len(self.store._held["acme"].jobs.known)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.store.close()


def many(jobs: int, **changes: object) -> list[Attempt]:
    return [attempt(f"a{i}", NOW - i, job_id=f"j{i}", **changes) for i in range(jobs)]


def test_a_commits_delivered_jobs_take_one_row_together(kept: Kept) -> None:
    tallies = kept.commit(*many(100), *[attempt("b", NOW, integration_id="int-2")])
    assert kept.rows() == {"job": 0, "delivered": 1}
    assert (tallies["int-1"].jobs, tallies["int-1"].delivered_first, tallies["int-1"].delivery.count) == (100, 100, 100)
    assert tallies["int-2"].jobs == 1
    kept.commit(now_ns=NOW + 1)
    assert kept.rows() == {"job": 0, "delivered": 1}


@pytest.mark.parametrize("changes", [
    {"number": None}, {"number": 2}, {"succeeded": None}, {"succeeded": False, "status_code": "500", "reason": "http_5xx"},
], ids=["no number", "a retry", "no outcome", "a failure"])  # fmt: skip
def test_a_job_of_which_more_is_to_be_remembered_takes_a_row_of_its_own(kept: Kept, changes: dict[str, object]) -> None:
    kept.commit(*many(3, **changes))
    assert kept.rows() == {"job": 3, "delivered": 0}


def test_a_job_of_a_baseline_and_one_dated_in_the_future_take_rows_of_their_own(kept: Kept) -> None:
    kept.commit(*many(2), counting=False)
    kept.commit(attempt("b", NOW + 1))
    assert kept.rows() == {"job": 3, "delivered": 0}


@pytest.mark.parametrize("reopened", [False, True])
def test_a_second_attempt_of_a_delivered_job_is_one_of_the_same_job(kept: Kept, reopened: bool) -> None:
    kept.commit(*many(10))
    if reopened:
        kept.reopen()
    tally = kept.commit(attempt("again", NOW + SECOND, job_id="j3", number=2), now_ns=NOW + SECOND)["int-1"]
    assert (tally.attempts, tally.jobs, tally.delivered_first, tally.delivered_retry) == (11, 10, 10, 0)
    assert kept.rows() == {"job": 1, "delivered": 1}
    tally = kept.commit(attempt("more", NOW + 2 * SECOND, job_id="j3", number=3), now_ns=NOW + 2 * SECOND)["int-1"]
    assert (tally.jobs, kept.rows()) == (10, {"job": 1, "delivered": 1})


def test_two_first_attempts_of_a_job_in_one_commit_are_one_delivered_job(kept: Kept) -> None:
    tally = kept.commit(attempt("a", NOW, job_id="j"), attempt("b", NOW, job_id="j"), attempt("c", NOW - 1, job_id="j"))
    assert (tally["int-1"].attempts, tally["int-1"].jobs, tally["int-1"].delivered_first) == (3, 1, 1)
    assert kept.rows() == {"job": 1, "delivered": 0}
    assert kept.commit(attempt("d", NOW, job_id="j"))["int-1"].jobs == 1


def test_jobs_of_two_integrations_with_one_id_are_two(kept: Kept) -> None:
    kept.commit(attempt("a", NOW - SECOND, job_id="j"))
    tallies = kept.commit(attempt("b", NOW, job_id="j", integration_id="int-2"))
    assert (tallies["int-1"].jobs, tallies["int-2"].jobs) == (1, 1)
    kept.forget(NOW)  # of the first alone
    again = attempt("c", NOW, job_id="j", integration_id="int-2", number=2)
    assert kept.commit(again)["int-2"].jobs == 1


def test_a_row_is_forgotten_when_the_newest_of_its_jobs_is_below_keep(kept: Kept) -> None:
    kept.commit(*many(10))
    kept.forget(NOW)
    assert (kept.rows(), kept.remembered) == ({"job": 0, "delivered": 1}, 10)
    kept.forget(NOW + 1)
    assert (kept.rows(), kept.remembered) == ({"job": 0, "delivered": 0}, 0)
    kept.reopen()
    assert kept.remembered == 0


def test_a_transaction_forgets_a_row_or_so_many_jobs_and_says_whether_more_is_left(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "FORGET_MAX", 10)
    for number in range(5):
        kept.commit(*[attempt(f"a{number}-{i}", NOW - 9, job_id=f"j{number}-{i}") for i in range(4)])
    kept.commit(*[attempt(f"b{i}", NOW - 9, job_id=f"k{i}") for i in range(30)])
    left = []
    more = kept.forget(NOW)
    while more:
        left.append((kept.rows()["delivered"], kept.remembered))
        more = kept.store.commit("acme", Batch(now_ns=NOW, forget=True)).forgetful
    assert left == [(4, 42), (2, 34), (1, 30)]
    assert (kept.rows()["delivered"], kept.remembered) == (0, 0)


def test_an_integration_that_leaves_takes_its_jobs_along_and_no_others(kept: Kept) -> None:
    kept.commit(*many(3), *[attempt(f"b{i}", NOW, job_id=f"j{i}", integration_id="int-2") for i in range(2)])
    kept.commit(attempt("c", NOW, job_id="retried", number=2), attempt("d", NOW, job_id="last"))
    kept.commit(drop=["int-1"])
    assert (kept.rows(), kept.remembered) == ({"job": 0, "delivered": 1}, 2)
    assert kept.store.job_owners("acme", "j0", ["int-1", "int-2"]) == ["int-2"]
    kept.reopen()
    assert kept.remembered == 2
    assert kept.commit(attempt("e", NOW, job_id="j0"))["int-1"].jobs == 1


@pytest.mark.parametrize("change", [
    "body = CAST(replace(body, 'j1', 'j9') AS BLOB)", "body = CAST(body AS TEXT)", "crc = crc + 1", "crc = 'x'",
])  # fmt: skip
def test_a_row_that_was_changed_is_not_believed(kept: Kept, change: str) -> None:
    kept.commit(*many(3))
    kept.store.close()
    with closing(sqlite3.connect(kept.folder / NAME, isolation_level=None)) as connection:
        connection.execute(f"UPDATE delivered SET {change}")  # noqa: S608  fixed
    kept.store = Store.open(kept.folder, NOW)
    assert kept.store.moved_aside is not None


def test_after_a_commit_that_failed_jobs_are_those_of_the_file(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.commit(*many(3))

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("exporter.store.save_marks", full)
        with pytest.raises(StorageError):
            kept.commit(attempt("new", NOW, job_id="new"), attempt("again", NOW, job_id="j1", number=2))
    tally = kept.commit(attempt("new", NOW, job_id="new"), attempt("again", NOW, job_id="j1", number=2))["int-1"]
    assert (tally.attempts, tally.jobs, tally.delivered_first) == (5, 4, 4)
    assert (kept.rows(), kept.remembered) == ({"job": 1, "delivered": 2}, 4)


def test_in_a_list_without_order_jobs_are_forgotten_when_all_ids_of_their_time_are(kept: Kept) -> None:
    kept.commit(*[attempt(f"b{i}", NOW - i, job_id=f"k{i}", number=None) for i in range(1, 5)])
    kept.commit(*[attempt(f"a{i}", NOW - i, job_id=f"j{i}") for i in range(1, 5)])
    kept.commit(attempt("young", NOW), attempt("untimed", None))
    marks = kept.store.begin("acme", NOW)[0].copied()
    marks.floor_ns = NOW - 1
    for ids, left in (
        ({"young", "untimed", "b4"}, ({"job": 4, "delivered": 2}, 10)),
        ({"young", "untimed", "b4"}, ({"job": 4, "delivered": 2}, 10)),  # of b4's time
        ({"young", "untimed"}, ({"job": 4, "delivered": 2}, 10)),
        (
            {"young", "untimed"},
            ({"job": 1, "delivered": 2}, 7),
        ),  # k1 and j1 are not older than a log that may come late
        ({"young", "untimed"}, ({"job": 1, "delivered": 2}, 7)),
    ):
        kept.commit(marks=marks.copied(), forget=True, listed=frozenset(ids))
        assert (kept.rows(), kept.remembered) == left


@pytest.mark.parametrize("number", [1, None], ids=["delivered", "a row of its own"])
def test_ids_of_any_characters_are_kept_as_they_are(kept: Kept, number: int | None) -> None:
    names = [
        'quo"te',
        "back\\slash",
        "line\nfeed",
        "\x01\x1f",
        "naïve",
        "日本語",
        "🛒" * 50,
        "0" * 200,
        " ",
        "[1]",
        "\u2028",
    ]
    every = [
        attempt(f"{name}{place}", NOW - place, integration_id=name, job_id=other, number=number)
        for place, (name, other) in enumerate((name, other) for name in names for other in names)
    ]
    for _ in range(2):
        tallies = kept.commit(*every)
        assert {name: (tally.attempts, tally.jobs) for name, tally in tallies.items()} == dict.fromkeys(names, (11, 11))
        kept.reopen()
    again = [attempt(f"{name} again", NOW, integration_id=name, job_id=name, number=2) for name in names]
    assert {(tally.attempts, tally.jobs) for tally in kept.commit(*again).values()} == {(12, 11)}


@pytest.mark.parametrize("at_ns", [0, 1, 999_999_999_999_999_999, 10**18, 2**62 - 1])
def test_times_of_any_length_are_kept_as_they_are(kept: Kept, at_ns: int) -> None:
    kept.commit(attempt("a", at_ns, number=None), now_ns=2**62)
    kept.commit(attempt("b", at_ns, succeeded=False, status_code="500", reason="http_5xx"), now_ns=2**62)
    found = kept.store._reading(lambda connection: Jobs(connection, 1, Memory(1)).where("1"))
    assert {(job.first_ns, job.last_ns, job.delivered_ns, job.failing) for job in found.values()} == {
        (at_ns, at_ns, at_ns, False), (at_ns, at_ns, None, True),
    }  # fmt: skip
