"""The state in JSON, and one job's attempts: what they say, to whom, and what they never show as anything but text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import msgspec
import pytest

from exporter.answers import TEXT_MAX, Answer, read_answers
from exporter.api import ApiError
from exporter.clock import Clock
from exporter.epcc import log
from exporter.exposition import Exposition
from exporter.guard import Guard
from exporter.manners import Manners, log_record
from exporter.metrics import OwnMetrics
from exporter.server import JOB_LOOKS_MAX, Server
from exporter.status import IntegrationStatus, StatusJson, StoreStatus, UnknownStoreError
from tests.world import MakeWorld, at, simple, virtual

AT = 1_700_000_000_000_000_000
LOOK = "/jobs/acme/int-1/job-1"


def answers(*records: dict[str, Any]) -> list[Answer]:
    return read_answers(json.dumps({"data": records}).encode(), "int-1")


def record(log_id: str, seconds: int, **fields: Any) -> dict[str, Any]:
    made = log(log_id, AT + seconds * 1_000_000_000, integration_id="int-1", job_id="job-1")
    return {**log_record(made, Manners()), **fields}


class Site:
    """A server on this machine alone, whose EPCC says what `look` does."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.stores: list[StoreStatus] = []
        self.made = 0
        self.asked: list[tuple[str, ...]] = []
        self.answer: Sequence[Answer] | Exception = ()
        self.released = asyncio.Event()
        self.released.set()
        self.server = Server(
            exposition=Exposition(OwnMetrics()), telemetry_path="/metrics", unready=list, reload=self._reload,
            status=self._status, scraped=lambda *scrape: None, job=self._look, guard=guard,
        )  # fmt: skip
        self.url = ""

    async def _reload(self) -> list[str]:
        return []

    def _status(self) -> list[StoreStatus]:
        self.made += 1
        return self.stores

    async def _look(self, *names: str) -> Sequence[Answer]:
        self.asked.append(names)
        await self.released.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def start(self, host: str = "127.0.0.1") -> None:
        ((_, port),) = await self.server.start([(host, 0)])
        self.url = f"http://127.0.0.1:{port}"

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path, **options) as response:
            return response.status, await response.text()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.start()
    yield made
    await made.server.stop()


async def test_the_json_says_of_each_integration_what_the_latest_attempt_says(site: Site) -> None:
    states = [
        IntegrationStatus("A", "a", 5, 2, 2, AT, True, AT - 10**9, AT, 1, 3, "job-9"),
        IntegrationStatus("B", "b", 5, 0, 0, AT, True, AT),
        IntegrationStatus("C", "c", 0, 0, 0, None, True),
        IntegrationStatus("D", "d", 5, 1, 1, AT, False, None, AT),
    ]
    site.stores = [StoreStatus("acme", "polled", AT, AT - 10**9, None, states, {"late": 2})]
    status, text = await site.get("/api/v1/status")
    (store,) = json.loads(text)["stores"]
    assert status == 200
    assert [each["state"] for each in store["integrations"]] == ["failing", "succeeding", "unseen", "disabled"]
    assert store["integrations"][0] == {
        "id": "a", "name": "A", "enabled": True, "state": "failing", "attempts": 5, "failures": 2,
        "consecutive_failures": 2, "jobs_failing": 1, "jobs_unlogged": 3, "last_attempt_timestamp_seconds": 1.7e9,
        "last_success_timestamp_seconds": 1.7e9 - 1, "last_failure_timestamp_seconds": 1.7e9, "last_failed_job": "job-9",
    }  # fmt: skip
    assert (store["state"], store["gaps"], store["last_error"]) == ("polled", {"late": 2}, None)
    assert store["complete_through_timestamp_seconds"] == 1.7e9 - 1


async def test_the_json_is_made_once_a_second_however_many_ask() -> None:
    class Stopped(Clock):
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    made, clock = [], Stopped()
    status = StatusJson(lambda: made.append(1) or [], clock)  # type: ignore[func-returns-value]
    for now, number in ((0.0, 1), (0.9, 1), (1.0, 2)):
        clock.now = now
        bodies = await asyncio.gather(status.body(), status.body())
        assert [json.loads(body)["stores"] for body in bodies] == [[], []]
        assert len(made) == number


