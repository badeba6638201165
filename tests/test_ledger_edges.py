"""The ledger by itself, one fact at a time: what several attempts add up to, and what a time at the very edge does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from exporter import ledger
from exporter.ledger import JOB_FAILING_NS, Book, Entry, Job, JobKey, delivered_job
from exporter.records import Attempt
from exporter.tally import Tally
from tests.shelf import NOW, SECOND, attempt

HOUR = 3600 * SECOND


def failed(log_id: str, created_ns: int, **changes: object) -> Attempt:
    return attempt(log_id, created_ns, **{"succeeded": False, "status_code": "503", "reason": "http_5xx", **changes})


class Counting:
    """What the store does around `ledger.count`, in memory."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self.jobs: dict[JobKey, Job] = {}
        self.failures: list[Attempt] = []

    def book(self) -> Book:
        def failures_after(integration_id: str, at_ns: int) -> int:
            mine = (each for each in self.failures if each.integration_id == integration_id)
            return sum(1 for each in mine if each.created_ns is not None and each.created_ns > at_ns)

        return Book(self.tallies, self.jobs, NOW, failures_after)

    def count(self, *attempts: Attempt, counting: bool = True) -> Tally:
        self.failures += [each for each in attempts if each.succeeded is False]
        entries = [Entry(each, each.created_ns) for each in attempts if each.created_ns is not None]
        book = self.book()
        ledger.count(book, entries, counting=counting)
        for integration_id, own in book.delivered.items():
            self.jobs.update({(integration_id, job_id): delivered_job(at_ns) for job_id, at_ns in own.items()})
        return self.tallies["int-1"]


@pytest.fixture
def ledger_() -> Counting:
    return Counting()


def test_each_attempt_adds_one_to_what_it_belongs_to(ledger_: Counting) -> None:
    for number in range(1, 4):
        tally = ledger_.count(failed(f"f{number}", NOW + number, job_id="a", number=number, processing_us=10))
    tally = ledger_.count(attempt("s", NOW, job_id="b", processing_us=None), attempt("t", NOW, job_id="c"))
    assert (tally.attempts, tally.failed, tally.failures["http_5xx"], tally.retries) == (5, 3, 3, 2)
    assert tally.responses == {"503": 3, "200": 2}
    assert (tally.processing.count, tally.processing.sum_us) == (4, 250_030)
    assert (tally.jobs, tally.delivered_first, tally.delivered_retry, tally.jobs_failing) == (3, 2, 0, 1)


def test_every_retried_delivery_adds_one(ledger_: Counting) -> None:
    tally = ledger_.count(*[attempt(f"s{i}", NOW, job_id=f"j{i}", number=2) for i in range(3)])
    assert (tally.delivered_first, tally.delivered_retry, tally.jobs) == (0, 3, 3)


def test_an_attempt_without_a_number_is_no_retry(ledger_: Counting) -> None:
    assert ledger_.count(failed("a", NOW, number=None)).retries == 0


def test_a_series_is_as_old_as_the_commit_that_made_it(ledger_: Counting) -> None:
    tally = ledger_.count(attempt("a", NOW - HOUR))
    assert (tally.born_ns, tally.code_born_ns) == (NOW, {"200": NOW})


def test_the_latest_of_each_kind_is_kept_whatever_comes_after_it(ledger_: Counting) -> None:
    tally = ledger_.count(failed("f", NOW + 3))
    assert (tally.last_attempt_ns, tally.last_success_ns, tally.last_failure_ns) == (NOW + 3, None, NOW + 3)
    ledger_.count(attempt("s", NOW + 2))
    ledger_.count(failed("e", NOW + 1))
    tally = ledger_.count(attempt("o", NOW + 5, succeeded=None))
    assert (tally.last_attempt_ns, tally.last_success_ns, tally.last_failure_ns) == (NOW + 5, NOW + 2, NOW + 3)


def test_a_failure_of_the_same_instant_as_the_last_success_is_not_after_it(ledger_: Counting) -> None:
    ledger_.count(attempt("s", NOW))
    assert ledger_.count(failed("f", NOW)).consecutive_failures == 0
    assert ledger_.count(failed("g", NOW + 1)).consecutive_failures == 1


