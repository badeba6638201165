"""The simulated lists: order, coming and going, and the truth about them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.records import read_page
from exporter.shop import SECOND, Log, Scenario, Shop
from tests.asks import ERP, LOGS, NOW, START, Client, client, spoil

# --- orders


def visible_order() -> list[Log]:
    """Three logs that become visible in another order than they were created in."""
    return [
        log("first", START + 1, visible_ns=START + 30),
        log("second", START + 2, visible_ns=START + 10),
        log("third", START + 3, visible_ns=START + 20),
    ]


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("newest_first", ["third", "second", "first"]),
        ("oldest_first", ["first", "second", "third"]),
        ("newest_visible_first", ["first", "third", "second"]),
        ("oldest_visible_first", ["second", "third", "first"]),
    ],
)
def test_lists_run_by_creation_or_by_visibility_either_way(order: str, ids: list[str]) -> None:
    asks = client(Manners(order=order))
    asks.epcc.add(*visible_order())
    assert asks.ids() == ids
    assert [asks.ids(i, 1)[0] for i in range(3)] == ids


def test_an_unordered_list_is_a_fixed_jumble_in_which_new_logs_turn_up_anywhere() -> None:
    asks = client(Manners(order="unordered"), number=50)
    before = asks.ids(0, 100)
    assert before == asks.ids(0, 100)
    assert before not in (sorted(before, key=int), sorted(before, key=int, reverse=True))
    asks.epcc.add(*(log(f"new-{i}", NOW) for i in range(10)))
    after = asks.ids(0, 100)
    assert [i for i in after if i in set(before)] == before
    assert {after.index(f"new-{i}") > 10 for i in range(10)} == {True, False}


def test_a_shuffled_list_is_another_at_each_request() -> None:
    asks = client(Manners(order="shuffled"), number=50)
    assert asks.ids(0, 100) != asks.ids(0, 100)
    assert sorted(asks.ids(0, 100), key=int) == [str(i) for i in range(50)]


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_records_of_equal_time_can_change_places_over_the_borders_of_pages(order: str) -> None:
    asks = client(Manners(order=order, ties_ns=10 * SECOND, ties_permuted=True), number=40)
    for offset in (0, 5):  # five of the first ten, all of whom can be there
        assert len({i for _ in range(50) for i in asks.ids(offset, 5)}) == 10
    whole = {tuple(asks.ids(0, 40)) for _ in range(10)}
    assert len(whole) > 1
    for ids in whole:
        groups = [{int(i) // 10 for i in ids[at : at + 10]} for at in range(0, 40, 10)]
        assert groups == ([{3}, {2}, {1}, {0}] if order == "newest_first" else [{0}, {1}, {2}, {3}])


def test_the_order_may_change_between_two_requests() -> None:
    asks = client(number=3)
    assert asks.ids() == ["2", "1", "0"]
    assert spoil(asks, Manners(order="oldest_first")).ids() == ["0", "1", "2"]


@pytest.mark.parametrize("order", ["newest_first", "oldest_visible_first", "unordered"])
def test_pages_of_any_length_add_up_to_the_list(order: str) -> None:
    asks = client(Manners(order=order), number=230)
    for length in (7, 100):
        ids = [i for offset in range(0, 240, length) for i in asks.ids(offset, length)]
        assert len(ids) == 230
        assert set(ids) == {str(i) for i in range(230)}


def test_jobs_run_in_the_order_of_the_lists() -> None:
    path = "/v2/integrations/shipping/jobs"
    asks = client(number=30)
    newest_first = asks.ids(0, 100, path)
    assert newest_first == [f"job-{i}" for i in reversed(range(30))]
    assert spoil(asks, Manners(order="oldest_first")).ids(0, 100, path) == newest_first[::-1]
    assert spoil(asks, Manners(order="unordered")).ids(0, 100, path) == asks.ids(0, 100, path) != newest_first
    assert spoil(asks, Manners(order="shuffled")).ids(0, 100, path) != asks.ids(0, 100, path)


# --- when logs come and go


def test_a_log_shows_once_its_time_has_come_and_its_lateness_has_passed() -> None:
    asks = client()
    asks.epcc.add(log("1", NOW, visible_ns=NOW + 5 * SECOND))
    assert asks.ids() == []
    asks.now_ns += 5 * SECOND
    assert asks.ids() == ["1"]


def test_the_store_can_make_logs_later_than_they_are() -> None:
    asks = client(Manners(lateness_seconds=100.0))
    asks.epcc.add(*(log(str(i), NOW) for i in range(100)))
    shown = []
    for _ in range(5):
        shown.append(len(asks.ids(0, 100)))
        asks.now_ns += 25 * SECOND
    assert shown[0] < shown[1] < shown[2] < shown[3] < shown[4] == 100


def test_a_late_log_takes_its_place_by_creation() -> None:
    asks = client(number=5)
    asks.epcc.add(log("late", START + SECOND + 1, visible_ns=NOW))
    assert asks.ids() == ["4", "3", "2", "late", "1", "0"]


def test_retention_deletes_the_oldest_from_every_list() -> None:
    asks = client(Manners(retention_seconds=990), number=20)
    assert asks.ids() == [str(i) for i in range(19, 9, -1)]
    assert asks.ids(path="/v2/integrations/shipping/logs") == asks.ids()
    assert asks.ids(path="/v2/integrations/shipping/jobs") == [f"job-{i}" for i in range(19, 9, -1)]
    assert asks.ask("/v2/integrations/shipping/jobs/job-3/logs").status == 404


@pytest.mark.parametrize("order", ["oldest_visible_first", "newest_visible_first", "unordered"])
def test_what_is_deleted_leaves_lists_of_any_order(order: str) -> None:
    asks = client(Manners(order=order, retention_seconds=990), number=20)
    assert sorted(asks.ids(), key=int) == [str(i) for i in range(10, 20)]
    asks.now_ns += SECOND
    assert sorted(asks.ids(), key=int) == [str(i) for i in range(11, 20)]
    asks.epcc.delete_logs(["15"])
    assert sorted(asks.ids(), key=int) == [str(i) for i in range(11, 20) if i != 15]


def test_logs_can_be_deleted_by_id_or_by_age() -> None:
    asks = client(number=6)
    asks.epcc.delete_logs(["3"], older_than_ns=START + 2 * SECOND)
    assert asks.ids() == ["5", "4", "2"]
    assert asks.ids(path="/v2/integrations/shipping/logs") == ["5", "4", "2"]


def test_a_removed_integration_takes_its_logs_along_and_brings_no_more() -> None:
    asks = client(number=2)
    asks.epcc.add_integration(ERP)
    asks.epcc.add(log("e1", START, integration_id="erp"), log("e2", NOW + SECOND, integration_id="erp"))
    assert "e1" in asks.ids()
    asks.epcc.remove_integration("erp")
    asks.now_ns += 2 * SECOND
    assert asks.ids() == ["1", "0"]
    assert asks.ask("/v2/integrations/erp/logs").status == 404


def test_the_logs_of_a_removed_integration_may_stay() -> None:
    asks = client(number=2)
    asks.epcc.remove_integration("shipping", keep_logs=True)
    assert asks.ids() == ["1", "0"]
    assert asks.ids(path="/v2/integrations") == []


def test_a_job_may_be_listed_without_logs() -> None:
    asks = client(Manners(jobs_unlogged={"shipping": ["lost"]}), number=1)
    assert asks.ids(path="/v2/integrations/shipping/jobs") == ["lost", "job-0"]
    assert asks.ids(path="/v2/integrations/shipping/jobs/lost/logs") == []
    asks.epcc.add(log("found", NOW, job_id="lost"))
    assert sorted(asks.ids(path="/v2/integrations/shipping/jobs")) == ["job-0", "lost"]


def test_a_log_may_be_in_one_list_and_not_in_another() -> None:
    asks = client()
    asks.epcc.add(log("1", START), feeds=("job",))
    asks.epcc.add(log("2", START), feeds=("integration",))
    assert asks.ids() == []
    assert asks.ids(path="/v2/integrations/shipping/logs") == ["2"]
    assert asks.ids(path="/v2/integrations/shipping/jobs/job-1/logs") == ["1"]
    asks.epcc.delete_logs(["1", "2"])
    assert asks.ids(path="/v2/integrations/shipping/logs") == []
    assert asks.ids(path="/v2/integrations/shipping/jobs") == []
    with pytest.raises(ValueError, match="nowhere"):
        asks.epcc.add(log("3", START), feeds=("nowhere",))


# --- the truth


def test_the_truth_counts_what_became_visible_and_what_was_deleted_since() -> None:
    asks = client()
    asks.epcc.add(
        log("1", START, job_id="a", status_code=503, processing_time=0.5),
        log("2", START + 1, job_id="a", attempt=2, processing_time=None),
        log("3", START + 2, job_id="b", status_code=0),
        log("4", START + 3, job_id="c", status_code=700, succeeded=True),
        log("5", NOW + SECOND, job_id="d"),
    )
    truth = asks.epcc.truth(NOW)
    expected = {
        "name": "Order shipping", "attempts": 4, "failures": 2, "retries": 1, "jobs": 3,
        "responses": {"503": 1, "200": 1, "none": 1, "other": 1}, "delivered": {"first": 1, "retry": 1},
        "processing_us": 1_000_000,
    }  # fmt: skip
    assert truth == {"now_ns": NOW, "integrations": {"shipping": expected}}
    asks.epcc.delete_logs(["1", "2"])
    asks.epcc.remove_integration("shipping")
    assert asks.epcc.truth()["integrations"]["shipping"] == {**expected, "name": None}


def test_a_job_is_delivered_once_whatever_comes_after() -> None:
    asks = client()
    asks.epcc.add(log("1", START, job_id="a"), log("2", START + 1, job_id="a", attempt=2))
    asks.epcc.add(log("3", START + 2, job_id="a", attempt=3, status_code=500))
    asks.epcc.add(log("4", START + 3, job_id="a", attempt=4))
    counted = asks.epcc.truth(NOW)["integrations"]["shipping"]
    assert (counted["jobs"], counted["delivered"]) == (1, {"first": 1, "retry": 0})


def test_walking_a_shop_finds_exactly_the_truth() -> None:
    shop = Shop(Scenario(5.0, history_seconds=600.0), 3, START)
    epcc = Epcc(shop=shop)
    asks = Client(epcc, START)
    asks.log_in()
    asks.now_ns = START + 60 * SECOND
    found: Counter[str] = Counter()
    for offset in range(0, 10_000, 100):
        for attempt in read_page(asks.ask(LOGS, offset, 100).body).attempts:
            found[attempt.integration_id] += 1
    truth = epcc.truth(asks.now_ns)["integrations"]
    assert sum(found.values()) > 2000
    assert found == {integration: counted["attempts"] for integration, counted in truth.items()}


def test_ten_thousand_logs_in_any_order_of_arrival_are_paged_rightly() -> None:
    places = list(range(10_000))
    random.Random(1).shuffle(places)
    asks = client()
    for at in range(0, 10_000, 500):
        asks.epcc.add(*(log(str(i), START + i) for i in places[at : at + 500]))
        asks.epcc.add(*(log(f"x{i}", START - i - 1) for i in places[at : at + 3]))
        asks.ask(LOGS)
    ids = [i for offset in range(0, 10_001, 100) for i in asks.ids(offset, 100)][:10_000]
    assert ids == [str(i) for i in reversed(range(10_000))]
