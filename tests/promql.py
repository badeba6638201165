"""PromQL read with promql-parser: what an expression is made of, and which labels its result can have.

Series are those of the exporter's own families, of the recording rules and of Prometheus's alerts; nothing else is known
here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import promql_parser as parser

from exporter.metrics import FAMILIES, OwnMetrics
from tests import rules
from tests.rules import Rule

TARGET: Final = frozenset({"job", "instance"})  # what every scraped series has
# What the project's alerts have, each some of it.
ALERT: Final = frozenset({"alertname", "severity", "window", "job", "store", "integration_id", "integration_name"})
TEMPLATE_QUERY: Final = re.compile(r"printf `([^`]+)`[^}]*\| query")
TEMPLATE_ID: Final = re.compile(r"\$id := printf `([^`]+)`")  # what the first %s of a query stands for
Labels = frozenset[str]


def own_labels(collector: object) -> Labels:
    """Of one of the exporter's own metrics: the library's say so themselves, ours has a store's alone."""
    return frozenset(getattr(collector, "_labelnames", ("store",)))


def exposed() -> dict[str, tuple[str, Labels]]:
    """Each series that /metrics has → its kind and labels. A histogram's base name is its native histogram."""
    found: dict[str, tuple[str, Labels]] = {
        "up": ("gauge", TARGET),
        "ALERTS": ("gauge", ALERT | {"alertstate"}),
        "ALERTS_FOR_STATE": ("gauge", ALERT),
    }

    def add(name: str, kind: str, labels: Labels) -> None:
        if kind == "counter":
            found[f"{name}_total"] = (kind, labels)
        elif kind == "histogram":
            found[f"{name}_bucket"] = ("counter", labels | {"le"})
            found[f"{name}_count"] = found[f"{name}_sum"] = found[name] = ("counter", labels - {"le"})
        else:
            found[name] = (kind, labels)

    for family in FAMILIES:
        add(family.name, family.kind, TARGET | {"store", "integration_id", *family.labels})
    own = OwnMetrics()
    for metric in own.registry.collect():
        if metric.name.startswith("epcc_"):
            collector = own.registry._names_to_collectors[metric.name]
            add(metric.name, metric.type, TARGET | own_labels(collector))
    return found


EXPOSED: Final = exposed()
RECORDED: Final = {rule.name: rule for rule in rules.read() if not rule.is_alert}


def queries(rule: Rule) -> list[Any]:
    """A rule's expression and those that its texts ask."""
    texts = [rule.expr]
    for value in rule.annotations.values():
        ids = "".join(TEMPLATE_ID.findall(value))
        texts += [text.replace("{%s", f"{{{ids}").replace("%q", '"x"') for text in TEMPLATE_QUERY.findall(value)]
    return [parser.parse(text) for text in texts]


def nodes(expression: Any) -> Iterator[Any]:
    """An expression and all that it is made of."""
    yield expression
    parts = [getattr(expression, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
    for part in [*parts, *(getattr(expression, "args", None) or [])]:
        if part is not None:
            yield from nodes(part)


def selectors(expression: Any) -> Iterator[Any]:
    yield from (node for node in nodes(expression) if isinstance(node, parser.VectorSelector))


def kind(name: str) -> str:
    """`counter`, `gauge`, … of an exposed series; "" of others."""
    return EXPOSED[name][0] if name in EXPOSED else ""


def labels_of(name: str) -> Labels:
    """The labels that a series can have."""
    return EXPOSED[name][1] if name in EXPOSED else result(RECORDED[name].expr)


def result(text: str) -> Labels:
    """The labels that the result of an expression can have."""
    return labels_after(parser.parse(text))


def labels_after(node: Any) -> Labels:
    if isinstance(node, parser.VectorSelector):
        return labels_of(str(node.name))
    if isinstance(node, parser.MatrixSelector):
        return labels_of(str(node.vector_selector.name))
    if isinstance(node, parser.AggregateExpr):
        return _of_aggregation(node)
    if isinstance(node, parser.Call):
        return _of_call(node)
    if isinstance(node, parser.BinaryExpr):
        return _of_operation(node)
    return labels_after(node.expr) if hasattr(node, "expr") else frozenset()


def _of_aggregation(node: Any) -> Labels:
    inner = labels_after(node.expr)
    if str(node.op) == "topk" or node.modifier is None:
        return inner if str(node.op) == "topk" else frozenset()
    named = frozenset(node.modifier.labels)
    return inner - named if node.modifier.type == parser.AggModifierType.Without else inner & named


def _of_call(node: Any) -> Labels:
    if node.func.name == "absent":
        return frozenset({"job"})
    inner: Labels = frozenset().union(*(labels_after(argument) for argument in node.args))
    if node.func.name == "label_replace":
        return inner | {node.args[1].val}
    return inner - {"le"} if node.func.name == "histogram_quantile" else inner


def _of_operation(node: Any) -> Labels:
    left, right = labels_after(node.lhs), labels_after(node.rhs)
    if not (any(selectors(node.lhs)) and any(selectors(node.rhs))):
        return left | right  # one of them is a number
    if str(node.op) == "or":
        return left | right
    if node.modifier is None:
        return left
    of_many = right if node.modifier.card == parser.VectorMatchCardinality.OneToMany else left
    matching = node.modifier.matching
    ignored = matching is not None and matching.type == parser.LabelModifierType.Exclude
    arithmetic = str(node.op) in ("+", "-", "*", "/")
    return (of_many - {*matching.labels} if ignored and arithmetic else of_many) | {*(node.modifier.group_labels or [])}


def matched_on(node: Any) -> list[str]:
    """The labels after `on` of a binary operation."""
    matching = getattr(getattr(node, "modifier", None), "matching", None)
    if not isinstance(node, parser.BinaryExpr) or matching is None:
        return []
    return list(matching.labels) if matching.type == parser.LabelModifierType.Include else []
