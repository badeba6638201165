"""All stores on one page: is anything broken now, what is worst, and how much of the objective is left."""

from __future__ import annotations

from panels import (
    BLUE,
    GREEN,
    JOB,
    NAMES,
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
    override,
    rows,
    steps,
    told,
)  # fmt: skip

OBJECTIVE = 0.99  # of attempts, as EpccIntegrationErrorBudgetBurn has it in integrations.rules.yml
BUDGET = f"{1 - OBJECTIVE:.2f}"
DOWN = 5  # failures in a row, as EpccIntegrationDown has it
ENABLED = f"integration:epcc_integration_info:enabled{{{STORE}}}"
FAILURES = "integration:epcc_integration_attempt_failures"
ATTEMPTS = "integration:epcc_integration_attempts"
TO_INTEGRATION = (
    f"/d/{UIDS['integration']}?${{datasource:queryparam}}&var-store=${{__data.fields.Store}}"
    "&var-integration=${__data.fields.Integration}&${__url_time_range}"
)
BAD = (None, GREEN), (1, RED)


def share(window: str) -> str:
    failed, tried = (f"sum ({name}:rate{window}{{{STORE}}})" for name in (FAILURES, ATTEMPTS))
    return f"{failed} / ({tried} > 0)"


def now() -> list[Panel]:
    streak = once("epcc_integration_consecutive_failures")
    return [
        Panel("Integrations down", f"Enabled integrations whose last {DOWN} attempts or more all failed.",
              [Query(f"count ({streak} >= {DOWN} and on (store, integration_id) {ENABLED}) or vector(0)")],
              "none", 4, "stat", steps=BAD),
        Panel("Jobs undelivered", "Jobs whose every attempt so far failed: orders that have not reached anybody. EPCC gives "
              "them up after some tries.", [Query(f"sum ({once('epcc_integration_jobs_failing')})")],
              "none", 4, "stat", steps=((None, GREEN), (1, ORANGE), (50, RED))),
        Panel("Success, last hour", "Share of all attempts that succeeded.", [Query(f"1 - {share('1h')}")],
              "percentunit", 4, "stat", steps=((None, "text"), (0, RED), (0.95, ORANGE), (OBJECTIVE, GREEN)), decimals=2,
              nothing="No attempt in the last hour"),
        Panel("Error budget left, 3 days", f"Of the {1 - OBJECTIVE:.0%} of attempts that may fail, what is left; below 0 the "
              "objective is missed.", [Query(f"1 - ({share('3d')}) / {BUDGET}")], "percentunit", 4, "stat",
              steps=((None, "text"), (-1000, RED), (0, ORANGE), (0.5, GREEN)), minimum=None, decimals=0,
              nothing="No attempt in three days"),
        Panel("Alerts firing", "Of this exporter's rules.",
              [Query(f'count (ALERTS{{alertname=~"Epcc.+", alertstate="firing", {JOB}}}) or vector(0)')],
              "none", 4, "stat", steps=BAD),
        Panel("Counted up to", "How old the oldest log may be that is not counted yet, of the store that is furthest behind. "
              "If this grows, every other number here is old.",
              [Query(f"max (store:epcc_exporter_complete_through_lag_seconds:min{{{STORE}}})")], "s", 4, "stat",
              steps=((None, GREEN), (300, ORANGE), (1200, RED))),
    ]  # fmt: skip


def worst() -> list[Panel]:
    """A row for each integration: instant queries with the same labels, merged."""

    def column(expr: str) -> Query:
        return Query(f"sum by (store, integration_name) ({named(expr)})", instant=True, table=True)

    since = f"time() - ({once('epcc_integration_last_success_timestamp_seconds')} > 0)"
    columns = {
        "In a row": once("epcc_integration_consecutive_failures"),
        "Last success": since,
        "Success 1h": f"1 - {FAILURES}:ratio_rate1h{{{STORE}}}",
        "p95": told(f"integration:epcc_integration_processing_seconds:p95_30m{{{STORE}}}"),
        "Attempts/s": f"{ATTEMPTS}:rate5m{{{STORE}}}",
        "Undelivered": once("epcc_integration_jobs_failing"),
    }
    names = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(columns)}
    return [
        Panel("Integrations, worst first", "Every integration, by failures in a row; a name leads to its own dashboard. "
              "Success 1h and p95 (of 30 minutes) are empty where nothing was tried.",
              [column(expr) for expr in columns.values()], "none", 24, "table", sort_by="In a row", minimum=None,
              nothing="No integration is known yet: has the exporter's first poll ended?",
              transformations=[
                  {"id": "merge", "options": {}},
                  {"id": "organize", "options": {
                      "excludeByName": {"Time": True},
                      "renameByName": {"store": "Store", "integration_name": "Integration", **names},
                      "indexByName": {"integration_name": 0, "store": 1, **{key: place + 2 for place, key in enumerate(names)}},
                  }},
              ],
              overrides=[
                  override("Integration", links=[{"title": "Its dashboard", "url": TO_INTEGRATION, "targetBlank": False}],
                           custom_width=260),
                  override("Store", custom_width=160),
                  override("In a row", unit="none", thresholds=steps((1, ORANGE), (DOWN, RED)),
                           custom_cellOptions={"type": "color-text"}),
                  override("Last success", unit="dtdurations", decimals=0),
                  override("Success 1h", unit="percentunit", decimals=2, custom_cellOptions={"type": "color-text"},
                           thresholds={"mode": "absolute", "steps": [
                               {"value": None, "color": RED}, {"value": 0.95, "color": ORANGE},
                               {"value": OBJECTIVE, "color": GREEN}]}),
                  override("p95", unit="s", decimals=2, thresholds=steps((5, ORANGE), (9, RED)),
                           custom_cellOptions={"type": "color-text"}),
                  override("Attempts/s", unit="ops", decimals=2),
                  override("Undelivered", unit="none", thresholds=steps((1, ORANGE), (50, RED)),
                           custom_cellOptions={"type": "color-text"}),
              ]),
    ]  # fmt: skip


