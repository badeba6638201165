"""What deploy/alertmanager keeps quiet because something larger is said, held against the alerts that there are.

That Alertmanager does so is in tests/integration/test_alerts_end_to_end.py; here it is whom each line means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import yaml

from tests import promql, rules
from tests.rules import Rule

CONFIG = yaml.safe_load((rules.ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
NAMES = re.compile(r"Epcc\w+")


@dataclass(frozen=True)
class Line:
    """One of `inhibit_rules`."""

    sources: tuple[Rule, ...]
    targets: tuple[Rule, ...]
    equal: frozenset[str]
    text: str


def meant(matchers: list[str]) -> tuple[Rule, ...]:
    """The alerts that can match, each with the labels that it can have."""
    return tuple(rule for rule in rules.alerts() if all(can_match(rule, each) for each in matchers))


def can_match(rule: Rule, matcher: str) -> bool:
    found = MATCHER.fullmatch(matcher)
    assert found, matcher
    label, operator, value = found.groups()
    fixed = {"alertname": rule.name, **rule.labels}
    if label not in fixed:
        assert (operator, value) in (("=", ""), ("!=", "")), f"{matcher}: what values it has no rule says"
        return operator == "=" or label in promql.result(rule.expr)
    if operator == "=~":
        return re.fullmatch(value, fixed[label]) is not None
    return (fixed[label] == value) == (operator == "=")


def lines() -> list[Line]:
    return [
        Line(
            meant(each["source_matchers"]), meant(each["target_matchers"]), frozenset(each.get("equal", ())), str(each)
        )
        for each in CONFIG["inhibit_rules"]
    ]


def test_every_line_means_alerts_that_there_are() -> None:
    assert len(lines()) >= 5
    there = {rule.name for rule in rules.alerts()}
    for line in lines():
        assert line.sources, line.text
        assert line.targets, line.text
        named = {
            name for name in NAMES.findall(line.text) if name not in ("EpccIntegration", "EpccStore", "EpccExporter")
        }
        assert named <= there, line.text


def test_an_alert_without_a_store_silences_nothing_by_store() -> None:
    """To Alertmanager two alerts that both lack a label are equal in it."""
    lacking = 0
    for line in lines():
        for rule in line.sources:
            assert line.equal <= promql.result(rule.expr), f"{rule.key}: {line.text}"
            if line.equal and "{{ if $labels.store }}" in rule.annotations["description"]:
                assert 'store!=""' in line.text, f"{rule.key}: {line.text}"
                lacking += 1
    assert lacking >= 2


def test_whatever_pages_about_the_exporter_silences_what_is_said_of_that_stores_integrations_and_no_other_alert_does() -> (
    None
):
    about = [rule for rule in rules.alerts() if not rule.name.startswith("EpccIntegration")]
    pages = {rule.name for rule in about if rule.labels["severity"] == "critical"}
    integrations = {rule.name for rule in rules.alerts()} - {rule.name for rule in about}
    by_store = [line for line in lines() if line.equal == {"store"}]
    silencing = [line for line in by_store if {rule.name for rule in line.targets} == integrations]
    assert {rule.name for line in silencing for rule in line.sources} == pages
    assert all('store!=""' in line.text for line in silencing)


def test_no_alert_silences_one_that_silences_it_so_that_something_is_always_said() -> None:
    silenced_by: dict[str, set[Any]] = {}
    for line in lines():
        for target in line.targets:
            silenced_by.setdefault(target.key, set()).update(source.key for source in line.sources)
    assert list(TopologicalSorter(silenced_by).static_order())
