"""What a Grafana dashboard is made of, as JSON of schema 39 (Grafana 11.0): panels, variables, links, annotations.

Every panel has a description, a unit and a text for when there is nothing to show, because the functions here ask for
them. What the dashboards say is in overview.py, integration.py and exporter_itself.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

Json = dict[str, Any]
Step = tuple[float | None, str]  # from this value on, this colour; None: the lowest

TAG: Final = "epcc-exporter"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS: Final = 24
RED, ORANGE, YELLOW, GREEN, BLUE, GREY = "red", "orange", "yellow", "green", "blue", "#8e8e8e"
CALM: Final[tuple[Step, ...]] = ((None, BLUE),)  # a number that is neither good nor bad


@dataclass(frozen=True)
class Query:
    """`legend` names a series. `exemplars`: with dots that lead to a job, for which Prometheus is asked once more."""

    expr: str
    legend: str = ""
    exemplars: bool = False
    format: str = "time_series"
    instant: bool = False

    def json(self, ref: str) -> Json:
        return {
            "datasource": SOURCE, "refId": ref, "expr": " ".join(self.expr.split()), "editorMode": "code",
            "legendFormat": self.legend, "format": self.format, "instant": self.instant, "range": not self.instant,
            "exemplar": self.exemplars,
        }  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One panel, before it has its place. `empty` is what it says where there is no data, and why; `interval` is the
    shortest time between points, from which $__rate_interval follows."""

    title: str
    text: str
    queries: tuple[Query, ...]
    kind: str
    unit: str
    empty: str
    width: int
    height: int
    steps: tuple[Step, ...] = CALM
    options: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)  # of the fields, beside unit, thresholds and noValue
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()
    links: tuple[Json, ...] = ()
    interval: str = ""

    def json(self, number: int, x: int, y: int) -> Json:
        thresholds = {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in self.steps]}
        return {
            "id": number, "type": self.kind, "title": self.title, "description": self.text, "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {
                "defaults": {"unit": self.unit, "noValue": self.empty, "thresholds": thresholds, **self.defaults},
                "overrides": list(self.overrides),
            },
            "options": self.options,
            "targets": [query.json(chr(ord("A") + place)) for place, query in enumerate(self.queries)],
            **({"transformations": list(self.transformations)} if self.transformations else {}),
            **({"links": list(self.links)} if self.links else {}),
            **({"interval": self.interval} if self.interval else {}),
        }  # fmt: skip


@dataclass(frozen=True)
class Row:
    """`closed`: its panels ask nothing of Prometheus before somebody opens it."""

    title: str
    panels: tuple[Panel, ...]
    closed: bool = False


