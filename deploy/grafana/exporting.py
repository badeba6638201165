"""The exporter itself: does it poll, is it behind, what does it ask of EPCC, and what does it need."""

from __future__ import annotations

from panels import (
    GREEN,
    INSTANCE,
    JOB,
    ORANGE,
    RED,
    UIDS,
    VARIABLES,
    Json,
    Panel,
    Query,
    dashboard,
    rows,
    told,
)  # fmt: skip

OWN = f'{JOB}, instance=~"$instance"'
STORE = f'{OWN}, store=~"$store"'
EVERY = "$__rate_interval"
NOT_200 = ', code!="200"'


def total(metric: str, by: str = "store", labels: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{STORE}{labels}}}[{EVERY}]))"


def p95(metric: str, by: str) -> str:
    return told(f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket{{{STORE}}}[{EVERY}])))")


def state() -> list[Panel]:
    return [
        Panel("Stores whose polls fail", "The last poll did not end well.",
              [Query(f"count (epcc_up{{{STORE}}} == 0) or vector(0)")], "none", 4, "stat", steps=((None, GREEN), (1, RED))),
        Panel("Counted up to", "How old the oldest log may be that is not counted yet, of the store furthest behind.",
              [Query(f"max (time() - epcc_exporter_complete_through_timestamp_seconds{{{STORE}}})")], "s", 4, "stat",
              steps=((None, GREEN), (300, ORANGE), (1200, RED)), nothing="No walk has been completed yet"),
        Panel("May be down for", "How long the exporter may be down before logs pass EPCC's offset limit, at the present rate, "
              "of the store with least.", [Query(f"min (epcc_exporter_outage_budget_seconds{{{STORE}}})")], "dtdurations", 4,
              "stat", steps=((None, "text"), (0, RED), (600, ORANGE), (3600, GREEN)), decimals=0, nothing="Without end: nothing comes in"),
        Panel("Gaps open", "Stretches in which logs may have been missed, and that have not passed out of the lookback.",
              [Query(f"sum (epcc_exporter_gap_open{{{STORE}}})")], "none", 4, "stat", steps=((None, GREEN), (1, RED))),
        Panel("Configuration", "Whether the last reload went well; where it did not, the last good one stays.",
              [Query(f"min (epcc_exporter_config_last_reload_successful{{{OWN}}})")], "none", 4, "stat",
              steps=((None, RED), (1, GREEN)),
              mappings=[{"type": "value", "options": {"0": {"text": "not reloaded"}, "1": {"text": "as on disk"}}}]),
        Panel("Processes", "That count; standbys and missing shards are not among them.",
              [Query(f"count (epcc_exporter_build_info{{{OWN}}} unless on (instance) epcc_exporter_standby{{{OWN}}} == 1)")],
              "none", 4, "stat", steps=((None, RED), (1, GREEN))),
    ]  # fmt: skip


def polls() -> list[Panel]:
    return [
        Panel("Polls", "Each store, once in its poll_interval.", [Query(total("epcc_exporter_polls_total"), "{{store}}")],
              "ops", 6),
        Panel("Failed polls", "By reason: auth and forbidden are the credentials, rate_limited is EPCC's wish, storage is this "
              "machine's disk.", [Query(f"{total('epcc_exporter_poll_failures_total', 'store, reason')} > 0",
                                        "{{store}}: {{reason}}")], "ops", 6, stacked=True,
              nothing="No poll failed in this time"),
        Panel("Poll duration, p95", "Near poll_interval there is nothing left to spare.",
              [Query(p95("epcc_exporter_poll_duration_seconds", "store"), "{{store}}")], "s", 6,
              nothing="No poll in this time"),
        Panel("Behind", "Age of the oldest log that may not be counted yet.",
              [Query(f"max by (store) (time() - epcc_exporter_complete_through_timestamp_seconds{{{STORE}}})", "{{store}}")],
              "s", 6, steps=((None, "transparent"), (1200, RED))),
    ]  # fmt: skip


