"""Overview, of all stores: is anything broken now, which integrations are worst, what is left of the budget, why."""

from __future__ import annotations

from typing import Final

from deploy.grafana.model import (
    ADDRESS,
    BLUE,
    CODES,
    DATASOURCE,
    GREEN,
    GREY,
    JOB,
    ORANGE,
    REASON,
    REASONS,
    RED,
    YELLOW,
    Column,
    Dashboard,
    Panel,
    Query,
    Row,
    alerts,
    bound,
    choice,
    graph,
    link,
    stat,
    table,
    unknown,
    words,
)  # fmt: skip
from deploy.grafana.promql import (
    BEHIND_SECONDS,
    BUDGET,
    BUDGET_DAYS,
    BURN,
    DELIVERY_INTERVAL,
    ROW_OF_FAILURES,
    STORES,
    a_minute,
    budget_left,
    failed_share,
    firing,
    firing_for,
    firing_labels,
    mostly,
    named,
    per_integration,
)  # fmt: skip

UID: Final = "epcc-overview"
INTEGRATION: Final = "epcc-integration"
EXPORTER: Final = "epcc-exporter"

LAG: Final = f"store:epcc_exporter_complete_through_lag_seconds:min{{{STORES}}}"
NO_RULES: Final = "No rules loaded, or no exporter"
NO_EXPORTER: Final = "No exporter is scraped"
NOTHING: Final = "Nothing yet, no exporter, or no rules"
NO_TRAFFIC: Final = "No attempt in this time"
THIRTY: Final = f"the last {BUDGET_DAYS} days, or what Prometheus has of them"
PERCENT_BURN: Final = tuple(factor * BUDGET for factor in BURN)

TO_INTEGRATION: Final = link(
    "Open this integration", INTEGRATION, store="${__data.fields.Store}", integration="${__data.fields.Id}"
)
TO_EXPORTER: Final = link("How this store is polled", EXPORTER, store="${__data.fields.Store}")
TO_EXPORTERS: Final = link("How stores are polled", EXPORTER)
SEVERITIES: Final = words(vcritical=("critical", RED), vwarning=("warning", ORANGE), vinfo=("info", BLUE))


def _firing(title: str, text: str, selector: str, color: str) -> Panel:
    # Nothing firing is a zero only where something evaluates the rules.
    return stat(
        title, text, f"count({firing(selector)}) or 0 * count({LAG})", unit="none", empty=NO_RULES,
        steps=bound((1, color)),
    )  # fmt: skip


def _now() -> Row:
    row_of_failures = per_integration(f"epcc_integration_consecutive_failures{{{STORES}}}")
    enabled = f"integration:epcc_integration_info:enabled{{{STORES}}}"
    return Row("Is anything broken now?", (
        _firing("Pages", "Alerts of severity critical that fire: somebody is being woken. They are listed below.",
                ', severity="critical"', RED),
        _firing("Tickets and notes", "Alerts of severity warning and info that fire: for the working day.",
                ', severity!="critical"', ORANGE),
        stat("Integrations down", f"Enabled integrations whose last {ROW_OF_FAILURES} attempts, or more, all failed.",
             f"sum(({row_of_failures} >= bool {ROW_OF_FAILURES}) and on (store, integration_id) {enabled})",
             unit="none", empty="No exporter, no rules, or none enabled", steps=bound((1, RED))),
        stat("Jobs not delivered",
             "Events that an integration has been offered and has not taken yet. EPCC tries "
             "again, and at some time gives up: a job counts here for 24 hours after its last "
             "attempt.",
             f"sum({per_integration(f'epcc_integration_jobs_failing{{{STORES}}}')})",
             unit="none", empty=NO_EXPORTER, steps=bound((1, YELLOW), (20, ORANGE))),
        stat("Stores not polled", "Stores whose last poll failed: what happens there is not seen.",
             f"sum(max by (store) (epcc_up{{{STORES}}}) == bool 0)", unit="none", empty=NO_EXPORTER,
             steps=bound((1, RED)), links=(TO_EXPORTERS,)),
        stat("Counted up to",
             "How long ago all logs have been counted up to, in the store that is farthest behind. "
             "Minutes are usual (half a lookback between complete walks); red is where "
             "EpccExporterBehind begins.",
             f"max({LAG})", unit="s", empty=NO_RULES, steps=bound((BEHIND_SECONDS, RED)),
             defaults={"decimals": 0}, links=(TO_EXPORTERS,)),
        stat("Success, 30 d", f"Of all attempts of {THIRTY}. The objective is {1 - BUDGET:.0%}.",
             f"1 - {failed_share(STORES, by='')}", unit="percentunit",
             empty=NOTHING, steps=((None, RED), (1 - BUDGET, GREEN)), defaults={"decimals": 2}),
        stat("Worst budget",
             f"What the worst integration has left of the {BUDGET:.0%} of attempts that may fail in "
             f"{THIRTY}. Below 0 it is overspent.",
             f"min({budget_left(STORES, by='store, integration_id')})", unit="percentunit",
             empty=NOTHING, steps=((None, RED), (0, ORANGE), (0.25, GREEN)),
             defaults={"decimals": 0}),
        *_lists(),
    ))  # fmt: skip


