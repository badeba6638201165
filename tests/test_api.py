"""Requests out, over real sockets: what each error means, what is never sent on, and what is never read to its end."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import pytest
from aiohttp import web

from exporter import api, logs
from exporter.api import ERROR_BYTES_MAX, RESPONSE_BYTES_MAX, RETRY_AFTER_MAX, Api, ApiError, Budget, retry_after
from exporter.clock import Clock
from exporter.config import Secret, StoreConfig
from exporter.fetch import Fetch, Pages
from exporter.records import Page, read_page

LIMIT_BYTES = 1 << 20  # of an answer, where a test sets one
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StandingClock(Clock):
    """Time passes only by sleeping, and sleeping takes none."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def chance(self) -> float:
        return 1.0


class Receiver:
    """A server that answers what a test says, and an Api on it."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self.tokens = 0
        self.token_status = 200
        self.seen: list[web.Request] = []
        self.logs: Handler = self.empty
        self.observed: list[tuple[str, str]] = []

    async def empty(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": []})

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.tokens += 1
        await asyncio.sleep(0.01)
        if self.token_status != 200:
            return web.json_response({"errors": []}, status=self.token_status)
        return web.json_response({"access_token": f"token-{self.tokens}", "expires_in": 3600})

    async def all(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.logs(request)

    def api(self, session: aiohttp.ClientSession, port: int, **settings: object) -> Api:
        fields = {"name": "acme", "api_url": f"http://127.0.0.1:{port}", "client_id": Secret("id"),
                  "client_secret": Secret("S3CRET"), "request_timeout": 2.0, **settings}  # fmt: skip
        config = StoreConfig(**fields)  # type: ignore[arg-type]
        budget = Budget(100.0, self.clock)
        return Api(
            config, session, self.clock, lambda endpoint, code, _: self.observed.append((endpoint, code)), budget
        )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    application = web.Application()
    application.router.add_post("/oauth/access_token", made.token)
    application.router.add_route("*", "/{path:.*}", made.all)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        made.session, made.port = session, runner.addresses[0][1]  # type: ignore[attr-defined]
        yield made
    await runner.cleanup()


def api_of(receiver: Receiver, **settings: object) -> Api:
    return receiver.api(receiver.session, receiver.port, **settings)  # type: ignore[attr-defined]


async def refused(receiver: Receiver, **settings: object) -> ApiError:
    with pytest.raises(ApiError) as error:
        await api_of(receiver, **settings).get("logs", "/integrations/logs", {})
    return error.value


async def test_the_token_is_asked_for_once_by_all_who_wait(receiver: Receiver) -> None:
    api = api_of(receiver)
    await asyncio.gather(*(api.get("logs", "/integrations/logs", {}) for _ in range(10)))
    assert receiver.tokens == 1
    assert {request.headers["Authorization"] for request in receiver.seen} == {"Bearer token-1"}


async def test_a_token_leaves_no_log_line(receiver: Receiver) -> None:
    await api_of(receiver).get("logs", "/integrations/logs", {})
    (asked,) = receiver.seen
    token = asked.headers["Authorization"].removeprefix("Bearer ")
    assert logs.masked(f"Bearer {token}!") == "Bearer <secret>!"


async def test_the_token_is_renewed_before_it_ends(receiver: Receiver) -> None:
    api = api_of(receiver)
    await api.get("logs", "/integrations/logs", {})
    receiver.clock.now += 3600 - 61
    await api.get("logs", "/integrations/logs", {})
    assert receiver.tokens == 1
    receiver.clock.now += 2
    await api.get("logs", "/integrations/logs", {})
    assert receiver.tokens == 2


async def test_a_401_renews_the_token_once_for_all_who_met_it(receiver: Receiver) -> None:
    async def revoked(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        ok = request.headers["Authorization"] == "Bearer token-2"
        return web.json_response({"data": []}, status=200 if ok else 401)

    receiver.logs = revoked
    api = api_of(receiver)
    await asyncio.gather(*(api.get("logs", "/integrations/logs", {}) for _ in range(5)))
    assert receiver.tokens == 2


async def test_a_second_401_is_a_failure_and_not_a_loop(receiver: Receiver) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        return web.json_response({}, status=401)

    receiver.logs = never
    assert (await refused(receiver)).reason == "auth"
    assert (receiver.tokens, len(receiver.seen)) == (2, 2)


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "auth"), (401, "auth"), (403, "forbidden"), (500, "server_error")]
)
async def test_a_refused_client_is_an_auth_failure(receiver: Receiver, status: int, reason: str) -> None:
    receiver.token_status = status
    error = await refused(receiver)
    assert error.reason == reason
    assert "S3CRET" not in f"{error} {error!r}"


async def test_an_organizations_store_is_chosen_by_headers(receiver: Receiver) -> None:
    await api_of(receiver, org_id="org", store_id="store").get("logs", "/integrations/logs", {})
    assert (receiver.seen[0].headers["EP-Org-ID"], receiver.seen[0].headers["EP-Store-ID"]) == ("org", "store")


async def test_a_redirect_is_not_followed_and_the_token_stays_here(receiver: Receiver) -> None:
    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"http://127.0.0.1:{receiver.port}/elsewhere")  # type: ignore[attr-defined]

    receiver.logs = away
    assert (await refused(receiver)).code == 302
    assert [request.path for request in receiver.seen] == ["/v2/integrations/logs"]


async def test_an_answer_over_the_limit_is_refused_before_it_is_read_to_its_end(receiver: Receiver) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 4 * RESPONSE_BYTES_MAX:
            await response.write(b" " * (1 << 20))
            sent += 1 << 20
        return response

    receiver.logs = endless
    assert (await refused(receiver, request_timeout=20.0)).reason == "invalid_response"
    assert sent < 3 * RESPONSE_BYTES_MAX


async def test_the_text_of_a_refusal_is_not_read_to_its_end_either(receiver: Receiver) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while sent < RESPONSE_BYTES_MAX:
            await response.write(b" " * ERROR_BYTES_MAX)
            sent += ERROR_BYTES_MAX
        return response

    receiver.logs = endless
    assert (await refused(receiver)).reason == "server_error"
    assert sent < RESPONSE_BYTES_MAX


async def test_a_few_bytes_that_blow_up_are_refused_at_the_limit(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "RESPONSE_BYTES_MAX", LIMIT_BYTES)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(bytes(16 * LIMIT_BYTES)) + packer.flush()

    async def explode(request: web.Request) -> web.StreamResponse:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    receiver.logs = explode
    assert len(bomb) < 20_000  # one chunk, which could be blown up whole
    tracemalloc.start()
    try:
        assert (await refused(receiver)).reason == "invalid_response"
        assert tracemalloc.get_traced_memory()[1] < 4 * LIMIT_BYTES
    finally:
        tracemalloc.stop()


async def test_a_gzipped_answer_is_read_and_a_cut_one_is_refused(receiver: Receiver) -> None:
    packed = gzip.compress(b'{"data": []}')

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    receiver.logs = answer
    assert (await api_of(receiver).get("logs", "/integrations/logs", {})).body == b'{"data": []}'
    packed = packed[:-6]
    assert (await refused(receiver)).reason == "invalid_response"


async def test_a_drip_of_bytes_ends_at_the_time_out(receiver: Receiver) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    receiver.logs = drip
    assert (await refused(receiver, request_timeout=0.3)).reason == "timeout"


async def test_a_refused_connection_is_told_from_a_failing_handshake(receiver: Receiver) -> None:
    port = receiver.port  # type: ignore[attr-defined]
    assert (await refused(receiver, api_url="http://127.0.0.1:1")).reason == "connection"
    assert (await refused(receiver, api_url=f"https://127.0.0.1:{port}")).reason == "tls"


async def test_the_servers_clock_is_its_date_less_the_round_trip(receiver: Receiver) -> None:
    async def dated(request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": []}, headers={"Date": "Tue, 14 Nov 2023 22:13:20 GMT"})

    receiver.logs = dated
    reply = await api_of(receiver).get("logs", "/integrations/logs", {})
    assert reply.server_ns == 1_700_000_000 * 10**9


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("0", 0), ("7", 7), (" 7 ", 7), ("86400", RETRY_AFTER_MAX), ("-1", None), ("soon", None), ("1.5", None),
     (format_datetime(NOON + timedelta(seconds=40), usegmt=True), 40),
     (format_datetime(NOON + timedelta(days=1), usegmt=True), RETRY_AFTER_MAX),
     (format_datetime(NOON - timedelta(seconds=1), usegmt=True), None), ("9" * 4000, RETRY_AFTER_MAX)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_capped(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, format_datetime(NOON, usegmt=True)) == seconds


async def test_the_budget_lets_a_burst_of_one_second_through_and_then_its_rate() -> None:
    clock = StandingClock()
    budget = Budget(10.0, clock)
    for _ in range(10):
        await budget.take()
    assert clock.now == 0
    for _ in range(20):
        await budget.take()
    assert clock.now == pytest.approx(2.0, abs=0.05)


async def test_after_a_429_no_request_is_made_before_the_time_that_was_named(receiver: Receiver) -> None:
    asked: list[float] = []

    async def limited(request: web.Request) -> web.StreamResponse:
        asked.append(receiver.clock.now)
        if len(asked) == 1:
            return web.Response(status=429, headers={"Retry-After": "5"})
        return web.json_response({"data": []})

    receiver.logs = limited
    await Fetch(api_of(receiver), receiver.clock).get("logs", "/integrations/logs", {}, read_page)
    assert asked[1] - asked[0] >= 5


async def test_a_long_pause_fails_the_poll_instead_of_hiding_it(receiver: Receiver) -> None:
    async def limited(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "120"})

    receiver.logs = limited
    fetch = Fetch(api_of(receiver), receiver.clock)
    for _ in range(3):
        with pytest.raises(ApiError, match="rate_limited"):
            await fetch.get("logs", "/integrations/logs", {}, read_page)
    assert len(receiver.seen) == 1


async def test_tries_are_few_and_further_and_further_apart(receiver: Receiver) -> None:
    async def down(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    receiver.logs = down
    with pytest.raises(ApiError, match="server_error 503"):
        await Fetch(api_of(receiver), receiver.clock).get("logs", "/integrations/logs", {}, read_page)
    assert receiver.clock.slept == [0.25, 0.5, 1.0]
    assert receiver.observed == [("token", "200"), *[("logs", "503")] * 4]


async def test_pages_are_fetched_ahead_from_the_third_in_a_row_and_what_is_not_wanted_is_dropped() -> None:
    asked: list[int] = []

    def fetch(offset: int) -> asyncio.Future[tuple[Page, int] | None]:
        asked.append(offset)

        async def answer() -> tuple[Page, int] | None:
            await asyncio.sleep(0)
            return Page((), (), (), None), offset

        return asyncio.ensure_future(answer())

    pages = Pages(fetch)
    for i in range(6):
        found = await pages.at(i * 99, 99 if i else 0)
        assert found is not None
        assert found[0] == i * 99
    assert asked[:3] == [0, 99, 198]
    assert len(asked) > 6
    assert len(set(asked)) == len(asked)
    await pages.at(0, 0)
    assert asked[-1] == 0
    await pages.close()
