"""Reads Prometheus's protobuf format with Google's library: its messages are built from the field numbers of
client_model's metrics.proto, so that nothing of the exporter's writer is believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELDS = {
    "LabelPair": ("1 name string", "2 value string"),
    "Timestamp": ("1 seconds int64", "2 nanos int32"),
    "Exemplar": ("1 label LabelPair*", "2 value double", "3 timestamp Timestamp"),
    "Gauge": ("1 value double",),
    "Counter": ("1 value double", "2 exemplar Exemplar", "3 created_timestamp Timestamp"),
    "Untyped": ("1 value double",),
    "Bucket": ("1 cumulative_count uint64", "2 upper_bound double", "3 exemplar Exemplar"),
    "BucketSpan": ("1 offset sint32", "2 length uint32"),
    "Histogram": (
        "1 sample_count uint64", "2 sample_sum double", "3 bucket Bucket*", "15 created_timestamp Timestamp",
        "5 schema sint32", "6 zero_threshold double", "7 zero_count uint64", "9 negative_span BucketSpan*",
        "12 positive_span BucketSpan*", "13 positive_delta sint64*",
    ),
    "Metric": ("1 label LabelPair*", "2 gauge Gauge", "3 counter Counter", "5 untyped Untyped", "7 histogram Histogram"),
    "MetricFamily": ("1 name string", "2 help string", "3 type int32", "4 metric Metric*"),
}  # fmt: skip


def _message_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package="tests", syntax="proto2")
    for name, lines in _FIELDS.items():
        message = file.message_type.add(name=name)
        for line in lines:
            number, field_name, kind = line.split()
            made = message.field.add(name=field_name, number=int(number))
            made.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in _FIELDS:
                made.type, made.type_name = field.TYPE_MESSAGE, f".tests.{kind}"
            else:
                made.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tests.MetricFamily"))


_MetricFamily = _message_class()


def families(body: bytes) -> Iterator[Any]:
    """Every MetricFamily of a delimited page. Fails where a field is unknown, or the page does not end with one."""
    at = 0
    while at < len(body):
        length = shift = 0
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        assert at + length <= len(body), "a family that is cut off"
        family = _MetricFamily.FromString(body[at : at + length])
        assert family.SerializeToString(deterministic=True), "an empty family"
        assert not _unknown(family), "a field that the format does not have"
        at += length
        yield family


def _unknown(message: Any) -> bool:
    clean = type(message)()
    clean.CopyFrom(message)
    clean.DiscardUnknownFields()
    return bool(clean.ByteSize() != message.ByteSize())


def labels(metric: Any) -> dict[str, str]:
    return {pair.name: pair.value for pair in metric.label}