def test_the_streaks_of_two_integrations_do_not_touch(ledger_: Counting) -> None:
    ledger_.count(failed("a", NOW), failed("b", NOW, integration_id="int-2"), failed("c", NOW, integration_id="int-2"))
    ledger_.count(attempt("s", NOW + 1, integration_id="int-2"))
    assert ledger_.count(failed("d", NOW + 2)).consecutive_failures == 2
    assert ledger_.tallies["int-2"].consecutive_failures == 0


def test_an_older_success_among_new_failures_asks_nothing_anew(ledger_: Counting) -> None:
    ledger_.count(attempt("s", NOW))
    ledger_.failures.append(failed("forgotten since", NOW + 1))
    assert ledger_.count(attempt("r", NOW - 1), failed("f", NOW + 2)).consecutive_failures == 1


def test_attempts_of_one_instant_are_entered_by_their_number(ledger_: Counting) -> None:
    tally = ledger_.count(attempt("a", NOW, job_id="j", number=2), failed("b", NOW, job_id="j", number=1))
    assert (tally.delivered_retry, tally.delivery.counts[0], tally.delivery.sum_us) == (1, 1, 0)
    first = Counting().count(attempt("z", NOW, job_id="j", number=1), attempt("a", NOW, job_id="j", number=2))
    assert (first.delivered_first, first.delivered_retry) == (1, 0)


def test_one_without_a_number_is_entered_before_the_numbered_of_its_instant(ledger_: Counting) -> None:
    tally = ledger_.count(attempt("b", NOW, job_id="j", number=None), attempt("a", NOW, job_id="j", number=2))
    assert (tally.delivered_first, tally.delivered_retry) == (1, 0)


@pytest.mark.parametrize(
    ("before", "delivered"), [(failed("f", NOW - 1, job_id="j", number=None), (0, 1)), (failed("f", NOW, job_id="j"), (1, 0)), (None, (1, 0))]
)  # fmt: skip
def test_a_success_without_a_number_is_a_first_try_unless_an_earlier_one_is_known(
    ledger_: Counting, before: Attempt | None, delivered: tuple[int, int]
) -> None:
    if before is not None:
        ledger_.count(before)
    tally = ledger_.count(attempt("s", NOW, job_id="j", number=None))
    assert (tally.delivered_first, tally.delivered_retry) == delivered


def test_a_job_delivered_before_the_counting_began_is_not_delivered_again(ledger_: Counting) -> None:
    ledger_.count(attempt("a", NOW, job_id="j"), counting=False)
    tally = ledger_.count(attempt("b", NOW + SECOND, job_id="j", number=2))
    assert (tally.jobs, tally.delivered_first, tally.delivered_retry, tally.delivery.count) == (1, 0, 0, 0)


def test_a_baseline_delivers_nothing_and_leaves_nothing_waiting(ledger_: Counting) -> None:
    tally = ledger_.count(attempt("b", NOW, job_id="j", number=2), counting=False)
    tally = ledger_.count(failed("a", NOW - SECOND, job_id="j", number=1), counting=False)
    assert (tally.delivered_first, tally.delivered_retry, tally.delivery.count, tally.jobs) == (0, 0, 0, 0)
    assert ledger_.jobs["int-1", "j"] == Job(NOW - SECOND, NOW, first_known=True, delivered_ns=NOW)


def test_a_delivery_is_timed_to_the_earliest_success_even_if_a_later_one_was_seen_first(ledger_: Counting) -> None:
    for name, seconds, number in (("c", 9, 4), ("b", 5, 3), ("d", 12, 5)):
        ledger_.count(attempt(name, NOW + seconds * SECOND, job_id="j", number=number))
    tally = ledger_.count(failed("a", NOW, job_id="j", number=1))
    assert (tally.delivered_retry, tally.delivery.count, tally.delivery.sum_us) == (1, 1, 5_000_000)


@pytest.mark.parametrize("batches", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1)])
def test_a_first_attempt_dated_after_the_success_times_no_delivery_whatever_comes_when(
    ledger_: Counting, batches: tuple[int, ...]
) -> None:
    attempts = (
        failed("a", NOW + 3600 * SECOND, job_id="j", number=1),
        attempt("b", NOW, job_id="j", number=3),
        failed("c", NOW - 16 * SECOND, job_id="j", number=2),
    )
    for each in batches:
        tally = ledger_.count(attempts[each])
    assert (tally.delivered_retry, tally.delivery.count) == (1, 0)
    settled(ledger_, ("int-1", "j"))
    assert (tally.delivery.count, tally.delivery.sum_us) == (1, 16_000_000)


