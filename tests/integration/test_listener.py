"""What hundreds of clients, good and bad, make of the real process: the numbers stay, and so do memory and the log."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from exporter.epcc import Epcc, log
from exporter.listener import CONNECTIONS_MAX
from exporter.shop import Integration
from tests.integration.process import SCRAPER, Exporter, Process

pytestmark = pytest.mark.integration

INTEGRATIONS = 400  # a page of 3 MB: no buffer of the system holds it whole
SCRAPERS = 200
SLOW = 60
SILENT = 60
BAD = 10_000
GROWN_MAX = 80_000_000  # bytes; measured 15 million
LINES_MAX = 25
NONSENSE = (
    b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9.9\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\r\n" * 50,
    b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"POST /-/reload HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"GET /nope HTTP/1.1\r\nHost: h\r\n\r\n", b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /jobs/../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
)  # fmt: skip


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Exporter]:
    epcc = Epcc()
    for i in range(INTEGRATIONS):
        epcc.add_integration(Integration(f"integration-{i:04}", f"Receiver {i}"))
    async with Exporter(tmp_path, epcc) as made:
        made.configure(max_series="100000", poll_interval="1s")
        yield made


def resident_bytes(process: Process) -> int:
    pages = int(Path(f"/proc/{process.child.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def nonsense(host: str, port: int, bad: bytes) -> None:
    """One bad request. That it is answered badly, or with an end, is all that it has a right to."""
    with contextlib.suppress(ConnectionError):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(bad)
            writer.write_eof()
            async with asyncio.timeout(20):
                while await reader.read(65536):
                    pass
        finally:
            writer.close()


async def scraped(session: aiohttp.ClientSession, url: str) -> int:
    """How many integrations are on a whole page."""
    async with session.get(f"{url}/metrics", headers=SCRAPER) as response:
        assert response.status == 200
        page = await response.text()
        return page.count("epcc_integration_attempts_total{")


async def test_two_hundred_scrapers_at_once_among_bad_clients_get_whole_pages(exporter: Exporter) -> None:
    async with exporter.running() as process:
        await exporter.ready()
        await exporter.scrape()
        before = resident_bytes(process)
        host, port = exporter.url.removeprefix("http://").split(":")
        with contextlib.ExitStack() as clients:
            for i in range(SLOW + SILENT):
                client = clients.enter_context(socket.create_connection((host, int(port))))
                if i < SLOW:
                    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")  # and reads nothing of it
                elif i % 2:
                    client.sendall(b"GET /met")
            connector = aiohttp.TCPConnector(limit=SCRAPERS)
            async with aiohttp.ClientSession(connector=connector) as session:
                pages = await asyncio.gather(*(scraped(session, exporter.url) for _ in range(SCRAPERS)))
            assert pages == [INTEGRATIONS] * SCRAPERS
            for start in range(0, BAD, 100):
                await asyncio.gather(
                    *(nonsense(host, int(port), NONSENSE[i % len(NONSENSE)]) for i in range(start, start + 100))
                )
            assert resident_bytes(process) - before < GROWN_MAX
        assert len(process.output.splitlines()) < LINES_MAX, process.output
        assert "a request was no HTTP" in process.output
        exporter.epcc.add(*[log(f"l{i}", time.time_ns(), integration_id="integration-0007") for i in range(3)])
        await exporter.sample("epcc_integration_attempts_total{integration_id=integration-0007}", 3)


async def test_more_connections_than_the_limit_are_refused_and_a_scraper_that_is_connected_goes_on(
    exporter: Exporter,
) -> None:
    async with exporter.running() as process, aiohttp.ClientSession() as session:
        await exporter.ready()
        assert await scraped(session, exporter.url) == INTEGRATIONS
        host, port = exporter.url.removeprefix("http://").split(":")
        with contextlib.ExitStack() as clients:
            for _ in range(CONNECTIONS_MAX + 50):
                clients.enter_context(socket.create_connection((host, int(port))))
            assert await scraped(session, exporter.url) == INTEGRATIONS
            assert "connections were refused" in process.output
        assert (await exporter.get("/-/healthy"))[0] == 200