def api() -> list[Panel]:
    requests = "epcc_exporter_api_requests_total"
    return [
        Panel("Requests to EPCC", "To compare with the store's requests_per_second.",
              [Query(total(requests), "{{store}}")], "reqps", 6),
        Panel("Requests by endpoint", "What is asked.", [Query(f"{total(requests, 'endpoint')} > 0", "{{endpoint}}")], "reqps", 6,
              stacked=True, nothing="No request in this time"),
        Panel("Answers other than 200", "By code; error: no answer came. 429 is EPCC's wish for fewer requests.",
              [Query(f"{total(requests, 'endpoint, code', NOT_200)} > 0", "{{endpoint}}: {{code}}")],
              "reqps", 6, stacked=True, nothing="EPCC answered every request with 200 in this time"),
        Panel("EPCC's answers, p95", "How long EPCC takes to answer.",
              [Query(p95("epcc_exporter_api_request_duration_seconds", "endpoint"), "{{endpoint}}")], "s", 6,
              nothing="No request in this time"),
    ]  # fmt: skip


def logs() -> list[Panel]:
    return [
        Panel("Logs counted", "And those met again, which are not counted: pages overlap.",
              [Query(total("epcc_exporter_logs_counted_total"), "{{store}}"),
               Query(total("epcc_exporter_logs_duplicate_total"), "{{store}}: met again")], "ops", 6),
        Panel("Arrival delay, p95", "From a log's creation to its being seen. Far below lookback all is well.",
              [Query(p95("epcc_exporter_arrival_delay_seconds", "store"), "{{store}}")], "s", 6,
              nothing="No log came in this time"),
        Panel("Gaps, rejected records, missing fields", "What could not be counted, or not as it should be. A log without status_code is usual: no answer came, or its receiver has none.",
              [Query(f"sum by (store, cause) (epcc_exporter_gaps_total{{{STORE}}}) > 0", "{{store}}: gap {{cause}}"),
               Query(f"sum by (store, reason) (epcc_exporter_logs_rejected_total{{{STORE}}}) > 0",
                     "{{store}}: rejected {{reason}}"),
               Query(f"sum by (store, field) (epcc_exporter_log_fields_missing_total{{{STORE}}}) > 0",
                     "{{store}}: without {{field}}")], "none", 6, nothing="None since the state was made: every log was whole"),
        Panel("Pages of the last walk", "How far the last poll had to read.",
              [Query(f"max by (store) (epcc_exporter_walk_pages{{{STORE}}})", "{{store}}")], "none", 6),
    ]  # fmt: skip


def process() -> list[Panel]:
    return [
        Panel("CPU", "Of one core.", [Query(f"rate(process_cpu_seconds_total{{{OWN}}}[{EVERY}])", "{{instance}}")],
              "percentunit", 6),
        Panel("Memory", "Resident.", [Query(f"process_resident_memory_bytes{{{OWN}}}", "{{instance}}")], "bytes", 6),
        Panel("State on disk", "What must not be lost: ids and counts.",
              [Query(f"epcc_exporter_state_bytes{{{OWN}}}", "{{instance}}")], "bytes", 6),
        Panel("Open files", "And how many it may open.",
              [Query(f"process_open_fds{{{OWN}}}", "{{instance}}"),
               Query(f"process_max_fds{{{OWN}}}", "{{instance}}: limit")], "none", 6),
        Panel("Series", "Newborn series still shown as 0, and label values counted as other because max_series is reached.",
              [Query(f"sum by (store) (epcc_exporter_series_held{{{STORE}}})", "{{store}}: held"),
               Query(f"sum by (store) (epcc_exporter_series_folded_total{{{STORE}}})", "{{store}}: folded")], "none", 12),
        Panel("Versions", "Of the exporter and of Python, by instance, with its shard.",
              [Query(f"epcc_exporter_build_info{{{OWN}}} * on (instance) group_left () (epcc_exporter_shard_ordinal{{{OWN}}} >= 0)",
                     "{{instance}}: {{version}}, Python {{python_version}}")], "none", 12, "stat", text_mode="name"),
    ]  # fmt: skip


def made() -> Json:
    return dashboard(
        UIDS["exporter"], "EPCC / Exporter", "The exporter's own health: polls, EPCC's API, gaps, state and process",
        (*VARIABLES, INSTANCE),
        rows(("State", 4, state()), ("Polls", 7, polls()), ("EPCC's API", 7, api()), ("Logs", 7, logs()),
             ("Process", 7, process())), "now-3h",
    )  # fmt: skip
