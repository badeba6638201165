"""Whatever the lists look like and whenever they are read, the tallies are those of a perfect observer."""

from __future__ import annotations

import asyncio
import math
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from exporter import ledger
from exporter.epcc import Epcc
from exporter.ledger import Book, Entry, Job, JobKey
from exporter.manners import ORDERS, Manners
from exporter.questions import Evidence
from exporter.records import REASONS, Attempt
from exporter.shop import Integration, Log
from exporter.tally import DELIVERY_BOUNDS, PROCESSING_BOUNDS, Tally
from tests.shelf import attempt
from tests.world import SECOND, START_NS, World, run

EXAMPLES = settings().max_examples  # of the profile that conftest loads

LOOKBACK_SECONDS = 60
BIRTHS = ("born_ns", "code_born_ns", "announced", "announced_codes")  # when, not how much

# --- the perfect observer


@dataclass(frozen=True)
class Seen:
    """What of an attempt the tallies depend on."""

    integration: str
    job: str | None
    number: int
    succeeded: bool | None
    code: str
    reason: str | None
    processing_us: int | None
    created_ns: int
    late_seconds: int = 0  # how long it stays out of sight


def observed(attempts: Iterable[Seen]) -> dict[str, dict[str, Any]]:
    """The tallies of a set of attempts, as one reads them in the README."""
    by_integration: dict[str, list[Seen]] = {}
    for each in attempts:
        by_integration.setdefault(each.integration, []).append(each)
    return {integration: _observed(every) for integration, every in by_integration.items()}


