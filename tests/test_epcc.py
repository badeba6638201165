"""The simulated EPCC as a function: what it asks for, what it refuses, how its pages are cut."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from exporter.epcc import log
from exporter.manners import Manners
from exporter.records import read_integrations, read_jobs, read_page
from exporter.shop import SECOND, Integration
from tests.asks import ERP, LOGS, NOW, START, client, spoil

# --- tokens


def test_a_token_is_flat_json_with_the_end_of_its_life_in_seconds() -> None:
    fields = json.loads(client().log_in().body)
    assert fields["expires"] == NOW // SECOND + 3600
    assert (fields["expires_in"], fields["token_type"]) == (3600, "Bearer")


def test_a_wrong_secret_and_an_unknown_grant_are_refused_in_the_shape_of_an_error() -> None:
    refused = client().log_in(secret="wrong")
    assert refused.status == 401
    assert json.loads(refused.body)["errors"][0]["status"] == 401
    assert client().log_in(grant="password").status == 400


def test_an_implicit_token_may_not_read_integrations() -> None:
    asks = client()
    asks.log_in(grant="implicit", secret="")
    assert asks.ask(LOGS).status == 403


def test_a_token_ends_after_its_lifetime_and_when_it_is_revoked() -> None:
    asks = client(Manners(token_lifetime_seconds=60))
    assert asks.ask(LOGS).status == 200
    asks.now_ns += 60 * SECOND
    assert asks.ask(LOGS).status == 401
    asks.log_in()
    assert asks.ask(LOGS).status == 200
    asks.epcc.revoke_tokens()
    assert asks.ask(LOGS).status == 401


def test_the_header_that_carries_the_token_is_read_in_any_case() -> None:
    asks = client()
    headers = {"authorization": f"Bearer {asks.token}"}
    assert asks.epcc.answer("GET", LOGS, {}, headers, {}, NOW).status == 200
    assert asks.epcc.answer("GET", LOGS, {}, {"Authorization": asks.token}, {}, NOW).status == 401


@pytest.mark.parametrize(("manner", "status"), [("number", 401), ("string", "401"), ("missing", None)])
def test_an_error_has_its_status_as_number_as_string_or_not_at_all(manner: str, status: object) -> None:
    asks = spoil(client(), Manners(error_status=manner))
    asks.token = "wrong"
    assert json.loads(asks.ask(LOGS).body)["errors"][0].get("status") == status


# --- paths


def test_every_endpoint_answers_and_the_exporter_can_read_it() -> None:
    asks = client(number=3)
    asks.epcc.add_integration(ERP)
    assert [i.name for i in read_integrations(asks.ask("/v2/integrations").body)[0]] == ["Order shipping", "ERP sync"]
    assert asks.page(path="/v2/integrations/erp")["data"]["configuration"]["secret_key"]
    assert read_page(asks.ask(LOGS).body).keys == ("2", "1", "0")
    assert read_page(asks.ask("/v2/integrations/shipping/logs").body).keys == ("2", "1", "0")
    assert read_page(asks.ask("/v2/integrations/erp/logs").body).keys == ()
    assert read_jobs(asks.ask("/v2/integrations/shipping/jobs").body)[0] == ["job-2", "job-1", "job-0"]
    assert read_page(asks.ask("/v2/integrations/shipping/jobs/job-1/logs").body).keys == ("1",)
    assert asks.epcc.requests == Counter(
        token=1, integrations=1, integration=1, logs=1, integration_logs=2, jobs=1, job_logs=1
    )


def test_what_is_unknown_is_not_found() -> None:
    asks = client(number=1)
    for path in ("/v2/integrations/no", "/v2/integrations/no/logs", "/v2/integrations/no/jobs", "/v2/orders", "/",
                 "/v2/integrations/shipping/jobs/no/logs", "/v2/integrations/no/jobs/job-0/logs"):  # fmt: skip
        assert asks.ask(path).status == 404, path
    assert asks.epcc.answer("DELETE", LOGS, {}, {}, {}, NOW).status == 405


def test_ids_in_a_path_may_be_percent_encoded() -> None:
    asks = client()
    asks.epcc.add_integration(Integration("a/b c", "Odd"))
    asks.epcc.add(log("1", START, integration_id="a/b c", job_id="ü/1"))
    assert asks.ids(path="/v2/integrations/a%2Fb%20c/jobs/%C3%BC%2F1/logs") == ["1"]


def test_a_record_has_the_published_fields_and_survives_the_exporters_reader() -> None:
    asks = client()
    asks.epcc.add(log("1", START + 71, attempt=2, status_code=404, error_detail="no", processing_time=0.2529))
    record = asks.page()["data"][0]
    assert record["relationships"]["job"]["data"] == {"type": "integration-job", "id": "job-1"}
    assert "example.com" in record["body"]
    (read,) = read_page(asks.ask(LOGS).body).attempts
    assert (read.integration_id, read.job_id, read.created_ns) == ("shipping", "job-1", START + 71)
    assert (read.number, read.succeeded, read.status_code, read.reason) == (2, False, "404", "http_4xx")
    assert (read.processing_us, read.missing) == (252_900, ())


def test_requests_are_remembered_with_their_time_and_answer() -> None:
    asks = client()
    asks.now_ns += SECOND
    asks.ask(LOGS, offset=3)
    last = asks.epcc.seen[-1]
    assert (last.at_ns, last.endpoint, last.query, last.status) == (NOW + SECOND, "logs", {"page[offset]": "3"}, 200)


# --- envelopes, limits, totals


def test_the_envelope_of_2026_has_relative_links_and_no_total() -> None:
    page = client(number=30).page(10, 10)
    assert page.keys() == {"data", "links"}
    assert page["links"] == {
        "first": "/integrations/logs?page[offset]=0&page[limit]=10",
        "next": "/integrations/logs?page[offset]=20&page[limit]=10",
        "prev": "/integrations/logs?page[offset]=0&page[limit]=10",
    }


def test_the_envelope_of_2025_counts_pages_in_meta_and_records_in_results() -> None:
    page = client(Manners(envelope="2025"), number=31).page(10, 10)
    assert page.keys() == {"data", "meta", "results"}
    assert page["meta"] == {"limit": 10, "offset": 10, "current": 2, "total": 4}
    assert page["results"] == {"total": 31}


def test_an_envelope_may_have_both_shapes_or_neither() -> None:
    assert client(Manners(envelope="both")).page().keys() == {"data", "meta", "results", "links"}
    assert client(Manners(envelope="neither")).page().keys() == {"data"}


def test_the_last_page_has_a_next_link_only_where_manners_are_bad() -> None:
    asks = client(number=30)
    assert "next" not in asks.page(20, 10)["links"]
    assert "next" in spoil(asks, Manners(next_on_last_page=True)).page(20, 10)["links"]


@pytest.mark.parametrize(
    ("manner", "total"), [("right", 60), ("zero", 0), ("half", 30), ("double", 120), ("saturated", 50)]
)
def test_a_total_may_be_anything(manner: str, total: int) -> None:
    asks = client(Manners(envelope="2025", total_manner=manner, offset_limit=50), number=60)
    assert asks.page()["results"]["total"] == total


def test_a_random_total_changes_from_request_to_request() -> None:
    asks = client(Manners(envelope="2025", total_manner="random"), number=60)
    assert len({asks.page()["results"]["total"] for _ in range(10)}) > 1


def test_a_page_has_25_records_unless_asked_and_the_maximum_at_most() -> None:
    asks = client(number=150)
    assert (len(asks.ids()), len(asks.ids(0, 30)), len(asks.ids(0, 500))) == (25, 30, 100)
    spoil(asks, Manners(page_length_max=20))
    assert len(asks.ids(0, 100)) == 20
    spoil(asks, Manners(limit_over_max="error"))
    assert (asks.ask(LOGS, 0, 101).status, asks.ask(LOGS, 0, 100).status) == (400, 200)


def test_a_limit_or_offset_that_makes_no_sense_is_refused() -> None:
    asks = client(number=3)
    headers = {"Authorization": f"Bearer {asks.token}"}
    for query in ({"page[limit]": "0"}, {"page[limit]": "x"}, {"page[offset]": "-1"}):
        assert asks.epcc.answer("GET", LOGS, query, headers, {}, NOW).status == 400


def test_the_integrations_are_paged_like_everything_else() -> None:
    asks = client()
    for i in range(30):
        asks.epcc.add_integration(Integration(f"i{i}", f"Number {i}"))
    assert len(asks.ids(path="/v2/integrations")) == 25
    assert len(asks.ids(25, 25, "/v2/integrations")) == 6


def test_jobs_may_come_all_at_once() -> None:
    asks = client(Manners(jobs_paged=False), number=60)
    assert len(asks.ids(0, 10, "/v2/integrations/shipping/jobs")) == 60


@pytest.mark.parametrize("answer", ["400", "404", "422", "500"])
def test_an_offset_past_the_limit_is_an_error(answer: str) -> None:
    asks = client(Manners(offset_limit=50, offset_limit_answer=answer), number=200)
    assert asks.ids(50, 10) == [str(i) for i in range(149, 139, -1)]
    assert asks.ask(LOGS, 51, 10).status == int(answer)
    assert spoil(asks, Manners(offset_limit=None)).ask(LOGS, 51, 10).status == 200


def test_an_offset_past_the_limit_may_be_answered_with_nothing_or_with_the_last_page_again() -> None:
    asks = client(Manners(offset_limit=50, offset_limit_answer="empty"), number=200)
    assert asks.ids(60, 10) == []
    spoil(asks, Manners(offset_limit=50, offset_limit_answer="last_page"))
    assert asks.ids(60, 10) == asks.ids(90, 10) == asks.ids(50, 10)


def test_the_offset_limit_may_count_the_page_too() -> None:
    asks = client(Manners(offset_limit=50, offset_limit_counts_page=True), number=200)
    assert (asks.ask(LOGS, 40, 10).status, asks.ask(LOGS, 41, 10).status) == (200, 400)


def test_paging_may_be_ignored() -> None:
    asks = client(Manners(paging_ignored=True), number=200)
    assert asks.ids(100, 10) == asks.ids(0, 10)
