"""The names that others build on, and what the exporter says about itself before anything has happened."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.exposition import generate_latest as text_page
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_page
from prometheus_client.samples import Sample

from exporter.metrics import ENDPOINTS, FAMILIES, GAP_CAUSES, ORDERS, POLL_FAILURE_REASONS, OwnMetrics
from exporter.records import MISSABLE_FIELDS, REJECT_REASONS

# Written out, not computed: whoever renames a metric breaks other people's rules, and must change this table too.
DELIVERY = {
    ("attempts", "counter"): (),
    ("attempt_failures", "counter"): ("reason",),
    ("responses", "counter"): ("status_code",),
    ("retries", "counter"): (),
    ("processing_seconds", "histogram"): ("le",),
    ("jobs", "counter"): (),
    ("jobs_delivered", "counter"): ("attempt",),
    ("job_delivery_seconds", "histogram"): ("le",),
    ("jobs_failing", "gauge"): (),
    ("jobs_unlogged", "gauge"): (),
    ("consecutive_failures", "gauge"): (),
    ("last_attempt_timestamp_seconds", "gauge"): (),
    ("last_success_timestamp_seconds", "gauge"): (),
    ("last_failure_timestamp_seconds", "gauge"): (),
    ("info", "gauge"): ("integration_name", "integration_type"),
    ("enabled", "gauge"): (),
}
OWN = {
    "epcc_up": "gauge",
    "polls": "counter",
    "poll_failures": "counter",
    "poll_duration_seconds": "histogram",
    "last_successful_poll_timestamp_seconds": "gauge",
    "api_requests": "counter",
    "api_request_duration_seconds": "histogram",
    "complete_through_timestamp_seconds": "gauge",
    "outage_budget_seconds": "gauge",
    "series_held": "gauge",
    "logs_counted": "counter",
    "logs_duplicate": "counter",
    "logs_rejected": "counter",
    "log_fields_missing": "counter",
    "arrival_delay_seconds": "histogram",
    "gaps": "counter",
    "gap_open": "gauge",
    "list_order": "gauge",
    "walk_pages": "gauge",
    "state_bytes": "gauge",
    "series_folded": "counter",
    "config_last_reload_successful": "gauge",
    "config_last_reload_success_timestamp_seconds": "gauge",
    "build_info": "gauge",
    "standby": "gauge",
    "shard_ordinal": "gauge",
    "total_shards": "gauge",
}


def samples(own: OwnMetrics, store: str | None = None) -> list[Sample]:
    found = [sample for family in own.registry.collect() for sample in family.samples]
    return [sample for sample in found if store is None or sample.labels.get("store") == store]


def values(own: OwnMetrics, name: str, label: str) -> dict[str, float]:
    return {s.labels[label]: s.value for s in samples(own) if s.name == f"epcc_exporter_{name}"}


def test_the_delivery_metrics_are_those_that_were_promised() -> None:
    found = {(family.name.removeprefix("epcc_integration_"), family.kind): family.labels for family in FAMILIES}
    assert found == DELIVERY


def test_the_exporters_own_metrics_are_those_that_were_promised() -> None:
    families = {family.name: family.type for family in OwnMetrics().registry.collect()}
    own = {name.removeprefix("epcc_exporter_"): kind for name, kind in families.items() if name.startswith("epcc_")}
    assert own == OWN
    assert {"process_resident_memory_bytes", "python_gc_objects_collected"} <= families.keys()


@pytest.mark.parametrize(
    ("name", "label", "closed"),
    [
        ("poll_failures_total", "reason", POLL_FAILURE_REASONS),
        ("gaps_total", "cause", GAP_CAUSES),
        ("gap_open", "cause", GAP_CAUSES),
        ("logs_rejected_total", "reason", REJECT_REASONS),
        ("log_fields_missing_total", "field", MISSABLE_FIELDS),
        ("api_request_duration_seconds_count", "endpoint", ENDPOINTS),
    ],
)
def test_a_new_store_has_every_series_of_a_closed_set_at_0(name: str, label: str, closed: tuple[str, ...]) -> None:
    own = OwnMetrics()
    own.add_store("acme")
    assert values(own, name, label) == dict.fromkeys(closed, 0.0)


@pytest.mark.parametrize(
    "name",
    ["polls_total", "logs_counted_total", "logs_duplicate_total", "series_folded_total", "series_held",
     "poll_duration_seconds_count", "arrival_delay_seconds_count"],
)  # fmt: skip
def test_a_new_store_has_its_plain_counters_at_0(name: str) -> None:
    own = OwnMetrics()
    own.add_store("acme")
    assert values(own, name, "store") == {"acme": 0.0}


def test_what_is_not_known_yet_is_absent_and_not_0() -> None:
    own = OwnMetrics()
    own.add_store("acme")
    names = {sample.name for sample in samples(own, "acme")}
    assert names.isdisjoint({
        "epcc_up", "epcc_exporter_complete_through_timestamp_seconds", "epcc_exporter_outage_budget_seconds",
        "epcc_exporter_last_successful_poll_timestamp_seconds", "epcc_exporter_walk_pages",
    })  # fmt: skip


def test_of_the_orders_the_present_one_alone_is_1() -> None:
    own = OwnMetrics()
    own.add_store("acme")
    assert values(own, "list_order", "order") == {**dict.fromkeys(ORDERS, 0.0), "unknown": 1.0}
    own.set_order("acme", "oldest_first")
    assert values(own, "list_order", "order") == {**dict.fromkeys(ORDERS, 0.0), "oldest_first": 1.0}


def fill(own: OwnMetrics, store: str) -> None:
    own.add_store(store)
    own.up.labels(store=store).set(1)
    own.complete_through.labels(store=store).set(1.7e9)
    own.api_requests.labels(store=store, endpoint="logs", code="200").inc()
    own.api_request_duration.labels(store=store, endpoint="logs").observe(0.2)


def test_a_store_that_left_leaves_no_series_and_takes_no_other_stores() -> None:
    own = OwnMetrics()
    fill(own, "other")
    before = samples(own, "other")
    fill(own, "acme")
    own.remove_store("acme")
    assert samples(own, "acme") == []
    assert samples(own, "other") == before


def test_a_store_that_never_was_leaves_without_complaint_and_one_that_comes_back_begins_at_0() -> None:
    own = OwnMetrics()
    own.remove_store("acme")
    fill(own, "acme")
    own.polls.labels(store="acme").inc()
    own.remove_store("acme")
    own.add_store("acme")
    assert values(own, "polls_total", "store") == {"acme": 0.0}


@pytest.mark.parametrize("page", [text_page, openmetrics_page])
def test_no_birth_is_shown_as_a_series_of_its_own(page: Any) -> None:
    own = OwnMetrics()
    fill(own, "acme")
    text = page(own.registry).decode()
    assert 'epcc_exporter_polls_total{store="acme"} 0.0' in text
    assert "_created" not in text


def test_every_metric_has_a_help_text_of_one_line() -> None:
    texts = {f.name: f.help for f in FAMILIES} | {f.name: f.documentation for f in OwnMetrics().registry.collect()}
    assert [name for name, text in texts.items() if not text or "\n" in text] == []
