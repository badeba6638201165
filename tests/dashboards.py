"""The dashboards of deploy/grafana, read from their JSON: what the tests of them share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from exporter.metrics import OwnMetrics
from tests import promql

FOLDER: Final = Path(__file__).parent.parent / "deploy" / "grafana"
FILES: Final = sorted((FOLDER / "dashboards").glob("*.json"))
MACRO: Final = re.compile(r"\$\{?(\w+)")
# Of Grafana itself, in queries and in links.
BUILT_IN: Final = {"__all", "__rate_interval", "__url_time_range", "__data", "__value"}


@dataclass(frozen=True)
class Panel:
    dashboard: str  # uid
    body: dict[str, Any]

    @property
    def key(self) -> str:
        return f"{self.dashboard}: {self.body['title']} ({self.body['type']} {self.body['id']})"

    @property
    def defaults(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["fieldConfig"]["defaults"]
        return found

    @property
    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body["targets"]
        return found


@dataclass(frozen=True)
class Dashboard:
    body: dict[str, Any]

    @property
    def uid(self) -> str:
        return str(self.body["uid"])

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.body["templating"]["list"]}

    def panels(self) -> Iterator[Panel]:
        """All but rows; those of closed rows too."""
        for each in self.body["panels"]:
            for panel in each["panels"] if each["type"] == "row" else [each]:
                yield Panel(self.uid, panel)

    def expressions(self) -> Iterator[tuple[str, str]]:
        """Where it is asked, and PromQL: of panels and of annotations."""
        for panel in self.panels():
            yield from ((panel.key, target["expr"]) for target in panel.targets)
        for each in self.body["annotations"]["list"]:
            yield f"{self.uid}: annotation {each['name']}", each["expr"]


@cache
def read() -> tuple[Dashboard, ...]:
    return tuple(Dashboard(json.loads(path.read_text())) for path in FILES)


def filled(text: str, values: Mapping[str, str]) -> str:
    """With `$name`, `${name}` and `${name:format}` as `values` has them."""
    return re.sub(r"\$(?:\{(\w+)(?::\w+)?(?:\.\w+)*\}|(\w+))", lambda found: values[found[1] or found[2]], text)


def as_promql(expr: str) -> str:
    """What a parser takes: five minutes where Grafana puts its interval; variables stand within quotes."""
    return expr.replace("$__rate_interval", "5m")


@cache
def known() -> Mapping[str, tuple[str, promql.Labels]]:
    """Each series that can be asked for, beside those of tests/promql.py → its kind and labels."""
    found: dict[str, tuple[str, promql.Labels]] = {
        "scrape_duration_seconds": ("gauge", promql.TARGET),
    }
    own = OwnMetrics()
    for metric in own.registry.collect():
        if not metric.name.startswith("epcc_"):
            labels = promql.TARGET.union(*(sample.labels for sample in metric.samples))
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            found[name] = (metric.type, labels)
    return found


@cache
def example(pattern: str, texts: tuple[str, ...]) -> list[tuple[str, str]]:
    """What a variable's regex makes of its query's answers: the text to choose by, and the value."""
    body = re.sub(r"\(\?<(\w+)>", r"(?P<\1>", pattern.strip("/"))
    found = [re.search(body, text) for text in texts]
    return [(each["text"], each["value"]) for each in found if each]
