"""Families in Prometheus's protobuf format: each an `io.prometheus.client.MetricFamily` behind its length.

Written by hand, because nobody's library for Python writes it, and the general one would need generated code. What it
has beyond the text formats: a histogram with classic and native buckets in one, and start timestamps, by which
Prometheus knows when a counter was 0. Numbers of fields are those of client_model's metrics.proto, which must not
change. Strings are UTF-8; a field that is 0 or empty is written all the same where its absence would mean something.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from exporter import tally
from exporter.exemplars import LABEL, Exemplar
from exporter.lines import Key
from exporter.metrics import Family, Labels, Shown, bound_labels
from exporter.native import ZERO_THRESHOLD, Native

_KINDS: Final = {"counter": 0, "gauge": 1, "unknown": 3, "histogram": 4}  # MetricType
_VALUES: Final = {"counter": 3, "gauge": 2, "unknown": 5}  # the field of a Metric that holds it
_HISTOGRAM: Final = 7
_SECOND: Final = 1_000_000_000
_double = struct.Struct("<d").pack


class Protobuf:
    """The delimited protobuf format."""

    def labels(self, key: Key) -> tuple[bytes, bytes]:
        """The labels that all metrics of an integration have, written once."""
        return _label("store", key[0]), _label("integration_id", key[1])

    def block(self, family: Family, labels: tuple[bytes, bytes], shown: Shown) -> bytes:
        """The metrics of one integration in one family."""
        store, integration_id = labels
        exemplars = family.exemplars(shown) if family.exemplars is not None else {}
        if family.histogram is not None:
            body = _histogram(family.histogram(shown), exemplars, family.born_ns(shown, ()))
            return _bytes(4, integration_id + store + _bytes(_HISTOGRAM, body))
        metrics = []
        for _, extra, value in family.samples(shown):
            before = b"".join(_label(*each) for each in extra if each[0] < "integration_id")
            after = b"".join(_label(*each) for each in sorted(extra) if each[0] > "integration_id")
            body = _value(value, exemplars.get(extra), family.born_ns(shown, extra))
            metric = before + integration_id + after + store + _bytes(_VALUES[family.kind], body)
            metrics.append(_bytes(4, metric))
        return b"".join(metrics)

    def family(self, family: Family, blocks: Collection[bytes]) -> list[bytes]:
        head = _head(family.name, family.help, family.kind)
        return [_varint(len(head) + sum(map(len, blocks))) + head, *blocks]

    def own(self, registry: CollectorRegistry) -> bytes:
        """What the exporter says about itself."""
        return b"".join(piece for family in registry.collect() for piece in _collected(family))


def _head(name: str, text: str, kind: str) -> bytes:
    full = f"{name}_total" if kind == "counter" else name
    return _bytes(1, full.encode()) + _bytes(2, text.encode()) + _number(3, _KINDS[kind])


def _value(value: float, exemplar: Exemplar | None, born_ns: int) -> bytes:
    """Counter, Gauge or Untyped: they differ in what they may hold besides."""
    body = b"\x09" + _double(value)
    if exemplar is not None:
        body += _bytes(2, _exemplar(exemplar))
    return body + _bytes(3, _timestamp(born_ns)) if born_ns else body


def _histogram(histogram: tally.Histogram, exemplars: Mapping[Labels, Exemplar], born_ns: int) -> bytes:
    running = list(accumulate(histogram.counts))
    bounds = (*histogram.bounds, math.inf)
    found = [exemplars.get(labels) for labels in bound_labels(histogram.bounds)]
    body = _classic(running[-1], histogram.sum_us / 1_000_000, zip(bounds, running, found, strict=True))
    if histogram.native is not None:
        body += _native(histogram.native)
    return body + _bytes(15, _timestamp(born_ns)) if born_ns else body


def _classic(count: int, total: float, buckets: Iterable[tuple[float, int, Exemplar | None]]) -> bytes:
    pieces = [_number(1, count), b"\x11" + _double(total)]
    for bound, running, exemplar in buckets:
        bucket = _number(1, running) + b"\x11" + _double(bound)
        pieces.append(_bytes(3, bucket if exemplar is None else bucket + _bytes(3, _exemplar(exemplar))))
    return b"".join(pieces)


def _native(native: Native) -> bytes:
    """The threshold above 0 is what tells an empty native histogram from none."""
    runs, deltas = native.spans()
    pieces = [_number(5, _zigzag(native.schema)), b"\x31" + _double(ZERO_THRESHOLD), _number(7, native.zero)]
    pieces += [_bytes(12, _number(1, _zigzag(offset)) + _number(2, length)) for offset, length in runs]
    if deltas:
        pieces.append(_bytes(13, b"".join(_varint(_zigzag(delta)) for delta in deltas)))
    return b"".join(pieces)


def _exemplar(exemplar: Exemplar) -> bytes:
    label = _label(LABEL, exemplar.job_id)
    return label + b"\x11" + _double(exemplar.value) + _bytes(3, _timestamp(exemplar.at_ns))


def _timestamp(at_ns: int) -> bytes:
    return _number(1, at_ns // _SECOND) + _number(2, at_ns % _SECOND)


def _label(name: str, value: str) -> bytes:
    return _bytes(1, _bytes(1, name.encode()) + _bytes(2, value.encode("utf-8", "replace")))


def _bytes(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return value.to_bytes(1)
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else -value * 2 - 1


# --- the library's own metrics


def _collected(family: Metric) -> Iterator[bytes]:
    if not family.samples:
        return
    body = _head(family.name, family.documentation, family.type)
    body += b"".join(_bytes(4, metric) for metric in _own_metrics(family))
    yield _varint(len(body)) + body


def _own_metrics(family: Metric) -> Iterator[bytes]:
    if family.type != "histogram":
        for sample in family.samples:
            yield _own_labels(sample.labels) + _bytes(_VALUES[family.type], _value(sample.value, None, 0))
        return
    groups: dict[bytes, tuple[list[tuple[float, int, Exemplar | None]], dict[str, float]]] = {}
    for sample in family.samples:
        labels = _own_labels({name: value for name, value in sample.labels.items() if name != "le"})
        buckets, totals = groups.setdefault(labels, ([], {}))
        if "le" in sample.labels:
            buckets.append((float(sample.labels["le"]), int(sample.value), None))
        else:
            totals[sample.name.removeprefix(f"{family.name}_")] = sample.value
    for labels, (buckets, totals) in groups.items():
        yield labels + _bytes(_HISTOGRAM, _classic(int(totals["count"]), totals["sum"], buckets))


def _own_labels(labels: Mapping[str, str]) -> bytes:
    return b"".join(_label(*each) for each in sorted(labels.items()))
