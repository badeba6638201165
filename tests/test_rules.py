"""The rules of deploy/prometheus against the code and against themselves, as pint would read them; no server is asked.

What promtool says of them, and what they do, is in tests/integration/test_alerts_promtool.py.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from exporter.metrics import FAMILIES, Shown
from exporter.tally import Tally
from tests import promql, rules
from tests.rules import RUNBOOKS, Rule

CONFIG = yaml.safe_load((rules.FOLDER / "prometheus.yml").read_text())
SCRAPE_SECONDS = rules.seconds(CONFIG["global"]["scrape_interval"])
EVALUATION_SECONDS = rules.seconds(CONFIG["global"]["evaluation_interval"])
JOB = CONFIG["scrape_configs"][0]["job_name"]
AWAY = promql.TARGET | {"pod"}  # may be taken out where it is not there
COUNTER_FUNCTIONS = {"rate", "increase", "irate", "resets"}


def names_what_is_not_there(rule: Rule) -> Iterator[str]:
    for selector in (each for query in promql.queries(rule) for each in promql.selectors(query)):
        if selector.name not in promql.EXPOSED and selector.name not in promql.RECORDED:
            yield f"there is no {selector.name}"
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in promql.labels_of(selector.name):
                yield f"{selector.name} has no label {matcher.name}"


def groups_by_what_is_not_there(rule: Rule) -> Iterator[str]:
    for node in every_node(rule):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            for label in set(node.modifier.labels) - promql.labels_after(node.expr) - AWAY:
                yield f"{node}: no label {label}"


def joins_what_is_not_there(rule: Rule) -> Iterator[str]:
    for node in every_node(rule):
        for label in promql.matched_on(node):
            for side in (node.lhs, node.rhs):
                if label not in promql.labels_after(side):
                    yield f"{side}: no label {label}"


def never_matches(rule: Rule) -> Iterator[str]:
    """Without `on`, both sides of an operation must have the same labels, or nothing ever comes of it."""
    for node in every_node(rule):
        if not isinstance(node, promql_parser.BinaryExpr) or str(node.op) == "or" or promql.matched_on(node):
            continue
        if any(promql.selectors(node.lhs)) and any(promql.selectors(node.rhs)):
            ignored = set(node.modifier.matching.labels) if node.modifier and node.modifier.matching else set()
            apart = (promql.labels_after(node.lhs) ^ promql.labels_after(node.rhs)) - ignored
            if apart:
                yield f"{node}: one side alone has {', '.join(sorted(apart))}"


def rates_wrongly(rule: Rule) -> Iterator[str]:
    for node in every_node(rule):
        if not isinstance(node, promql_parser.Call) or not node.args:
            continue
        if not isinstance(node.args[0], promql_parser.MatrixSelector):
            continue
        name, window = str(node.args[0].vector_selector.name), node.args[0].range.total_seconds()
        if node.func.name in COUNTER_FUNCTIONS and promql.kind(name) != "counter":
            yield f"{node.func.name}({name}): it is no counter"
        if window < 4 * SCRAPE_SECONDS:
            yield f"{name}[{window:g}s]: after failed scrapes it has not two samples"


def compares_counters(rule: Rule) -> Iterator[str]:
    """A counter's value since its birth is nothing to alert on; a difference is, or that it is 0."""
    for node in every_node(rule):
        plain = isinstance(node, promql_parser.BinaryExpr) and isinstance(node.lhs, promql_parser.VectorSelector)
        if plain and str(node.op) in (">", "<", ">=", "<=") and promql.kind(node.lhs.name) == "counter":
            yield f"{node}: compares a counter"


def is_named_badly(rule: Rule) -> Iterator[str]:
    if not rule.is_alert and not re.fullmatch(r"(integration|store):epcc_\w+:\w+", rule.name):
        yield "a recorded name is level:metric:operations"
    if rule.is_alert and not re.fullmatch(r"Epcc(Integration|Exporter|Store)([A-Z][a-z]+)+", rule.name):
        yield "a name in CamelCase that begins with Epcc"
    if rule.is_alert and rule.labels.get("severity") not in ("critical", "warning", "info"):
        yield "no severity"


def says_too_little(rule: Rule) -> Iterator[str]:
    if not rule.is_alert:
        return
    there = promql.result(rule.expr)
    summary, text = rule.annotations.get("summary", ""), rule.annotations.get("description", "")
    if not summary.endswith(".") or "{{" in summary:
        yield "a summary is one static sentence"
    for label in sorted({"store", "integration_name"} & there):
        if f"$labels.{label}" not in text:
            yield f"the description does not name {label}"
    if rule.name.startswith("EpccIntegration") and not {"store", "integration_id", "integration_name"} <= there:
        yield "does not say which integration"
    for label in sorted(set(re.findall(r"\$labels\.(\w+)", text)) - there):
        yield f"the description names {label}, which is never there"
    if rule.annotations.get("runbook_url") != f"deploy/runbooks.md#{rule.name.lower()}":
        yield "its runbook is not its own"


