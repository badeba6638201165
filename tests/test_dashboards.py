"""The dashboards against what the exporter exposes, what the rules record, and what Grafana's dashboard-linter asks."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import promql_parser as parser
import pytest

from tests import dashboards, promql, rules
from tests.dashboards import FILES, Query

DASHBOARDS = dashboards.read()
UIDS = [each["uid"] for each in DASHBOARDS]
QUERIES = dashboards.queries()
PANELS = [(each["uid"], panel) for each in DASHBOARDS for panel in dashboards.panels(each)]
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}
FOREIGN = {**dict.fromkeys(PROCESS, promql.TARGET), "ALERTS": frozenset({"alertname", "alertstate", "job", "store"})}
# What they count since the state was made is what they are asked for.
SINCE_EVER = {"Gaps, rejected records, missing fields", "Series"}
UNITS = {"none", "ops", "reqps", "s", "dtdurations", "percentunit", "bytes", "suffix: x"}
WITHOUT_STORE = {
    "epcc_exporter_build_info", "epcc_exporter_standby", "epcc_exporter_shard_ordinal", "epcc_exporter_state_bytes",
    "epcc_exporter_config_last_reload_successful", "ALERTS", *PROCESS,
}  # fmt: skip


def ids(value: Any) -> str:
    return str(value) if isinstance(value, Query) else ""


def selectors(query: Query) -> list[Any]:
    return list(promql.selectors(parser.parse(query.filled)))


def test_the_files_are_what_the_code_beside_them_makes() -> None:
    made = subprocess.run(
        [sys.executable, dashboards.FOLDER / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    assert [path.stem for path in FILES] == UIDS == ["epcc-exporter", "epcc-integration", "epcc-overview"]


@pytest.mark.parametrize("query", QUERIES, ids=ids)
def test_every_metric_and_label_of_a_query_exists(query: Query) -> None:
    for selector in selectors(query):
        name = str(selector.name)
        known = FOREIGN[name] if name in FOREIGN else promql.labels_of(name)
        assert {each.name for each in selector.matchers.matchers} <= {*known}, name


@pytest.mark.parametrize("query", QUERIES, ids=ids)
def test_every_query_asks_for_the_chosen_jobs_stores_and_instances_alone(query: Query) -> None:
    for text in re.findall(r"[a-zA-Z_:][\w:]*\{[^}]*\}", query.expr):
        assert 'job=~"$job"' in text
        name = text.partition("{")[0]
        if query.dashboard == "epcc-exporter":
            assert 'instance=~"$instance"' in text
        if name not in WITHOUT_STORE:
            assert 'store=~"$store"' in text
    assert len(re.findall(r"\{", query.expr)) == len(selectors(query))  # none is asked without a condition


@pytest.mark.parametrize("query", QUERIES, ids=ids)
def test_counters_are_asked_as_rates_over_grafanas_interval_and_nothing_else_is(query: Query) -> None:
    text = query.filled
    parsed = parser.parse(text)
    rated = [node for node in promql.nodes(parsed) if isinstance(node, parser.Call) and node.func.name == "rate"]
    for call in rated:
        (matrix,) = call.args
        name = str(matrix.vector_selector.name)
        assert promql.kind(name) == "counter" or name == "process_cpu_seconds_total"
    assert "[" not in query.expr.replace("[$__rate_interval]", "")
    inside = {str(call.args[0].vector_selector.name) for call in rated}
    bare = {str(each.name) for each in selectors(query)} - inside
    if query.panel not in SINCE_EVER:
        assert [name for name in bare if promql.kind(name) == "counter" or name.endswith("_total")] == []


@pytest.mark.parametrize(
    ("uid", "panel"), PANELS, ids=lambda value: value["title"] if isinstance(value, dict) else value
)
def test_every_panel_says_what_it_shows_in_which_unit_and_why_it_is_empty(uid: str, panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"] in UNITS
    assert len(defaults["noValue"]) > 5
    assert defaults["thresholds"]["steps"][0]["value"] is None
    ascending = [step["value"] for step in defaults["thresholds"]["steps"][1:]]
    assert ascending == sorted(ascending)
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert (
        len({target["legendFormat"] for target in panel["targets"]}) == len(panel["targets"])
        or panel["type"] == "table"
    )


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=UIDS)
def test_a_dashboard_is_found_by_its_links_and_its_variables_are_the_fields_own(dashboard: dict[str, Any]) -> None:
    variables = dashboards.variables(dashboard)
    assert variables["datasource"]["label"] == "Data source"
    assert variables["datasource"]["query"] == "prometheus"
    for name, each in variables.items():
        assert each["label"]
        assert each["description"]
        if each["type"] == "query":
            assert each["allValue"] == ".+", name
            assert each["datasource"]["uid"] == "${datasource}"
            assert each["multi"]
    assert {"datasource", "job", "store"} <= variables.keys()
    assert not dashboard["editable"]
    assert dashboard["description"]
    assert dashboard["links"][0]["tags"] == dashboard["tags"] == ["epcc"]
    assert dashboard["links"][0]["includeVars"]
    used = set(re.findall(r"\$\{?(\w+)", str(dashboard["panels"]))) - {
        "__rate_interval",
        "__data",
        "__value",
        "__url_time_range",
    }
    assert used <= variables.keys()
    linked = set(re.findall(r"/d/([\w-]+)\?", str(dashboard["panels"])))
    assert linked <= set(UIDS)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=UIDS)
def test_no_two_panels_share_a_place_or_an_id(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_alerts_are_drawn_into_every_dashboard() -> None:
    names = {rule.name for rule in rules.alerts()}
    for dashboard in DASHBOARDS:
        (annotation,) = dashboard["annotations"]["list"]
        pattern = re.search(r'alertname=~"([^"]+)"', annotation["expr"])
        assert pattern
        assert all(re.fullmatch(pattern[1], name) for name in names)


def test_the_objective_is_that_of_the_alerts() -> None:
    overview = next(each for each in DASHBOARDS if each["uid"] == "epcc-overview")
    burn = next(panel for panel in dashboards.panels(overview) if panel["title"] == "Error budget burn")
    (budget,) = {target["expr"].rpartition("/ ")[2] for target in burn["targets"]}
    fastest = next(rule for rule in rules.alerts() if rule.name == "EpccIntegrationErrorBudgetBurn")
    assert f"14.4 * {budget}" in fastest.expr
    assert [step["value"] for step in burn["fieldConfig"]["defaults"]["thresholds"]["steps"]] == [None, 1, 14.4]