def _observed(every: list[Seen]) -> dict[str, Any]:
    jobs: dict[str, list[Seen]] = {}
    for each in every:
        if each.job is not None:
            jobs.setdefault(each.job, []).append(each)
    first = retry = failing = 0
    waited_us = []
    for tries in jobs.values():
        successes = [each for each in tries if each.succeeded]
        if successes:
            first += min(successes, key=lambda each: each.created_ns).number == 1
            retry += min(successes, key=lambda each: each.created_ns).number > 1
            began_ns = min(each.created_ns for each in tries)
            waited_us.append((min(each.created_ns for each in successes) - began_ns) // 1000)
        failing += not successes and any(each.succeeded is False for each in tries)
    processed_us = [each.processing_us for each in every if each.processing_us is not None]
    last_success = max((each.created_ns for each in every if each.succeeded), default=None)
    failures = [each for each in every if each.succeeded is False]
    reasons = Counter(each.reason for each in failures)
    return {
        "attempts": len(every),
        "failures": {reason: reasons[reason] for reason in REASONS},
        "responses": dict(Counter(each.code for each in every)),
        "retries": sum(each.number > 1 for each in every),
        "processing": {**_histogram(PROCESSING_BOUNDS, processed_us), "native": _native(processed_us)},
        "jobs": len(jobs),
        "delivered_first": first,
        "delivered_retry": retry,
        "delivery": {**_histogram(DELIVERY_BOUNDS, waited_us), "native": None},
        "consecutive_failures": sum(last_success is None or each.created_ns > last_success for each in failures),
        "jobs_failing": failing,
        "last_attempt_ns": max(each.created_ns for each in every),
        "last_success_ns": last_success,
        "last_failure_ns": max((each.created_ns for each in failures), default=None),
    }


def _histogram(bounds: Sequence[float], microseconds: Sequence[int]) -> dict[str, Any]:
    counts = [0] * (len(bounds) + 1)
    for each in microseconds:
        counts[bisect_left([round(bound * 1_000_000) for bound in bounds], each)] += 1
    return {"bounds": tuple(bounds), "counts": counts, "sum_us": sum(microseconds)}


def _native(microseconds: Sequence[int]) -> dict[str, Any]:
    """Eight buckets for each doubling; no test here has so many values that there are too many of them."""
    places = Counter(math.ceil(8 * math.log2(each / 1_000_000)) for each in microseconds if each)
    return {"schema": 3, "zero": microseconds.count(0), "buckets": dict(places)}


def held(tallies: dict[str, Tally]) -> dict[str, dict[str, Any]]:
    return {
        integration: {key: value for key, value in msgspec.to_builtins(tally).items() if key not in BIRTHS}
        for integration, tally in tallies.items()
        if tally.attempts
    }


# --- sets of attempts

FAILURES = [
    ("302", "", "http_3xx"), ("404", "", "http_4xx"), ("503", "", "http_5xx"), ("none", "deadline exceeded", "timeout"),
    ("none", "connection refused", "connection"), ("none", "no such host", "dns"), ("none", "x509", "tls"),
    ("none", "what", "other"),
]  # fmt: skip


@st.composite
def attempt_sets(draw: st.DrawFn) -> list[tuple[Seen, str]]:
    """Jobs of two integrations, each tried until it succeeds or is given up; with each attempt's error text."""
    found = []
    for job in range(draw(st.integers(1, 8))):
        integration = draw(st.sampled_from(["shipping", "erp"]))
        at_ns = START_NS + draw(st.integers(-200, 60)) * SECOND
        failures = draw(st.lists(st.sampled_from(FAILURES), max_size=3))
        delivered = draw(st.booleans()) or not failures
        for number in range(1, len(failures) + delivered + 1):
            succeeded = number > len(failures)
            code, text, reason = ("200", "", None) if succeeded else failures[number - 1]
            processing_us = draw(st.none() | st.sampled_from([0, 50_000, 50_001, 9_999_999, 10_000_000, 31_000_000]))
            late = draw(st.sampled_from([0, 0, 0, 1, 30, LOOKBACK_SECONDS - 1]))
            seen = Seen(integration, f"job-{job}", number, succeeded, code, reason, processing_us, at_ns, late)
            found.append((seen, text))
            # Equal times, and times that differ in the last digit, are what stitching must survive.
            at_ns += draw(st.sampled_from([0, 0, 1, SECOND, 5 * SECOND, 15 * SECOND]))
    return found


# So far apart that nobody can take a jumble of them for an order.
ELDERS = [
    (Seen("shipping", f"elder-{n}", 1, True, "200", None, 0, START_NS - (300 + 100 * n) * SECOND), "") for n in range(9)
]


def logged(number: int, seen: Seen, text: str) -> Log:
    assert seen.job is not None
    return Log(
        id=f"log-{number}", integration_id=seen.integration, job_id=seen.job, attempt=seen.number,
        succeeded=seen.succeeded is True, status_code=None if seen.code == "none" else int(seen.code),
        error_detail=text, body="", created_ns=seen.created_ns,
        processing_time=None if seen.processing_us is None else seen.processing_us / 1_000_000,
        visible_ns=seen.created_ns + seen.late_seconds * SECOND,
    )  # fmt: skip


@st.composite
def lists(draw: st.DrawFn) -> Manners:
    return Manners(
        order=draw(st.sampled_from([order for order in ORDERS if order != "shuffled"])),
        page_length_max=draw(st.sampled_from([2, 3, 5, 7, 25, 100])),
        ties_permuted=draw(st.booleans()),
        faults=draw(st.sampled_from([{}, {"duplicate_in_page": 0.3}])),
        time_digits=9,
        time_zone=draw(st.sampled_from(["Z", "+05:30", "-11:00"])),
    )


@dataclass(frozen=True)
class Visit:
    """A poll, what went before it, and what is waited after it."""

    restarts: bool
    page_limit: int
    seconds: int


visits = st.builds(Visit, st.booleans(), st.sampled_from([1, 2, 3, 10, 100]), st.integers(1, 90))


@settings(max_examples=EXAMPLES // 2)
@given(
    attempts=attempt_sets(),
    manners=lists(),
    visits=st.lists(visits, min_size=1, max_size=5),
)
def test_any_list_read_in_any_pages_polls_and_restarts_gives_the_tallies_of_a_perfect_observer(
    attempts: list[tuple[Seen, str]], manners: Manners, visits: list[Visit]
) -> None:
    async def live(folder: Path) -> tuple[dict[str, Tally], dict[str, int]]:
        epcc = Epcc(manners)
        for integration in ("shipping", "erp"):
            epcc.add_integration(Integration(integration, integration))
        epcc.add(*(logged(number, seen, text) for number, (seen, text) in enumerate([*ELDERS, *attempts])))
        world = World(folder, epcc, lookback=float(LOOKBACK_SECONDS))
        try:
            for visit in visits:
                if visit.restarts:
                    world.config = replace(world.config, page_limit=visit.page_limit)
                    world.boot()
                await world.poller.poll()
                await asyncio.sleep(visit.seconds)
            await asyncio.sleep(300)
            world.poller._complete_at = None
            await world.poller.poll()
            assert world.poller.failure is None
            return world.poller.intake.tallies, world.poller.intake.marks.gaps
        finally:
            world.close()

    event(manners.order)
    with tempfile.TemporaryDirectory() as folder:
        tallies, gaps = run(live(Path(folder) / "data"))
    event(f"gaps: {sorted(gaps)}")
    if manners.ties_permuted and gaps.keys() & {"ties", "paging_ignored"}:
        return  # more records of one time than a page can repeat, in another order each time: it says so
    assert held(tallies) == observed(seen for seen, _ in [*ELDERS, *attempts])
    assert gaps == {}


# --- the order of a list


@example([[0], [10, 15]])  # a lookback, to the nanosecond, is not more than one
@example([[15], [5, 0]])
@given(st.lists(st.lists(st.integers(0, 60), max_size=6), max_size=6))
def test_pages_of_times_are_the_evidence_that_their_times_are_one_by_one(pages: list[list[int]]) -> None:
    at_once, singly = Evidence(10), Evidence(10)
    for page in pages:
        at_once.read(page)
        for at in page:
            singly.read([at])
        assert at_once == singly


# --- the ledger alone


def entry(number: int, seen: Seen) -> Entry:
    made = attempt(
        f"log-{number:03}", seen.created_ns, integration_id=seen.integration, job_id=seen.job, number=seen.number,
        succeeded=seen.succeeded, status_code=seen.code, reason=seen.reason, processing_us=seen.processing_us,
    )  # fmt: skip
    return Entry(made, seen.created_ns)


def counted(
    batches: Iterable[Sequence[Entry]], now_ns: int = START_NS + 3600 * SECOND
) -> tuple[dict[str, Tally], dict[JobKey, Job]]:
    """What the ledger makes of batches, where each works on what is left of the ones before, as in the store."""
    tallies: dict[str, Tally] = {}
    jobs: dict[JobKey, Job] = {}
    failed: list[Attempt] = []
    for batch in batches:
        failed += [each.attempt for each in batch if each.attempt.succeeded is False]

        def failures_after(integration: str, at_ns: int, failed: list[Attempt] = failed) -> int:
            times = [a.created_ns for a in failed if a.integration_id == integration and a.created_ns is not None]
            return sum(each > at_ns for each in times)

        book = Book(tallies, jobs, now_ns, failures_after)
        ledger.count(book, batch, counting=True)
        jobs.update(
            {(i, job): ledger.delivered_job(at) for i, own in book.delivered.items() for job, at in own.items()}
        )
    return tallies, jobs


@st.composite
def shuffled_and_cut(draw: st.DrawFn, entries: list[Entry]) -> list[list[Entry]]:
    shuffled = draw(st.permutations(entries))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(shuffled) - 1)))))
    return [shuffled[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(shuffled)], strict=True)]