def stat(
    title: str, text: str, query: str | Query, *, unit: str, empty: str, steps: Sequence[Step] = CALM, **more: Any
) -> Panel:
    """One number of now, on its colour. `size` of its text, in pixels, where Grafana would let words overflow."""
    asked = query if isinstance(query, Query) else Query(query)
    options = {
        "colorMode": "background_solid" if steps != CALM or "defaults" in more else "value", "graphMode": "none",
        "justifyMode": "center", "orientation": "auto", "textMode": "value", "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }  # fmt: skip
    if "size" in more:
        options["text"] = {"valueSize": more.pop("size")}
    width, height = more.pop("width", 3), more.pop("height", 4)
    defaults = {"color": {"mode": "thresholds"}, **more.pop("defaults", {})}
    defaults["mappings"] = [*defaults.get("mappings", ()), unknown(empty)]
    return Panel(
        title, text, (replace(asked, instant=True),), "stat", unit, empty, width, height, tuple(steps), options,
        defaults, **more,
    )  # fmt: skip


def graph(title: str, text: str, *queries: Query, unit: str, empty: str, style: str = "lines", **more: Any) -> Panel:
    """Series over time. `style`: lines, stacked, bars (stacked too); `calcs`: with a table of these beside it;
    `at_least`: how high the axis reaches however small the values are."""
    calcs: Sequence[str] = more.pop("calcs", ())
    custom: Json = {
        "drawStyle": "bars" if style == "bars" else "line", "lineInterpolation": "linear", "lineWidth": 1,
        "fillOpacity": {"lines": 0, "stacked": 25, "bars": 80}[style], "showPoints": "never", "spanNulls": False,
        "stacking": {"mode": "none" if style == "lines" else "normal", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if "steps" in more else "off"}, **more.pop("custom", {}),
    }  # fmt: skip
    # Without it, an axis on which nothing happens reaches to 100.
    at_least = more.pop("at_least", 1 if unit == "cpm" else None)
    if at_least is not None:
        custom["axisSoftMax"] = at_least
    options = {
        "legend": {
            "displayMode": "table" if calcs else "list", "placement": "right" if calcs else "bottom",
            "showLegend": True, "calcs": list(calcs), **({"sortBy": "Max", "sortDesc": True} if calcs else {}),
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }  # fmt: skip
    width, height = more.pop("width", 12), more.pop("height", 8)
    defaults = {"color": {"mode": "palette-classic"}, "min": 0, "custom": custom, **more.pop("defaults", {})}
    steps = tuple(more.pop("steps", ((None, "transparent"),)))
    return Panel(title, text, queries, "timeseries", unit, empty, width, height, steps, options, defaults, **more)


def heatmap(title: str, text: str, query: Query, *, unit: str, empty: str, native: bool = False, **more: Any) -> Panel:
    """How many in each bucket over time. A native histogram brings its own buckets."""
    options = {
        "calculate": False,
        "color": {
            "mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64, "fill": "dark-orange",
            "reverse": False,
        },
        "cellGap": 1, "filterValues": {"le": 1e-9}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "rowsFrame": {"layout": "auto"}, "showValue": "never", "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": False, "decimals": 3 if native else None},
    }  # fmt: skip
    if not native:
        query = replace(query, format="heatmap", legend="{{le}}")
    width, height = more.pop("width", 12), more.pop("height", 8)
    custom = {"scaleDistribution": {"type": "log", "log": 2} if native else {"type": "linear"}}
    defaults = {"custom": custom}
    return Panel(title, text, (query,), "heatmap", unit, empty, width, height, CALM, options, defaults, **more)


@dataclass(frozen=True)
class Column:
    """A column of a table: a label that all queries have, or (with `expr`) a number."""

    name: str
    source: str  # the label, or the query
    unit: str = ""
    steps: tuple[Step, ...] = ()
    width: int = 0
    mappings: tuple[Json, ...] = ()
    links: tuple[Json, ...] = ()
    decimals: int | None = None


def table(
    title: str,
    text: str,
    labels: Sequence[Column],
    numbers: Sequence[Column],
    *,
    sort: str | Sequence[str],
    empty: str,
    **more: Any,
) -> Panel:
    """The labels' columns, the numbers', and labels again (`last`). All queries have the first one's
    labels, or rows fall apart; one may bring more. `hidden`: sources that are asked for and not shown."""
    last: Sequence[Column] = more.pop("last", ())
    descending: bool = more.pop("descending", True)
    refs = [chr(ord("A") + place) for place in range(len(numbers))]
    values = [f"Value #{ref}" for ref in refs] if len(refs) > 1 else ["Value"]
    sources = [*(column.source for column in labels), *values, *(column.source for column in last)]
    columns = [*labels, *numbers, *last]
    hidden: Sequence[str] = more.pop("hidden", ())
    organize = {
        "id": "organize",
        "options": {
            "excludeByName": {"Time": True, **dict.fromkeys(hidden, True)},
            "indexByName": {source: place for place, source in enumerate(sources)},
            "renameByName": {source: column.name for source, column in zip(sources, columns, strict=True)},
        },
    }
    merge: tuple[Json, ...] = ({"id": "merge", "options": {}},) if len(refs) > 1 else ()
    options = {
        "showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": ["sum"], "countRows": False},
        "sortBy": [{"displayName": name, "desc": descending} for name in ((sort,) if isinstance(sort, str) else sort)],
    }  # fmt: skip
    width, height = more.pop("width", 24), more.pop("height", 8)
    defaults = {"color": {"mode": "thresholds"}, "custom": {"align": "auto", "cellOptions": {"type": "auto"}}}
    queries = tuple(Query(column.source, format="table", instant=True) for column in numbers)
    return Panel(
        title, text, queries, "table", "none", empty, width, height, ((None, "transparent"),), options, defaults,
        tuple(_override(column) for source, column in zip(sources, columns, strict=True) if source not in hidden),
        (*merge, organize), **more,
    )  # fmt: skip


