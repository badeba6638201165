"""Clients that come in numbers, keep silent, send nonsense or do not read: over real sockets, on a clock that is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from exporter import listener
from exporter.clock import Clock
from exporter.listener import ANSWER_SECONDS, TELL_SECONDS, Listener

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = 20_000_000  # bytes, more than any socket buffers here


class ToldClock(Clock):
    """Stands until it is told; whoever sleeps on it goes on at once, a turn later."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0 if seconds == listener.NO_FILES_SECONDS else 3600)


class Site:
    """A listener on 127.0.0.1 with a page that is well, one that is large and one that is broken."""

    def __init__(self) -> None:
        self.clock = ToldClock()
        self.listener: Listener | None = None
        self.port = 0
        self._clients: list[asyncio.StreamWriter] = []

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        application = web.Application()
        application.router.add_get("/", self._well)
        application.router.add_get("/large", self._large)
        application.router.add_get("/broken", self._broken)
        self.listener = Listener(application, context, self.clock)
        await self.listener.start([("127.0.0.1", 0)])
        ((_, self.port),) = self.listener.addresses

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._clients.append(writer)
        return reader, writer

    async def stop(self) -> None:
        for client in self._clients:
            client.close()
            with contextlib.suppress(OSError):
                await client.wait_closed()
        if self.listener is not None:
            await self.listener.stop()

    async def get(self, path: str = "/") -> int:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as response:
            await response.read()
            return response.status

    def look(self) -> None:
        assert self.listener is not None
        self.listener.look()

    async def _well(self, _: web.Request) -> web.Response:
        return web.Response(text="well")

    async def _large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(LARGE // 100_000):
                await response.write(b"x" * 100_000)
        return response

    async def _broken(self, _: web.Request) -> web.Response:
        raise ValueError("an error of ours")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    await made.stop()


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection; False: not within a second."""
    try:
        async with asyncio.timeout(1):
            while await reader.read(65536):
                pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, Any]]:
    return [
        (each.getMessage(), each.__dict__["fields"]["times"]) for each in caplog.records if each.levelno > logging.INFO
    ]


async def test_past_the_limit_of_connections_new_ones_are_refused_until_one_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 5)
    await site.start()
    silent = [await site.connect() for _ in range(5)]
    for _ in range(20):
        reader, _ = await site.connect()
        assert await ends(reader)
    assert warnings(caplog) == [("connections were refused", 1)]
    silent[0][1].close()
    await silent[0][1].wait_closed()
    await asyncio.sleep(0.05)  # the other end hears of it
    assert await site.get() == 200
    site.clock.now += TELL_SECONDS
    extra = [await site.connect() for _ in range(2)]
    assert await ends(extra[1][0])
    assert warnings(caplog)[1:] == [("connections were refused", 20)]


async def test_a_client_that_does_not_read_its_answer_is_ended_and_another_goes_on(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start()
    lazy, slow = socket.create_connection(("127.0.0.1", site.port)), await site.connect()
    with lazy:
        lazy.sendall(GET.replace(b"/ ", b"/large "))
        for _ in range(3):
            slow[1].write(GET.replace(b"/ ", b"/large "))
            await asyncio.sleep(0.1)
            site.look()
            assert await read_all(slow[0]) > LARGE
            site.look()  # now there is nothing that waits for it
            site.clock.now += ANSWER_SECONDS / 2
        assert warnings(caplog) == [("a client did not read its answer", 1)]
        lazy.settimeout(5)
        assert 0 < received(lazy) < LARGE
    assert await site.get() == 200


def received(client: socket.socket) -> int:
    """Bytes until the other side ends the connection."""
    read = 0
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(1_000_000):
            read += len(chunk)
    return read


async def read_all(reader: asyncio.StreamReader) -> int:
    """Bytes of a chunked answer."""
    read = len(await reader.readuntil(b"\r\n\r\n"))
    while True:
        size = int(await reader.readline(), 16)
        read += len(await reader.readexactly(size + 2))
        if size == 0:
            return read


async def test_a_thousand_requests_that_are_no_http_are_a_line_a_minute(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start()
    for i in range(1000):
        reader, writer = await site.connect()
        writer.write((b"\x16\x03\x01\x02", b"GET / HTTP/9.9.9\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n")[i % 3])
        assert (await reader.read(20)).startswith(b"HTTP/1.") or i % 3 == 0
        writer.close()
    assert warnings(caplog) == [("a request was no HTTP", 1)]
    site.clock.now += TELL_SECONDS
    reader, writer = await site.connect()
    writer.write(b"GET / HTTP/9.9.9\r\n\r\n")
    assert await ends(reader)
    (_, (message, times)) = warnings(caplog)
    assert message == "a request was no HTTP"
    assert times > 600  # what begins like TLS is expected, and told at debug alone


async def test_a_page_of_ours_that_breaks_is_told_with_its_trace_once_a_minute(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start()
    for _ in range(50):
        assert await site.get("/broken") == 500
    (record,) = [each for each in caplog.records if each.levelno > logging.INFO]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    site.clock.now += TELL_SECONDS
    await site.get("/broken")
    assert [times for _, times in warnings(caplog)] == [1, 50]


async def test_a_client_that_never_ends_its_request_is_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "IDLE_SECONDS", 0.2)
    await site.start()
    for opening in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: local", GET):
        reader, writer = await site.connect()
        writer.write(opening)
        assert await ends(reader), opening
        writer.close()


async def test_a_client_that_never_shakes_hands_is_ended_and_counts_while_it_does_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 0.3)
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 3)
    await site.start(context)
    silent = [await site.connect() for _ in range(3)]
    refused = await site.connect()
    began = asyncio.get_running_loop().time()
    assert await ends(refused[0])
    assert asyncio.get_running_loop().time() - began < 0.2
    for reader, _ in silent:
        assert await ends(reader)


async def test_an_accept_without_files_is_told_and_tried_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(errno.EMFILE, "no file"), ConnectionAbortedError()]

    async def failing(listening: socket.socket) -> Any:
        if failures:
            raise failures.pop(0)
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", failing)
    await site.start()
    assert await site.get() == 200
    assert warnings(caplog) == [("no connection can be accepted", 1)]
    assert site.clock.slept.count(listener.NO_FILES_SECONDS) == 1


async def test_a_connection_that_ended_is_forgotten(site: Site) -> None:
    await site.start()
    for _ in range(10):
        assert await site.get() == 200
    await asyncio.sleep(0.05)
    site.look()
    assert site.listener is not None
    assert site.listener._open == {}


async def test_a_name_of_none_is_every_address_of_this_machine_in_both_families(site: Site) -> None:
    await site.start()
    everywhere = Listener(web.Application(), None, Clock())
    await everywhere.start([("", 0)])
    try:
        assert {host for host, _ in everywhere.addresses} >= {"0.0.0.0"}
        assert {host for host, _ in everywhere.addresses} <= {"0.0.0.0", "::"}
    finally:
        await everywhere.stop()
