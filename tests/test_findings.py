"""What the lists show of themselves: the order, the envelope, the total, how long pages are, whether they move."""

from __future__ import annotations

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import ENVELOPES, ORDERS, TOTALS, Manners
from exporter.shop import SECOND, Integration
from tests.probing import NUMBER, ORDER_TOLD, found, probe, store, text_of
from tests.world import at


@pytest.mark.parametrize("envelope", ENVELOPES)
@pytest.mark.parametrize("order", ORDERS)
def test_order_and_envelope_are_named(order: str, envelope: str) -> None:
    values = found(store(manners=Manners(order=order, envelope=envelope)))
    assert (values["order"], values["envelope"]) == (ORDER_TOLD.get(order, order), envelope)
    assert values["stable"] == ("unstable" if order == "shuffled" else "stable")
    assert values["length"] == NUMBER


def test_a_dense_list_shows_its_order_by_pages_far_apart() -> None:
    for order in ("newest_first", "oldest_first", "unordered"):
        epcc = Epcc(Manners(order=order))
        epcc.add_integration(Integration("shipping", "Order shipping"))
        epcc.add(*[log(f"l{i}", at(-i * 0.5), job_id="j") for i in range(8000)])
        probed = probe(epcc)
        assert probed.findings["order"].value == order
        assert not probed.findings["order"].note.startswith("weak")


def test_a_list_that_spans_less_than_a_lookback_shows_its_order_with_less_tolerance() -> None:
    for order in ("newest_first", "oldest_first", "unordered"):
        finding = probe(store(16, Manners(order=order))).findings["order"]
        assert finding.value == order
        assert "within a tolerance of 1m, less than lookback" in finding.note or order == "unordered"
    finding = probe(store(2, Manners(order="unordered"))).findings["order"]
    assert finding.value is None or finding.note.startswith("weak")


def test_equal_times_that_change_places_are_no_other_records() -> None:
    values = found(store(manners=Manners(ties_permuted=True, ties_ns=60 * SECOND)))
    assert (values["stable"], values["ties"], values["order"]) == ("ties_move", 3, "newest_first")


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("number", [60, NUMBER])
def test_a_total_is_held_against_the_list(total: str, number: int) -> None:
    values = found(store(number, Manners(envelope="2025", total_manner=total)))
    assert values["total"] == {"right": "right", "saturated": "right", "random": "changes"}.get(total, "wrong")
    assert values["length"] == number


@pytest.mark.parametrize("total", [t for t in TOTALS if t != "random"])
def test_a_total_of_a_list_past_the_offset_limit_is_held_against_what_can_be_reached(total: str) -> None:
    values = found(store(manners=Manners(envelope="2025", total_manner=total, offset_limit=300)))
    wanted = {"right": "plausible", "double": "plausible", "saturated": "saturated"}
    assert values["total"] == wanted.get(total, "wrong")


def test_a_next_link_on_the_last_page_is_seen() -> None:
    for number in (3, 100, NUMBER):
        for envelope in ("2026", "both"):
            for there in (False, True):
                values = found(store(number, Manners(envelope=envelope, next_on_last_page=there)))
                assert values["next_on_last_page"] is there
    assert probe(store(manners=Manners(envelope="2025"))).findings["next_on_last_page"].note == "no links"


@pytest.mark.parametrize("longest", [2, 10, 25, 50, 99])
@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_a_page_length_that_is_cut_is_told(longest: int, order: str) -> None:
    values = found(store(manners=Manners(page_length_max=longest, order=order)))
    assert values["page_limit"] == values["over_limit"] == ("clamped", longest)
    if longest > 2:
        assert values["order"] == order
        assert values["length"] == NUMBER


@pytest.mark.parametrize(("longest", "works"), [(10, 10), (25, 25), (30, 25), (50, 50), (99, 50)])
def test_a_page_length_that_is_refused_is_told_with_one_that_works(longest: int, works: int) -> None:
    probed = probe(store(manners=Manners(page_length_max=longest, limit_over_max="error")))
    assert probed.findings["page_limit"].value == probed.findings["over_limit"].value == ("refused", works)
    assert f"  page_limit: {works}  (longer pages are refused)\n" in text_of(probed)
    assert probed.findings["length"].value == NUMBER


def test_more_than_the_documented_page_length_is_cut_refused_or_honoured() -> None:
    for limit, told in (("clamp", ("clamped", 100)), ("error", ("refused", 100))):
        for number in (100, NUMBER):
            finding = probe(store(number, Manners(limit_over_max=limit, envelope="2025"))).findings["over_limit"]
            assert finding.value == told
    assert found(store(manners=Manners(page_length_max=1000)))["over_limit"] == ("honoured", 200)
    short = probe(store(30, Manners(envelope="neither"))).findings["over_limit"]
    assert (short.value, short.note) == (None, "not refused, but the list has 30 records")


def test_ignored_paging_is_named() -> None:
    for number in (1, 2, 40, NUMBER):
        for order in ("newest_first", "oldest_first"):
            values = found(store(number, Manners(paging_ignored=True, order=order)))
            assert values["paging"] == "ignored"
            assert not {"length", "offset_limit"} & values.keys()


def test_the_jobs_list_is_told_to_be_paged_or_not() -> None:
    for order in ("newest_first", "oldest_first", "unordered"):
        assert found(store(manners=Manners(order=order)))["jobs"] == "paged"
        assert found(store(manners=Manners(order=order, jobs_paged=False)))["jobs"] == "not paged"
    assert found(store(manners=Manners(paging_ignored=True)))["jobs"] == "limit alone"
    assert "jobs" not in found(store(2))
