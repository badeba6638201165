"""The dashboards of deploy/grafana against the rules of Grafana's dashboard-linter, and against the code: every metric,
label, variable and link is there. No server is asked; what Prometheus answers is in tests/integration/test_dashboards.py.

Of the linter's rules one does not apply but to the exporter's own dashboard: `instance` is no variable elsewhere, because
two exporters of one store count the same logs, and the queries take it out.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import promql_parser
import pytest
import yaml

from deploy.grafana import generate
from deploy.grafana import promql as asked
from tests import dashboards, promql, rules
from tests.dashboards import BUILT_IN, MACRO, Dashboard

UNITS = {"none", "s", "percentunit", "cpm", "reqps", "bytes", "dateTimeFromNow"}  # ids of Grafana's, of those it has
RATES = {"rate", "irate", "increase"}
LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
Check = Callable[[Dashboard], Iterator[str]]


def parsed(expr: str) -> Any:
    return promql_parser.parse(dashboards.as_promql(expr))


def labels_of(expr: str) -> promql.Labels:
    with patch.dict(promql.EXPOSED, dashboards.known()):
        return promql.labels_after(parsed(expr))


def nodes(board: Dashboard) -> Iterator[tuple[str, Any]]:
    for where, expr in board.expressions():
        yield from ((where, node) for node in promql.nodes(parsed(expr)))


def selectors(board: Dashboard) -> Iterator[tuple[str, Any]]:
    yield from ((where, node) for where, node in nodes(board) if isinstance(node, promql_parser.VectorSelector))


def has_no_templated_datasource(board: Dashboard) -> Iterator[str]:
    source = board.variables.get("datasource", {})
    if (source.get("type"), source.get("query"), source.get("label")) != ("datasource", "prometheus", "Data source"):
        yield "no variable `datasource` of Prometheus"


def asks_another_datasource(board: Dashboard) -> Iterator[str]:
    def sources(node: Any) -> Iterator[Any]:
        for name, value in node.items() if isinstance(node, dict) else ():
            if name == "datasource":
                yield value
            yield from sources(value)
        for value in node if isinstance(node, list) else ():
            yield from sources(value)

    for source in sources(board.body):
        if source != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"asks {source}"


def has_bad_variables(board: Dashboard) -> Iterator[str]:
    wanted = {"datasource", "job", "store"} | {"epcc-exporter": {"instance"}, "epcc-integration": {"integration"}}.get(
        board.uid, set()
    )
    for name in sorted(wanted - board.variables.keys()):
        yield f"no variable {name}"
    for name, variable in board.variables.items():
        if not variable.get("label") or not variable.get("description"):
            yield f"{name} has no label or description"
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield f"{name} is not asked for anew when the time changes"
        if variable.get("multi") and not (variable["includeAll"] and variable["allValue"]):
            yield f"{name} has no value for all"
    for name in {"job", "instance"} & board.variables.keys():
        if board.variables[name]["allValue"] != ".+" or not board.variables[name]["multi"]:
            yield f"{name} is not of the linter's kind"


def can_be_edited(board: Dashboard) -> Iterator[str]:
    if board.body["editable"]:
        yield "what is changed in Grafana is lost at the next start"


def says_too_little(board: Dashboard) -> Iterator[str]:
    for panel in board.panels():
        if not panel.body["title"] or not panel.body["description"].endswith("."):
            yield f"{panel.key}: no title, or no description"
        if not panel.defaults.get("noValue"):
            yield f"{panel.key}: does not say why it is empty"
        if not panel.defaults["thresholds"]["steps"]:
            yield f"{panel.key}: no thresholds"


def has_no_unit(board: Dashboard) -> Iterator[str]:
    for panel in board.panels():
        units = [panel.defaults.get("unit")]
        for override in panel.body["fieldConfig"]["overrides"]:
            units += [each["value"] for each in override["properties"] if each["id"] == "unit"]
        for unit in units:
            if unit not in UNITS:
                yield f"{panel.key}: unit {unit}"


def is_laid_out_badly(board: Dashboard) -> Iterator[str]:
    taken: Counter[tuple[int, int]] = Counter()
    numbers: Counter[int] = Counter(each["id"] for each in board.body["panels"])
    for panel in board.panels():
        grid = panel.body["gridPos"]
        if grid["x"] + grid["w"] > 24:
            yield f"{panel.key}: reaches beyond the right edge"
        taken.update(
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        )
    if max(taken.values()) > 1 or max(numbers.values()) > 1:
        yield "panels overlap, or have the same id"


def does_not_parse(board: Dashboard) -> Iterator[str]:
    for where, expr in board.expressions():
        try:
            parsed(expr)
        except ValueError as error:
            yield f"{where}: {error}"


def rates_over_a_fixed_time(board: Dashboard) -> Iterator[str]:
    for where, expr in board.expressions():
        for function, window in re.findall(r"\b(rate|irate|increase)\([^\[\]]*\[([^\]]+)\]", expr):
            if window != "$__rate_interval":
                yield f"{where}: {function} over {window}"


def reads_counters_raw(board: Dashboard) -> Iterator[str]:
    for where, expr in board.expressions():
        inside = re.sub(r"\b(?:rate|increase)\([^\[\]]*\[[^\]]+\]\)", "0", dashboards.as_promql(expr))
        for name in re.findall(r"\b\w+(?:_total|_bucket)\b", inside):
            yield f"{where}: {name} without a rate"


def ranged(board: Dashboard) -> Iterator[tuple[str, Any]]:
    for where, node in nodes(board):
        if (
            isinstance(node, promql_parser.Call)
            and node.args
            and isinstance(node.args[0], promql_parser.MatrixSelector)
        ):
            yield where, node


def rates_what_is_no_counter(board: Dashboard) -> Iterator[str]:
    with patch.dict(promql.EXPOSED, dashboards.known()):
        for where, call in ranged(board):
            name = str(call.args[0].vector_selector.name)
            if call.func.name in RATES and promql.kind(name) != "counter":
                yield f"{where}: {call.func.name}({name})"


def names_what_is_not_there(board: Dashboard) -> Iterator[str]:
    there = {**promql.EXPOSED, **dashboards.known()}
    for where, selector in selectors(board):
        if selector.name not in there and selector.name not in promql.RECORDED:
            yield f"{where}: there is no {selector.name}"
            continue
        with patch.dict(promql.EXPOSED, dashboards.known()):
            labels = promql.labels_of(str(selector.name))
        for matcher in selector.matchers.matchers:
            if matcher.name not in labels:
                yield f"{where}: {selector.name} has no label {matcher.name}"


def groups_by_what_is_not_there(board: Dashboard) -> Iterator[str]:
    with patch.dict(promql.EXPOSED, dashboards.known()):
        for where, node in nodes(board):
            if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
                for label in set(node.modifier.labels) - promql.labels_after(node.expr) - {"pod", "instance"}:
                    yield f"{where}: {node}: no label {label}"
            for label in promql.matched_on(node):
                for side in (node.lhs, node.rhs):
                    if label not in promql.labels_after(side):
                        yield f"{where}: {side}: no label {label}"


def shows_what_is_not_there(board: Dashboard) -> Iterator[str]:
    """Labels in legends, and the columns of tables."""
    for panel in board.panels():
        for target in panel.targets:
            labels = labels_of(target["expr"])
            for label in sorted(set(LEGEND.findall(target["legendFormat"])) - labels):
                if panel.body["type"] != "heatmap" or label != "le":
                    yield f"{panel.key}: no label {label} for the legend"
        if panel.body["type"] == "table":
            yield from lacks_columns(panel)


def lacks_columns(panel: dashboards.Panel) -> Iterator[str]:
    """Rows are put together by the labels that all queries have: one query may bring more, and none may lack one."""
    first, *others = [labels_of(target["expr"]) for target in panel.targets]
    for labels in others:
        for label in sorted(first - labels):
            yield f"{panel.key}: a query without {label}, whose rows stand apart"
    renamed = panel.body["transformations"][-1]["options"]["renameByName"]
    for label in sorted({each for each in renamed if not each.startswith("Value")} - first.union(*others)):
        yield f"{panel.key}: no label {label} for a column"


def forgets_what_was_chosen(board: Dashboard) -> Iterator[str]:
    """The linter's target-job-rule and target-instance-rule, and the same for our own labels."""
    with patch.dict(promql.EXPOSED, dashboards.known()):
        for where, selector in selectors(board):
            has = {matcher.name for matcher in selector.matchers.matchers}
            can = promql.labels_of(str(selector.name))
            own = {"job", "store", "instance", "integration"} & board.variables.keys()
            for name in sorted(own):
                label = "integration_id" if name == "integration" else name
                if label in can and label not in has:
                    yield f"{where}: {selector.name} is not asked for {label}"


