"""Integration, of one: what fails and why, how fast its receiver answers, when jobs arrive, and the way to each job."""

from __future__ import annotations

from typing import Any, Final

from deploy.grafana.model import (
    ADDRESS,
    BLUE,
    CODES,
    DATASOURCE,
    GREEN,
    GREY,
    JOB,
    ORANGE,
    REASONS,
    RED,
    YELLOW,
    Dashboard,
    Panel,
    Query,
    Row,
    alerts,
    bound,
    choice,
    colored,
    graph,
    heatmap,
    stat,
    words,
)  # fmt: skip
from deploy.grafana.promql import (
    BUDGET,
    BUDGET_DAYS,
    BURN,
    DELIVERY_INTERVAL,
    ROW_OF_FAILURES,
    TIMEOUT_SECONDS,
    a_minute,
    buckets,
    budget_left,
    or_0,
    quantile,
)  # fmt: skip

UID: Final = "epcc-integration"
EXPORTER: Final = "epcc-exporter"
ONE: Final = 'job=~"$job", store="$store", integration_id="$integration"'
NO_ATTEMPT: Final = "No attempt in this time"
NOT_CHOSEN: Final = "Not chosen, or no exporter"
NAME_AND_ID: Final = '/integration_id="(?<value>[^"]*)",integration_name="(?<text>.*?)",(?:integration_type|job)=/'


def _of(name: str) -> str:
    return f"max(epcc_integration_{name}{{{ONE}}})"


def _recorded(name: str) -> str:
    return f"max(integration:epcc_integration_{name}{{{ONE}}})"


def _over_time(title: str, text: str, *queries: Query, **more: Any) -> Panel:
    return graph(title, text, *queries, **{"interval": DELIVERY_INTERVAL, **more})


def _now() -> Row:
    failing = f"({_of('consecutive_failures')} > bool 0)"
    disabled = f"((1 - {_of('enabled')}) or {failing} * 0)"
    # 0 and 1 by the latest attempt, 2 more where it is switched off, 4 where nothing was ever tried.
    state = f"({failing} + 2 * {disabled}) and on () {_of('last_attempt_timestamp_seconds')} or {failing} * 0 + 4"
    return Row("Now", (
        stat("State", "By the latest attempt.", state, unit="none", empty=NOT_CHOSEN,
             steps=((None, GREY),), size=22, defaults={"mappings": list(words(
                 v0=("Succeeding", GREEN), v1=("Failing", RED), v2=("Switched off", GREY), v3=("Switched off", GREY),
                 v4=("Never tried", BLUE)))}),
        stat("Failed in a row",
             f"Attempts since the last success. From {ROW_OF_FAILURES} on somebody is paged, if "
             "it is not one job alone.", _of("consecutive_failures"), unit="none", empty=NOT_CHOSEN,
             steps=bound((1, YELLOW), (ROW_OF_FAILURES, RED))),
        stat("Failing, 1 h", f"Share of attempts that failed in the last hour; {BUDGET:.0%} may.",
             _recorded("attempt_failures:ratio_rate1h"), unit="percentunit", empty="No attempt in 1 h",
             steps=bound((BUDGET, ORANGE), (BURN[0] * BUDGET, RED)), defaults={"decimals": 1}),
        stat("Jobs not delivered",
             "Events that it has been offered and has not taken yet, the latest attempt "
             "within 24 hours. EPCC tries again, and at some time gives up.", _of("jobs_failing"), unit="none",
             empty=NOT_CHOSEN, steps=bound((1, YELLOW), (20, ORANGE))),
        stat("Jobs without a log",
             "Jobs that EPCC lists, and no log of an attempt: whether they arrived, only the "
             "receiver can say.", _of("jobs_unlogged"), unit="none",
             empty="Not looked for, or no exporter", steps=bound((1, ORANGE))),
        stat("Last success", "How long ago. In a quiet hour that is no failure: see State.",
             f"time() - {_of('last_success_timestamp_seconds')}", unit="s", empty="None seen, or no exporter",
             defaults={"decimals": 0}),
        stat("Slowest twentieth",
             "One attempt in twenty took this long or longer, in the last half hour. EPCC "
             f"gives up after {TIMEOUT_SECONDS} s.", _recorded("processing_seconds:p95_30m") + " >= 0", unit="s",
             empty="No attempt in 30 min", steps=bound((5, ORANGE), (9, RED)), defaults={"decimals": 2}),
        stat("Budget left",
             f"Of the {BUDGET:.0%} of attempts that may fail in the last {BUDGET_DAYS} days, or what "
             "Prometheus has of them. Below 0 it is overspent.", budget_left(ONE, by="store"), unit="percentunit",
             empty="No attempt yet", steps=((None, RED), (0, ORANGE), (0.25, GREEN)), defaults={"decimals": 0}),
    ))  # fmt: skip