def _lists() -> tuple[Panel, ...]:
    by_store = f"sum by (store) (integration:epcc_integration_%s:rate%s{{{STORES}}})"
    return (
        table(
            "Alerts that fire",
            "What deploy/prometheus/ alerts on, and for how long it has been so; deploy/runbooks.md says what to do. "
            "An alert leads to its integration, its store to how that is polled.",
            (Column("Alert", "alertname", links=(TO_INTEGRATION,)),
             Column("Severity", "severity", width=85, mappings=SEVERITIES, steps=((None, BLUE),)),
             Column("Store", "store", width=90, links=(TO_EXPORTER,)),
             Column("Integration", "integration_name", width=150),
             Column("Id", "integration_id", width=60)),
            (Column("For", f"max by (alertname, severity, store, integration_name, integration_id) ({firing_for()})",
                    "s", ((None, "text"),), 80, decimals=0),),
            sort="Severity", descending=False, empty="Nothing fires", width=11, height=7,
        ),
        table(
            "Stores", "Each store and whether its numbers can be believed. A store's name leads to how it is polled.",
            (Column("Store", "store", links=(TO_EXPORTER,)),),
            (Column("Last poll", f"max by (store) (epcc_up{{{STORES}}})", width=95, steps=((None, RED), (1, GREEN)),
                    mappings=words(v0=("Failed", RED), v1=("Good", GREEN))),
             Column("Counted up to", f"max by (store) ({LAG})", "s", bound((BEHIND_SECONDS, RED)), 120, decimals=0),
             Column("Gaps open", f"max by (store) (sum without (cause) (epcc_exporter_gap_open{{{STORES}}}))",
                    steps=bound((1, ORANGE)), width=95),
             Column("Attempts / min", by_store % ("attempts", "5m") + " * 60", width=120, decimals=1),
             Column("Failing, 1 h", f"{by_store % ('attempt_failures', '1h')} / ({by_store % ('attempts', '1h')} > 0)",
                    "percentunit", bound((BUDGET, ORANGE), (PERCENT_BURN[0], RED)), 100, decimals=1),
             Column("Budget left", budget_left(STORES, by="store"), "percentunit",
                    ((None, RED), (0, ORANGE), (0.25, GREEN)), 110, decimals=0)),
            sort="Failing, 1 h", empty=NO_EXPORTER, width=13, height=7,
        ),
        _integrations(),
    )  # fmt: skip


