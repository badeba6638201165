"""What counts, and how it changes a tally: the same tallies for every order of arrival."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import jobs, rows
from exporter.records import Attempt
from exporter.rows import Batch, Marks
from exporter.statefile import NAME, LockedError, NewerStateError
from exporter.store import StorageError, Store
from exporter.tally import Tally
from tests.shelf import NOW, SECOND, attempt

HOUR = 3600 * SECOND


def failed(log_id: str, created_ns: int | None, **changes: object) -> Attempt:
    return attempt(log_id, created_ns, **{"succeeded": False, "status_code": "503", "reason": "http_5xx", **changes})


class Ledger:
    """A store on disk with one EPCC store in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder, NOW)
        self.marks, _ = self.store.begin("acme", NOW)

    def enter(self, *attempts: Attempt, counting: bool = True, now_ns: int = NOW) -> Tally:
        done = self.store.commit("acme", Batch(now_ns=now_ns, attempts=attempts, counting=counting))
        self.marks = done.marks
        return self.tally

    def mark(self, *, floor_ns: int, keep_ns: int, now_ns: int = NOW) -> None:
        marks = self.marks.copied()
        marks.floor_ns, marks.keep_ns = floor_ns, keep_ns
        self.marks = self.store.commit("acme", Batch(now_ns=now_ns, marks=marks, forget=True)).marks

    @property
    def tally(self) -> Tally:
        return self.store.begin("acme", NOW)[1].get("int-1", Tally())

    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder, NOW)
        self.marks, _ = self.store.begin("acme", NOW)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "data")
    yield made
    made.store.close()


def test_the_same_attempt_counts_once_in_a_page_across_pages_and_across_restarts(ledger: Ledger) -> None:
    ledger.enter(attempt("a", NOW), attempt("a", NOW))
    ledger.enter(attempt("a", NOW))
    ledger.restart()
    assert ledger.enter(attempt("a", NOW)).attempts == 1


def test_ids_that_differ_only_in_case_are_two_attempts(ledger: Ledger) -> None:
    assert ledger.enter(attempt("a", NOW), attempt("A", NOW)).attempts == 2


def test_an_attempt_without_a_time_counts_once(ledger: Ledger) -> None:
    ledger.enter(attempt("a", None), now_ns=NOW)
    assert ledger.enter(attempt("a", None), now_ns=NOW + HOUR).attempts == 1


def test_a_record_below_keep_is_ignored_because_it_may_have_been_counted_and_forgotten(ledger: Ledger) -> None:
    ledger.enter(attempt("a", NOW - 10 * SECOND))
    ledger.mark(floor_ns=NOW, keep_ns=NOW - SECOND)
    assert ledger.enter(attempt("a", NOW - 10 * SECOND)).attempts == 1


def test_ids_below_keep_are_forgotten_and_those_above_are_not(ledger: Ledger) -> None:
    ledger.enter(attempt("old", NOW - 10 * SECOND), attempt("new", NOW))
    ledger.mark(floor_ns=NOW, keep_ns=NOW - SECOND)
    kept = ledger.store._reading(lambda connection: connection.execute("SELECT id FROM seen").fetchall())
    assert kept == [("new",)]


def test_a_baseline_is_remembered_and_primes_the_gauges_but_counts_nothing(ledger: Ledger) -> None:
    tally = ledger.enter(failed("a", NOW), counting=False)
    assert (tally.attempts, tally.failed, tally.jobs) == (0, 0, 0)
    assert (tally.consecutive_failures, tally.jobs_failing, tally.last_failure_ns) == (1, 1, NOW)
    assert tally.responses == {"503": 0}
    assert ledger.enter(failed("a", NOW)).attempts == 0


def test_a_jobs_delivery_time_runs_from_its_first_attempt_even_if_that_one_arrives_last(ledger: Ledger) -> None:
    success = attempt("b", NOW + 60 * SECOND, job_id="j", number=2)
    tally = ledger.enter(success)
    assert (tally.jobs, tally.delivered_retry, tally.delivery.count) == (1, 1, 0)
    tally = ledger.enter(failed("a", NOW, job_id="j", number=1))
    assert (tally.jobs, tally.delivered_retry, tally.delivery.count) == (1, 1, 1)
    assert tally.delivery.sum_us == 60_000_000
    assert tally.jobs_failing == 0


