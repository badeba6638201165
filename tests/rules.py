"""The rules of deploy/prometheus and their promtool tests, read as YAML: what the tests of the rules share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parent.parent
FOLDER: Final = ROOT / "deploy" / "prometheus"
RUNBOOKS: Final = ROOT / "deploy" / "runbooks.md"
RULE_FILES: Final = sorted(FOLDER.glob("*.rules.yml"))
TEST_FILES: Final = sorted((FOLDER / "tests").glob("*.test.yml"))
UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Rule:
    """One rule of one file. `name` is the alert's or the recorded metric's; `every` is None where the global one holds."""

    file: str
    group: str
    every: float | None  # seconds between evaluations
    name: str
    is_alert: bool
    expr: str
    body: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.body.get("labels", {})
        return found

    @property
    def annotations(self) -> dict[str, str]:
        found: dict[str, str] = self.body.get("annotations", {})
        return found

    @property
    def key(self) -> str:
        """Its name, with the labels that tell it from others of the same name."""
        return " ".join([self.name, *(value for name, value in sorted(self.labels.items()) if name != "severity")])


def seconds(duration: str) -> float:
    """`1h30m` → 5400."""
    parts = re.findall(r"(\d+)(ms|[smhdw])", duration)
    assert "".join(number + unit for number, unit in parts) == duration, duration
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def read() -> list[Rule]:
    found = []
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            every = seconds(group["interval"]) if "interval" in group else None
            for body in group["rules"]:
                name = body.get("alert") or body["record"]
                found.append(Rule(path.name, group["name"], every, name, "alert" in body, body["expr"], body))
    return found


def alerts() -> list[Rule]:
    return [rule for rule in read() if rule.is_alert]


@dataclass(frozen=True)
class Case:
    """What one promtool test expects of one alert at one time; `labels` of each alert that shall fire."""

    file: str
    test: str
    alert: str
    labels: tuple[dict[str, str], ...]
    series: tuple[str, ...]  # input


def cases() -> list[Case]:
    found = []
    for path in TEST_FILES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            series = tuple(each["series"] for each in test["input_series"])
            for check in test.get("alert_rule_test", []):
                labels = tuple(each["exp_labels"] for each in check["exp_alerts"])
                found.append(Case(path.name, test["name"], check["alertname"], labels, series))
    return found