def _integrations() -> Panel:
    def recorded(what: str) -> str:
        return named(f"integration:epcc_integration_{what}{{{STORES}}}")

    def shown(what: str) -> str:
        return named(per_integration(f"epcc_integration_{what}{{{STORES}}}"))

    row = per_integration(f"epcc_integration_consecutive_failures{{{STORES}}}")
    enabled = f"integration:epcc_integration_info:enabled{{{STORES}}}"
    succeeded = per_integration(f"epcc_integration_last_success_timestamp_seconds{{{STORES}}}")
    return table(
        "Integrations, worst first",
        f"Those that are down ({ROW_OF_FAILURES} failures in a row or more) stand at the top, then those that fail "
        "most, with the reason that failures of the last hour have most often. A name leads to the integration. "
        "Without a value: no attempt in that time, or switched off.",
        (Column("Store", "store", width=90), Column("Integration", "integration_name", links=(TO_INTEGRATION,)),
         Column("Reason", "reason", width=100, steps=((None, "text"),), mappings=REASON)),
        (Column("Down", named(f"({row} >= bool {ROW_OF_FAILURES}) and on (store, integration_id) {enabled}"), "none",
                ((None, GREEN), (1, RED)), 70, words(v0=("No", GREEN), v1=("Yes", RED))),
         Column("Failing, 1 h", recorded("attempt_failures:ratio_rate1h"), "percentunit",
                bound((BUDGET, ORANGE), (PERCENT_BURN[0], RED)), 110, decimals=1),
         Column("Failed in a row", shown("consecutive_failures"), "none",
                bound((1, YELLOW), (ROW_OF_FAILURES, RED)), 120),
         Column("Jobs not delivered", shown("jobs_failing"), "none", bound((1, YELLOW), (20, ORANGE)), 140),
         Column("Jobs without a log", shown("jobs_unlogged"), "none", bound((1, ORANGE)), 140),
         Column("Last success", named(f"time() - {succeeded}"), "s", ((None, "text"),), 120, decimals=0),
         Column("Attempts / min", recorded("attempts:rate5m") + " * 60", "none", (), 120, decimals=1),
         Column("Slowest twentieth", recorded("processing_seconds:p95_30m") + " >= 0", "s",
                bound((5, ORANGE), (9, RED)), 140, decimals=2),
         Column("Budget left", named(budget_left(STORES, by="store, integration_id")), "percentunit",
                ((None, RED), (0, ORANGE), (0.25, GREEN)), 110, decimals=0),
         Column("Switched on", shown("enabled"), "none", ((None, GREY), (1, GREEN)), 105,
                mappings=words(v0=("No", GREY), v1=("Yes", GREEN))),
         Column("Failures", mostly(f"epcc_integration_attempt_failures_total{{{STORES}}}"))),
        sort=("Down", "Failing, 1 h"), height=9,
        empty="No integration is known: no exporter is scraped, EPCC lists none, or no rules are loaded",
        last=(Column("Id", "integration_id", width=60),), hidden=("Value #K",), interval="1h",
    )  # fmt: skip