def _attempts() -> Row:
    tried = a_minute(f"epcc_integration_attempts_total{{{ONE}}}")
    failed = a_minute(f"epcc_integration_attempt_failures_total{{{ONE}}}")
    codes = a_minute(f"epcc_integration_responses_total{{{ONE}}}")
    ratio = "attempt_failures:ratio_rate"
    return Row("Attempts and failures", (
        _over_time("Attempts", "Attempts to deliver, a minute.",
                   Query(f"sum({tried}) - ({or_0(f'sum({failed})', f'sum({tried})')})", "succeeded"),
                   Query(or_0(f"sum({failed})", f"sum({tried})"), "failed"),
                   unit="cpm", empty=NO_ATTEMPT, style="stacked",
                   overrides=(colored("succeeded", GREEN), colored("failed", RED))),
        _over_time("Failures by reason",
                   "What went wrong, a minute. http_*: the receiver's answer; timeout: none "
                   f"within {TIMEOUT_SECONDS} s; connection, dns, tls: it was not reached. A "
                   "dot is a failed job: click it to see what the receiver answered.",
                   Query(f"sum by (reason) ({failed}) > 0", "{{reason}}", exemplars=True), unit="cpm", style="bars",
                   empty="No attempt failed in this time", overrides=REASONS),
        _over_time("Answers by status code",
                   "What the receiver answered, attempts a minute; none: no answer, or it "
                   "does not speak HTTP; other: not a status code.",
                   Query(f"sum by (status_code) ({codes})", "{{status_code}}"), unit="cpm", empty=NO_ATTEMPT,
                   style="stacked", overrides=CODES),
        graph("Failing share",
              "Of the attempts of five minutes, an hour, a day. The lines: what may fail "
              f"({BUDGET:.0%}), and what pages where an hour has it ({BURN[0] * BUDGET:.1%}). Gaps: "
              "nothing was tried.",
              *(Query(f"clamp_max({_recorded(f'{ratio}{window}')}, 1)", window) for window in ("5m", "1h", "1d")),
              unit="percentunit", empty="No attempt in this time, or no rules", at_least=0.2,
              steps=((None, "transparent"), (BUDGET, YELLOW), (BURN[0] * BUDGET, RED))),
        graph("Failed in a row", "Attempts since the last success: 0 while it works.",
              Query(_of("consecutive_failures"), "failed in a row"), unit="none", empty=NOT_CHOSEN, at_least=10,
              steps=((None, "transparent"), (ROW_OF_FAILURES, RED)), defaults={"decimals": 0}),
        graph("Jobs not delivered",
              "Events offered and not taken yet, and jobs that EPCC lists without a log of "
              "any attempt.",
              Query(_of("jobs_failing"), "failing"), Query(_of("jobs_unlogged"), "without a log"), unit="none",
              empty=NOT_CHOSEN, at_least=5, defaults={"decimals": 0}),
    ))  # fmt: skip


def _latency() -> Row:
    name = "epcc_integration_processing_seconds"
    answers = buckets(name, ONE)
    return Row("How fast the receiver answers", (
        heatmap("Answer times",
                "Attempts by how long they took, from the classic buckets. EPCC gives up after "
                f"{TIMEOUT_SECONDS} s: what stands there has failed.", Query(answers), unit="s",
                empty=NO_ATTEMPT, interval=DELIVERY_INTERVAL),
        _over_time("Quantiles",
                   "Half of the attempts took less than p50, one in twenty more than p95, one in a "
                   "hundred more than p99. From the native histogram where Prometheus keeps it (at "
                   "most 4.4 % off), else from the classic buckets, where what timed out counts as "
                   f"{TIMEOUT_SECONDS} s. A dot is a job; click it to see "
                   "its attempts. The line is EPCC's time-out.",
                   Query(quantile(0.5, name, ONE), "p50"), Query(quantile(0.95, name, ONE), "p95", exemplars=True),
                   Query(quantile(0.99, name, ONE), "p99"), unit="s", empty=NO_ATTEMPT,
                   steps=((None, "transparent"), (TIMEOUT_SECONDS, RED))),
        graph("Nearly timed out",
              "Share of attempts of half an hour that took more than 5 s, half of EPCC's "
              "time-out: EpccIntegrationNearTimeout begins at the line.",
              Query(_recorded("processing_seconds:ratio_over5s_30m") + " >= 0", "over 5 s"),
              unit="percentunit", empty=NO_ATTEMPT,
              at_least=0.5, steps=((None, "transparent"), (0.25, RED))),
        _over_time("Mean answer time", "All that attempts took, by their number.",
                   Query(f"sum(rate({name}_sum{{{ONE}}}[$__rate_interval])) / "
                         f"(sum(rate({name}_count{{{ONE}}}[$__rate_interval])) > 0)",
                         "mean"), unit="s", empty=NO_ATTEMPT),
    ))  # fmt: skip


