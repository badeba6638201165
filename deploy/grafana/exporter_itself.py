"""Exporter: can the other dashboards be believed? Polls, lag, what is asked of EPCC, gaps, state, process."""

from __future__ import annotations

from typing import Final

from deploy.grafana.model import (
    ADDRESS,
    ANY,
    CODES,
    DATASOURCE,
    GREEN,
    GREY,
    JOB,
    ORANGE,
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
    heatmap,
    stat,
    table,
    words,
)  # fmt: skip
from deploy.grafana.promql import BEHIND_SECONDS, DELIVERY_INTERVAL, OUTAGE_SECONDS, STORES, buckets

UID: Final = "epcc-exporter"
PROCESSES: Final = 'job=~"$job", instance=~"$instance"'
HERE: Final = f'{PROCESSES}, store=~"$store"'
LAG: Final = f"store:epcc_exporter_complete_through_lag_seconds:min{{{STORES}}}"
ENOUGH: Final = ((None, RED), (OUTAGE_SECONDS, YELLOW), (3600, GREEN))
FAILED: Final = words(v0=("Failed", RED), v1=("Good", GREEN))
NO_EXPORTER: Final = "No exporter is scraped"
NO_POLL: Final = "No exporter is scraped, or no poll has ended yet"
NO_LAG: Final = "No complete walk yet, or no rules loaded"


def _rate(name: str, by: str, selector: str = HERE) -> str:
    return f"sum by ({by}) (rate(epcc_exporter_{name}{{{selector}}}[$__rate_interval]))"


def _quantile(q: float, name: str, by: str) -> str:
    return f"histogram_quantile({q}, {_rate(f'{name}_bucket', f'{by}, le')}) >= 0"  # NaN, where there was nothing


def _now() -> Row:
    return Row("Now", (
        stat("Processes down", "Exporters that Prometheus knows and cannot scrape.",
             f"sum(up{{{PROCESSES}}} == bool 0)", unit="none", empty=NO_EXPORTER, steps=bound((1, RED))),
        stat("Stores not polled", "Stores whose last poll failed. Why: see Polls.",
             f"sum(max by (store) (epcc_up{{{HERE}}}) == bool 0)", unit="none", empty=NO_EXPORTER,
             steps=bound((1, RED))),
        stat("Counted up to",
             "How long ago all logs have been counted up to, in the store that is farthest behind. "
             "Up to half a lookback is usual; red is where EpccExporterBehind begins.",
             f"max({LAG})", unit="s", empty=NO_LAG,
             steps=bound((BEHIND_SECONDS, RED)), defaults={"decimals": 0}),
        stat("Outage budget",
             "How long the exporter may be down before logs pass EPCC's offset limit, in the store "
             "that has the least. Any: there are too few logs to reach a limit, or there is none.",
             f"min(epcc_exporter_outage_budget_seconds{{{HERE}}})", unit="s",
             empty=NO_EXPORTER, steps=ENOUGH, defaults={"decimals": 0, "mappings": list(ANY)}),
        stat("Gaps open",
             "Stretches of time in which logs may have been missed, and that have not passed out of "
             "the lookback: numbers may be too small.",
             f"sum(epcc_exporter_gap_open{{{HERE}}})", unit="none", empty=NO_EXPORTER,
             steps=bound((1, ORANGE))),
        stat("Refused by EPCC", "Answers 401, 403 and 429, a minute: credentials or rate.",
             f'sum(rate(epcc_exporter_api_requests_total{{{HERE}, code=~"401|403|429"}}[$__rate_interval])) * 60 '
             f"or 0 * sum(up{{{PROCESSES}}} == 1)", unit="cpm", empty=NO_EXPORTER,
             steps=bound((0.001, ORANGE)), defaults={"decimals": 1}),
        stat("Configuration",
             "Whether the last load of the configuration succeeded; Old: it runs with the last "
             "good one.",
             f"min(epcc_exporter_config_last_reload_successful{{{PROCESSES}}})", unit="none", empty=NO_EXPORTER,
             steps=((None, RED), (1, GREEN)),
             defaults={"mappings": list(words(v0=("Old", RED), v1=("Loaded", GREEN)))}),
        stat("Up since", "When the process that was started last began.",
             f"max(process_start_time_seconds{{{PROCESSES}}}) * 1000", unit="dateTimeFromNow", empty=NO_EXPORTER),
        _stores(),
    ))  # fmt: skip