def _objective() -> Row:
    left = named(budget_left(STORES, by="store, integration_id"))
    burn = named(f"integration:epcc_integration_attempt_failures:ratio_rate1h{{{STORES}}} / {BUDGET}")
    return Row("Objective", (
        Panel("Budget left",
              f"Of the {BUDGET:.0%} of attempts that may fail in {THIRTY}, by integration: full is "
              "untouched, empty is spent or overspent.",
              (Query(f"sort({left})", "{{store}}: {{integration_name}}", instant=True),), "bargauge", "percentunit",
              NOTHING, 9, 9, ((None, RED), (0, ORANGE), (0.25, GREEN)),
              {"displayMode": "basic", "orientation": "horizontal", "valueMode": "color", "showUnfilled": True,
               "namePlacement": "left", "sizing": "auto", "minVizHeight": 16, "minVizWidth": 8, "maxVizHeight": 40,
               "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
               "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []}},
              {"min": 0, "max": 1, "decimals": 0, "color": {"mode": "thresholds"},
               "mappings": [unknown(NOTHING)]}),
        graph("How fast the budget burns",
              "Failing share of the last hour by what may fail. At 1 the budget lasts "
              f"just its {BUDGET_DAYS} days; the lines at {BURN[1]:g} and {BURN[0]:g} "
              "are where people are paged (over six hours, over one).",
              Query(burn, "{{store}}: {{integration_name}}"), unit="none", empty="No attempt in this time, or no rules",
              width=15, height=9, calcs=("lastNotNull", "max"),
              steps=((None, "transparent"), (1, YELLOW), (BURN[1], ORANGE), (BURN[0], RED)),
              # From 1 on each line is worth a look, and an outage is at 100.
              custom={"scaleDistribution": {"type": "symlog", "log": 10, "linearThreshold": 1}},
              defaults={"decimals": 1}),
    ))  # fmt: skip


def _traffic() -> Row:
    attempts = a_minute(f"epcc_integration_attempts_total{{{STORES}}}")
    failures = a_minute(f"epcc_integration_attempt_failures_total{{{STORES}}}")
    codes = a_minute(f"epcc_integration_responses_total{{{STORES}}}")
    return Row("Traffic and failures", (
        graph("Attempts by integration", "Attempts to deliver, a minute.",
              Query(named(attempts), "{{store}}: {{integration_name}}"),
              unit="cpm", empty=NO_TRAFFIC, style="stacked", calcs=("lastNotNull", "max"), interval=DELIVERY_INTERVAL),
        graph("Failing share by integration", "Of the attempts of five minutes. Gaps: nothing was tried.",
              Query(named(f"clamp_max(integration:epcc_integration_attempt_failures:ratio_rate5m{{{STORES}}}, 1)"),
                    "{{store}}: {{integration_name}}"),
              unit="percentunit", empty="No attempt in this time, or no rules", calcs=("lastNotNull", "max"),
              at_least=0.2),
        graph("Failures by reason",
              "What went wrong, a minute. http_*: the receiver's answer; timeout: none within "
              "10 s; connection, dns, tls: it was not reached.",
              Query(f"sum by (reason) ({failures}) > 0", "{{reason}}"), unit="cpm", style="bars",
              empty="No attempt failed in this time", interval=DELIVERY_INTERVAL, overrides=REASONS),
        graph("Answers by status code",
              "What the receivers answered, a minute; none: no answer, or a receiver that "
              "does not speak HTTP.",
              Query(f"sum by (status_code) ({codes})", "{{status_code}}"), unit="cpm", style="stacked",
              empty=NO_TRAFFIC, interval=DELIVERY_INTERVAL, overrides=CODES),
        graph("Attempts by store", "Attempts to deliver, a minute.", Query(f"sum by (store) ({attempts})", "{{store}}"),
              unit="cpm", empty=NO_TRAFFIC, style="stacked", interval=DELIVERY_INTERVAL),
        graph("Jobs not delivered", "Events offered and not taken yet, by integration.",
              Query(named(per_integration(f"epcc_integration_jobs_failing{{{STORES}}}")),
                    "{{store}}: {{integration_name}}"),
              unit="none", empty=NO_RULES, style="stacked", at_least=5),
    ))  # fmt: skip


def dashboard() -> Dashboard:
    store = choice("store", "Store", "Stores as the exporter's configuration names them.",
                   'label_values(epcc_exporter_polls_total{job=~"$job"}, store)', everything=".*")  # fmt: skip
    return Dashboard(
        UID, "EPCC: overview", "Deliveries of all stores: is anything broken now, what is worst, and why.",
        (_now(), _objective(), _traffic()), (DATASOURCE, JOB, store, ADDRESS),
        (alerts("Pages", firing_labels(', severity="critical"'), RED),),
    )  # fmt: skip