def test_a_delivery_whose_first_attempt_never_turns_up_is_settled_by_the_floor(ledger: Ledger) -> None:
    ledger.enter(failed("b", NOW, job_id="j", number=2), attempt("c", NOW + 9 * SECOND, job_id="j", number=3))
    assert ledger.tally.delivery.count == 0
    ledger.mark(floor_ns=NOW + 10 * SECOND, keep_ns=NOW)
    assert (ledger.tally.delivery.count, ledger.tally.delivery.sum_us) == (1, 9_000_000)


def test_a_delivery_time_is_never_invented(ledger: Ledger) -> None:
    ledger.enter(attempt("c", NOW, job_id="j", number=3))
    ledger.mark(floor_ns=NOW + SECOND, keep_ns=NOW - SECOND)
    assert (ledger.tally.delivered_retry, ledger.tally.delivery.count) == (1, 0)


def test_a_first_try_that_succeeds_is_delivered_first_in_no_time(ledger: Ledger) -> None:
    tally = ledger.enter(attempt("a", NOW))
    assert (tally.delivered_first, tally.delivery.count, tally.delivery.sum_us) == (1, 1, 0)


def test_consecutive_failures_follow_created_at_and_not_arrival(ledger: Ledger) -> None:
    ledger.enter(failed("f1", NOW + 1), failed("f3", NOW + 3), failed("f4", NOW + 4))
    assert ledger.tally.consecutive_failures == 3
    assert ledger.enter(attempt("s2", NOW + 2)).consecutive_failures == 2
    assert ledger.enter(failed("f0", NOW)).consecutive_failures == 2
    assert ledger.enter(attempt("s5", NOW + 5)).consecutive_failures == 0


def test_a_job_stops_failing_a_day_after_its_last_attempt(ledger: Ledger) -> None:
    ledger.enter(failed("a", NOW))
    ledger.mark(floor_ns=NOW, keep_ns=NOW, now_ns=NOW + 23 * HOUR)
    assert ledger.tally.jobs_failing == 1
    ledger.mark(floor_ns=NOW, keep_ns=NOW, now_ns=NOW + 25 * HOUR)
    assert ledger.tally.jobs_failing == 0


def test_a_failing_commit_leaves_nothing_and_the_next_one_counts_all(ledger: Ledger) -> None:
    ledger.enter(attempt("a", NOW))
    before = ledger.tally
    ledger.store._ready().execute("PRAGMA max_page_count = 1")  # a full disk, without a disk
    many = [attempt(f"x{i}" * 20, NOW + i, job_id=f"{i}" * 50) for i in range(500)]
    with pytest.raises(StorageError, match="SQLITE_FULL"):
        ledger.enter(*many)
    assert (before.attempts, ledger.tally.attempts) == (1, 1)
    assert ledger.enter(*many).attempts == 501