def test_a_delivery_of_less_than_a_microsecond_took_none(ledger_: Counting) -> None:
    ledger_.count(failed("a", NOW, job_id="j"), attempt("b", NOW + 999, job_id="j", number=2))
    tally = ledger_.count(failed("c", NOW, job_id="k"), attempt("d", NOW + 1000, job_id="k", number=2))
    assert (tally.delivery.count, tally.delivery.sum_us) == (2, 1)


def test_the_last_attempts_time_is_the_jobs_whatever_the_order(ledger_: Counting) -> None:
    ledger_.count(failed("b", NOW + 2, job_id="j"))
    ledger_.count(failed("a", NOW + 1, job_id="j"), failed("c", NOW + 3, job_id="j"))
    job = ledger_.jobs["int-1", "j"]
    assert (job.first_ns, job.last_ns) == (NOW + 1, NOW + 3)


def test_a_job_fails_from_its_first_failure_until_its_first_success_and_never_after(ledger_: Counting) -> None:
    every = (
        attempt("a", NOW, job_id="j", succeeded=None), failed("b", NOW, job_id="j"), failed("c", NOW, job_id="j"),
        attempt("d", NOW, job_id="j", succeeded=None), attempt("e", NOW, job_id="j"), failed("f", NOW, job_id="j"),
    )  # fmt: skip
    assert [ledger_.count(each).jobs_failing for each in every] == [0, 1, 1, 1, 0, 0]


def settled(ledger_: Counting, *keys: JobKey) -> Book:
    book = ledger_.book()
    ledger.settle(book, {key: ledger_.jobs[key] for key in keys})
    return book


def test_a_settled_delivery_is_observed_once_and_its_job_is_written(ledger_: Counting) -> None:
    ledger_.count(failed("a", NOW, job_id="j", number=2), attempt("b", NOW + SECOND, job_id="j", number=3))
    book = settled(ledger_, ("int-1", "j"))
    assert (book.changed, set(book.changed_jobs)) == ({"int-1"}, {("int-1", "j")})
    tally = ledger_.count(failed("first", NOW - SECOND, job_id="j", number=1))
    assert (tally.delivery.count, tally.delivery.sum_us) == (1, 1_000_000)


def test_a_delivery_of_which_only_the_success_is_known_is_settled_without_a_time_for_good(ledger_: Counting) -> None:
    ledger_.count(attempt("b", NOW, job_id="j", number=2))
    settled(ledger_, ("int-1", "j"))
    assert ledger_.count(failed("a", NOW - SECOND, job_id="j", number=1)).delivery.count == 0


def test_a_job_that_has_ceased_to_fail_is_counted_out_once(ledger_: Counting) -> None:
    ledger_.count(failed("a", NOW, job_id="j"), failed("b", NOW, job_id="k"))
    for _ in range(2):
        book = ledger_.book()
        ledger.cease_failing(book, {("int-1", "j"): ledger_.jobs["int-1", "j"]})
        assert set(book.changed_jobs) == {("int-1", "j")}
    assert (ledger_.tallies["int-1"].jobs_failing, ledger_.jobs["int-1", "j"].failing) == (1, False)
    assert ledger_.count(failed("c", NOW + JOB_FAILING_NS, job_id="j")).jobs_failing == 2


def test_what_a_commit_has_touched_is_what_is_written(ledger_: Counting) -> None:
    book = ledger_.book()
    every: Sequence[Attempt] = (
        attempt("a", NOW, job_id="j"), attempt("b", NOW, integration_id="int-2", job_id=None),
        attempt("c", NOW, job_id="retried", number=2),
    )  # fmt: skip
    ledger.count(book, [Entry(each, NOW) for each in every], counting=True)
    assert book.changed == {"int-1", "int-2"}
    assert set(book.changed_jobs) == {("int-1", "retried")}
    assert book.delivered == {"int-1": {"j": NOW}, "int-2": {}}
