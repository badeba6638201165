"""The last value that is read and the first that is not; what a refusal says; how the rejected are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.records import (
    ANSWER_MAX,
    ERROR_TEXT_MAX,
    Integration,
    InvalidResponseError,
    read_details,
    read_integrations,
    read_page,
    read_token,
)  # fmt: skip
from exporter.values import read_time
from tests.test_records import SAMPLE, one, page, without


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html>", "the answer is not JSON"),
        (b"[]", "the answer is JSON, but not an object"),
        (b'{"data": {}}', "the answer has no list `data`"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_the_answer_and_nothing_of_what_is_in_it(body: bytes, what: str) -> None:
    with pytest.raises(InvalidResponseError) as refused:
        read_page(body)
    assert str(refused.value) == what
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_refused_token_says_what_is_missing() -> None:
    with pytest.raises(InvalidResponseError) as refused:
        read_token(b'{"access_token": "S3CR\\u00c9T"}')
    assert str(refused.value) == "the token's answer has no usable access_token"


def test_a_token_is_no_longer_than_a_header_can_be() -> None:
    longest = "t" * 8_192
    assert read_token(f'{{"access_token": "{longest}"}}'.encode()).access_token == longest
    with pytest.raises(InvalidResponseError):
        read_token(f'{{"access_token": "{longest}t"}}'.encode())


def test_a_token_shows_as_what_it_is() -> None:
    assert repr(read_token(b'{"access_token": "S3CRET"}')) == "Token(<secret>)"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("1", 1), ('"60"', 60), ("0.5", 0.5), ("0", None), ("-1", None), ("null", None), ("[]", None)],
)
def test_a_tokens_lifetime_is_above_0_or_not_known(given: str, seconds: float | None) -> None:
    assert read_token(f'{{"access_token": "x", "expires_in": {given}}}'.encode()).expires_in == seconds


@pytest.mark.parametrize(
    ("given", "total"),
    [(0, 0), (1, 1), (2**53 - 1, 2**53 - 1), (2**53, None), (-1, None), (1e15, 10**15), (9.1e15, None), (1.9e16, None), (True, None)],
)  # fmt: skip
def test_a_total_is_a_number_that_a_float_holds_exactly(given: Any, total: int | None) -> None:
    assert read_page(page(results={"total": given})).total == total


def test_the_keys_are_the_ids_in_the_lists_order_and_of_a_rejected_record_its_fingerprint() -> None:
    read = read_page(page({"id": "a"}, {"no": "id"}, {"id": "b"}))
    assert read.keys == ("a", f"!{read.rejected[0].key}", "b")


@pytest.mark.parametrize(
    ("one_record", "another"),
    [({"x": 1}, {"x": 2}), ({"id": 7}, {"id": 8}), (["a"], ["b"]), ({"id": "x" * 201}, {"id": "y" * 201})],
)
def test_two_rejected_records_are_told_apart(one_record: Any, another: Any) -> None:
    first, second, again = read_page(page(one_record, another, one_record)).rejected
    assert (first == again, first.key == second.key) == (True, False)


def test_a_rejected_record_is_the_same_whatever_the_order_of_its_fields() -> None:
    first, again = read_page(page({"x": 1, "y": 2}, {"y": 2, "x": 1})).rejected
    assert first == again


@pytest.mark.parametrize("value", ["x" * 200, "é" * 100])
def test_an_id_of_200_bytes_is_read(value: str) -> None:
    assert one(id=value).id == value


@pytest.mark.parametrize("bad", ["", "a\x00b", "x" * 201, 7, None, [], {}])
def test_an_integration_and_a_job_that_cannot_be_named_are_missing(bad: Any) -> None:
    read = one(relationships={"integration": {"data": {"id": bad}}, "job": {"data": {"id": bad}}})
    assert (read.integration_id, read.job_id, read.missing) == ("unknown", None, ("integration", "job"))


@pytest.mark.parametrize("what", ["integration", "job"])
def test_a_nul_in_one_id_alone_is_seen(what: str) -> None:
    ids = {"integration": "int-1", "job": "job-1", what: "a\x00b"}
    read = one(relationships={name: {"data": {"id": each}} for name, each in ids.items()})
    assert read.missing == (what,)
    assert {read.integration_id, read.job_id} == ({"int-1", None} if what == "job" else {"unknown", "job-1"})


def test_integrations_after_one_that_cannot_be_read_are_read() -> None:
    found, length = read_integrations(page({"name": "no id"}, "text", {"id": "b", "name": 5, "enabled": "FALSE"}))
    assert (found, length) == ([Integration("b", "", "", False)], 3)


@pytest.mark.parametrize(
    ("flag", "succeeded"),
    [(True, True), (False, False), (1, True), (0, False), (1.0, True), ("true", True), ("True", True), ("FALSE", False)],
)  # fmt: skip
def test_a_flag_may_be_a_number_or_a_word(flag: Any, succeeded: bool) -> None:
    read = one(succeeded=flag, status_code=None, error_detail=None)
    assert (read.succeeded, read.missing) == (succeeded, ("status_code",))


@pytest.mark.parametrize("flag", ["yes", "", 2, [], None])
def test_a_flag_that_is_none_is_missing(flag: Any) -> None:
    read = one(succeeded=flag, status_code=None, error_detail=None)
    assert (read.succeeded, read.missing) == (None, ("succeeded", "status_code"))


@pytest.mark.parametrize("error", [None, 5, [], {"a": 1}, ""])
def test_an_error_that_is_no_text_says_nothing(error: Any) -> None:
    read = one(succeeded=None, status_code=None, error_detail=error)
    assert (read.succeeded, read.reason) == (None, None)
    assert one(succeeded=False, status_code=None, error_detail=error).reason == "other"


def test_a_success_has_no_reason_whatever_its_error_says() -> None:
    assert one(succeeded=True, error_detail="timeout").reason is None


def test_a_status_that_is_no_code_does_not_say_how_it_ended() -> None:
    assert one(succeeded=None, status_code=7, error_detail="").succeeded is None


@pytest.mark.parametrize(("number", "read_as"), [(1_000_000, 1_000_000), (1_000_001, None), ("1e6", 1_000_000)])
def test_an_attempts_number_has_an_end(number: Any, read_as: int | None) -> None:
    assert one(attempt=number).number == read_as


@pytest.mark.parametrize(
    ("code", "label"), [(100, "100"), (599, "599"), ("100.0", "100"), (99.5, "other"), (599.5, "other")]
)
def test_the_first_and_the_last_status_code_are_codes(code: Any, label: str) -> None:
    assert one(status_code=code).status_code == label


@pytest.mark.parametrize(
    ("seconds", "microseconds"),
    [(3600, 3_600_000_000), (3600.000001, None), (0.0000004, 0), (0.0000006, 1), (2**53, None), (10**400, None)],
)
def test_the_longest_processing_time_is_an_hour_and_the_shortest_a_microsecond(seconds: Any, microseconds: Any) -> None:
    assert one(processing_time=seconds).processing_us == microseconds


def test_only_the_first_4096_characters_of_an_error_are_searched() -> None:
    within, beyond = ("." * number + " no such host" for number in (4096 - 13, 4096 - 12))
    assert [one(succeeded=False, status_code=None, error_detail=text).reason for text in (within, beyond)] == [
        "dns",
        "other",
    ]


@pytest.mark.parametrize("status", ["100", "200"])
def test_a_failure_with_a_status_below_300_is_told_by_its_text(status: str) -> None:
    assert one(succeeded=False, status_code=status, error_detail="EOF").reason == "connection"
    assert one(succeeded=False, status_code=7, error_detail="EOF").reason == "connection"


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001z", 1),
        ("2116-02-20T23:53:38.427387903Z", 2**62 - 1),
        ("2116-02-20T23:53:38.427387904Z", None),
        ("1970-01-01T00:00:01." + "1" * 30 + "Z", 1_111_111_111),
        ("1970-01-01T00:00:01." + "1" * 31 + "Z", None),
        ("1970-01-01T00:00:01.Z", None),
        ("1970-01-01T00:00:01\u0660Z", None),
        ("0001-01-01T00:00:00+23:59", None),
    ],
)
def test_times_are_read_from_1970_until_they_need_more_than_62_bits(text: str, ns: int | None) -> None:
    assert read_time(text) == ns


def test_nothing_else_of_a_record_is_missing_when_one_field_is() -> None:
    assert [without(field).missing for field in ("type", "body", "error_detail")] == [(), (), ()]
    assert SAMPLE["id"] == without("relationships").id


# --- with what the receiver said


def lacking(*fields: str) -> dict[str, Any]:
    return {key: value for key, value in SAMPLE.items() if key not in fields}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (None, ""),
        ("", ""),
        ("well", "well"),
        ({"error": 5}, '{"error":5}'),
        ([1, None], "[1,null]"),
        (0, "0"),
        (False, "false"),
    ],
)
def test_an_answer_is_shown_as_it_is_and_json_as_json(body: Any, answer: str) -> None:
    ((detail,), number) = read_details(page({**SAMPLE, "body": body}), "other")
    assert (detail.answer, detail.answer_characters, number) == (answer, len(answer), 1)
    assert detail.attempt == one(body=body)


def test_an_answer_is_cut_and_how_long_it_was_is_told() -> None:
    ((detail,), _) = read_details(page({**SAMPLE, "body": "x" * ANSWER_MAX + "yz"}), "other")
    assert (detail.answer, detail.answer_characters) == ("x" * ANSWER_MAX, ANSWER_MAX + 2)


def test_an_answer_without_a_body_is_empty_and_records_that_do_not_count_are_numbered_all_the_same() -> None:
    last = lacking("body") | {"id": "last"}
    details, number = read_details(page(SAMPLE, {"no": "id"}, 5, last), "other")
    assert ([each.attempt.id for each in details], number) == ([SAMPLE["id"], "last"], 4)
    assert details[1].answer == ""


def test_a_job_s_log_that_names_no_integration_is_of_the_one_that_was_asked_for() -> None:
    ((detail,), _) = read_details(page(lacking("integration_id", "integration", "relationships")), "asked-for")
    assert detail.attempt.integration_id == "asked-for"


def test_what_is_no_page_has_no_details() -> None:
    with pytest.raises(InvalidResponseError):
        read_details(b"[]", "other")


@pytest.mark.parametrize(
    ("succeeded", "text", "shown"),
    [
        (False, "x" * ERROR_TEXT_MAX + "y", "x" * ERROR_TEXT_MAX),
        (False, "short", "short"),
        (True, "short", ""),
    ],
)
def test_an_errors_text_is_a_failures_alone_and_cut(succeeded: bool | None, text: str, shown: str) -> None:
    assert one(succeeded=succeeded, error_detail=text).error_text == shown
    assert one(succeeded=succeeded, error_detail=text, attempt=None).error_text == shown


@pytest.mark.parametrize("changes", [
    {"attempt": None}, {"processing_time": None}, {"status_code": None}, {"relationships": None}, {"meta": {}},
    {"succeeded": None}, {"error_detail": "x"}, {},
])  # fmt: skip
def test_a_record_on_a_page_with_an_odd_one_is_read_as_on_a_page_of_its_kind(changes: dict[str, Any]) -> None:
    record = {**SAMPLE, "succeeded": True, "status_code": 200, **changes}
    (alone,) = read_page(page(record)).attempts
    beside = read_page(page(record, {"id": 1})).attempts
    assert beside == (alone,)
    assert type(alone.missing) is tuple