def test_a_commit_that_fails_at_its_last_statement_leaves_what_is_shown_as_it_was(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError

    shown = ledger.enter(attempt("a", NOW))
    with monkeypatch.context() as patched:
        patched.setattr("exporter.store.save_marks", fail)
        with pytest.raises(StorageError):
            ledger.enter(attempt("b", NOW))
    assert shown.attempts == 1
    assert ledger.enter(attempt("b", NOW)).attempts == 2


def test_a_file_that_cannot_be_opened_again_at_first_is_read_whole_later(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        error = sqlite3.OperationalError()
        error.sqlite_errorname = "SQLITE_IOERR_READ"
        raise error

    ledger.enter(attempt("a", NOW))
    ledger.store._disconnect()
    with monkeypatch.context() as patched:
        patched.setattr("exporter.store.check_sums", fail)
        for _ in range(2):
            with pytest.raises(StorageError, match="SQLITE_IOERR_READ"):
                ledger.enter(attempt("b", NOW))
    assert ledger.enter(attempt("b", NOW)).attempts == 2


def test_a_second_exporter_is_kept_out_and_told_who_holds_the_state(ledger: Ledger) -> None:
    with pytest.raises(LockedError, match=r"in use by pid \d+ on "):
        Store.open(ledger.folder, NOW)


def test_a_state_of_a_newer_version_is_refused_and_left_as_it_is(ledger: Ledger) -> None:
    ledger.store._ready().execute("PRAGMA user_version = 99")
    ledger.store.close()
    before = (ledger.folder / NAME).read_bytes()
    with pytest.raises(NewerStateError, match="newer version"):
        Store.open(ledger.folder, NOW)
    assert (ledger.folder / NAME).read_bytes() == before


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    text = path.read_bytes()
    place = text.rindex(b'"attempts":3') + len('"attempts":')
    path.write_bytes(text[:place] + b"2" + text[place + 1 :])


def _flip_unsummed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"retries":0', b'"retries":9'))


def _forge_id(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"forged-id", b"forged-ID"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        _truncate,
        lambda path: path.write_bytes(b"x" * 9000),
        _flip,
        _flip_unsummed,
        _forge_id,
    ],
    ids=["empty", "cut in half", "overwritten", "a number changed", "a number that no sum holds", "an id changed"],
)
def test_a_damaged_state_is_moved_aside_and_reported_as_a_gap(ledger: Ledger, damage: object) -> None:
    ledger.enter(*[attempt(name, NOW + i) for i, name in enumerate(("forged-id", "b", "c"))])
    ledger.store.close()
    damage(ledger.folder / NAME)  # type: ignore[operator]
    ledger.store = Store.open(ledger.folder, NOW)
    marks, tallies = ledger.store.begin("acme", NOW)
    assert ledger.store.moved_aside is not None
    assert ledger.store.moved_aside.exists()
    assert (marks.gaps, tallies, marks.begins_at_zero) == ({"state_lost": 1}, {}, True)


def test_an_intact_state_is_read_back_as_it_was(ledger: Ledger) -> None:
    before = ledger.enter(failed("a", NOW), attempt("b", NOW + SECOND), attempt("c", None))
    ledger.mark(floor_ns=NOW - HOUR, keep_ns=NOW - 2 * HOUR)
    marks = ledger.marks
    ledger.restart()
    assert (ledger.tally, ledger.marks, ledger.store.moved_aside) == (before, marks, None)


def test_the_state_is_readable_by_its_owner_alone(ledger: Ledger) -> None:
    assert ledger.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in ledger.folder.iterdir()} == {0}


def test_a_gap_that_goes_on_is_one_gap(ledger: Ledger) -> None:
    from exporter.rows import Gap

    def gap(from_ns: int, to_ns: int) -> Marks:
        return ledger.store.commit("acme", Batch(now_ns=NOW, gaps=[Gap("offset_limit", from_ns, to_ns)])).marks

    gap(NOW, NOW + 10)
    assert gap(NOW + 10, NOW + 20).gaps == {"offset_limit": 1}
    assert gap(NOW + 30, NOW + 40).gaps == {"offset_limit": 2}
    assert ledger.store.open_gaps("acme", SECOND) == {"offset_limit": 2}


outcomes = st.lists(st.booleans(), min_size=1, max_size=4)  # a job's attempts: it ends with the first success


@settings(max_examples=60, deadline=None)
@given(data=st.data(), jobs=st.lists(outcomes, min_size=1, max_size=8))
def test_any_order_and_any_split_into_commits_and_restarts_gives_the_same_tallies(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, jobs: list[list[bool]]
) -> None:
    attempts = []
    for number, ends in enumerate(jobs):
        upto = ends.index(True) + 1 if True in ends else len(ends)
        for i, succeeded in enumerate(ends[:upto]):
            make = attempt if succeeded else failed
            at_ns = NOW + (number * 7 + i * 13) * SECOND
            attempts.append(make(f"{number}-{i}", at_ns, job_id=f"j{number}", number=i + 1))
    shuffled = data.draw(st.permutations([*attempts, *data.draw(st.lists(st.sampled_from(attempts), max_size=5))]))
    cuts = data.draw(st.lists(st.integers(1, 6), max_size=8))
    restarts = data.draw(st.lists(st.booleans(), min_size=9, max_size=9))
    straight, cut = (Ledger(tmp_path_factory.mktemp("ledger") / "data") for _ in range(2))
    try:
        straight.enter(*attempts)
        rest = list(shuffled)
        for size, restart in zip([*cuts, len(rest)], restarts, strict=False):
            cut.enter(*rest[:size])
            rest = rest[size:]
            if restart:
                cut.restart()
        assert cut.tally == straight.tally
    finally:
        straight.store.close()
        cut.store.close()