def _stores() -> Panel:
    def own(name: str) -> str:
        return f"max by (store) (epcc_exporter_{name}{{{HERE}}})"

    return table(
        "Stores", "How each store is polled. The order of its list is observed, not configured: with unordered or "
                  "unknown, whole lists are read.",
        (Column("Store", "store"), Column("List order", "order", width=120)),
        tuple(
            Column(column.name, f"max by (store, order) (({column.source}) * on (store) group_right () max by "
                                f"(store, order) (epcc_exporter_list_order{{{HERE}}} == 1))",
                   column.unit, column.steps, column.width, column.mappings, column.links, column.decimals)
            for column in (
                Column("Last poll", f"max by (store) (epcc_up{{{HERE}}})", "none", ((None, RED), (1, GREEN)), 100,
                       FAILED),
                Column("Last good poll", f"time() - {own('last_successful_poll_timestamp_seconds')}", "s",
                       bound((600, RED)), 130, decimals=0),
                Column("Counted up to", f"max by (store) ({LAG})", "s", bound((BEHIND_SECONDS, RED)), 130, decimals=0),
                Column("Pages of the last walk", own("walk_pages"), "none", width=170),
                Column("Outage budget", f"min by (store) (epcc_exporter_outage_budget_seconds{{{HERE}}})", "s",
                       ENOUGH, 130, ANY, decimals=0),
                Column("Gaps open", f"max by (store) (sum without (cause) (epcc_exporter_gap_open{{{HERE}}}))", "none",
                       bound((1, ORANGE)), 100),
                Column("Series held", own("series_held"), "none", width=110),
            )
        ),
        sort="Counted up to", empty=NO_POLL, height=6,
    )  # fmt: skip


def _polls() -> Row:
    ended, failed = _rate("polls_total", "store"), _rate("poll_failures_total", "reason")
    return Row("Polls", (
        graph("Polls", "Polls that ended, a minute; in steady times, 60 s by poll_interval.",
              Query(f"{ended} * 60", "{{store}}"), unit="cpm", empty=NO_POLL, width=8),
        graph("Failed polls by reason",
              "A minute, their retries spent. storage: the exporter's own disk; auth, "
              "forbidden: its credentials; the others: EPCC or the way to it.",
              Query(f"{failed} * 60 > 0", "{{reason}}"), unit="cpm",
              empty="No poll failed in this time", style="bars", width=8),
        graph("How long polls take", "Of all polls, by store: half took less than p50, one in twenty more than p95.",
              Query(_quantile(0.5, "poll_duration_seconds", "store"), "{{store}} p50"),
              Query(_quantile(0.95, "poll_duration_seconds", "store"), "{{store}} p95"), unit="s", empty=NO_POLL,
              width=8),
    ))  # fmt: skip


def _lag() -> Row:
    return Row("Lag", (
        graph("Counted up to",
              "How long ago all logs have been counted up to. It grows between complete walks and "
              "falls with each: a saw is health. The line is where EpccExporterBehind begins.",
              Query(LAG, "{{store}}"), unit="s",
              empty=NO_LAG, width=12, steps=((None, "transparent"), (BEHIND_SECONDS, RED))),
        heatmap("How late logs show",
                "Counted logs by the time from their creation to their being seen. What comes "
                "near the lookback asks for a longer one.", Query(buckets("epcc_exporter_arrival_delay_seconds", HERE)),
                unit="s", empty="No log was counted in this time",
                interval=DELIVERY_INTERVAL),
    ))  # fmt: skip


def _asked() -> Row:
    duration = _quantile(0.95, "api_request_duration_seconds", "endpoint")
    return Row("What is asked of EPCC", (
        graph("Requests by store",
              "A second, each try; requests_per_second (10 where nothing is configured) is the "
              "most that there can be.", Query(_rate("api_requests_total", "store"), "{{store}}"), unit="reqps",
              empty=NO_EXPORTER, width=8),
        graph("Requests by endpoint",
              "A second. logs is the steady feed; integration_logs and job_logs are its "
              "repair, jobs the check.",
              Query(_rate("api_requests_total", "endpoint"), "{{endpoint}}"), unit="reqps", empty=NO_EXPORTER,
              style="stacked", width=8),
        graph("Answers by code", "A second. 429: over the rate that EPCC allows; error: no answer.",
              Query(_rate("api_requests_total", "code"), "{{code}}"), unit="reqps", empty=NO_EXPORTER,
              style="stacked", width=8,
              overrides=CODES),
        graph("How fast EPCC answers", "One request in twenty took longer. Gaps: the endpoint was not asked.",
              Query(duration, "{{endpoint}}"), unit="s", empty="No request in this time", interval=DELIVERY_INTERVAL),
        graph("Outage budget",
              "How long the exporter may be down before logs pass EPCC's offset limit, at the "
              "present rate. The line is where EpccExporterOutageBudgetSmall begins.",
              Query(f"min by (store) (epcc_exporter_outage_budget_seconds{{{HERE}}}) < Inf", "{{store}}"), unit="s",
              empty="Any outage: too few logs to reach an offset limit, or there is none",
              steps=((None, RED), (OUTAGE_SECONDS, "transparent"))),
    ))  # fmt: skip


