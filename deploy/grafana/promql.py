"""PromQL that more than one dashboard asks, and the objective that all of them hold integrations against.

`instance` and `pod` are taken out by max where counts are added, never by sum: two exporters on one store count the
same logs. Names join through the recorded `integration:epcc_integration_info:named`, which has each integration once.
"""

from __future__ import annotations

from typing import Final

BUDGET: Final = 0.01  # share of attempts that may fail: what integrations.rules.yml alerts on
BUDGET_DAYS: Final = 30
BEHIND_SECONDS: Final = 1200  # EpccExporterBehind
OUTAGE_SECONDS: Final = 600  # EpccExporterOutageBudgetSmall
TIMEOUT_SECONDS: Final = 10  # EPCC waits no longer for a receiver
ROW_OF_FAILURES: Final = 5  # EpccIntegrationDown
BURN: Final = (14.4, 6.0)  # EpccIntegrationErrorBudgetBurn: what pages within an hour, within six
# A store is polled each 30 s: a rate over less than a few minutes would show polls, and not deliveries.
DELIVERY_INTERVAL: Final = "1m"

STORES: Final = 'job=~"$job", store=~"$store"'
NAMED: Final = f"integration:epcc_integration_info:named{{{STORES}}}"


def per_integration(series: str) -> str:
    """One value for each integration, whoever exports it."""
    return f"max by (store, integration_id) ({series})"


def once(expr: str) -> str:
    """The same number from two exporters, once."""
    return f"max without (instance, pod) ({expr})"


def named(expr: str) -> str:
    """With the integration's name; `expr` has store and integration_id."""
    return (
        f"sum by (store, integration_id, integration_name) "
        f"(({expr}) * on (store, integration_id) group_left (integration_name) {NAMED})"
    )


def a_minute(series: str) -> str:
    """How much a counter grows in a minute."""
    return once(f"rate({series}[$__rate_interval]) * 60")


def over_budget_days(recorded: str) -> str:
    """A recorded rate over five minutes, added up over the budget's days from each fifth minute: so each attempt is in
    it once, and Prometheus reads thousands of samples where the counters have millions."""
    return f"sum_over_time({recorded}[{BUDGET_DAYS}d:5m])"


def failed_share(selector: str, *, by: str) -> str:
    """Of all attempts of the budget's days. `by`: labels to keep."""
    failed = over_budget_days(f"integration:epcc_integration_attempt_failures:rate5m{{{selector}}}")
    tried = over_budget_days(f"integration:epcc_integration_attempts:rate5m{{{selector}}}")
    return f"sum by ({by}) ({failed}) / (sum by ({by}) ({tried}) > 0)"


def budget_left(selector: str, *, by: str) -> str:
    """1: nothing has failed; 0: all is spent; below: overspent."""
    return f"1 - {failed_share(selector, by=by)} / {BUDGET}"


def quantile(q: float, name: str, selector: str) -> str:
    """From the native histogram where Prometheus has one, from the classic buckets where not, and there at most EPCC's
    time-out, as recorded; never NaN, which is what nothing has for a quantile."""
    classic = f"histogram_quantile({q}, sum by (le) (rate({name}_bucket{{{selector}}}[$__rate_interval])))"
    return (
        f"(histogram_quantile({q}, sum(rate({name}{{{selector}}}[$__rate_interval]))) or "
        f"clamp_max({classic}, {TIMEOUT_SECONDS})) >= 0"
    )


def mostly(series: str) -> str:
    """The reason that each integration's failures have most often, by name; it needs `interval` of the time that it
    speaks of."""
    by_reason = f"sum by (store, integration_id, reason) ({once(f'increase({series}[$__rate_interval])')}) > 0"
    return (
        "max by (store, integration_id, integration_name, reason) "
        f"(topk by (store, integration_id) (1, {by_reason}) "
        f"* on (store, integration_id) group_left (integration_name) {NAMED})"
    )


def buckets(name: str, selector: str) -> str:
    """How many observations each classic bucket got, for a heatmap; nothing where there were none, so that the panel
    says so."""
    grown = once(f"increase({name}_%s{{{selector}}}[$__rate_interval])")
    return f"sum by (le) ({grown % 'bucket'}) and on () sum({grown % 'count'}) > 0"


def or_0(expr: str, there: str) -> str:
    """0 where `there` has a value and `expr` has none: a backfilled series that stands still has too few samples for a
    rate, and a gap would look like an outage of Prometheus."""
    return f"{expr} or 0 * {there}"


OURS: Final = 'alertname=~"Epcc.+", job=~"$job", store=~"$store|"'


def firing_labels(more: str = "") -> str:
    """What the project's alerts have that fire for the chosen stores, or for none in particular."""
    return f'{OURS}, alertstate="firing"{more}'


def firing(more: str = "") -> str:
    return f"ALERTS{{{firing_labels(more)}}}"


def firing_for() -> str:
    """Seconds since the expression of each alert that fires began to hold."""
    return f"time() - ALERTS_FOR_STATE{{{OURS}}} and ignoring (alertstate) {firing()}"
