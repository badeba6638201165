"""The dashboards of deploy/grafana as files, and their queries with Grafana's variables filled in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent.parent / "deploy" / "grafana"
FILES: Final = sorted(FOLDER.glob("*.json"))
RATE_INTERVAL: Final = "15s"  # where a real Prometheus is asked that scrapes each second
VARIABLE: Final = re.compile(r"\$\{?(\w+)")


@dataclass(frozen=True)
class Query:
    dashboard: str  # uid
    panel: str
    place: int
    expr: str

    @property
    def filled(self) -> str:
        """As Grafana sends it, with everything chosen."""
        return VARIABLE.sub(lambda found: RATE_INTERVAL if found[1] == "__rate_interval" else ".+", self.expr)

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel} {chr(ord('A') + self.place)}"


def read() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in FILES]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variables(dashboard: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in dashboard["templating"]["list"]}


def queries() -> list[Query]:
    return [
        Query(dashboard["uid"], panel["title"], place, target["expr"])
        for dashboard in read()
        for panel in panels(dashboard)
        for place, target in enumerate(panel["targets"])
    ]
