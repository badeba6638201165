"""Where a value's reading begins and ends; and a page of which one record is odd is read as any other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exporter import values
from exporter.manners import NESTING
from exporter.records import InvalidResponseError, read_page
from tests.test_records import SAMPLE

GOOD = {**SAMPLE, "id": "good"}
NAMELESS = {**SAMPLE, "id": "nameless", "relationships": None}
UNRELATED = {name: value for name, value in NAMELESS.items() if name != "relationships"}
ODD = {"id": ["odd"]}


def page(*records: Any, **envelope: Any) -> bytes:
    return json.dumps({"data": records, **envelope}).encode()


def test_a_record_beside_an_odd_one_is_read_as_it_would_be_alone() -> None:
    unanswered = {**GOOD, "id": "unanswered", "status_code": None, "error_detail": "no such host"}
    alone, beside = read_page(page(GOOD, unanswered)), read_page(page(GOOD, unanswered, ODD))
    assert beside.attempts == alone.attempts
    assert beside.attempts[1].reason == "dns"
    assert [each.reason for each in beside.rejected] == ["invalid"]
    assert beside.keys[0] == "good"


def test_a_record_that_names_no_integration_is_of_the_list_that_was_asked_odd_neighbours_or_not() -> None:
    for records in ([NAMELESS], [NAMELESS, ODD], [UNRELATED], [UNRELATED, ODD]):
        (read,) = read_page(page(*records), "int-asked").attempts
        assert (read.integration_id, read.job_id, read.missing) == ("int-asked", None, ("job",))


def test_a_total_is_read_whatever_is_on_the_page() -> None:
    for records in ([GOOD], [GOOD, ODD]):
        assert read_page(page(*records, results={"total": 7})).total == 7
        assert read_page(page(*records, results={"total": -1})).total is None
        assert read_page(page(*records, results=[])).total is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [{"id": "\xff"}]}',
        b'{"data": [{"id": "a", "body": ' + b"[" * NESTING + b"]" * NESTING + b"}]}",
        b'{"data": [{"id": ' + b'{"x": ' * NESTING + b"1" + b"}" * NESTING + b"}]}",
    ],
    ids=["not UTF-8", "deep where nobody looks", "deep in an id"],
)
def test_what_is_no_text_or_too_deep_is_no_answer(body: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        read_page(body)


@pytest.mark.parametrize(
    ("given", "read"),
    [(2**53 - 1, 2.0**53 - 1), (2**53, None), (-(2**53), None), (2.0**53 - 1, 2.0**53 - 1), (2.0**53, None),
     (str(2**53 - 1), 2.0**53 - 1), (str(2**53), None), (True, None), (float("inf"), None)],
)  # fmt: skip
def test_a_number_is_one_that_a_float_holds_exactly(given: Any, read: float | None) -> None:
    assert values.number(given) == read


@pytest.mark.parametrize(
    ("given", "read"),
    [(100, "100"), (599, "599"), (599.0, "599"), ("599", "599"), ("100", "100"), ("600", "other"), (600, "other"),
     (99, "other"), (0, "none"), (True, "none")],
)  # fmt: skip
def test_a_status_is_a_code_from_100_to_599_however_it_is_written(given: Any, read: str) -> None:
    assert values.status(given) == read


@pytest.mark.parametrize("zone", ["Z", "z", "", "+00:00", "+0000"])
def test_utc_may_be_written_in_any_way_or_not_at_all(zone: str) -> None:
    assert values.read_time(f"2017-10-30T18:16:27{zone}") == 1_509_387_387_000_000_000


@pytest.mark.parametrize("between", ["x", " ", "0"])
def test_a_fraction_stands_behind_a_point_or_a_comma(between: str) -> None:
    assert values.read_time(f"2017-10-30T18:16:27{between}123Z") is None
    assert values.read_time("2017-10-30T18:16:27,123Z") == 1_509_387_387_123_000_000
