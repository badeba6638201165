"""One integration, or a few: since when, why, how slow, and which orders."""

from __future__ import annotations

from panels import (
    CHOSEN,
    GREEN,
    INTEGRATION,
    ORANGE,
    RED,
    STORE,
    UIDS,
    VARIABLES,
    Json,
    Panel,
    Query,
    dashboard,
    named,
    once,
    rows,
    told,
)  # fmt: skip

EVERY = "$__rate_interval"
HISTOGRAM = "epcc_integration_processing_seconds"
NO_NATIVE = "Native histograms are not scraped: the panels beside this one show the classic ones"
EPCC_TIMEOUT = 10  # seconds, after which EPCC gives an attempt up


def chosen(expr: str) -> str:
    """The series of `expr` of the integrations that are chosen."""
    return f"{expr} and on (store, integration_id) {CHOSEN}"


def rate(metric: str, labels: str = "", window: str = EVERY) -> str:
    return chosen(once(metric, labels=labels, window=window))


def both(metric: str, window: str = EVERY) -> str:
    """Of histograms: a quantile does not change where two exporters' equal counts are added."""
    return chosen(f"sum without (instance, pod) (rate({metric}{{{STORE}}}[{window}]))")


def state() -> list[Panel]:
    last_success = once("epcc_integration_last_success_timestamp_seconds")
    failures, attempts = (
        f"sum ({chosen(f'integration:{name}:rate1h{{{STORE}}}')})"
        for name in ("epcc_integration_attempt_failures", "epcc_integration_attempts")
    )
    return [
        Panel("Failures in a row", "The longest such row that goes on now. From 5 on EpccIntegrationDown wakes somebody.",
              [Query(f"max ({chosen(once('epcc_integration_consecutive_failures'))})")], "none", 4, "stat",
              steps=((None, GREEN), (1, ORANGE), (5, RED)), nothing="Not known yet"),
        Panel("Last success", "How long ago: while attempts fail, since when it has been broken.",
              [Query(f"time() - min ({chosen(f'({last_success} > 0)')})")], "dtdurations", 4, "stat", decimals=0,
              nothing="None was seen", steps=((None, GREEN),)),
        Panel("Success, last hour", "Share of attempts that succeeded.", [Query(f"1 - {failures} / ({attempts} > 0)")],
              "percentunit", 4, "stat", decimals=2, steps=((None, "text"), (0, RED), (0.95, ORANGE), (0.99, GREEN)),
              nothing="No attempt in the last hour"),
        Panel("p95", f"Of processing times in the last 30 minutes. EPCC gives up after {EPCC_TIMEOUT} s.",
              [Query(told(f"max ({chosen(f'integration:{HISTOGRAM}:p95_30m{{{STORE}}}')})"))], "s", 4, "stat", decimals=2,
              steps=((None, GREEN), (5, ORANGE), (9, RED)), nothing="No attempt in 30 minutes"),
        Panel("Undelivered jobs", "Jobs whose every attempt so far failed.",
              [Query(f"sum ({chosen(once('epcc_integration_jobs_failing'))})")], "none", 4, "stat",
              steps=((None, GREEN), (1, ORANGE), (50, RED)), nothing="Not known yet"),
        Panel("Jobs without a log", "Jobs that EPCC lists and of which it shows no attempt. They may be waiting, or lost.",
              [Query(f"sum ({chosen(once('epcc_integration_jobs_unlogged'))})")], "none", 4, "stat",
              steps=((None, GREEN), (1, ORANGE)), nothing="Not known yet"),
    ]  # fmt: skip


def attempts() -> list[Panel]:
    failures = f"sum by (store, integration_name) ({named(all_failures(), CHOSEN)})"
    tried = f"sum by (store, integration_name) ({named(once('epcc_integration_attempts_total', window=EVERY), CHOSEN)})"
    return [
        Panel("Attempts", "Deliveries that EPCC tried, and those of them that failed.",
              [Query(tried, "{{integration_name}}"), Query(f"{failures} > 0", "{{integration_name}}: failed")], "ops", 8),
        Panel("Failures by reason", "timeout, connection, dns and tls: no answer came, so look at the receiver's network. "
              "http_5xx: the receiver is broken. http_4xx: it refuses, often for a changed secret or a job it dislikes.",
              [Query(f"sum by (reason) ({rate('epcc_integration_attempt_failures_total')}) > 0", "{{reason}}")], "ops", 8,
              stacked=True, nothing="No attempt failed in this time"),
        Panel("Answers by status", "What the receiver said; none: no answer.",
              [Query(f"sum by (status_code) ({rate('epcc_integration_responses_total')}) > 0", "{{status_code}}")], "ops", 8,
              stacked=True, nothing="No attempt in this time"),
    ]  # fmt: skip


