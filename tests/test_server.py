"""Our own pages, asked for over a real socket."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from exporter.exposition import Exposition
from exporter.listener import SHUTDOWN_SECONDS
from exporter.metrics import OwnMetrics, Shown
from exporter.server import Server
from exporter.tally import Tally


class Site:
    def __init__(self) -> None:
        self.exposition = Exposition(OwnMetrics())
        self.unready: list[str] = []
        self.problems: list[str] = []
        self.scrapes: list[tuple[tuple[str, str], bool, int]] = []
        self.server = Server(
            exposition=self.exposition,
            telemetry_path="/metrics",
            unready=lambda: self.unready,
            reload=self._reload,
            scraped=lambda *scrape: self.scrapes.append(scrape),
        )
        self.session = aiohttp.ClientSession()
        self.url = ""

    async def _reload(self) -> list[str]:
        return self.problems

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
        async with self.session.request(method, self.url + path, headers=headers) as response:
            return response.status, await response.text(), response.headers


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    ((host, port),) = await made.server.start([("127.0.0.1", 0)])
    made.url = f"http://{host}:{port}"
    yield made
    await made.session.close()
    await made.server.stop()


async def test_metrics_are_served_in_the_format_and_encoding_that_is_asked_for(site: Site) -> None:
    site.exposition.publish("acme", {"int-1": Shown(Tally(), None)})
    status, text, headers = await site.get("/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'epcc_integration_attempts_total{integration_id="int-1",store="acme"} 0.0' in text
    _, text, headers = await site.get(
        "/metrics", **{"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"}
    )
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert (headers["Content-Encoding"], headers["Vary"]) == ("gzip", "Accept, Accept-Encoding")
    assert text.endswith("# EOF\n")
    _, _, headers = await site.get("/metrics", **{"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers


async def test_a_scraper_is_told_from_another_client_by_its_header(site: Site) -> None:
    version = site.exposition.publish("acme", {"int-1": Shown(Tally(), None)})
    await site.get("/metrics", **{"X-Prometheus-Scrape-Timeout-Seconds": "10", "User-Agent": "Prometheus/3.5"})
    await site.get("/metrics", **{"User-Agent": "curl/8"})
    assert site.scrapes == [(("127.0.0.1", "Prometheus/3.5"), True, version), (("127.0.0.1", "curl/8"), False, version)]


async def test_a_head_request_is_answered_and_is_no_scrape(site: Site) -> None:
    status, text, _ = await site.get("/metrics", "HEAD")
    assert (status, text, site.scrapes) == (200, "", [])


async def test_ready_is_503_and_names_the_stores_until_their_first_poll_ended(site: Site) -> None:
    site.unready = ["acme", "other"]
    assert (await site.get("/-/ready"))[:2] == (503, "not ready: first poll under way: acme, other\n")
    site.unready = []
    assert (await site.get("/-/ready"))[:2] == (200, "ready\n")
    assert (await site.get("/-/healthy"))[:2] == (200, "healthy\n")


async def test_a_reload_is_a_post_and_answers_with_the_problems(site: Site) -> None:
    assert (await site.get("/-/reload"))[0] == 405
    assert (await site.get("/-/reload", "POST"))[:2] == (200, "reloaded\n")
    site.problems = ["config.yaml:3: stores[0].name: missing"]
    status, text, _ = await site.get("/-/reload", "POST")
    assert (status, text.splitlines()) == (
        500, ["not reloaded: of a file with a problem the last good one stays", *site.problems]
    )  # fmt: skip


async def test_an_unknown_page_is_404(site: Site) -> None:
    assert (await site.get("/nope"))[0] == 404


async def test_a_taken_port_is_an_error(site: Site) -> None:
    second = Site()
    with pytest.raises(OSError, match="address already in use"):
        await second.server.start([("127.0.0.1", int(site.url.rpartition(":")[2]))])
    await second.session.close()


async def begun(site: Site, integrations: int = 4000) -> socket.socket:
    """A client that reads the head of a page that no buffer holds whole, and then no more."""
    site.exposition.publish("acme", {f"int-{i}": Shown(Tally(), None) for i in range(integrations)})
    host, port = site.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.get_running_loop().sock_recv(client, 64)
    assert head.startswith(b"HTTP/1.1 200 OK")
    return client


async def test_a_reader_who_leaves_in_the_middle_is_no_error_and_has_read_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    client = await begun(site)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves with a reset
    client.close()
    assert (await site.get("/metrics"))[0] == 200
    assert [client for (_, client), _, _ in site.scrapes if not client] == []
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_reader_who_stops_reading_holds_up_nobody_and_has_read_nothing(site: Site) -> None:
    with await begun(site):
        assert (await site.get("/-/healthy"))[0] == 200
        assert (await site.get("/metrics"))[0] == 200
        assert len(site.scrapes) == 1


async def test_the_end_waits_no_longer_for_open_requests_than_it_promises(site: Site) -> None:
    with await begun(site):
        clock = asyncio.get_running_loop().time
        began = clock()
        await site.server.stop()
        assert clock() - began < SHUTDOWN_SECONDS * 1.5
