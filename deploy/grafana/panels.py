"""What the dashboards are made of: variables, panels and their places, as Grafana 11's JSON has them.

Every panel has a description, a unit and words for when there is nothing to show: an empty panel that says nothing looks
like a broken one at night.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"

# Who is asked: what every query below selects.
JOB: Final = 'job=~"$job"'
STORE: Final = f'{JOB}, store=~"$store"'
# The names, once per integration; with the integrations that are chosen by name.
NAMES: Final = f"integration:epcc_integration_info:named{{{STORE}}}"
CHOSEN: Final = f'integration:epcc_integration_info:named{{{STORE}, integration_name=~"$integration"}}'


def named(expr: str, names: str = NAMES) -> str:
    """The series of `expr` by store and name, of the integrations in `names` alone."""
    return f"({expr}) * on (store, integration_id) group_left (integration_name) {names}"


def told(expr: str) -> str:
    """Without the NaN that a quantile of nothing is: no number is shown where nothing was measured."""
    return f"({expr}) >= 0"


def once(metric: str, *, labels: str = "", window: str = "") -> str:
    """A metric per integration, of two exporters on one store counted once. `window`: its rate over that."""
    selector = f"{metric}{{{STORE}{labels}}}"
    return f"max without (instance, pod) ({f'rate({selector}[{window}])' if window else selector})"


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""
    instant: bool = False  # the value at the end of the time range, as a table's rows and a number have it
    table: bool = False
    exemplars: bool = False
    heatmap: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    queries: Sequence[Query]
    unit: str
    width: int
    kind: str = "timeseries"
    nothing: str = "No data: is the exporter scraped, and are the recording rules loaded?"
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    decimals: int | None = None
    minimum: float | None = 0
    maximum: float | None = None
    stacked: bool = False
    text_mode: str = "auto"
    mappings: Sequence[Json] = ()
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()
    links: Sequence[Json] = ()
    sort_by: str = ""
    custom: Mapping[str, Any] = field(default_factory=dict)


def rows(*groups: tuple[str, int, Sequence[Panel]]) -> list[Json]:
    """Panels in their places. A group: title, height and its panels, which are put side by side."""
    made: list[Json] = []
    top = 0
    for title, height, panels in groups:
        made.append({"type": "row", "title": title, "collapsed": False, "panels": [], "id": len(made) + 1,
                     "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1}})  # fmt: skip
        top, left = top + 1, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + height
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            made.append({"id": len(made) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += height
    return made


def _panel(panel: Panel) -> Json:
    defaults: Json = {
        "unit": panel.unit,
        "noValue": panel.nothing,
        "mappings": list(panel.mappings),
        "links": list(panel.links),
        "color": {"mode": "thresholds" if panel.kind in ("stat", "table", "bargauge") else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": [{"value": at, "color": color} for at, color in panel.steps]},
        "custom": {**_custom(panel), **panel.custom},
    }
    for key, value in (("decimals", panel.decimals), ("min", panel.minimum), ("max", panel.maximum)):
        if value is not None:
            defaults[key] = value
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(query, place) for place, query in enumerate(panel.queries)],
        "transformations": list(panel.transformations),
        "options": _options(panel),
        "fieldConfig": {"defaults": defaults, "overrides": list(panel.overrides)},
    }


def _custom(panel: Panel) -> Json:
    if panel.kind == "timeseries":
        return {
            "drawStyle": "line", "lineWidth": 1, "fillOpacity": 25 if panel.stacked else 0, "showPoints": "never",
            "spanNulls": False, "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if len(panel.steps) > 1 else "off"},
        }  # fmt: skip
    return {"align": "auto", "filterable": False} if panel.kind == "table" else {}


def _options(panel: Panel) -> Json:
    match panel.kind:
        case "stat":
            return {
                "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
                "textMode": panel.text_mode, "wideLayout": True,
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            }  # fmt: skip
        case "table":
            sort = [{"displayName": panel.sort_by, "desc": True}] if panel.sort_by else []
            return {"showHeader": True, "cellHeight": "sm", "sortBy": sort, "footer": {"show": False}}
        case "heatmap":
            return {
                "calculate": False, "cellGap": 1, "yAxis": {"unit": panel.unit, "axisPlacement": "left"},
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "reverse": False, "fill": "dark-orange",
                          "exponent": 0.5, "scale": "exponential"},
                "filterValues": {"le": 1e-9}, "legend": {"show": True}, "rowsFrame": {"layout": "auto"},
                "tooltip": {"mode": "single", "yHistogram": False}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
                "cellValues": {"unit": "short"}, "showValue": "never",
            }  # fmt: skip
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _target(query: Query, place: int) -> Json:
    return {
        "refId": chr(ord("A") + place),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": query.instant,
        "range": not query.instant,
        "exemplar": query.exemplars,
        "format": "table" if query.table else "heatmap" if query.heatmap else "time_series",
        "editorMode": "code",
    }


def override(field_name: str, **properties: Any) -> Json:
    """Of one column or series; `custom_width` stands for `custom.width`."""
    return {
        "matcher": {"id": "byName", "options": field_name},
        "properties": [
            {"id": key.replace("custom_", "custom.", 1), "value": value} for key, value in properties.items()
        ],
    }


def steps(*later: tuple[float, str]) -> Json:
    first: Json = {"value": None, "color": GREEN}
    return {"mode": "absolute", "steps": [first, *({"value": at, "color": color} for at, color in later)]}


def variable(name: str, label: str, query: str, *, description: str, multi: bool = True) -> Json:
    return {
        "type": "query", "name": name, "label": label, "description": description, "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}"}, "definition": query, "refresh": 2, "sort": 1,
        "multi": multi, "includeAll": True, "allValue": ".+", "hide": 0, "skipUrlSync": False, "regex": "",
        "current": {"text": "All", "value": "$__all"}, "options": [],
    }  # fmt: skip


def datasource() -> Json:
    return {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0,
        "description": "The Prometheus that scrapes the exporter and evaluates its rules", "multi": False,
        "includeAll": False, "refresh": 1, "regex": "", "skipUrlSync": False, "current": {}, "options": [],
    }  # fmt: skip


VARIABLES: Final = (
    datasource(),
    variable("job", "Job", "label_values(epcc_exporter_build_info, job)",
             description="As prometheus.yml names the exporter's scrape job"),
    variable("store", "Store", f"label_values(epcc_exporter_polls_total{{{JOB}}}, store)",
             description="By its name in the exporter's configuration"),
)  # fmt: skip
INTEGRATION: Final = variable(
    "integration", "Integration", f"label_values({NAMES}, integration_name)", description="By its name in EPCC"
)
INSTANCE: Final = variable(
    "instance", "Instance", f"label_values(epcc_exporter_build_info{{{JOB}}}, instance)",
    description="Which exporter, where there are several: shards, or two on one store",
)  # fmt: skip
UIDS: Final = {"overview": "epcc-overview", "integration": "epcc-integration", "exporter": "epcc-exporter"}


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[Json], panels: Sequence[Json], since: str
) -> Json:
    return {
        "uid": uid, "title": title, "description": description, "tags": ["epcc"], "editable": False,
        "schemaVersion": 39, "version": 1, "id": None, "refresh": "30s", "timezone": "browser", "graphTooltip": 1,
        "fiscalYearStartMonth": 0, "weekStart": "", "time": {"from": since, "to": "now"}, "timepicker": {},
        "links": [{
            "type": "dashboards", "title": "EPCC", "tags": ["epcc"], "asDropdown": False, "includeVars": True,
            "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
        }],
        "annotations": {"list": [_alerts()]},
        "templating": {"list": list(variables)},
        "panels": list(panels),
    }  # fmt: skip


def _alerts() -> Json:
    return {
        "name": "Alerts", "enable": True, "hide": False, "iconColor": RED, "datasource": DATASOURCE,
        "expr": f'ALERTS{{alertname=~"Epcc.+", alertstate="firing", {STORE}}}',
        "titleFormat": "{{alertname}}", "textFormat": "{{store}} {{integration_name}}", "step": "60s",
        "tagKeys": "severity",
    }  # fmt: skip
