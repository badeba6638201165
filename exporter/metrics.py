"""Every metric's name, help, labels and buckets: the only file that names one.

Delivery families are declared here and rendered by `exposition` from tallies; the exporter's own numbers are objects of
`prometheus_client`, because nothing has to be restored for them. README's table is checked against this file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.utils import floatToGoString

from exporter import __version__, tally
from exporter.delays import Delays
from exporter.exemplars import Exemplar, Exemplars
from exporter.native import Native
from exporter.records import MISSABLE_FIELDS, REASONS, REJECT_REASONS, Integration
from exporter.tally import Tally

POLL_FAILURE_REASONS: Final = (
    "auth", "forbidden", "rate_limited", "server_error", "timeout", "connection", "tls", "invalid_response",
    "not_found", "storage", "other",
)  # fmt: skip
GAP_CAUSES: Final = ("offset_limit", "late", "retention", "order", "ties", "paging_ignored", "state_lost")
ORDERS: Final = ("newest_first", "oldest_first", "unordered", "unknown")
ENDPOINTS: Final = ("token", "integrations", "logs", "integration_logs", "jobs", "job_logs")
HELD_SERIES: Final = 15  # counters and histograms of an integration, without responses by status code

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]  # suffix of the family's name, labels beyond store and integration_id, value


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to show of one integration. `integration` None: EPCC does not list it."""

    tally: Tally
    integration: Integration | None
    jobs_unlogged: int = 0
    exemplars: Exemplars | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """A delivery family. `name` is without `_total`; `samples` in the order in which they are written.

    `exemplars` are found by the labels of their sample; `histogram` is what a histogram's samples are made of.
    """

    name: str
    kind: str  # counter, gauge or histogram
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Shown], Iterable[Sample]]
    exemplars: Callable[[Shown], Mapping[Labels, Exemplar]] | None = None
    histogram: Callable[[Shown], tally.Histogram] | None = None
    past: bool = True  # logs tell its past; False: only the present is known

    @property
    def closed(self) -> bool:
        """Whether its labels' values come from closed sets."""
        return "integration_name" not in self.labels

    def born_ns(self, shown: Shown, labels: Labels) -> int:
        """When a counter or histogram began at 0; 0: it began at a baseline, or is no counter."""
        if self.kind == "gauge":
            return 0
        if self.labels == ("status_code",):
            return shown.tally.code_born_ns.get(labels[0][1], 0)
        return shown.tally.born_ns


def _counter(value: Callable[[Tally], int]) -> Callable[[Shown], Iterable[Sample]]:
    # A newborn series is 0 until scrapers have read the 0, whatever it holds.
    return lambda shown: [("_total", (), value(shown.tally) if shown.tally.announced else 0)]


def _failures(shown: Shown) -> Iterable[Sample]:
    counts = shown.tally.failures if shown.tally.announced else {}
    return [("_total", (("reason", reason),), counts.get(reason, 0)) for reason in REASONS]


def _responses(shown: Shown) -> Iterable[Sample]:
    visible = shown.tally.announced_codes if shown.tally.announced else ()
    return [
        ("_total", (("status_code", code),), count if code in visible else 0)
        for code, count in sorted(shown.tally.responses.items())
    ]


def _delivered(shown: Shown) -> Iterable[Sample]:
    known = shown.tally.announced
    first, retry = (shown.tally.delivered_first, shown.tally.delivered_retry) if known else (0, 0)
    return [("_total", (("attempt", "first"),), first), ("_total", (("attempt", "retry"),), retry)]


def _visible(value: Callable[[Tally], tally.Histogram]) -> Callable[[Shown], tally.Histogram]:
    def histogram(shown: Shown) -> tally.Histogram:
        held = value(shown.tally)
        if shown.tally.announced:
            return held
        return tally.Histogram.empty(held.bounds, None if held.native is None else Native())

    return histogram


def _buckets(histogram: Callable[[Shown], tally.Histogram]) -> Callable[[Shown], Iterable[Sample]]:
    def samples(shown: Shown) -> Iterable[Sample]:
        visible = histogram(shown)
        running = list(accumulate(visible.counts))
        yield from (("_bucket", le, n) for le, n in zip(bound_labels(visible.bounds), running, strict=True))
        yield ("_count", (), running[-1])
        yield ("_sum", (), visible.sum_us / 1_000_000)

    return samples


@cache
def bound_labels(bounds: tuple[float, ...]) -> tuple[Labels, ...]:
    """`le` of each bucket, +Inf at the end."""
    texts = [floatToGoString(bound) for bound in bounds]  # type: ignore[no-untyped-call]
    return tuple((("le", text),) for text in (*texts, "+Inf"))


def _failed_jobs(shown: Shown) -> Mapping[Labels, Exemplar]:
    if shown.exemplars is None or not shown.tally.announced:
        return {}
    return {(("reason", reason),): exemplar for reason, exemplar in shown.exemplars.failures.items()}