def uses_a_variable_that_is_not_there(board: Dashboard) -> Iterator[str]:
    for name in sorted(set(MACRO.findall(json.dumps(board.body))) - board.variables.keys() - BUILT_IN):
        yield f"there is no ${name}"


def links_to_nowhere(board: Dashboard) -> Iterator[str]:
    boards = {each.uid: each for each in dashboards.read()}
    for uid, asked_for in re.findall(r'"url": "/d/([^/]+)/\?([^"]*)"', json.dumps(board.body)):
        for name in re.findall(r"var-(\w+)=", asked_for):
            if uid not in boards or name not in boards[uid].variables:
                yield f"a link to {uid} with {name}"


CHECKS: list[Check] = [
    has_no_templated_datasource, asks_another_datasource, has_bad_variables, can_be_edited, says_too_little, has_no_unit,
    is_laid_out_badly, does_not_parse, rates_over_a_fixed_time, reads_counters_raw, rates_what_is_no_counter,
    names_what_is_not_there, groups_by_what_is_not_there, shows_what_is_not_there, forgets_what_was_chosen,
    uses_a_variable_that_is_not_there, links_to_nowhere,
]  # fmt: skip


def panel(board: dict[str, Any], title: str) -> dict[str, Any]:
    return next(each for each in board["panels"] if each["title"] == title)