async def test_a_jobs_attempts_are_shown_in_order_with_the_time_between_them(site: Site) -> None:
    site.answer = answers(
        record("b", 90, attempt=2, status_code=200, succeeded=True, body="ok"),
        record("a", 0, attempt=1, status_code=503, succeeded=False, body="", error_detail="bad gateway upstream"),
    )
    status, text = await site.get(LOOK)
    assert status == 200
    assert site.asked == [("acme", "int-1", "job-1")]
    assert text.index("FAILED (http_5xx)") < text.index("90.0 s") < text.index("succeeded<td>200")
    assert "bad gateway upstream" in text
    assert "2 attempts. The last attempt succeeded." in text


async def test_hostile_texts_are_shown_as_text(site: Site) -> None:
    evil = "<script>alert(1)</script>\u202egnp.exe\x07"
    site.answer = answers(record("a", 0, body=evil, error_detail=evil))
    _, text = await site.get("/jobs/acme/%3Cscript%3E/%E2%80%AEevil")
    assert "<script" not in text
    assert not {"\u202e", "\x07"} & set(text)
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;\N{REPLACEMENT CHARACTER}gnp.exe") == 2


async def test_a_long_answer_is_cut_and_says_so(site: Site) -> None:
    site.answer = answers(record("a", 0, body="x" * 100_000))
    _, text = await site.get(LOOK)
    assert "x" * TEXT_MAX in text
    assert "x" * (TEXT_MAX + 1) not in text
    assert "(the first 20,000 of 100,000 characters)" in text


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ((), 200, "EPCC has no log of this job"),
        (UnknownStoreError("acme"), 404, "There is no store acme in the configuration"),
        (ApiError("not_found", 404), 404, "EPCC knows no such integration or job"),
        (ApiError("rate_limited", 429), 503, "slow down"),
        (ApiError("timeout"), 502, "Asking EPCC failed: timeout"),
    ],
)
async def test_what_epcc_does_not_tell_is_said_in_our_words(site: Site, answer: Any, status: int, words: str) -> None:
    site.answer = answer
    got, text = await site.get(LOOK)
    assert got == status
    assert words in text


async def test_whoever_may_not_see_answers_is_told_what_to_do_and_epcc_is_not_asked() -> None:
    open_to_all = Site()
    await open_to_all.start("0.0.0.0")
    try:
        status, text = await open_to_all.get(LOOK)
        assert (status, open_to_all.asked) == (403, [])
        assert "--web.config.file" in text
        assert (await open_to_all.get("/api/v1/status"))[0] == 200
    finally:
        await open_to_all.server.stop()


async def test_a_page_from_elsewhere_whose_name_leads_here_reads_nothing(site: Site) -> None:
    status, text = await site.get(LOOK, headers={"Host": "evil.example"})
    assert (status, site.asked) == (403, [])
    assert "localhost" in text


async def test_no_more_than_a_few_look_at_once(site: Site) -> None:
    site.released.clear()
    looking = [asyncio.ensure_future(site.get(LOOK)) for _ in range(JOB_LOOKS_MAX)]
    while len(site.asked) < JOB_LOOKS_MAX:  # noqa: ASYNC110  until the server has come to each of them
        await asyncio.sleep(0)
    assert (await site.get(LOOK))[0] == 503
    site.released.set()
    assert {status for status, _ in await asyncio.gather(*looking)} == {200}
    assert (await site.get(LOOK))[0] == 200


def test_an_answer_that_is_no_text_is_shown_as_json_and_a_repr_tells_nothing_of_it() -> None:
    (answer,) = answers(record("a", 0, body={"why": "secret"}, error_detail=None))
    assert (answer.body, answer.error, answer.body_length) == ('{"why":"secret"}', "", 16)
    assert "secret" not in repr(answer)


def test_a_record_that_cannot_be_counted_is_left_out() -> None:
    body = msgspec.json.encode({"data": [record("a", 0), "nonsense", {"id": None}, record("b", 1, body=7)]})
    assert [(each.attempt.id, each.body) for each in read_answers(body, "int-1")][1:] == [("b", "7")]


@virtual
async def test_a_look_at_a_job_asks_its_store_once_and_counts_nothing(world: MakeWorld) -> None:
    w = world(simple())
    w.epcc.add(log("first", at(-9), job_id="job-1", status_code=503), log("second", at(-5), job_id="job-1", attempt=2))
    await w.polls()
    before = w.tallied()
    found = await w.poller.answers("shipping", "job-1")
    assert [each.attempt.id for each in found] == ["first", "second"]
    assert (w.epcc.requests["job_logs"], w.tallied()) == (1, before)
    assert w.poller.intake.last_failed_job("shipping") == "job-1"
    assert w.poller.intake.last_failed_job("nobody") is None