def _processed_jobs(shown: Shown) -> Mapping[Labels, Exemplar]:
    if shown.exemplars is None or not shown.tally.announced:
        return {}
    labels = bound_labels(shown.tally.processing.bounds)
    return {labels[place]: exemplar for place, exemplar in shown.exemplars.processing.items()}


def _stamp(value: Callable[[Tally], int | None]) -> Callable[[Shown], Iterable[Sample]]:
    def samples(shown: Shown) -> Iterable[Sample]:
        at_ns = value(shown.tally)
        return [] if at_ns is None else [("", (), at_ns / 1e9)]

    return samples


def _info(shown: Shown) -> Iterable[Sample]:
    found = shown.integration
    if found is None:
        return []
    labels = (("integration_name", found.name), ("integration_type", found.integration_type))
    return [("", labels, 1)]


def _enabled(shown: Shown) -> Iterable[Sample]:
    return [] if shown.integration is None else [("", (), int(shown.integration.enabled))]


_processing = _visible(lambda t: t.processing)
_delivery = _visible(lambda t: t.delivery)
_P: Final = "epcc_integration_"
FAMILIES: Final = (
    Family(f"{_P}attempts", "counter", "Delivery attempts: log records of EPCC, each counted once.", (),
           _counter(lambda t: t.attempts)),
    Family(f"{_P}attempt_failures", "counter", "Attempts that did not succeed, by what went wrong.", ("reason",),
           _failures, exemplars=_failed_jobs),
    Family(f"{_P}responses", "counter",
           "Attempts by the receiver's status code; none: no answer came, other: not a code from 100 to 599.",
           ("status_code",), _responses),
    Family(f"{_P}retries", "counter", "Attempts that were not the first of their job.", (),
           _counter(lambda t: t.retries)),
    Family(f"{_P}processing_seconds", "histogram", "How long an attempt took; EPCC gives up after 10 s.", ("le",),
           _buckets(_processing), exemplars=_processed_jobs, histogram=_processing),
    Family(f"{_P}jobs", "counter", "Jobs (an event for an integration) with a counted attempt.", (),
           _counter(lambda t: t.jobs)),
    Family(f"{_P}jobs_delivered", "counter", "Jobs delivered, once each: by their first attempt, or by a retry.",
           ("attempt",), _delivered),
    Family(f"{_P}job_delivery_seconds", "histogram",
           "From a delivered job's first attempt to its first success; 0 for a first try.", ("le",),
           _buckets(_delivery), histogram=_delivery),
    Family(f"{_P}jobs_failing", "gauge",
           "Jobs with failed attempts and no success, the latest attempt within 24 hours.", (),
           lambda shown: [("", (), shown.tally.jobs_failing)]),
    Family(f"{_P}jobs_unlogged", "gauge",
           "Jobs that EPCC lists and of which no log has appeared within the lookback.", (),
           lambda shown: [("", (), shown.jobs_unlogged)], past=False),
    Family(f"{_P}consecutive_failures", "gauge",
           "Failed attempts since the last success, in order of creation.", (),
           lambda shown: [("", (), shown.tally.consecutive_failures)]),
    Family(f"{_P}last_attempt_timestamp_seconds", "gauge", "When the latest attempt was logged, by created_at.", (),
           _stamp(lambda t: t.last_attempt_ns)),
    Family(f"{_P}last_success_timestamp_seconds", "gauge", "When the latest successful attempt was logged.", (),
           _stamp(lambda t: t.last_success_ns)),
    Family(f"{_P}last_failure_timestamp_seconds", "gauge", "When the latest failed attempt was logged.", (),
           _stamp(lambda t: t.last_failure_ns)),
    Family(f"{_P}info", "gauge", "1 for each integration that EPCC lists, and other; joins name and type to the id.",
           ("integration_name", "integration_type"), _info),
    Family(f"{_P}enabled", "gauge", "Whether the integration is enabled: a disabled one receives nothing.", (),
           _enabled, past=False),
)  # fmt: skip

_E: Final = "epcc_exporter_"
_REQUEST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_POLL_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DELAY_BUCKETS: Final = (1, 5, 15, 30, 60, 120, 300, 900, 3600)


