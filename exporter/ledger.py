"""What counts, and how it changes a tally. Pure: the store calls it inside its transaction, with rows that are new.

Theory: the primary key of the ids decides what is new, before anything here runs; so everything here may assume that
it sees each attempt once, in whatever order pages and polls delivered it, and must give the same tallies for every
order. Where a number cannot be known yet (how long a job took whose first attempt has not turned up), it waits in the
job's row (`Job.pending`) until the first attempt arrives, or until the floor has passed and no late log can bring it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from exporter.records import Attempt
from exporter.tally import Tally

SECOND: Final = 1_000_000_000  # ns
JOB_FAILING_NS: Final = 24 * 3600 * SECOND  # a job without success counts as failing this long after its last attempt

JobKey = tuple[str, str]  # integration id, job id


class Job(msgspec.Struct, gc=False):
    """One job, remembered from its first attempt until no log of it can come any more (`expired`)."""

    first_ns: int  # earliest attempt seen
    last_ns: int  # latest attempt seen
    first_known: bool = False  # the earliest of them is number 1: nothing earlier can come
    delivered_ns: int | None = None  # earliest success seen
    counted: bool = False  # in jobs_total: False while all its attempts belong to a baseline that is not counted
    failing: bool = False  # in jobs_failing
    pending: bool = False  # delivered and counted, its delivery time not observed yet
    ref: int | None = None  # its row's; None: it has none yet


class Entry(NamedTuple):
    """An attempt that the primary key called new, with the time that it stands under (`created_at`, or first seen)."""

    attempt: Attempt
    at_ns: int


@dataclass(slots=True)
class Book:
    """The rows that a transaction works on: copies, so that a failed commit leaves the published ones alone."""

    tallies: dict[str, Tally]
    jobs: dict[JobKey, Job]
    now_ns: int
    failures_after: Callable[[str, int], int]  # failed attempts of an integration later than a time, new ones included
    changed: set[str] = field(default_factory=set)
    changed_jobs: dict[JobKey, None] = field(default_factory=dict)  # in the order of their first change

    def tally(self, integration_id: str) -> Tally:
        self.changed.add(integration_id)
        tally = self.tallies.get(integration_id)
        if tally is None:
            tally = self.tallies[integration_id] = Tally(born_ns=self.now_ns)
        return tally


def count(book: Book, entries: Iterable[Entry], *, counting: bool) -> None:
    """Enter new attempts. `counting` False: a baseline that is remembered (gauges, jobs, codes at 0), not counted."""
    by_integration: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.at_ns, entry.attempt.number or 0, entry.attempt.id)):
        by_integration.setdefault(entry.attempt.integration_id, []).append(entry)
    for integration_id, own in by_integration.items():
        tally = book.tally(integration_id)
        success_before = tally.last_success_ns
        failures = []
        for attempt, at_ns in own:
            _prime(book, tally, attempt, at_ns)
            if attempt.succeeded is False:
                failures.append(at_ns)
            if counting:
                _count_attempt(tally, attempt)
            if attempt.job_id is not None:
                _enter_job(book, tally, attempt, at_ns, counting=counting)
        success = tally.last_success_ns
        if success is not None and success != success_before:
            # The streak is a question of `created_at`, not of arrival: a late success may stand before known failures.
            tally.consecutive_failures = book.failures_after(integration_id, success)
        else:
            tally.consecutive_failures += sum(1 for at_ns in failures if success is None or at_ns > success)


def _prime(book: Book, tally: Tally, attempt: Attempt, at_ns: int) -> None:
    """Gauges, and the series that this attempt belongs to."""
    if tally.last_attempt_ns is None or at_ns > tally.last_attempt_ns:
        tally.last_attempt_ns = at_ns
    if attempt.succeeded is True:
        if tally.last_success_ns is None or at_ns > tally.last_success_ns:
            tally.last_success_ns = at_ns
    elif attempt.succeeded is False and (tally.last_failure_ns is None or at_ns > tally.last_failure_ns):
        tally.last_failure_ns = at_ns
    code = attempt.status_code
    if code not in tally.responses:
        tally.responses[code] = 0
        tally.code_born_ns[code] = book.now_ns


def _count_attempt(tally: Tally, attempt: Attempt) -> None:
    tally.attempts += 1
    tally.responses[attempt.status_code] += 1
    if attempt.reason is not None:
        tally.failures[attempt.reason] += 1
    if attempt.number is not None and attempt.number > 1:
        tally.retries += 1
    if attempt.processing_us is not None:
        tally.processing.observe(attempt.processing_us)


def _enter_job(book: Book, tally: Tally, attempt: Attempt, at_ns: int, *, counting: bool) -> None:
    assert attempt.job_id is not None  # noqa: S101  # the caller's check, for the types
    key = (attempt.integration_id, attempt.job_id)
    book.changed_jobs[key] = None
    job = book.jobs.get(key)
    known_before = job is not None and job.first_ns < at_ns
    if job is None:
        job = book.jobs[key] = Job(at_ns, at_ns)
    # A first attempt that is dated after another one does not say when the job began.
    job.first_known = attempt.number == 1 if at_ns < job.first_ns else job.first_known or (
        attempt.number == 1 and at_ns == job.first_ns)  # fmt: skip
    job.first_ns = min(job.first_ns, at_ns)
    job.last_ns = max(job.last_ns, at_ns)
    if counting and not job.counted:
        job.counted = True
        tally.jobs += 1
    if attempt.succeeded is True:
        if job.delivered_ns is None and counting:
            first = attempt.number == 1 or (attempt.number is None and not known_before)
            _count_delivery(tally, job, first=first)
        if job.delivered_ns is None or at_ns < job.delivered_ns:
            job.delivered_ns = at_ns
    failing = job.delivered_ns is None and (job.failing or attempt.succeeded is False)
    tally.jobs_failing += failing - job.failing
    job.failing = failing
    if job.pending and job.first_known:
        _observe_delivery(tally, job)


def _count_delivery(tally: Tally, job: Job, *, first: bool) -> None:
    job.pending = not first
    if first:
        tally.delivered_first += 1
        tally.delivery.observe(0)
    else:
        tally.delivered_retry += 1


def _observe_delivery(tally: Tally, job: Job) -> None:
    assert job.delivered_ns is not None  # noqa: S101  # pending says so
    job.pending = False
    tally.delivery.observe(max(0, job.delivered_ns - job.first_ns) // 1000)


def settle(book: Book, jobs: Mapping[JobKey, Job]) -> None:
    """Deliveries older than the floor: no earlier attempt can turn up any more, so the earliest known one stands.

    Where none is known but the success itself, nothing is observed: a delivery time of 0 would be invented.
    """
    for key, job in jobs.items():
        tally = book.tally(key[0])
        book.jobs[key] = job
        book.changed_jobs[key] = None
        if job.delivered_ns is not None and job.first_ns < job.delivered_ns:
            _observe_delivery(tally, job)
        job.pending = False


def cease_failing(book: Book, jobs: Mapping[JobKey, Job]) -> None:
    """Jobs whose last attempt is JOB_FAILING_NS ago: EPCC has given up on them, and so does the gauge."""
    for key, job in jobs.items():
        book.jobs[key] = job
        book.changed_jobs[key] = None
        if job.failing:
            job.failing = False
            book.tally(key[0]).jobs_failing -= 1
