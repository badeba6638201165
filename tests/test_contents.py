"""What the records and headers show: fields, times, lateness as a lower bound, clocks, rates."""

from __future__ import annotations

import pytest

from exporter.epcc import log
from exporter.findings import OBSERVED
from exporter.manners import RECORD_FIELDS, SCALARS, Manners
from exporter.shop import SECOND
from tests.probing import NUMBER, WithHeaders, found, probe, store, text_of
from tests.world import at


@pytest.mark.parametrize("field", [f for f in RECORD_FIELDS if f not in ("relationships", "meta")])
def test_a_field_that_is_not_there_is_named_with_its_share(field: str) -> None:
    for share in (0.4, 1.0):
        values = found(store(manners=Manners(missing=frozenset({field}), missing_probability=share)))
        assert values["fields"].keys() == {field}
        assert values["fields"][field]["missing"] == pytest.approx(share, abs=0.1)


def test_a_field_that_holds_others_takes_them_along() -> None:
    assert found(store(manners=Manners(missing=frozenset({"meta"}))))["fields"] == {"created_at": {"missing": 1.0}}
    both = {"integration": {"missing": 1.0}, "job": {"missing": 1.0}}
    assert found(store(manners=Manners(missing=frozenset({"relationships"}))))["fields"] == both


@pytest.mark.parametrize("field", SCALARS)
def test_a_field_that_arrives_as_a_string_is_named(field: str) -> None:
    assert found(store(manners=Manners(strings=frozenset({field}))))["types"] == {field: {"string": 1.0}}


@pytest.mark.parametrize(("digits", "zone"), [*((digits, "Z") for digits in range(10)), (3, "+02:00"), (9, "-05:30")])
def test_the_way_that_times_are_written_is_told(digits: int, zone: str) -> None:
    values = found(store(120, Manners(time_digits=digits, time_zone=zone)))
    assert values["time_format"] == ((digits,), (zone,))
    assert values["newest_age"] == 1.0


def test_the_largest_group_of_equal_times_is_told() -> None:
    assert found(store(manners=Manners(ties_ns=100 * SECOND)))["ties"] == 5


def test_without_times_the_order_shows_by_where_new_logs_turn_up() -> None:
    epcc = store(manners=Manners(missing=frozenset({"created_at"})))
    epcc.add(*[log(f"n{i}", at(i)) for i in range(12)])
    finding = probe(epcc).findings["order"]
    assert (finding.value, finding.note[:5]) == ("newest_first", "weak:")
    assert probe(store(manners=Manners(missing=frozenset({"created_at"})))).findings["order"].value is None


def test_the_date_header_and_its_skew_are_told() -> None:
    assert found(store(manners=Manners(date_header=False)))["date"] == "absent"
    assert "skew" not in found(store(manners=Manners(date_header=False)))
    for skew in (-3600.0, -2.0, 0.0, 2.0, 90.0):
        probed = probe(store(manners=Manners(date_skew_seconds=skew, latency_seconds=(0.05, 0.3))))
        assert probed.findings["skew"].value == pytest.approx(skew, abs=0.6)
        assert ("set the host's" in text_of(probed)) is (abs(skew) > 30)


def test_logs_that_are_dated_in_the_future_are_told() -> None:
    finding = probe(store(manners=Manners(created_skew_seconds=120.0))).findings["newest_age"]
    assert finding.value == pytest.approx(-119, abs=1)
    assert finding.note.endswith("it lies in the future")


def test_the_lifetime_of_the_token_is_told_and_renewals_are_within_the_limit() -> None:
    assert found(store(manners=Manners(token_lifetime_seconds=300)))["token_seconds"] == 300
    assert found(store(manners=Manners(token_lifetime_seconds=2)))["token_seconds"] == 2


@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "newest_visible_first", "oldest_visible_first"])
@pytest.mark.parametrize("number", [30, NUMBER])
@pytest.mark.parametrize("late", [0.0, 0.4, 3.0])
def test_how_late_logs_are_is_a_lower_bound_that_is_seen(order: str, number: int, late: float) -> None:
    epcc = store(number, Manners(order=order))
    # Every fifth log is late, and a newer one shows before it.
    epcc.add(*[log(f"n{i}", at(i / 10), visible_ns=at(i / 10 + (late if i % 5 == 0 else 0.0))) for i in range(300)])
    probed = probe(epcc)
    told = probed.findings["lateness"]
    assert told.sure == OBSERVED
    assert (late * 0.5 if late > 1 else 0.0) <= told.value <= late
    assert probed.findings["arrival"].value <= 15.0


def test_a_lateness_that_the_lookback_hardly_covers_calls_for_a_longer_one() -> None:
    epcc = store()
    epcc.add(*[log(f"n{i}", at(i), visible_ns=at(i + (40.0 if i % 2 else 0.0))) for i in range(-100, 200)])
    probed = probe(epcc, watch=60.0, lookback=60.0)
    assert 35.0 <= probed.findings["lateness"].value <= 40.0
    assert "\n  lookback: 1m30s  (a log came " in text_of(probed, lookback=60.0)
    assert "\n  lookback:" not in text_of(probed, lookback=900.0)


def test_where_nothing_new_comes_or_nothing_can_be_watched_lateness_is_not_told() -> None:
    for manners, watch, why in (
        (Manners(), 15.0, "no new log came within 15"),
        (Manners(), 0.0, "the newest logs were not watched"),
        (Manners(order="unordered"), 15.0, "the list is longer than a page, and it has no order"),
        (Manners(order="oldest_first", offset_limit=300), 15.0, "its end, where new logs stand, is out of reach"),
    ):
        finding = probe(store(manners=manners), watch=watch).findings["lateness"]
        assert finding.sure == "could not tell"
        assert why in finding.note


def test_a_list_that_can_be_read_only_a_few_minutes_back_calls_for_a_shorter_lookback() -> None:
    epcc = store(manners=Manners(offset_limit=50))
    probed = probe(epcc)
    assert "\n  lookback: " in text_of(probed, lookback=3600.0)
    assert "\n  lookback: " not in text_of(probed, lookback=60.0)


def test_headers_about_rates_are_told_with_their_numbers() -> None:
    values = found(store(), session=WithHeaders)
    assert values["rate_headers"] == {"x-ratelimit-limit": "100", "ratelimit-policy": "100;w=1",
                                      "x-rate-limit-remaining": "a value that is not shown"}  # fmt: skip
    assert values["encoding"] == ("identity",)


def test_a_429_is_waited_out_and_told() -> None:
    for retry_after in ("seconds", "date", "none"):
        probed = probe(store(manners=Manners(rate_limit_per_second=6, retry_after=retry_after)))
        assert probed.findings["rate_limited"].value > 0
        assert ("retry-after" in probed.findings["rate_headers"].value) is (retry_after != "none")
        assert "\n  requests_per_second: 5, or less  (EPCC answered 429)\n" in text_of(probed)
        assert probed.findings["length"].value == NUMBER