class OwnMetrics:
    """What the exporter says about itself, on a registry of its own."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series each, and no use
        self.registry = CollectorRegistry()
        self._by_store: list[tuple[Counter | Gauge | Histogram, tuple[str, ...]]] = []
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)
        self.up = self._gauge("epcc_up", "Whether the last poll of the store ended well.")
        self.polls = self._counter("polls", "Polls that ended, well or not.")
        self.poll_failures = self._counter("poll_failures", "Polls that failed, by reason.", "reason")
        self.poll_duration = self._histogram("poll_duration_seconds", "From a poll's start to its end.", _POLL_BUCKETS)
        self.last_successful_poll = self._gauge(
            f"{_E}last_successful_poll_timestamp_seconds", "When a poll last ended well."
        )
        self.api_requests = self._counter(
            "api_requests", "Requests to EPCC, each try; code error: no answer.", "endpoint", "code"
        )
        self.api_request_duration = self._histogram(
            "api_request_duration_seconds", "From a request to the end of its answer.", _REQUEST_BUCKETS, "endpoint"
        )
        self.complete_through = self._gauge(
            f"{_E}complete_through_timestamp_seconds",
            "Every log created before this and visible has been counted. The one number to alert on.",
        )
        self.outage_budget = self._gauge(
            f"{_E}outage_budget_seconds",
            "How long the exporter may be down before logs pass the offset limit, at the present rate.",
        )
        self.series_held = self._gauge(
            f"{_E}series_held", "Newborn series still shown as 0, until scrapers have read it."
        )
        self.logs_counted = self._counter("logs_counted", "Log records counted.")
        self.logs_duplicate = self._counter("logs_duplicate", "Log records met again and not counted: pages overlap.")
        self.logs_rejected = self._counter("logs_rejected", "Log records that cannot be counted, once each.", "reason")
        self.log_fields_missing = self._counter(
            "log_fields_missing", "Counted log records in which a field is missing or cannot be read.", "field"
        )
        self.arrival_delay = Delays(
            f"{_E}arrival_delay_seconds", "From a log's creation to its being seen.", _DELAY_BUCKETS
        )
        self.registry.register(self.arrival_delay)
        self.gaps = self._counter("gaps", "Stretches in which logs may have been missed, by cause.", "cause")
        self.gap_open = self._gauge(f"{_E}gap_open", "Gaps that have not passed out of the lookback.", "cause")
        self.list_order = self._gauge(f"{_E}list_order", "1 for the order in which EPCC lists all logs.", "order")
        # A gauge: what costs requests is the walk of now, and how many there were is in the requests' counter.
        self.walk_pages = self._gauge(f"{_E}walk_pages", "Pages read by the last walk.")
        self.series_folded = self._counter("series_folded", "Label values folded into other to bound the series.")
        self.state_bytes = Gauge(f"{_E}state_bytes", "Size of the state file.", registry=self.registry)
        self.config_last_reload_successful = Gauge(
            f"{_E}config_last_reload_successful", "Whether the last load of the configuration succeeded.",
            registry=self.registry,
        )  # fmt: skip
        self.config_last_reload_success_timestamp_seconds = Gauge(
            f"{_E}config_last_reload_success_timestamp_seconds", "When the configuration was last loaded successfully.",
            registry=self.registry,
        )  # fmt: skip
        self._add_place()
        build = Gauge(f"{_E}build_info", "1, with the version.", ["version", "python_version"], registry=self.registry)
        build.labels(__version__, ".".join(map(str, sys.version_info[:3]))).set(1)

    def _add_place(self) -> None:
        """What the process is among others on the same configuration."""
        self.standby = Gauge(
            f"{_E}standby", "1 while the process waits for the state, which another one holds.", registry=self.registry
        )
        self._shard = Gauge(
            f"{_E}shard_ordinal", "Which of the shards this process is, counted from 0.", registry=self.registry
        )
        self._shards = Gauge(f"{_E}total_shards", "Shards that the stores are spread over.", registry=self.registry)
        self.set_shard(0, 1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        made = Counter(f"{_E}{name}", text, ["store", *labels], registry=self.registry)
        self._by_store.append((made, ("store", *labels)))
        return made

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        made = Gauge(name, text, ["store", *labels], registry=self.registry)
        self._by_store.append((made, ("store", *labels)))
        return made

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        made = Histogram(f"{_E}{name}", text, ["store", *labels], buckets=buckets, registry=self.registry)
        self._by_store.append((made, ("store", *labels)))
        return made

    def add_store(self, store: str) -> None:
        """Every counter of a closed set begins at 0, so that `increase()` sees the first of each."""
        for counter in (self.polls, self.logs_counted, self.logs_duplicate, self.series_folded):
            counter.labels(store)
        self.series_held.labels(store)
        self.poll_duration.labels(store)
        self.arrival_delay.add(store)
        closed: tuple[tuple[Counter | Gauge | Histogram, Iterable[str]], ...] = (
            (self.poll_failures, POLL_FAILURE_REASONS), (self.logs_rejected, REJECT_REASONS),
            (self.log_fields_missing, MISSABLE_FIELDS), (self.gaps, GAP_CAUSES), (self.gap_open, GAP_CAUSES),
            (self.api_request_duration, ENDPOINTS),
        )  # fmt: skip
        for metric, values in closed:
            for value in values:
                metric.labels(store, value)
        self.set_order(store, "unknown")

    def remove_store(self, store: str) -> None:
        """A store that left the configuration leaves the page."""
        self.arrival_delay.remove(store)
        # Found in what the metric shows: older versions of the library cannot remove by a part of the labels.
        for metric, names in self._by_store:
            shown = [sample.labels for family in metric.collect() for sample in family.samples]
            for values in {tuple(labels[name] for name in names) for labels in shown if labels["store"] == store}:
                metric.remove(*values)

    def set_shard(self, ordinal: int, total: int) -> None:
        self._shard.set(ordinal)
        self._shards.set(total)

    def set_order(self, store: str, order: str) -> None:
        for each in ORDERS:
            self.list_order.labels(store, each).set(1 if each == order else 0)
