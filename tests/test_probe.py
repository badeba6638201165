"""The probe as a whole: a polite store, manners that come together, faults; within its request limit, whatever comes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from exporter.findings import NOT_ASKED, OBSERVED
from exporter.manners import FAULTS, Manners
from exporter.probe import REQUESTS_MAX
from tests.probing import GAP, NUMBER, drawn, found, probe, store, text_of, wrong
from tests.world import shop_of


def test_of_a_polite_store_everything_is_told_that_it_shows() -> None:
    values = found(store())
    assert values == {
        "api": "answers", "token_seconds": 3600.0, "integrations": 2, "order": "newest_first", "stable": "stable",
        "envelope": "2026", "total": "absent", "next_on_last_page": False, "page_limit": ("honoured", 100),
        "over_limit": ("clamped", 100), "default_limit": 25, "paging": "honoured", "length": NUMBER,
        "integration_logs": "answers", "job_logs": "answers", "jobs": "paged", "fields": {}, "types": {},
        "time_format": ((9,), ("Z",)), "ties": 1, "span": (NUMBER - 1) * GAP, "newest_age": 1.0,
        "numbers": {"without_status": 0, "attempt_max": 1}, "date": "present", "skew": values["skew"],
        "rate_headers": {}, "rate_limited": 0, "encoding": ("none",), "codes": {},
    }  # fmt: skip
    assert abs(values["skew"]) <= 0.5


def test_integrations_are_told_by_number_type_and_state_alone() -> None:
    assert probe(store()).findings["integrations"].note == "1 enabled; 1 aws_sqs, 1 webhook"


def test_an_empty_store_is_told_of_as_empty() -> None:
    probed = probe(store(0))
    assert (probed.failure, probed.findings["length"].value) == ("", 0)
    assert probed.findings["order"].note == "no records"
    assert "could not tell" in text_of(probed)


def test_a_busy_store_is_told_of_while_its_lists_grow() -> None:
    for seed in range(3):
        epcc = shop_of(Manners(), seed=seed, jobs_per_second=20.0)
        values = found(epcc)
        assert values["order"] == "newest_first"
        assert values["paging"] == "honoured"
        assert 0 <= values["lateness"] <= 3.0
        assert values.get("length", 3000) > 1500


@pytest.mark.parametrize("seed", range(40))
def test_manners_that_come_together_are_named_right_or_not_told(seed: int) -> None:
    manners = drawn(random.Random(seed))
    probed = probe(store(manners=manners))
    assert list(wrong(probed.findings, manners, NUMBER)) == []
    told = {name for name, finding in probed.findings.items() if finding.sure == OBSERVED}
    assert {"order", "envelope", "paging", "page_limit", "fields", "types", "time_format"} <= told
    assert manners.paging_ignored or {"length", "offset_limit"} & told


MILD = [fault for fault in FAULTS if fault not in ("huge", "gzip_bomb", "deep_nesting")]


@pytest.mark.parametrize("fault", MILD)
def test_a_fault_now_and_then_makes_no_wrong_finding(fault: str) -> None:
    for seed in range(3):
        manners = Manners(faults={fault: 0.15}, envelope="both")
        probed = probe(store(manners=manners, seed=seed))
        if not probed.failure:
            assert list(wrong(probed.findings, replace(manners), NUMBER)) == []


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f not in ("empty_page", "short_page", "duplicate_in_page", "stale_page", "huge")]
)
def test_a_store_that_never_answers_well_could_not_be_asked_and_costs_few_requests(fault: str) -> None:
    probed = probe(store(manners=Manners(down=fault)))
    assert probed.failure
    assert probed.findings["api"].value is None
    assert f"\nEPCC could not be asked: {probed.failure}\n" in text_of(probed)
    assert probed.requests <= 12


def test_wrong_credentials_are_asked_about_once() -> None:
    epcc = store()
    epcc.client_secret = "another"
    probed = probe(epcc)
    assert (probed.failure, probed.requests) == ("auth (401)", 1)


@pytest.mark.parametrize("endpoint", ["integrations", "integration_logs", "jobs", "job_logs"])
def test_a_list_that_does_not_answer_leaves_the_others_told(endpoint: str) -> None:
    probed = probe(store(manners=Manners(down="403", fault_endpoints=frozenset({endpoint}))))
    assert probed.findings[endpoint].note == "the answer was forbidden (403)"
    assert probed.findings["length"].value == NUMBER


def test_what_the_request_limit_leaves_out_is_named_as_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in range(3, REQUESTS_MAX + 1):
        monkeypatch.setattr("exporter.prober.REQUESTS_MAX", limit)
        epcc = store()
        probed = probe(epcc)
        assert len(epcc.seen) <= limit
        assert list(wrong(probed.findings, epcc.manners, NUMBER)) == []
        left_out = {name for name, finding in probed.findings.items() if finding.sure == NOT_ASKED}
        assert bool(left_out) is (limit < 20), (limit, left_out)
        assert all(probed.findings[name].note == "request limit" for name in left_out)