def traffic() -> list[Panel]:
    failures = once("epcc_integration_attempt_failures_total", window="$__rate_interval")
    tried = once("epcc_integration_attempts_total", window="$__rate_interval")
    return [
        Panel("Attempts", "Deliveries that EPCC tried, by store.", [Query(f"sum by (store) ({tried})", "{{store}}")], "ops", 8),
        Panel("Failures by reason", "Failed attempts of all stores. timeout, connection, dns and tls: no answer came; "
              "http_…: what the receiver said.",
              [Query(f"sum by (reason) ({failures}) > 0", "{{reason}}")], "ops", 8, stacked=True,
              nothing="No attempt failed in this time"),
        Panel("Failures by integration", "The ten with most failed attempts now.",
              [Query(f"topk (10, sum by (store, integration_name) ({named(failures_by_integration())})) > 0",
                     "{{store}}: {{integration_name}}")],
              "ops", 8, stacked=True, nothing="No attempt failed in this time"),
    ]  # fmt: skip


def failures_by_integration() -> str:
    rate = f"rate(epcc_integration_attempt_failures_total{{{STORE}}}[$__rate_interval])"
    return f"max without (instance, pod) (sum without (reason) ({rate}))"


def objective() -> list[Panel]:
    windows = {"1h": "1 hour", "6h": "6 hours", "1d": "1 day", "3d": "3 days"}
    return [
        Panel("Error budget burn", f"How many times faster than the objective of {OBJECTIVE:.0%} allows attempts fail, over "
              "several windows, of all stores together. At 1 the budget lasts just as long as it has to.",
              [Query(f"({share(window)}) / {BUDGET}", name) for window, name in windows.items()], "suffix: x", 12,
              steps=((None, "transparent"), (1, ORANGE), (14.4, RED)), nothing="No attempt in this time"),
        Panel("Worst success, last hour", "Of the ten integrations with the lowest share of attempts that succeeded.",
              [Query(f"bottomk (10, sum by (store, integration_name) ({named(f'1 - {FAILURES}:ratio_rate1h{{{STORE}}}')}))",
                     "{{store}}: {{integration_name}}")],
              "percentunit", 12, maximum=1, minimum=None, nothing="No attempt in this time"),
    ]  # fmt: skip


def stores() -> list[Panel]:
    return [
        Panel("Stores", "1: the last poll of the store ended well. Where it did not, EPCC, its credentials or the network are "
              "the reason: see the dashboard of the exporter.",
              [Query(f"max by (store) (epcc_up{{{STORE}}})", "{{store}}")], "none", 12, "stat", text_mode="value_and_name",
              steps=((None, RED), (1, GREEN)), nothing="No store has ended its first poll",
              mappings=[{"type": "value", "options": {"0": {"text": "failing"}, "1": {"text": "polled"}}}]),
        Panel("Integrations", "How many are known, by what EPCC says of them: those that are switched off get no events.",
              [Query(f"count ({ENABLED})", "enabled"),
               Query(f"count ({NAMES} unless on (store, integration_id) {ENABLED}) or vector(0)", "disabled")],
              "none", 12, "stat", text_mode="value_and_name", steps=((None, BLUE),)),
    ]  # fmt: skip


def made() -> Json:
    return dashboard(
        UIDS["overview"], "EPCC / Overview", "Integrations of all Elastic Path Commerce Cloud stores: what is broken now, and "
        "how bad it is", VARIABLES,
        rows(("Now", 4, now()), ("Integrations", 10, worst()), ("Traffic", 8, traffic()), ("Objective", 8, objective()),
             ("Stores", 4, stores())), "now-6h",
    )  # fmt: skip