def _override(column: Column) -> Json:
    # The panel's own text says why all of it is empty, which is not what one cell without a value means.
    properties: list[Json] = [{"id": "unit", "value": column.unit or "none"}, {"id": "noValue", "value": "-"}]
    if column.steps:
        steps = [{"value": value, "color": color} for value, color in column.steps]
        properties.append({"id": "thresholds", "value": {"mode": "absolute", "steps": steps}})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    if column.width:
        properties.append({"id": "custom.width", "value": column.width})
    if column.mappings:
        properties.append({"id": "mappings", "value": list(column.mappings)})
    if column.links:
        properties.append({"id": "links", "value": list(column.links)})
    if column.decimals is not None:
        properties.append({"id": "decimals", "value": column.decimals})
    return {"matcher": {"id": "byName", "options": column.name}, "properties": properties}


def colored(name: str, color: str) -> Json:
    """A series with a colour of its own."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
    }


# The same colour for the same reason, and none of a failure is green.
REASON_COLORS: Final = (
    ("http_5xx", RED), ("http_4xx", ORANGE), ("http_3xx", BLUE), ("timeout", YELLOW), ("connection", "purple"),
    ("dns", "light-purple"), ("tls", "dark-purple"), ("other", GREY),
)  # fmt: skip
REASONS: Final = tuple(colored(reason, color) for reason, color in REASON_COLORS)
CODES: Final = tuple(
    {
        "matcher": {"id": "byRegexp", "options": f"/^{first}/"},
        "properties": [{"id": "color", "value": {"mode": "shades", "fixedColor": color}}],
    }
    for first, color in (("2", GREEN), ("3", BLUE), ("4", ORANGE), ("5", RED), ("none|error|other", GREY))
)


def unknown(empty: str) -> Json:
    """No number, on a colour that says neither good nor bad: the lowest threshold would say one of them."""
    result = {"text": empty, "color": GREY, "index": 99}
    return {"type": "special", "options": {"match": "null+nan", "result": result}}


def words(**of: tuple[str, str]) -> tuple[Json, ...]:
    """Values as words: `v0=("Down", RED)`."""
    options = {
        key[1:]: {"text": text, "color": color, "index": place} for place, (key, (text, color)) in enumerate(of.items())
    }
    return ({"type": "value", "options": options},)


REASON: Final = (
    {
        "type": "value",
        "options": {
            reason: {"text": reason, "color": color, "index": place}
            for place, (reason, color) in enumerate(REASON_COLORS)
        },
    },
)
# What Prometheus writes as +Inf, which Grafana would show in years.
ANY: Final = ({"type": "value", "options": {"Infinity": {"text": "Any", "color": GREEN, "index": 0}}},)


def bound(*steps: Step) -> tuple[Step, ...]:
    """Good below the first of them."""
    return ((None, GREEN), *steps)


def link(title: str, uid: str, **variables: str) -> Json:
    """To another of the dashboards, at the same time, with these variables."""
    asked = "".join(f"&var-{name}={value}" for name, value in {"datasource": "${datasource}", **variables}.items())
    return {"title": title, "url": f"/d/{uid}/?${{__url_time_range}}{asked}", "targetBlank": False}


def alerts(name: str, selector: str, color: str) -> Json:
    """Alerts of Prometheus that fire, as annotations."""
    return {
        "name": name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": color,
        "expr": f"ALERTS{{{selector}}}", "step": "60s", "useValueForTime": False,
        "titleFormat": "{{alertname}} {{window}}", "textFormat": "{{severity}}: {{store}} {{integration_name}}",
        "tagKeys": "severity",
    }  # fmt: skip


def choice(name: str, label: str, text: str, query: str, *, several: bool = True, **more: Any) -> Json:
    """A variable that Prometheus is asked for."""
    everything: Json = {
        "includeAll": True, "allValue": more.pop("everything", ".+"), "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    } if several else {"includeAll": False, "multi": False, "current": {}}  # fmt: skip
    return {
        "name": name, "label": label, "description": text, "type": "query", "datasource": SOURCE, "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"}, "refresh": 2, "regex": "", "sort": 5, "hide": 0,
        "skipUrlSync": False, "options": [], **everything, **more,
    }  # fmt: skip


DATASOURCE: Final[Json] = {
    "name": "datasource", "label": "Data source", "description": "The Prometheus that scrapes the exporter.",
    "type": "datasource", "query": "prometheus", "regex": "", "refresh": 1, "hide": 0, "includeAll": False,
    "multi": False, "current": {"text": "default", "value": "default"}, "options": [], "skipUrlSync": False,
}  # fmt: skip
JOB: Final = choice(
    "job", "Job", "How Prometheus's configuration calls the exporter.", "label_values(epcc_exporter_build_info, job)"
)
HERE: Final = "http://localhost:10058"
ADDRESS: Final[Json] = {
    "name": "exporter", "label": "Exporter's address", "type": "textbox", "hide": 0, "skipUrlSync": False,
    "description": "Where your browser finds the exporter: links to its page, and from exemplars to jobs, begin with "
                   "it.",
    "query": HERE, "options": [{"text": HERE, "value": HERE, "selected": True}],
    "current": {"text": HERE, "value": HERE},
}  # fmt: skip


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    text: str
    rows: tuple[Row, ...]
    variables: tuple[Json, ...]
    annotations: tuple[Json, ...]

    def json(self) -> Json:
        return {
            "uid": self.uid, "title": self.title, "description": self.text, "tags": [TAG], "schemaVersion": 39,
            "version": 1, "editable": False, "graphTooltip": 1, "refresh": "30s", "timezone": "browser",
            "weekStart": "",
            "time": {"from": "now-6h", "to": "now"}, "fiscalYearStartMonth": 0, "liveNow": False,
            "timepicker": {"refresh_intervals": ["15s", "30s", "1m", "5m", "15m"]},
            "templating": {"list": list(self.variables)}, "annotations": {"list": list(self.annotations)},
            "links": [
                {
                    "title": "EPCC dashboards", "type": "dashboards", "tags": [TAG], "asDropdown": False,
                    "icon": "external link", "includeVars": True, "keepTime": True, "targetBlank": False,
                    "tooltip": "", "url": "",
                },
                {
                    "title": "Exporter's page", "type": "link", "url": "${exporter:raw}/", "icon": "info", "tags": [],
                    "asDropdown": False, "includeVars": False, "keepTime": False, "targetBlank": True,
                    "tooltip": "The state of each integration in words, with its last failed job",
                },
            ],
            "panels": self._placed(),
        }  # fmt: skip

    def _placed(self) -> list[Json]:
        placed: list[Json] = []
        number, y = 0, 0
        for row in self.rows:
            number += 1
            head: Json = {
                "id": number, "type": "row", "title": row.title, "collapsed": row.closed, "panels": [],
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
            }  # fmt: skip
            placed.append(head)
            y += 1
            x = line = 0
            for panel in row.panels:
                number += 1
                if x + panel.width > COLUMNS:
                    x, y, line = 0, y + line, 0
                (head["panels"] if row.closed else placed).append(panel.json(number, x, y))
                x, line = x + panel.width, max(line, panel.height)
            # What stands below a closed row stands right below its title.
            y += 0 if row.closed else line
        return placed
