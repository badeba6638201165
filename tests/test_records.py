"""EPCC's JSON to our nouns: every field but `id` may be missing, null or of a neighbouring type."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.manners import NESTING
from exporter.records import (
    MISSABLE_FIELDS,
    REASONS,
    Attempt,
    Integration,
    InvalidResponseError,
    Rejected,
    failure_reason,
    read_integrations,
    read_jobs,
    read_page,
    read_token,
)
from exporter.values import read_time

# The vendor's published sample of a log.
SAMPLE: dict[str, Any] = {
    "id": "11de4222-0a1c-4c1c-8b5f-3f3c0f6f1a11",
    "type": "integration-log",
    "succeeded": False,
    "attempt": 1,
    "processing_time": 0.2529,
    "body": "Not found",
    "status_code": 404,
    "error_detail": "Received a status code outside of 2xx range - treating webhook as a fail",
    "relationships": {
        "integration": {"data": {"type": "integration", "id": "8edd44ef"}},
        "job": {"data": {"type": "integration-job", "id": "3b69a7e2"}},
    },
    "meta": {"timestamps": {"created_at": "2017-10-30T18:15:40.087650928Z"}},
}


def page(*records: Any, **envelope: Any) -> bytes:
    return json.dumps({"data": list(records), **envelope}).encode()


def one(**changes: Any) -> Attempt:
    (attempt,) = read_page(page({**SAMPLE, **changes})).attempts
    return attempt


def without(field: str) -> Attempt:
    (attempt,) = read_page(page({key: value for key, value in SAMPLE.items() if key != field})).attempts
    return attempt


def test_the_published_sample_is_read_right() -> None:
    assert one() == Attempt(
        id=SAMPLE["id"],
        integration_id="8edd44ef",
        job_id="3b69a7e2",
        created_ns=1509387340087650928,
        number=1,
        succeeded=False,
        status_code="404",
        reason="http_4xx",
        processing_us=252_900,
        missing=(),
        error_text=SAMPLE["error_detail"],
    )


@pytest.mark.parametrize(
    ("envelope", "total"),
    [
        ({"links": {"first": "/integrations/logs?page[offset]=0", "next": None, "prev": None}}, None),
        ({"meta": {"limit": 25, "offset": 0, "current": 1, "total": 4}, "results": {"total": 91}}, 91),
        ({"links": {}, "results": {"total": 91}, "meta": {"total": 4}}, 91),
        ({}, None),
        ({"results": {"total": "91"}}, 91),
        ({"results": {"total": -1}}, None),
        ({"results": None, "links": None, "meta": []}, None),
    ],
)
def test_both_published_envelopes_are_read_and_both_at_once_and_neither(envelope: Any, total: int | None) -> None:
    read = read_page(page(SAMPLE, **envelope))
    assert (len(read.attempts), read.total) == (1, total)


@pytest.mark.parametrize("field", [key for key in SAMPLE if key != "id"])
def test_every_field_but_the_id_may_be_missing(field: str) -> None:
    assert without(field).id == SAMPLE["id"]


@pytest.mark.parametrize(
    "value", [None, "", "x", 0, 1, -1, 1.5, 1e400, True, [], {}, [None], {"data": None}, "1", "404"]
)
@pytest.mark.parametrize("field", [key for key in SAMPLE if key != "id"])
def test_every_field_but_the_id_may_be_of_another_type(field: str, value: Any) -> None:
    read = read_page(page({**SAMPLE, field: value}).replace(b"Infinity", b"1e308"))
    assert [attempt.id for attempt in read.attempts] == [SAMPLE["id"]]


@pytest.mark.parametrize(
    ("field", "name"),
    [("succeeded", "succeeded"), ("attempt", "attempt"), ("processing_time", "processing_time"),
     ("status_code", "status_code"), ("meta", "created_at")],
)  # fmt: skip
def test_a_missing_field_is_named(field: str, name: str) -> None:
    assert without(field).missing == (name,)
    assert name in MISSABLE_FIELDS


def test_a_log_without_relationships_counts_under_the_list_that_it_was_found_on_or_as_unknown() -> None:
    bare = page({**SAMPLE, "relationships": None})
    assert read_page(bare, "from-the-path").attempts[0].integration_id == "from-the-path"
    (lost,) = read_page(bare).attempts
    assert (lost.integration_id, lost.job_id, lost.missing) == ("unknown", None, ("integration", "job"))


@pytest.mark.parametrize(
    ("value", "label"),
    [(200, "200"), ("200", "200"), (404.0, "404"), (599, "599"), (0, "none"), (None, "none"), ("", "none"), ("0", "none"),
     (99, "other"), (600, "other"), (-1, "other"), ("abc", "other"), (200.5, "other"), (True, "none"), ([], "other")],
)  # fmt: skip
def test_status_codes_are_a_closed_set(value: Any, label: str) -> None:
    assert one(status_code=value).status_code == label


@pytest.mark.parametrize(
    ("fields", "succeeded"),
    [({"status_code": 200}, True), ({"status_code": 500}, False), ({"status_code": None, "error_detail": "boom"}, False),
     ({"status_code": None, "error_detail": ""}, None), ({"succeeded": "false"}, False), ({"succeeded": 1}, True)],
)  # fmt: skip
def test_a_missing_flag_is_inferred_from_status_and_error_or_stays_open(fields: Any, succeeded: bool | None) -> None:
    record = {key: value for key, value in {**SAMPLE, **fields}.items() if key != "succeeded" or "succeeded" in fields}
    assert read_page(page(record)).attempts[0].succeeded is succeeded


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        ("301", "", "http_3xx"),
        ("404", "Received a status code outside of 2xx range", "http_4xx"),
        ("504", "context deadline exceeded", "http_5xx"),
        (
            "none",
            'Post "https://x": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
            "timeout",
        ),
        ("none", "dial tcp 10.0.0.1:443: i/o timeout", "timeout"),
        ("none", "dial tcp: lookup shop.example: i/o timeout", "dns"),
        ("none", "dial tcp: lookup shop.example: no such host", "dns"),
        ("none", "x509: certificate has expired or is not yet valid", "tls"),
        ("none", "remote error: tls: handshake failure", "tls"),
        ("none", "net/http: TLS handshake timeout", "timeout"),
        ("none", "dial tcp 127.0.0.1:1: connect: connection refused", "connection"),
        ("none", "read: connection reset by peer", "connection"),
        ("none", "EOF", "connection"),
        ("none", "", "other"),
        ("200", "", "other"),
        ("other", "what", "other"),
    ],
)
def test_failures_have_one_of_eight_reasons(status: str, text: str, reason: str) -> None:
    assert failure_reason(status, text) == reason
    assert reason in REASONS


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (0.2529, 252_900),
        ("0.25", 250_000),
        (0, 0),
        (-1, None),
        (3601, None),
        (None, None),
        ("slow", None),
        (True, None),
    ],
)
def test_processing_time_is_seconds_and_kept_as_whole_microseconds(value: Any, microseconds: int | None) -> None:
    assert one(processing_time=value).processing_us == microseconds


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1), ("1", 1), (3.0, 3), (0, None), (-1, None), (1.5, None), ("x", None)]
)
def test_an_attempts_number_may_be_a_string(value: Any, number: int | None) -> None:
    assert one(attempt=value).number == number


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01.000000071Z", 1_000_000_071),
        ("1970-01-01T01:00:01.123+01:00", 1_123_000_000),
        ("1970-01-01T01:00:01+0100", 1_000_000_000),
        ("1970-01-01 00:00:01", 1_000_000_000),
        ("1970-01-01T00:00:01.1234567899Z", 1_123_456_789),
        ("1969-12-31T23:59:59Z", None),
        ("2017-13-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-23:00", None),
        ("yesterday", None),
        ("", None),
        (1509387340, None),
        (None, None),
    ],
)
def test_times_are_nanoseconds_whatever_their_digits_and_offset(text: Any, ns: int | None) -> None:
    assert read_time(text) == ns


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999_999))
def test_no_digit_of_a_time_is_lost(seconds: int, nanoseconds: int) -> None:
    from datetime import UTC, datetime

    text = datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds:09}Z"
    assert read_time(text) == seconds * 10**9 + nanoseconds


@pytest.mark.parametrize(
    ("record", "reason"),
    [({}, "no_id"), ({"id": None}, "no_id"), ({"id": ""}, "no_id"), ({"id": 7}, "invalid"), ({"id": ["a"]}, "invalid"),
     (None, "invalid"), ("text", "invalid"), ([], "invalid"), ({"id": "x" * 201}, "too_long"), ({"id": "é" * 101}, "too_long"),
     ({"id": "a\u0000b"}, "invalid")],
)  # fmt: skip
def test_a_malformed_record_is_rejected_and_stops_nothing(record: Any, reason: str) -> None:
    read = read_page(page(record, SAMPLE))
    assert [rejected.reason for rejected in read.rejected] == [reason]
    assert [attempt.id for attempt in read.attempts] == [SAMPLE["id"]]
    assert len(read.keys) == 2


def test_a_rejected_record_is_recognised_and_its_text_is_not_kept() -> None:
    first, again = (read_page(page({"body": "PERSONAL"})).rejected[0] for _ in range(2))
    assert first == again
    assert "PERSONAL" not in repr(first)
    assert isinstance(first, Rejected)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502</html>", b"null", b"[]", b"1", b'{"data": null}', b'{"data": {}}', b'{"errors": []}', b'{"data": [',
     b'{"data": [{"id": NaN}]}', b'\xff{"data": []}', pytest.param(b'{"data":' + b"[" * NESTING + b"]" * NESTING + b"}", id="too deep")],
)  # fmt: skip
def test_an_answer_of_another_shape_is_refused_without_quoting_it(body: bytes) -> None:
    with pytest.raises(InvalidResponseError) as refused:
        read_page(body)
    assert "502" not in str(refused.value)


def test_integrations_are_read_without_their_configuration() -> None:
    body = page(
        {"id": "a", "name": "Orders", "integration_type": "webhook", "enabled": False,
         "configuration": {"secret_key": "S3CRET"}},
        {"id": "b"},
        {"name": "no id"},
    )  # fmt: skip
    found, length = read_integrations(body)
    assert found == [Integration("a", "Orders", "webhook", False), Integration("b", "", "", True)]
    assert length == 3
    assert "S3CRET" not in repr(found)


def test_jobs_are_read_by_id() -> None:
    assert read_jobs(page({"id": "a", "type": "integration-job"}, {"type": "x"}, None)) == (["a"], 3)


def test_a_token_is_never_shown() -> None:
    token = read_token(b'{"expires":1524486008,"expires_in":3600,"access_token":"S3CRET","token_type":"Bearer"}')
    assert (token.access_token, token.expires_in) == ("S3CRET", 3600.0)
    assert "S3CRET" not in f"{token} {token!r}"


@pytest.mark.parametrize("body", [b"{}", b'{"access_token": 5}', b'{"access_token": ""}', b'{"access_token": "a\\nb"}'])
def test_an_unusable_token_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        read_token(body)
