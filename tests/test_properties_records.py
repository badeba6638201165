"""Whatever EPCC answers is read or refused, never half of it; and what is well formed is read to the last digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.records import (
    MISSABLE_FIELDS,
    REASONS,
    REJECT_REASONS,
    Attempt,
    InvalidResponseError,
    read_integrations,
    read_jobs,
    read_page,
    read_token,
)
from exporter.values import ID_BYTES_MAX, read_time

EXAMPLES = settings().max_examples  # of the profile that conftest loads

FIELDS = [
    "id", "succeeded", "attempt", "processing_time", "status_code", "error_detail", "relationships", "meta",
    "timestamps", "created_at", "integration", "job", "data", "results", "total", "access_token", "expires_in", "name",
    "enabled",
]  # fmt: skip
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["1", "-0.0", "1e400", "nan", "0" * 300, "true", "2024-02-30T00:00:00Z", "\ud800", 2**53, 10**400])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=25,
)
pages = st.one_of(
    values,
    st.fixed_dictionaries({"data": st.lists(values, max_size=4)}, optional={"results": values}),
    st.fixed_dictionaries({"access_token": values, "expires_in": values}),
)


@settings(max_examples=5 * EXAMPLES)
@given(pages.map(lambda page: json.dumps(page).encode()) | st.binary(max_size=40))
def test_any_answer_is_read_or_refused_as_invalid(body: bytes) -> None:
    for read in (read_integrations, read_jobs, read_token):
        try:
            read(body)
        except InvalidResponseError:
            continue
    try:
        page = read_page(body)
    except InvalidResponseError:
        return
    assert len(page.keys) == len(page.attempts) + len(page.rejected) == len(json.loads(body)["data"])
    assert {rejected.reason for rejected in page.rejected} <= set(REJECT_REASONS)
    for attempt in page.attempts:
        assert attempt.reason is None or (attempt.reason in REASONS and attempt.succeeded is False)
        assert set(attempt.missing) <= set(MISSABLE_FIELDS)
        assert attempt.status_code in {"none", "other"} or 100 <= int(attempt.status_code) <= 599
        assert 1 <= len(attempt.id.encode()) <= ID_BYTES_MAX


# --- what is well formed

ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=50)


@st.composite
def times(draw: st.DrawFn) -> tuple[str, int]:
    """A time as somebody may write it, and its nanoseconds by another way: a calendar's days, and digits as digits."""
    day = draw(st.datetimes(datetime(1970, 1, 3), datetime(2100, 1, 1)))  # noqa: DTZ001  the zone comes below
    digits = draw(st.text("0123456789", max_size=9))
    minutes = draw(st.none() | st.just(0) | st.integers(-23 * 60 - 59, 23 * 60 + 59))
    if minutes is None:
        zone = draw(st.sampled_from(["", "Z", "z"]))
    else:
        hours, rest = divmod(abs(minutes), 60)
        zone = f"{'-' if minutes < 0 else '+'}{hours:02}{draw(st.sampled_from([':', '']))}{rest:02}"
    point = draw(st.sampled_from(".,")) if digits else ""
    text = f"{day:%Y-%m-%d}{draw(st.sampled_from('Tt '))}{day:%H:%M:%S}{point}{digits}{draw(st.sampled_from(['', ' ']))}{zone}"
    whole = day.replace(microsecond=0, tzinfo=UTC) - timedelta(minutes=minutes or 0)
    seconds = (whole - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return text, seconds * 10**9 + sum(int(digit) * 10 ** (8 - place) for place, digit in enumerate(digits))


@settings(max_examples=5 * EXAMPLES)
@given(times())
def test_a_time_of_any_digits_and_any_zone_is_the_instant_that_a_calendar_gives(time: tuple[str, int]) -> None:
    text, ns = time
    assert read_time(text) == read_time(f" {text}\n") == ns


@st.composite
def records(draw: st.DrawFn) -> tuple[dict[str, Any], Attempt]:
    """A record as EPCC writes it, with its numbers as numbers or strings, and the attempt that it is."""
    text, created_ns = draw(times())
    code = draw(st.integers(100, 599))
    number = draw(st.integers(1, 1_000_000))
    microseconds = draw(st.integers(0, 3_600_000_000))
    succeeded = draw(st.booleans())
    integration, job, own = draw(ids), draw(ids), draw(ids)
    written: Any = draw(st.sampled_from([str, lambda value: value]))
    record = {
        "id": own,
        "type": "integration-log",
        "succeeded": draw(st.sampled_from([succeeded, int(succeeded), str(succeeded), str(succeeded).lower()])),
        "attempt": written(number),
        "processing_time": written(microseconds / 1_000_000),
        "status_code": written(code),
        "body": draw(st.text(max_size=20)),
        "error_detail": draw(st.none() | st.just("")),
        "relationships": {
            "integration": {"data": {"type": "integration", "id": integration}},
            "job": {"data": {"type": "integration-job", "id": job}},
        },
        "meta": {"timestamps": {"created_at": text}},
    }
    reason = None if succeeded else f"http_{code // 100}xx" if code >= 300 else "other"
    return record, Attempt(own, integration, job, created_ns, number, succeeded, str(code), reason, microseconds, ())


@given(st.lists(records(), max_size=5))
def test_every_well_formed_record_is_read_exactly_and_in_its_place(made: list[tuple[dict[str, Any], Attempt]]) -> None:
    page = read_page(json.dumps({"data": [record for record, _ in made]}).encode())
    assert list(page.attempts) == [attempt for _, attempt in made]
    assert page.keys == tuple(attempt.id for _, attempt in made)


@given(record=records(), data=st.data())
def test_what_is_wrong_in_one_field_changes_no_other(
    record: tuple[dict[str, Any], Attempt], data: st.DataObject
) -> None:
    raw, attempt = record
    field, read_as = data.draw(
        st.sampled_from([("attempt", "number"), ("processing_time", "processing_us"), ("meta", "created_ns")])
    )
    wrong: object = data.draw(
        st.sampled_from([None, True, -1, "x", [], {}, {"timestamps": [1]}, "2024-02-30T00:00:00Z"])
    )
    (read,) = read_page(json.dumps({"data": [{**raw, field: wrong}]}).encode()).attempts
    for name in Attempt.__struct_fields__:
        expected = None if name == read_as else getattr(attempt, name)
        if name != "missing":
            assert getattr(read, name) == expected, name
    assert read.missing == ({"meta": "created_at"}.get(field, field),)