@settings(max_examples=3 * EXAMPLES)
@given(
    attempts=attempt_sets(),
    strangers=st.lists(st.tuples(st.sampled_from([None, True]), st.integers(-200, 60)), max_size=4),
    data=st.data(),
)
def test_any_order_and_any_split_into_commits_gives_the_same_tallies_and_jobs(
    attempts: list[tuple[Seen, str]], strangers: list[tuple[bool | None, int]], data: st.DataObject
) -> None:
    # Attempts of no known job, and attempts of which nothing says how they ended.
    without_job = [
        Seen("shipping", None if succeeded else "odd", 1, succeeded, "200" if succeeded else "none",
             None, None, START_NS + seconds * SECOND)
        for succeeded, seconds in strangers
    ]  # fmt: skip
    every = [*(seen for seen, _ in attempts), *without_job]
    entries = [entry(number, seen) for number, seen in enumerate(every)]
    straight = counted([entries])
    assert counted(data.draw(shuffled_and_cut(entries))) == straight
    # From here all is dated in the future, and no job is one of those that need no row of their own.
    tallies, jobs = counted(data.draw(shuffled_and_cut(entries)), now_ns=0)
    assert jobs == straight[1]
    assert {i: tally.born_ns for i, tally in tallies.items()} == dict.fromkeys(straight[0], 0)
    assert held(tallies) == observed(every)
    assert held(straight[0]) == observed(every)