def _delivery() -> Row:
    name = "epcc_integration_job_delivery_seconds"
    jobs = f"sum({a_minute(f'epcc_integration_jobs_total{{{ONE}}}')})"
    by_attempt = f'epcc_integration_jobs_delivered_total{{{ONE}, attempt="%s"}}'
    delivered = f"sum({a_minute(by_attempt)})"
    retries = f"sum({a_minute(f'epcc_integration_retries_total{{{ONE}}}')})"
    late = f"histogram_quantile(%s, sum by (le) (rate({name}_bucket{{{ONE}}}[$__rate_interval]))) >= 0"
    first, every = delivered % "first", jobs
    return Row("Retries and delivery", (
        _over_time("Jobs",
                   "New jobs (an event for this integration), those delivered by their first attempt and by "
                   "a later one, and attempts that were retries; a minute.",
                   Query(jobs, "new jobs"), Query(or_0(delivered % "first", jobs), "delivered at once"),
                   Query(or_0(delivered % "retry", jobs), "delivered by a retry"),
                   Query(or_0(retries, jobs), "retries"), unit="cpm", empty="No job in this time",
                   overrides=(colored("new jobs", BLUE), colored("delivered at once", GREEN),
                              colored("delivered by a retry", ORANGE), colored("retries", RED))),
        _over_time("Delivered at once", "Share of jobs whose first attempt succeeded.",
                   Query(f"clamp_max(({or_0(first, every)}) / ({every} > 0), 1)", "at once"), unit="percentunit",
                   empty="No job in this time", defaults={"max": 1}),
        heatmap("How late jobs arrived",
                "Delivered jobs, by the time from their first attempt to their first "
                "success: the lowest row took the first try. A band far up is a backlog "
                "that is being delivered.",
                Query(buckets(name, ONE)), unit="s", empty="No job was delivered in this time",
                interval=DELIVERY_INTERVAL),
        _over_time("Time to delivery",
                   "Of the jobs delivered then: one in twenty took longer than p95 from its "
                   "first attempt, one in a hundred longer than p99. From classic buckets; 0 to "
                   "1 s is a first try.",
                   *(Query(late % q, legend) for q, legend in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))),
                   unit="s", empty="No job was delivered in this time"),
    ))  # fmt: skip


def _native() -> Row:
    return Row("Answer times from the native histogram", (
        heatmap("Answer times, finely", "As above, in eight buckets for each doubling.",
                Query(f"sum(increase(epcc_integration_processing_seconds{{{ONE}}}[$__rate_interval]))"),
                unit="s", native=True,
                empty="This Prometheus keeps no native histograms, or there was no attempt (README, Metrics, says how)",
                width=24, height=10, interval=DELIVERY_INTERVAL),
    ), closed=True)  # fmt: skip


def dashboard() -> Dashboard:
    store = choice("store", "Store", "As the exporter's configuration names it.",
                   'label_values(epcc_exporter_polls_total{job=~"$job"}, store)', several=False)  # fmt: skip
    integration = choice(
        "integration", "Integration", "By name; what is asked for is the id.",
        'query_result(integration:epcc_integration_info:named{job=~"$job", store="$store"})', several=False,
        regex=NAME_AND_ID,
    )  # fmt: skip
    own = 'alertstate="firing", job=~"$job", store="$store"'
    return Dashboard(
        UID, "EPCC: integration", "One integration: what fails and why, how fast its receiver answers, when jobs "
                                  "arrive.",
        (_now(), _attempts(), _latency(), _delivery(), _native()), (DATASOURCE, JOB, store, integration, ADDRESS),
        (alerts("Alerts on it", f'alertname=~"Epcc.+", integration_id="$integration", {own}', RED),
         alerts("Alerts on the exporter", f'alertname=~"Epcc.+", integration_id="", {own}', ORANGE)),
    )  # fmt: skip
