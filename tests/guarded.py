"""A server behind a web configuration, on a real socket, and how a client asks it."""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
import trustme

from exporter.board import Boards
from exporter.clock import Clock
from exporter.exposition import Exposition
from exporter.guard import Guard
from exporter.metrics import OwnMetrics
from exporter.pages import Pages
from exporter.server import Server
from tests.certificates import client, replace, write_ca, write_pair

# One salt for all processes: the hash stands in names of tests, which each worker must find the same.
HASHED = bcrypt.hashpw(b"secret", b"$2b$04$epccexporterepccexporu").decode()
USERS = f"basic_auth_users:\n  alice: {HASHED}\n"
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server-key.pem\n"
CLIENTS = f"{TLS}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
REFUSED = (aiohttp.ClientError, ssl.SSLError, ConnectionError)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ALICE = basic("alice", "secret")


class StandingClock(Clock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def no_pages() -> Pages:
    """Of an exporter without stores."""

    async def owners(*_: object) -> list[str]:
        return []

    boards = Boards(dict, Clock(), version="0", metrics="/metrics", grafana=None)
    return Pages(boards, dict, owners, Clock())


class Site:
    """A server on 127.0.0.1 behind `web-config.yml` in a folder with a certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "web-config.yml"
        self.ca = trustme.CA()
        self.clock = StandingClock()
        self.reloads = 0
        self.server: Any = None
        self.guard: Any = None
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        write_pair(folder, self.ca)
        write_ca(folder / "ca.pem", self.ca)
        write_pair(folder, self.ca, "scraper.example", stem="scraper")

    async def _reload(self) -> list[str]:
        self.reloads += 1
        return []

    async def start(self, content: str | None) -> None:
        if content is not None:
            self.file.write_text(content)
        self.guard = Guard(self.file if content is not None else None, self.clock)
        self.server = Server(
            exposition=Exposition(OwnMetrics()), telemetry_path="/metrics", unready=list, reload=self._reload,
            scraped=lambda *scrape: None, guard=self.guard, pages=no_pages(),
        )  # fmt: skip
        ((_, self.port),) = await self.server.start([("127.0.0.1", 0)])
        if content is not None and "tls_server_config" in content:
            self.tls = client(self.ca)

    def write(self, content: str) -> None:
        replace(self.file, content)

    async def get(self, path: str = "/-/healthy", method: str = "GET", **headers: str) -> tuple[int, str, Any]:
        """On a connection of its own."""
        async with aiohttp.ClientSession() as session:
            return await self.on(session, path, method, **headers)

    async def on(
        self, session: aiohttp.ClientSession, path: str = "/-/healthy", method: str = "GET", **headers: str
    ) -> tuple[int, str, Any]:
        url = f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}{path}"
        async with session.request(method, url, headers=headers, ssl=self.tls or True) as response:
            return response.status, await response.text(), response.headers

    def scraper(self, stem: str = "scraper") -> ssl.SSLContext:
        return client(self.ca, pair=self.folder / stem)


@pytest.fixture(name="site")
async def a_site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    if made.server is not None:
        await made.server.stop()


def problems_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The field of each warning and error."""
    return [each.__dict__["fields"]["problem"] for each in caplog.records if each.levelno >= logging.WARNING]