def _gaps() -> Row:
    counted, again = _rate("logs_counted_total", "store"), _rate("logs_duplicate_total", "store")
    grown = f"sum by (%s) (increase(epcc_exporter_%s{{{HERE}}}[$__rate_interval])) > 0"
    return Row("Gaps, and what is counted", (
        graph("Gaps by cause",
              "Stretches in which logs may have been missed, when they were found. The "
              "README says of each cause what breaks there.",
              Query(grown % ("store, cause", "gaps_total"), "{{store}}: {{cause}}"),
              unit="none",
              empty="No gap in this time: nothing was missed", style="bars", width=8),
        graph("Logs", "Counted, and met again where pages overlap (not counted twice); a minute.",
              Query(f"{counted} * 60", "{{store}} counted"), Query(f"{again} * 60", "{{store}} again"), unit="cpm",
              empty=NO_EXPORTER, width=8),
        graph("Logs that are not whole",
              "Records that cannot be counted, by reason; counted ones in which a field "
              "is missing, by field; label values folded into other, because the store "
              "has reached max_series. status_code is missing wherever a receiver was "
              "not reached.",
              Query(grown % ("reason", "logs_rejected_total"), "rejected: {{reason}}"),
              Query(grown % ("field", "log_fields_missing_total"), "missing: {{field}}"),
              Query(grown % ("store", "series_folded_total"), "folded: {{store}}"), unit="none",
              empty="All logs were whole in this time", style="bars", width=8),
    ))  # fmt: skip


def _process() -> Row:
    def each(name: str) -> Query:
        return Query(f"{name}{{{PROCESSES}}}", "{{instance}}")

    return Row("State and process", (
        graph("State on disk", "Size of the state file. It follows lookback times rate, not history.",
              each("epcc_exporter_state_bytes"), unit="bytes", empty=NO_EXPORTER, width=8),
        graph("Memory", "Resident memory of the process.", each("process_resident_memory_bytes"), unit="bytes",
              empty="No process metrics: they exist on Linux alone", width=8),
        graph("Processor", "Share of one core; a process is bound to one. Near 100 %, share the stores: --shard.",
              Query(f"rate(process_cpu_seconds_total{{{PROCESSES}}}[$__rate_interval])", "{{instance}}"),
              unit="percentunit",
              empty="No process metrics: they exist on Linux alone", width=8),
        graph("Open files", "Of those that the process may have open: near 100 % it can take no more connections.",
              Query(f"process_open_fds{{{PROCESSES}}} / process_max_fds{{{PROCESSES}}}", "{{instance}}"),
              unit="percentunit", empty="No process metrics: they exist on Linux alone", width=8),
        graph("Scrapes", "How long Prometheus's scrapes take.", each("scrape_duration_seconds"), unit="s",
              empty=NO_EXPORTER,
              width=8),
        graph("Garbage collections", "A minute, by generation.",
              Query("sum by (instance, generation) "
                    f"(rate(python_gc_collections_total{{{PROCESSES}}}[$__rate_interval])) * 60",
                    "{{instance}} generation {{generation}}"), unit="cpm", empty=NO_EXPORTER, width=8),
        table("Processes", "Which version, which shard of how many, and whether it only stands by.",
              (Column("Instance", "instance"), Column("Version", "version", width=120),
               Column("Python", "python_version", width=120)),
              tuple(Column(name, f"max by (instance, version, python_version) (epcc_exporter_{metric}{{{PROCESSES}}} "
                                 "* on (job, instance) group_left (version, python_version) "
                                 f"epcc_exporter_build_info{{{PROCESSES}}})",
                           "none", (), 120, mappings)
                    for name, metric, mappings in (
                        ("Shard", "shard_ordinal", ()), ("Of", "total_shards", ()),
                        ("Stands by", "standby", words(v0=("No", GREEN), v1=("Yes", GREY))))),
              sort="Instance", descending=False, empty=NO_EXPORTER, height=5),
    ))  # fmt: skip


def dashboard() -> Dashboard:
    instance = choice("instance", "Instance", "One process of the exporter.",
                      'label_values(epcc_exporter_build_info{job=~"$job"}, instance)')  # fmt: skip
    store = choice("store", "Store", "Stores as the exporter's configuration names them.",
                   f"label_values(epcc_exporter_polls_total{{{PROCESSES}}}, store)", everything=".*")  # fmt: skip
    selector = 'alertname=~"Epcc.+", integration_id="", alertstate="firing", job=~"$job", store=~"$store|"'
    return Dashboard(
        UID, "EPCC: exporter", "Can the numbers be believed? Polls, lag, what is asked of EPCC, gaps, state, process.",
        (_now(), _polls(), _lag(), _asked(), _gaps(), _process()), (DATASOURCE, JOB, instance, store, ADDRESS),
        (alerts("Alerts on the exporter", selector, RED),),
    )  # fmt: skip
