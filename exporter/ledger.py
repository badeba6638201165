"""What counts, and how it changes a tally. Pure: the store calls it inside its transaction, with rows that are new.

Theory: the primary key of the ids decides what is new, before anything here runs; so everything here may assume that
it sees each attempt once, in whatever order pages and polls delivered it, and must give the same tallies for every
order. Where a number cannot be known yet (how long a job took whose first attempt has not turned up), it waits in the
job's row (`Job.pending`) until the first attempt arrives, or until the floor has passed and no late log can bring it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

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


class Entry(msgspec.Struct, frozen=True, gc=False):
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
    # Integration id → job id → when (ns): new jobs of which there is no more to remember (`delivered_job`).
    delivered: dict[str, dict[str, int]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    changed_jobs: dict[JobKey, Job] = field(default_factory=dict)  # in the order of their first change

    def tally(self, integration_id: str) -> Tally:
        self.changed.add(integration_id)
        tally = self.tallies.get(integration_id)
        if tally is None:
            tally = self.tallies[integration_id] = Tally(born_ns=self.now_ns)
        return tally


def count(book: Book, entries: Iterable[Entry], *, counting: bool) -> None:
    """Enter new attempts. `counting` False: a baseline that is remembered (gauges, jobs, codes at 0), not counted."""
    by_integration: dict[str, list[Entry]] = {}
    for entry in entries:
        by_integration.setdefault(entry.attempt.integration_id, []).append(entry)
    for integration_id, own in by_integration.items():
        _sort(own)
        tally = book.tally(integration_id)
        success_before = tally.last_success_ns
        failures = [entry.at_ns for entry in own if entry.attempt.succeeded is False]
        _prime(book, tally, own, failures)
        if counting:
            _count_attempts(tally, [entry.attempt for entry in own])
        _enter_jobs(book, tally, integration_id, own, counting=counting)
        success = tally.last_success_ns
        if success is not None and success != success_before:
            # The streak is a question of `created_at`, not of arrival: a late success may stand before known failures.
            tally.consecutive_failures = book.failures_after(integration_id, success)
        else:
            tally.consecutive_failures += sum(1 for at_ns in failures if success is None or at_ns > success)


def _sort(own: list[Entry]) -> None:
    """Oldest first, and the same for every order of arrival."""
    own.sort(key=attrgetter("at_ns"))
    if len({entry.at_ns for entry in own}) < len(own):
        own.sort(key=lambda entry: (entry.at_ns, entry.attempt.number or 0, entry.attempt.id))


def _prime(book: Book, tally: Tally, own: Sequence[Entry], failures: Sequence[int]) -> None:
    """Gauges, and the series that these attempts belong to. `own`, `failures`: oldest first."""
    tally.last_attempt_ns = _later(tally.last_attempt_ns, own[-1].at_ns)
    succeeded = next((entry.at_ns for entry in reversed(own) if entry.attempt.succeeded is True), None)
    tally.last_success_ns = _later(tally.last_success_ns, succeeded)
    tally.last_failure_ns = _later(tally.last_failure_ns, failures[-1] if failures else None)
    for code in {entry.attempt.status_code: None for entry in own}:
        if code not in tally.responses:
            tally.responses[code] = 0
            tally.code_born_ns[code] = book.now_ns


def _later(known_ns: int | None, at_ns: int | None) -> int | None:
    return max((each for each in (known_ns, at_ns) if each is not None), default=None)


def _count_attempts(tally: Tally, attempts: Sequence[Attempt]) -> None:
    tally.attempts += len(attempts)
    for code, number in Counter([attempt.status_code for attempt in attempts]).items():
        tally.responses[code] += number
    for reason in [attempt.reason for attempt in attempts if attempt.reason is not None]:
        tally.failures[reason] += 1
    tally.retries += sum([attempt.number is not None and attempt.number > 1 for attempt in attempts])
    tally.processing.observe_all([a.processing_us for a in attempts if a.processing_us is not None])


def _enter_jobs(book: Book, tally: Tally, integration_id: str, own: Sequence[Entry], *, counting: bool) -> None:
    delivered = book.delivered.setdefault(integration_id, {})
    before, jobs, latest_ns = len(delivered), book.jobs, book.now_ns
    for entry in own:
        attempt, at_ns = entry.attempt, entry.at_ns
        job_id = attempt.job_id
        if job_id is None:
            continue
        key = (integration_id, job_id)
        if job_id in delivered:
            jobs[key] = delivered_job(delivered.pop(job_id))
            before -= 1
        elif attempt.number == 1 and attempt.succeeded is True and counting and at_ns <= latest_ns and key not in jobs:
            delivered[job_id] = at_ns
            continue
        _enter_job(book, tally, key, attempt, at_ns, counting=counting)
    news = len(delivered) - before
    tally.jobs += news
    tally.delivered_first += news
    tally.delivery.observe_all([0] * news)


def delivered_job(at_ns: int) -> Job:
    """One whose only attempt so far was its first, and succeeded then."""
    return Job(first_ns=at_ns, last_ns=at_ns, first_known=True, delivered_ns=at_ns, counted=True)


def _enter_job(book: Book, tally: Tally, key: JobKey, attempt: Attempt, at_ns: int, *, counting: bool) -> None:
    job = book.jobs.get(key)
    known_before = job is not None and job.first_ns < at_ns
    if job is None:
        job = book.jobs[key] = Job(at_ns, at_ns)
    book.changed_jobs[key] = job
    # A first attempt that is dated after another one does not say when the job began.
    if at_ns <= job.first_ns:
        job.first_known = attempt.number == 1 or (job.first_known and at_ns == job.first_ns)
        job.first_ns = at_ns
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
        book.changed_jobs[key] = job
        if job.delivered_ns is not None and job.first_ns < job.delivered_ns:
            _observe_delivery(tally, job)
        job.pending = False


def cease_failing(book: Book, jobs: Mapping[JobKey, Job]) -> None:
    """Jobs whose last attempt is JOB_FAILING_NS ago: EPCC has given up on them, and so does the gauge."""
    for key, job in jobs.items():
        book.changed_jobs[key] = job
        if job.failing:
            job.failing = False
            book.tally(key[0]).jobs_failing -= 1