def expr(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda board: panel(board, "Attempts by store")["targets"][0].update(expr=text)


RATE = 'sum by (%s) (rate(epcc_integration_%s{job=~"$job", store=~"$store"}[%s]))'
BAD: list[tuple[Check, Callable[[dict[str, Any]], Any]]] = [
    (has_no_templated_datasource, lambda board: board["templating"]["list"].pop(0)),
    (asks_another_datasource, lambda board: panel(board, "Pages")["targets"][0].update(datasource=None)),
    (has_bad_variables, lambda board: board["templating"]["list"].pop(2)),
    (has_bad_variables, lambda board: board["templating"]["list"][1].update(refresh=1)),
    (has_bad_variables, lambda board: board["templating"]["list"][1].update(allValue=".*")),
    (can_be_edited, lambda board: board.update(editable=True)),
    (says_too_little, lambda board: panel(board, "Pages").update(description="")),
    (says_too_little, lambda board: panel(board, "Pages")["fieldConfig"]["defaults"].pop("noValue")),
    (has_no_unit, lambda board: panel(board, "Pages")["fieldConfig"]["defaults"].update(unit="per minute")),
    (is_laid_out_badly, lambda board: panel(board, "Pages")["gridPos"].update(w=4)),
    (is_laid_out_badly, lambda board: panel(board, "Pages").update(id=1)),
    (does_not_parse, expr("sum(")),
    (rates_over_a_fixed_time, expr(RATE % ("store", "attempts_total", "5m"))),
    (reads_counters_raw, expr('sum by (store) (epcc_integration_attempts_total{job=~"$job", store=~"$store"})')),
    (rates_what_is_no_counter, expr(RATE % ("store", "jobs_failing", "$__rate_interval"))),
    (names_what_is_not_there, expr(RATE % ("store", "atempts_total", "$__rate_interval"))),
    (names_what_is_not_there, expr('epcc_up{shop="x"}')),
    (groups_by_what_is_not_there, expr(RATE % ("store, reason", "attempts_total", "$__rate_interval"))),
    (shows_what_is_not_there, expr(RATE % ("integration_id", "attempts_total", "$__rate_interval"))),
    (shows_what_is_not_there, lambda board: panel(board, "Stores")["targets"][1].update(expr="sum(epcc_up)")),
    (
        shows_what_is_not_there,
        lambda board: panel(board, "Stores")["transformations"][-1]["options"]["renameByName"].update(reason="Reason"),
    ),
    (forgets_what_was_chosen, expr('epcc_up{store=~"$store"}')),
    (forgets_what_was_chosen, expr('epcc_up{job=~"$job"}')),
    (uses_a_variable_that_is_not_there, expr('epcc_up{store=~"$shop"}')),
    (links_to_nowhere, lambda board: panel(board, "Pages").update(links=[{"url": "/d/epcc-exporter/?var-shop=x"}])),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_dashboard(check: Check) -> None:
    problems = [f"{board.uid}: {problem}" for board in dashboards.read() for problem in check(board)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(("check", "spoil"), BAD, ids=lambda each: getattr(each, "__name__", ""))
def test_the_check_finds(check: Check, spoil: Callable[[dict[str, Any]], Any]) -> None:
    overview = next(board for board in dashboards.read() if board.uid == "epcc-overview")
    spoiled = Dashboard(copy.deepcopy(overview.body))
    spoil(spoiled.body)
    assert list(check(spoiled))


def test_every_check_is_shown_to_find_something() -> None:
    assert {check for check, _ in BAD} == {*CHECKS}


def test_the_files_are_what_the_generator_makes() -> None:
    there = {path.name: path.read_text() for path in dashboards.FILES}
    assert there == generate.files(), "run python -m deploy.grafana.generate"


def test_there_are_three_and_grafana_11_reads_them() -> None:
    assert [board.uid for board in dashboards.read()] == ["epcc-exporter", "epcc-integration", "epcc-overview"]
    assert {board.body["schemaVersion"] for board in dashboards.read()} == {39}


def test_thresholds_are_those_of_the_alerts() -> None:
    by_name = {
        rule.name: "".join(each.expr for each in rules.alerts() if each.name == rule.name) for rule in rules.alerts()
    }
    assert f"> {asked.BEHIND_SECONDS}" in by_name["EpccExporterBehind"]
    assert f"< {asked.OUTAGE_SECONDS}" in by_name["EpccExporterOutageBudgetSmall"]
    assert f">= {asked.ROW_OF_FAILURES}" in by_name["EpccIntegrationDown"]
    recorded = promql.RECORDED["integration:epcc_integration_processing_seconds:p95_30m"].expr
    assert recorded.rstrip().endswith(f", {asked.TIMEOUT_SECONDS}\n)")
    for factor, window in zip(asked.BURN, ("1h", "6h"), strict=True):
        assert f"ratio_rate{window} > {factor:g} * {asked.BUDGET}" in by_name["EpccIntegrationErrorBudgetBurn"]


@pytest.mark.parametrize("name", ["Order shipping", 'The "new" one', "a,integration_type=b", "über {x}"])
def test_an_integration_is_chosen_by_its_name_and_asked_for_by_its_id(name: str) -> None:
    [board] = [each for each in dashboards.read() if each.uid == "epcc-integration"]
    regex = board.variables["integration"]["regex"]
    shown = (
        'integration:epcc_integration_info:named{integration_id="7d2f",integration_name="%s",%sjob="x",store="a"} 1 17'
    )
    for kind in ('integration_type="webhook",', ""):  # without: what no integration is named for
        assert dashboards.example(regex, (shown % (name, kind),)) == [(name, "7d2f")]


def test_a_dot_leads_to_the_page_of_its_job() -> None:
    [source] = yaml.safe_load((dashboards.FOLDER / "provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    [destination] = source["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["name"] == "job_id"
    url = destination["url"].replace("$$", "$")
    assert not re.search(r"(?<!\$)\$(?!\$)", destination["url"]), "Grafana would fill it in with its environment"
    [board] = [each for each in dashboards.read() if each.uid == "epcc-integration"]
    assert set(MACRO.findall(url)) - board.variables.keys() == {"__value"}
    values = {"exporter": "http://localhost:10058", "store": "acme", "integration": "7d2f", "__value": "job-1"}
    assert dashboards.filled(url, values) == "http://localhost:10058/jobs/acme/7d2f/job-1"
    dotted = [each for each in board.panels() if any(target["exemplar"] for target in each.targets)]
    assert {each.body["title"] for each in dotted} == {"Failures by reason", "Quantiles"}


def test_grafana_finds_the_files() -> None:
    path = dashboards.FOLDER / "provisioning/dashboards/epcc-exporter.yaml"
    [provider] = yaml.safe_load(path.read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/etc/grafana/dashboards")