def waits_less_than_an_evaluation(rule: Rule) -> Iterator[str]:
    if rule.is_alert and rules.seconds(rule.body.get("for", "0s")) < (rule.every or EVALUATION_SECONDS):
        yield "for is shorter than an evaluation"


def looks_for_an_instance(rule: Rule) -> Iterator[str]:
    for selector in (each for query in promql.queries(rule) for each in promql.selectors(query)):
        for matcher in selector.matchers.matchers:
            if matcher.name == "instance" or (matcher.name == "job" and matcher.value != JOB):
                yield f"{selector}: where the exporter is, prometheus.yml says"


def every_node(rule: Rule) -> Iterator[Any]:
    for query in promql.queries(rule):
        yield from promql.nodes(query)


GOOD = "integration:epcc_integration_attempts:rate5m > 1"
BAD = [
    (names_what_is_not_there, "epcc_integration_atempts_total > 1"),
    (names_what_is_not_there, 'epcc_up{shop="x"} == 0'),
    (groups_by_what_is_not_there, "sum without (reson) (epcc_exporter_gap_open)"),
    (groups_by_what_is_not_there, "sum by (integration_id) (epcc_up)"),
    (joins_what_is_not_there, "epcc_up * on (integration_id) group_left () epcc_integration_enabled"),
    (never_matches, "epcc_integration_enabled == 0 and epcc_up"),
    (never_matches, "epcc_integration_jobs_total - epcc_integration_jobs_delivered_total"),
    (rates_wrongly, "rate(epcc_integration_jobs_failing[5m]) > 0"),
    (rates_wrongly, "rate(epcc_integration_attempts_total[30s]) > 0"),
    (rates_wrongly, "increase(integration:epcc_integration_attempts:rate5m[5m]) > 0"),
    (compares_counters, "epcc_exporter_gaps_total > 3"),
    (is_named_badly, "epcc_up == 0"),
    (says_too_little, "epcc_up == 0"),
    (looks_for_an_instance, 'up{instance="localhost:10058"} == 0'),
    (looks_for_an_instance, 'up{job="epcc"} == 0'),
]
CHECKS = list(dict.fromkeys([check for check, _ in BAD] + [waits_less_than_an_evaluation]))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_rule(check: Any) -> None:
    problems = [f"{rule.file}: {rule.key}: {problem}" for rule in rules.read() for problem in check(rule)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(("check", "expr"), BAD, ids=lambda each: getattr(each, "__name__", each))
def test_the_check_finds(check: Any, expr: str) -> None:
    rule = Rule(
        "new.rules.yml", "new", None, "EpccNew", is_alert=True, expr=expr, body={"alert": "EpccNew", "expr": expr}
    )
    assert list(check(rule))
    if check not in (is_named_badly, says_too_little):
        assert not list(check(dataclasses.replace(rule, expr=GOOD)))


def test_an_alert_without_for_waits_less_than_an_evaluation() -> None:
    rule = Rule("new.rules.yml", "new", 60.0, "EpccNew", is_alert=True, expr=GOOD, body={"for": "15s"})
    assert list(waits_less_than_an_evaluation(rule))
    assert not list(waits_less_than_an_evaluation(dataclasses.replace(rule, every=None)))


def test_no_rule_is_there_twice() -> None:
    every = rules.read()
    assert [key for key, times in Counter(rule.key for rule in every).items() if times > 1] == []
    assert [expr for expr, times in Counter(" ".join(rule.expr.split()) for rule in every).items() if times > 1] == []


def test_the_bucket_that_is_asked_for_is_there() -> None:
    bounds = {match for rule in rules.read() for match in re.findall(r'le="([^"]+)"', rule.expr)}
    assert bounds == {"5.0"}
    family = next(family for family in FAMILIES if family.name == "epcc_integration_processing_seconds")
    shown = {dict(labels).get("le") for _, labels, _ in family.samples(Shown(Tally(), None))}
    assert bounds <= shown


def test_each_integration_has_its_name_once_so_that_joins_go_on() -> None:
    """A right side with two names for one integration would stop every alert."""
    joins = [rule for rule in rules.alerts() if "group_left" in rule.expr]
    assert len(joins) >= 10
    for rule in joins:
        named = re.findall(r"\* on \(store, integration_id\) group_left \(integration_name\) (\S+)", rule.expr)
        assert named
        assert set(named) <= {
            "integration:epcc_integration_info:named",
            "integration:epcc_integration_info:enabled",
        }
    assert promql.RECORDED["integration:epcc_integration_info:named"].expr.startswith(
        "topk by (store, integration_id) (1,"
    )
    assert (
        "integration:epcc_integration_info:named" in promql.RECORDED["integration:epcc_integration_info:enabled"].expr
    )


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = rules.cases()
    for rule in rules.alerts():
        here = [case for case in cases if case.alert == rule.name]
        labels = rule.labels.items()
        fires = [case for case in here if any(labels <= each.items() for each in case.labels)]
        quiet = [case for case in here if case.series and not any(labels <= each.items() for each in case.labels)]
        assert fires, f"no case in which {rule.key} fires"
        assert quiet, f"no case in which {rule.key} does not"


def test_the_tests_of_the_rules_use_series_that_exist_with_all_their_labels() -> None:
    seen = {series for case in rules.cases() for series in case.series}
    assert len(seen) > 50
    for series in seen:
        name, _, inside = series.partition("{")
        labels = set(re.findall(r'(\w+)="', inside))
        assert labels == promql.labels_of(name), series


def test_every_alert_has_its_runbook_whole_and_every_runbook_its_alert() -> None:
    text = RUNBOOKS.read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(dict.fromkeys(sections))
    assert set(sections) == {rule.name for rule in rules.alerts()}
    for name, section in sections.items():
        for part in ("Means", "Confirm", "At fault", "Do", "False alarm"):
            assert f"**{part}.**" in section, f"{name}: {part}"


def test_the_queries_of_the_runbooks_can_be_asked() -> None:
    asked = re.findall(r"`([^`]*epcc_[^`]*)`", RUNBOOKS.read_text())
    assert len(asked) > 40
    for query in asked:
        rule = Rule("runbooks.md", "", None, query, is_alert=False, expr=" ".join(query.split()), body={})
        assert not list(names_what_is_not_there(rule)), query


def test_the_names_that_dashboards_may_use_are_those_that_are_recorded() -> None:
    header = (rules.FOLDER / "recording.rules.yml").read_text().partition("groups:")[0]
    listed = set(re.findall(r"((?:integration|store):\w+:\w+)", header))
    recorded = {re.sub(r"rate(5m|30m|1h|2h|6h|1d|3d)$", "rateW", name) for name in promql.RECORDED}
    assert listed == recorded - {"integration:epcc_integration_info:enabled"}


def test_the_readme_says_of_each_alert_whom_it_goes_to() -> None:
    text = (rules.ROOT / "README.md").read_text().partition("## Be woken")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(critical|warning|info)` \|[^|]*\|(.*)\|$", text, re.MULTILINE))
    assert set(rows) == {"critical", "warning", "info"}
    for severity, row in rows.items():
        told = {rule.name for rule in rules.alerts() if rule.labels["severity"] == severity}
        assert set(re.findall(r"`(\w+)`", row)) == told


def test_the_page_comes_within_the_time_that_the_readme_says() -> None:
    alertmanager = yaml.safe_load((rules.ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
    example = (rules.ROOT / "config.example.yaml").read_text().partition("defaults:")[2]
    poll = rules.seconds(re.findall(r"poll_interval: (\w+)", example)[0])
    pending = next(rules.seconds(rule.body["for"]) for rule in rules.alerts() if rule.name == "EpccIntegrationDown")
    gathering = rules.seconds(alertmanager["route"]["group_wait"])
    assert poll + SCRAPE_SECONDS + EVALUATION_SECONDS + pending + gathering == 3 * 60 + 10
    assert "3 minutes and 10 seconds" in " ".join((rules.ROOT / "README.md").read_text().split())


def test_prometheus_yml_loads_every_rule_file() -> None:
    assert sorted(CONFIG["rule_files"]) == [path.name for path in rules.RULE_FILES]


def test_every_way_of_scraping_has_the_jobs_one_name_and_that_of_shards_is_told_in_the_readme() -> None:
    files = sorted(rules.FOLDER.glob("scrape-*.yml"))
    assert [path.name for path in files] == ["scrape-shards.yml", "scrape-tls.yml"]
    for path in files:
        assert [job["job_name"] for job in yaml.safe_load(path.read_text())["scrape_configs"]] == [JOB]
    told = re.findall(r"```yaml\n(scrape_configs:.+?)```", (rules.ROOT / "README.md").read_text(), re.DOTALL)
    assert [yaml.safe_load(block) for block in told] == [yaml.safe_load(files[0].read_text())]