def all_failures() -> str:
    selector = f"epcc_integration_attempt_failures_total{{{STORE}}}"
    return f"max without (instance, pod) (sum without (reason) (rate({selector}[{EVERY}])))"


def latency() -> list[Panel]:
    classic = f"sum by (le) ({both(f'{HISTOGRAM}_bucket')})"
    native = f"sum ({both(HISTOGRAM)})"
    quantiles = {"0.5": "p50", "0.95": "p95", "0.99": "p99"}

    def quantile(q: str) -> str:
        return told(f"histogram_quantile({q}, {classic}) or histogram_quantile({q}, {native})")

    limits = (None, "transparent"), (5, ORANGE), (EPCC_TIMEOUT, RED)
    return [
        Panel("Processing time", "From the classic buckets, or from the native histogram where that alone is scraped. The "
              "points are single attempts, and lead to the job's page where the data source links job_id to it. EPCC gives "
              f"up after {EPCC_TIMEOUT} s.",
              [Query(quantile(q), name, exemplars=q == "0.95") for q, name in quantiles.items()],
              "s", 8, steps=limits, nothing="No attempt in this time"),
        Panel("Processing times, spread", "How many attempts took how long.",
              [Query(f"{classic} or ({native} unless on () sum ({classic}))", "{{le}}", heatmap=True)], "s", 8, "heatmap",
              nothing="No attempt in this time"),
        Panel("Processing time, native", "From the native histogram: a quantile is at most 4.4 % off.",
              [Query(told(f"histogram_quantile({q}, {native})"), name) for q, name in quantiles.items()], "s", 8, steps=limits,
              nothing=NO_NATIVE),
    ]  # fmt: skip


def jobs() -> list[Panel]:
    first = ', attempt="first"'
    delivered = f"sum ({rate('epcc_integration_jobs_delivered_total', first)})"
    begun = f"(sum ({rate('epcc_integration_jobs_total')}) > 0)"
    delivery = f"sum by (le) ({both('epcc_integration_job_delivery_seconds_bucket')})"
    return [
        Panel("Retries", "Attempts beyond a job's first: work that failures cause.",
              [Query(f"sum by (store, integration_name) ({named(once('epcc_integration_retries_total', window=EVERY), CHOSEN)})",
                     "{{integration_name}}")], "ops", 6, nothing="No attempt in this time"),
        Panel("Delivered at the first attempt", "Share of jobs.", [Query(f"{delivered} / {begun}", "first attempt")],
              "percentunit", 6, maximum=1, nothing="No job in this time"),
        Panel("Until delivered", "From a job's first attempt to the one that succeeded. Jobs that are never delivered are "
              "not in it.",
              [Query(told(f"histogram_quantile({q}, {delivery})"), name) for q, name in {"0.5": "p50", "0.95": "p95"}.items()],
              "s", 6, nothing="No job was delivered in this time"),
        Panel("Undelivered jobs", "Whose every attempt so far failed.",
              [Query(f"sum by (store, integration_name) ({named(once('epcc_integration_jobs_failing'), CHOSEN)})",
                     "{{integration_name}}")], "none", 6, nothing="Not known yet"),
    ]  # fmt: skip


def made() -> Json:
    return dashboard(
        UIDS["integration"], "EPCC / Integration", "One integration of an Elastic Path Commerce Cloud store: since when it "
        "fails, why, how slow it is, and what has not been delivered", (*VARIABLES, INTEGRATION),
        rows(("State", 4, state()), ("Attempts", 8, attempts()), ("Processing time", 8, latency()), ("Jobs", 8, jobs())),
        "now-6h",
    )  # fmt: skip
