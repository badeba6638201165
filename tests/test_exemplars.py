"""Exemplars: the newest job of each failing reason and of each processing-time bucket."""

from __future__ import annotations

from exporter.exemplars import AHEAD_NS, CHARACTERS_MAX, Exemplar, Exemplars, updated
from exporter.ledger import Entry
from exporter.tally import PROCESSING_BOUNDS
from tests.shelf import NOW, SECOND, attempt


def entry(job_id: str | None, at_ns: int, **changes: object) -> Entry:
    return Entry(attempt("log", at_ns, job_id=job_id, **changes), at_ns)


def failed(job_id: str | None, at_ns: int, reason: str = "http_5xx") -> Entry:
    return entry(job_id, at_ns, succeeded=False, reason=reason, processing_us=None)


def test_a_failure_is_an_exemplar_of_its_reason_and_worth_one() -> None:
    found = updated(None, [failed("job-1", NOW)], NOW)
    assert found == Exemplars({"http_5xx": Exemplar("job-1", 1.0, NOW)}, {})


def test_a_processing_time_is_an_exemplar_of_its_bucket_and_worth_its_seconds() -> None:
    found = updated(
        None, [entry("job-1", NOW, processing_us=250_000), entry("job-2", NOW, processing_us=31_000_000)], NOW
    )
    assert found is not None
    assert found.processing == {
        PROCESSING_BOUNDS.index(0.25): Exemplar("job-1", 0.25, NOW),
        len(PROCESSING_BOUNDS): Exemplar("job-2", 31.0, NOW),
    }


def test_the_newest_stays_whoever_comes_first() -> None:
    old, new = failed("old", NOW - SECOND), failed("new", NOW)
    for order in ([old, new], [new, old]):
        found = updated(None, order, NOW)
        assert found is not None
        assert found.failures["http_5xx"].job_id == "new"
    later = updated(updated(None, [new], NOW), [old, failed("dns", NOW - 2 * SECOND, "dns")], NOW)
    assert later is not None
    assert {reason: each.job_id for reason, each in later.failures.items()} == {"http_5xx": "new", "dns": "dns"}


def test_what_was_published_is_not_changed() -> None:
    before = updated(None, [failed("a", NOW)], NOW)
    assert before is not None
    updated(before, [failed("b", NOW + 1), failed("c", NOW, "dns")], NOW)
    assert before.failures == {"http_5xx": Exemplar("a", 1.0, NOW)}


def test_an_id_too_long_for_an_exemplar_gives_none() -> None:
    longest = "j" * (CHARACTERS_MAX - len("job_id"))
    assert updated(None, [failed(longest, NOW)], NOW) is not None
    assert updated(None, [failed(longest + "j", NOW)], NOW) is None


def test_neither_a_date_in_the_future_nor_an_attempt_without_a_job_gives_one() -> None:
    assert updated(None, [failed("ahead", NOW + AHEAD_NS + 1)], NOW) is None
    assert updated(None, [failed("in time", NOW + AHEAD_NS)], NOW) is not None
    assert updated(None, [failed(None, NOW)], NOW) is None
