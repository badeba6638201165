"""The simulated manners: each is a fact here, so that a test which relies on one tests something."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from email.utils import parsedate_to_datetime

import pytest

from exporter.epcc import log
from exporter.manners import (
    BOMB_BYTES,
    FAULTS,
    NESTING,
    PAGE_FAULTS,
    SCALARS,
    SOCKET_FAULTS,
    STATUS_FAULTS,
    Answer,
    Manners,
)
from exporter.records import read_page
from exporter.shop import SECOND
from exporter.values import read_time
from tests.asks import HOUR_NS, LOGS, NOW, START, client, down, spoil

# --- what records look like


@pytest.mark.parametrize(
    ("field", "missing"),
    [
        ("created_at", {"created_at"}), ("meta", {"created_at"}), ("succeeded", {"succeeded"}),

        ("attempt", {"attempt"}), ("processing_time", {"processing_time"}), ("status_code", {"status_code"}),
        ("integration", {"integration"}),
        ("job", {"job"}), ("relationships", {"integration", "job"}), ("body", set()), ("type", set()),
        ("error_detail", set()),
    ],
)  # fmt: skip
def test_a_field_may_be_missing(field: str, missing: set[str]) -> None:
    asks = client(Manners(missing=frozenset({field})), number=1)
    assert set(read_page(asks.ask(LOGS).body).attempts[0].missing) == missing
    if not missing:
        assert field not in asks.page()["data"][0]


def test_a_field_may_be_missing_from_some_records_and_then_always_from_the_same() -> None:
    asks = client(Manners(missing=frozenset({"attempt", "created_at"}), missing_probability=0.5), number=100)
    records = {r["id"]: r for r in asks.page(0, 100)["data"]}
    assert records == {r["id"]: r for r in asks.page(0, 100)["data"]}
    kinds = Counter(("attempt" in r, "created_at" in r["meta"]["timestamps"]) for r in records.values())
    assert len(kinds) == 4
    assert min(kinds.values()) > 10


def test_relationships_may_be_null_in_two_ways() -> None:
    asks = client(Manners(relationships_null_probability=0.6), number=100)
    related = [r["relationships"] for r in asks.page(0, 100)["data"]]
    assert 10 < related.count(None) < 50
    assert 10 < related.count({"integration": {"data": None}, "job": None}) < 50
    assert sum(bool(r) and r["job"] is not None for r in related) > 20


def test_scalars_may_be_strings_and_still_mean_the_same() -> None:
    asks = client(number=1)
    plain = read_page(asks.ask(LOGS).body)
    spoil(asks, Manners(strings=frozenset(SCALARS)))
    record = asks.page()["data"][0]
    assert [record[name] for name in SCALARS] == ["true", "1", "0.25", "200"]
    assert read_page(asks.ask(LOGS).body) == plain


def test_a_missing_status_is_0_or_no_field() -> None:
    asks = client()
    asks.epcc.add(log("zero", START, status_code=0), log("none", START + 1, status_code=None))
    none, zero = asks.page()["data"]
    assert zero["status_code"] == 0
    assert "status_code" not in none


def test_any_field_of_a_record_can_be_made_anything() -> None:
    asks = client()
    asks.epcc.add(log("1", START, override={"id": None, "attempt": -1}))
    record = asks.page()["data"][0]
    assert (record["id"], record["attempt"], record["status_code"]) == (None, -1, 200)


@pytest.mark.parametrize(
    ("digits", "zone", "text"),
    [
        (9, "Z", "2023-11-14T22:13:20.087650928Z"),
        (6, "Z", "2023-11-14T22:13:20.087650Z"),
        (3, "+02:00", "2023-11-15T00:13:20.087+02:00"),
        (0, "-03:30", "2023-11-14T18:43:20-03:30"),
    ],
)
def test_times_have_any_digits_and_any_zone_and_mean_the_same_instant(digits: int, zone: str, text: str) -> None:
    asks = client(Manners(time_digits=digits, time_zone=zone))
    asks.epcc.add(log("1", START + 87_650_928))
    assert asks.page()["data"][0]["meta"]["timestamps"]["created_at"] == text
    unit = 10 ** (9 - digits)
    assert read_time(text) == (START + 87_650_928) // unit * unit


def test_times_can_be_rounded_until_they_are_equal_and_be_wrong() -> None:
    asks = client(Manners(ties_ns=10 * SECOND, created_skew_seconds=-3600), number=20)
    times = Counter(a.created_ns for a in read_page(asks.ask(LOGS).body).attempts)
    assert times == {START - HOUR_NS: 10, START - HOUR_NS + 10 * SECOND: 10}


def test_the_date_header_is_the_servers_clock_and_may_be_wrong_or_missing() -> None:
    asks = client()
    assert parsedate_to_datetime(asks.ask(LOGS).headers["Date"]).timestamp() == NOW // SECOND
    spoil(asks, Manners(date_skew_seconds=-90))
    assert parsedate_to_datetime(asks.ask(LOGS).headers["Date"]).timestamp() == NOW // SECOND - 90
    assert "Date" not in spoil(asks, Manners(date_header=False)).ask(LOGS).headers


def test_a_manner_that_does_not_exist_is_refused() -> None:
    for wrong in (
        {"order": "newest"}, {"envelope": "2024"}, {"total_manner": "wrong"}, {"offset_limit_answer": "429"},
        {"missing": {"status"}}, {"strings": {"body"}}, {"faults": {"slow": 0.1}}, {"faults": {"500": 0.7, "502": 0.7}},
        {"down": "up"}, {"fault_endpoints": {"log"}}, {"time_zone": "CET"}, {"retry_after": "later"}, {"ties_ns": 0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Manners(**wrong)


# --- faults


@pytest.mark.parametrize("fault", sorted(STATUS_FAULTS))
def test_a_status_may_be_anything_for_tokens_too(fault: str) -> None:
    asks = down(fault)
    assert asks.ask(LOGS).status == asks.log_in().status == int(fault)


def test_a_502_is_the_gateways_html() -> None:
    answer = down("502").ask(LOGS)
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.body.startswith(b"<html>")


def test_a_429_names_seconds_or_a_date_or_nothing() -> None:
    assert down("429", retry_after_seconds=40).ask(LOGS).headers["Retry-After"] == "40"
    date = down("429", retry_after="date", retry_after_seconds=40).ask(LOGS).headers["Retry-After"]
    assert parsedate_to_datetime(date).timestamp() == NOW // SECOND + 40
    assert "Retry-After" not in down("429", retry_after="none").ask(LOGS).headers


def test_requests_over_the_rate_of_any_second_are_refused() -> None:
    asks = client(number=1)
    spoil(asks, Manners(rate_limit_per_second=3))
    asks.now_ns += SECOND
    assert [asks.ask(LOGS).status for _ in range(4)] == [200, 200, 200, 429]
    asks.now_ns += SECOND - 1
    assert asks.ask(LOGS).status == 429
    asks.now_ns += 1
    assert [asks.ask(LOGS).status for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize(("fault", "played"), sorted(SOCKET_FAULTS.items()))
def test_faults_of_the_socket_are_named_in_the_answer(fault: str, played: str) -> None:
    assert down(fault).ask(LOGS).fault == played


def test_an_answer_may_be_something_else_than_a_page() -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(down("not_json").ask(LOGS).body)
    assert isinstance(json.loads(down("other_shape").ask(LOGS).body), list)
    assert down("deep_nesting").ask(LOGS).body.count(b"[") == NESTING
    redirect = down("redirect").ask(LOGS)
    assert (redirect.status, redirect.headers["Location"]) == (302, "https://elsewhere.example/")
    bomb = down("gzip_bomb").ask(LOGS)
    assert bomb.headers["Content-Encoding"] == "gzip"
    assert len(bomb.body) * 100 < BOMB_BYTES < len(gzip.decompress(bomb.body))


def test_a_page_may_be_null_or_empty_or_short() -> None:
    assert down("data_null").page()["data"] is None
    assert down("empty_page").page(10, 10)["data"] == []
    asks = down("short_page")
    assert {len(asks.ids(0, 10)) for _ in range(50)} > {1, 5, 9}
    assert asks.ids(0, 10)[0] == "59"


def test_a_duplicate_in_a_page_pushes_a_record_out() -> None:
    asks = down("duplicate_in_page")
    for _ in range(20):
        ids = asks.ids(0, 10)
        assert len(ids) == 10
        assert len(set(ids)) in (9, 10)
    assert len(set(asks.ids(0, 10))) == 9


def test_a_stale_page_is_the_list_of_some_seconds_ago() -> None:
    asks = client(number=1)
    asks.epcc.add(log("new", NOW - 2 * SECOND))
    spoil(asks, Manners(down="stale_page", stale_seconds=3))
    assert asks.ids() == ["0"]
    asks.now_ns += SECOND
    assert asks.ids() == ["new", "0"]


def test_faults_come_as_often_as_they_are_likely() -> None:
    asks = spoil(client(number=1), Manners(faults={"500": 0.3, "429": 0.1}))
    statuses = Counter(asks.ask(LOGS).status for _ in range(1000))
    assert 240 < statuses[500] < 360
    assert 60 < statuses[429] < 140
    assert statuses[200] + statuses[500] + statuses[429] == 1000


def test_faults_may_be_of_some_endpoints_alone() -> None:
    asks = down("503", fault_endpoints=frozenset({"token"}))
    assert asks.ask(LOGS).status == 200
    assert asks.log_in().status == 503


def test_list_faults_leave_tokens_alone() -> None:
    for fault in PAGE_FAULTS:
        assert down(fault).log_in().status == 200


def test_answers_take_the_time_that_they_are_said_to_take() -> None:
    asks = spoil(client(), Manners(latency_seconds=(0.1, 0.3)))
    delays = [asks.ask(LOGS).delay_seconds for _ in range(100)]
    assert 0.1 <= min(delays) < 0.12
    assert 0.28 < max(delays) <= 0.3


def test_the_same_seed_and_requests_give_the_same_answers() -> None:
    faults = dict.fromkeys(FAULTS, 1 / len(FAULTS))
    manners = Manners(faults=faults, order="shuffled", total_manner="random", envelope="both", latency_seconds=(0, 1))

    def answers(seed: int) -> list[Answer]:
        asks = client(None, number=30, seed=seed)
        spoil(asks, manners)
        return [asks.ask(LOGS, 0, 10) for _ in range(200)]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)
