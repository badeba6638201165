"""A right reading of Accept and Accept-Encoding."""

from __future__ import annotations

import pytest

from exporter.negotiation import wanted_format, wants_gzip

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_5 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
DELIMITED = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
NATIVE_2_42 = (
    f"{DELIMITED},application/openmetrics-text;version=1.0.0;q=0.8,"
    "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROTOBUF_FIRST = (
    f"{DELIMITED};escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS_2_42, "openmetrics"),
        (PROMETHEUS_3_5, "openmetrics"),
        (PROTOBUF_FIRST, "protobuf"),
        (NATIVE_2_42, "protobuf"),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", "text"),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", "text"),
        ("application/vnd.google.protobuf;encoding=delimited", "text"),
        ("application/vnd.google.protobuf", "text"),
        ("application/vnd.google.protobuf;proto=of.another.Message;encoding=delimited", "text"),
        (f"{DELIMITED};q=0.3,application/openmetrics-text;q=0.4", "openmetrics"),
        (f"{DELIMITED};q=0,*/*", "text"),
        (f"{DELIMITED};q=0.4,*/*;q=0.5", "text"),
        ("application/*;q=0.5,text/plain;q=0.1", "openmetrics"),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", "text"),  # vmagent
        ("*/*", "text"),  # curl
        ("", "text"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text"),  # a browser
        ("application/openmetrics-text", "openmetrics"),
        ("application/openmetrics-text;version=0.0.1", "openmetrics"),
        ("application/openmetrics-text;version=2.0.0", "text"),
        ("application/openmetrics-text;version=abc", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.4", "text"),
        ("text/plain;q=0.3,application/openmetrics-text;q=0.4", "openmetrics"),
        ("text/plain,application/openmetrics-text", "text"),
        ('Application/OpenMetrics-Text; Version="1.0.0" ; Q=0.9', "openmetrics"),
        ("application/openmetrics-text;q=nonsense,text/plain", "text"),
        # What is said of a format by name outweighs what is said of it by a wildcard.
        ("text/plain;q=0,*/*", "openmetrics"),
        ("*/*,text/plain;q=0", "openmetrics"),
        ("text/plain;version=0.0.4;q=0.2,*/*;q=0.8", "openmetrics"),
        ("*/*,application/openmetrics-text", "openmetrics"),
        ("application/openmetrics-text;q=0.5,*/*;q=0.8", "text"),
        ("application/openmetrics-text;q=0,*/*", "text"),
        ("application/openmetrics-text;version=1.0.0;q=0,application/openmetrics-text", "text"),
        ("application/openmetrics-text;version=1.0.0;q=0,application/openmetrics-text;version=0.0.1", "text"),
        ("application/*", "openmetrics"),
        ("text/*", "text"),
        ("text/*;q=0,*/*", "openmetrics"),
        ("application/*;q=0.9,text/plain;q=0.5", "openmetrics"),
        ("*/*;q=0", "text"),  # nothing is welcome: the answer that everybody reads
        (";;;,,=", "text"),
        ("x" * 100_000, "text"),
    ],
)
def test_the_format_is_the_one_wanted_most_of_those_we_have(accept: str, form: str) -> None:
    assert wanted_format(accept) == form


@pytest.mark.parametrize(
    ("accept_encoding", "wanted"),
    [("gzip", True), ("gzip, deflate, br", True), ("GZIP;q=0.5", True), ("gzip;q=0", False), ("", False), ("br", False),
     ("*", True), ("*;q=0", False), ("gzip;q=0,*", False), ("identity", False), ("identity;q=1,gzip;q=0.5", False),
     ("identity;q=0.5,gzip", True), ("x-gzip", True), ("gzip;q=nonsense", False)],
)  # fmt: skip
def test_gzip_is_sent_to_those_who_want_it(accept_encoding: str, wanted: bool) -> None:
    assert wants_gzip(accept_encoding) is wanted