def test_of_many_attempts_those_that_are_known_already_count_once_wherever_they_stand(ledger: Ledger) -> None:
    every = [attempt(f"a{number}", NOW + number % 7, job_id=f"j{number}") for number in range(1_203)]
    ledger.enter(every[0], every[555], every[-1])
    assert ledger.enter(*every).attempts == len(every)
    assert ledger.tally.jobs == len(every)
    ledger.restart()  # where the sums must agree
    assert ledger.enter(*every).attempts == len(every)


@pytest.mark.parametrize("spread", [1, 0], ids=["a time each", "one time for all"])
def test_a_transaction_forgets_so_many_and_says_whether_more_is_left(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, spread: int
) -> None:
    monkeypatch.setattr(rows, "FORGET_MAX", 10)
    every = (attempt(f"a{at}", NOW + at * spread, job_id=f"j{at}", number=None) for at in range(25))
    ledger.enter(*every)
    ledger.enter(attempt("young", NOW + 60 * SECOND, job_id="young"))
    marks = ledger.marks.copied()
    marks.floor_ns = marks.keep_ns = NOW + 50 * SECOND
    left = []
    done = ledger.store.commit("acme", Batch(now_ns=NOW, marks=marks, forget=True))
    while done.forgetful:
        left.append(rows_of(ledger, "seen"))
        done = ledger.store.commit("acme", Batch(now_ns=NOW, forget=True))
    assert left == ([15, 4] if spread else [1, 1])
    assert rows_of(ledger, "seen") == 1
    assert ledger.store.job_owners("acme", "young", ["int-1"]) == ["int-1"]
    assert ledger.store.job_owners("acme", "j24", ["int-1"]) == []
    assert ledger.tally.attempts == 26
    ledger.restart()  # where the sums must agree


def test_what_a_first_walk_has_counted_is_committed_before_anything_is_forgotten(ledger: Ledger) -> None:
    marks = ledger.marks.copied()
    marks.begun, marks.floor_ns, marks.keep_ns = True, NOW + SECOND, NOW + SECOND
    attempts = [attempt(f"a{number}", NOW) for number in range(3)]
    done = ledger.store.commit("acme", Batch(now_ns=NOW, attempts=attempts, marks=marks, forget=True))
    assert (done.tallies["int-1"].attempts, done.forgetful, rows_of(ledger, "seen")) == (3, True, 3)
    done = ledger.store.commit("acme", Batch(now_ns=NOW, forget=True))
    assert (done.forgetful, rows_of(ledger, "seen"), rows_of(ledger, "delivered")) == (False, 0, 0)


def rows_of(ledger: Ledger, table: str) -> int:
    def counted(connection: sqlite3.Connection) -> int:
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  the test's own
        return int(number)

    return ledger.store._reading(counted)


def test_a_look_at_what_can_be_forgotten_costs_what_is_new_and_comes_round_to_every_job(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LOOKS_MIN", 10)
    ledger.enter(*(attempt(f"a{at}", NOW + at, job_id=f"j{at}", number=None) for at in range(100)))
    ledger.mark(floor_ns=NOW, keep_ns=NOW)  # looks at all, for the first time, and all are kept
    left = []
    for number in range(4):
        if number == 2:
            ledger.enter(attempt("young", NOW + HOUR, job_id="young"))
        ledger.mark(floor_ns=NOW + SECOND, keep_ns=NOW + SECOND)
        left.append(rows_of(ledger, "job"))
    assert left == [90, 80, 71, 61]
    ledger.restart()  # and it looks at all again
    ledger.mark(floor_ns=NOW + SECOND, keep_ns=NOW + SECOND)
    assert rows_of(ledger, "job") == 1


def test_what_is_met_again_is_told_of_records_with_a_time_and_of_those_without(ledger: Ledger) -> None:
    both = (attempt("timed", NOW), attempt("untimed", None))
    done = ledger.store.commit("acme", Batch(now_ns=NOW, attempts=both))
    assert ([each.attempt.id for each in done.fresh], done.duplicates) == (["timed", "untimed"], 0)
    done = ledger.store.commit("acme", Batch(now_ns=NOW, attempts=(*both, attempt("new", NOW))))
    assert ([each.attempt.id for each in done.fresh], done.duplicates) == (["new"], 2)
    done = ledger.store.commit("acme", Batch(now_ns=NOW, attempts=(attempt("newer", NOW), both[1])))
    assert ([each.attempt.id for each in done.fresh], done.duplicates) == (["newer"], 1)
