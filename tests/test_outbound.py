"""How a store's API is reached: whose certificates are believed, through which proxy, and what of it is never said."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from exporter import logs
from exporter.api import Api, ApiError, Budget
from exporter.app import session_of
from exporter.clock import Clock
from exporter.config import ConfigError, StoreConfig, load
from exporter.outbound import HEADERS_MAX, LINE_BYTES_MAX
from tests.certificates import write_ca, write_pair

PASSWORD = "pa%2Fss-of-the-proxy"
PLAIN = "pa/ss-of-the-proxy"


def written(folder: Path, url: str, *lines: str) -> StoreConfig:
    """The store of a configuration file, as `load` reads it. Raises ConfigError."""
    path = folder / "config.yaml"
    more = "".join(f"    {line}\n" for line in lines)
    path.write_text(
        f"stores:\n  - name: acme\n    api_url: {url}\n    client_id: me\n    client_secret: a-secret\n{more}"
    )
    (store,) = load(path, {}).stores
    return store


def problems(folder: Path, *lines: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        written(folder, "https://api.example", *lines)
    return [each.removeprefix(f"{folder}/config.yaml:") for each in refused.value.problems]


class Epcc:
    """A server with a token and an empty list; `headers` are added to that."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        application = web.Application()
        application.router.add_post("/oauth/access_token", self._token)
        application.router.add_get("/v2/integrations/logs", self._logs)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self.runner.addresses[0][1]

    async def _token(self, _: web.Request) -> web.Response:
        return web.json_response({"access_token": "t", "expires_in": 3600})

    async def _logs(self, _: web.Request) -> web.Response:
        return web.json_response({"data": []}, headers=self.headers)


class Proxy:
    """An HTTP proxy for CONNECT alone. `seen`: the request lines, and what was sent as credentials."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.answer = "200 Connection established"
        self.server: asyncio.Server | None = None
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        credentials = next(
            (line.partition(": ")[2] for line in head if line.lower().startswith("proxy-authorization")), ""
        )
        self.seen.append((head[0], credentials))
        writer.write(f"HTTP/1.1 {self.answer}\r\n\r\n".encode())
        if not self.answer.startswith("200"):
            writer.close()
            return
        host, port = head[0].split()[1].split(":")
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        both = asyncio.create_task(self._pipe(reader, to_writer)), asyncio.create_task(self._pipe(to_reader, writer))
        await asyncio.wait(both)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass  # the other end has gone, and so this one goes
        finally:
            writer.close()


@pytest.fixture
async def epcc() -> AsyncIterator[Epcc]:
    made = Epcc()
    yield made
    if made.runner is not None:
        await made.runner.cleanup()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    made = Proxy()
    await made.start()
    yield made
    assert made.server is not None
    made.server.close()


async def asked(store: StoreConfig) -> str:
    """What came of one question: `answered`, or the reason of its failure."""
    clock = Clock()
    async with session_of(store) as session:
        api = Api(store, session, clock, lambda endpoint, code, seconds: None, Budget(100, clock))
        try:
            await api.get("logs", "/integrations/logs", {})
        except ApiError as error:
            return error.reason
    return "answered"


def served(folder: Path, ca: trustme.CA, *names: str) -> ssl.SSLContext:
    write_pair(folder, ca, *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    return context


async def test_the_certificate_is_verified_unless_its_ca_is_named(tmp_path: Path, epcc: Epcc) -> None:
    ca = trustme.CA()
    await epcc.start(served(tmp_path, ca))
    write_ca(tmp_path / "ca.pem", ca)
    write_ca(tmp_path / "other.pem", trustme.CA())
    url = f"https://127.0.0.1:{epcc.port}"
    assert await asked(written(tmp_path, url)) == "tls"
    assert await asked(written(tmp_path, url, "ca_file: other.pem")) == "tls"
    assert await asked(written(tmp_path, url, "ca_file: ca.pem")) == "answered"


async def test_with_a_ca_that_is_named_the_systems_are_not_trusted(
    tmp_path: Path, epcc: Epcc, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = trustme.CA()
    await epcc.start(served(tmp_path, ca))
    write_ca(tmp_path / "system.pem", ca)
    write_ca(tmp_path / "other.pem", trustme.CA())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    assert ssl.create_default_context().get_ca_certs() != []
    assert await asked(written(tmp_path, f"https://127.0.0.1:{epcc.port}", "ca_file: other.pem")) == "tls"


async def test_a_certificate_of_the_right_ca_for_another_host_is_refused(tmp_path: Path, epcc: Epcc) -> None:
    ca = trustme.CA()
    await epcc.start(served(tmp_path, ca, "elsewhere.example"))
    write_ca(tmp_path / "ca.pem", ca)
    assert await asked(written(tmp_path, f"https://127.0.0.1:{epcc.port}", "ca_file: ca.pem")) == "tls"


def test_a_ca_that_changes_is_another_configuration(tmp_path: Path) -> None:
    write_ca(tmp_path / "ca.pem", trustme.CA())
    before = written(tmp_path, "https://api.example", "ca_file: ca.pem")
    assert written(tmp_path, "https://api.example", "ca_file: ca.pem") == before
    write_ca(tmp_path / "ca.pem", trustme.CA())
    assert written(tmp_path, "https://api.example", "ca_file: ca.pem") != before


def test_what_is_no_ca_is_refused_before_the_start(tmp_path: Path) -> None:
    wanted = "wanted the path of a file with the API's CA in PEM"
    assert problems(tmp_path, "ca_file: nowhere.pem") == [
        f"6: stores[0].ca_file: 'nowhere.pem' cannot be read (No such file or directory), {wanted}"
    ]
    (tmp_path / "ca.pem").write_text("no certificate")
    assert problems(tmp_path, "ca_file: ca.pem") == [
        f"6: stores[0].ca_file: 'ca.pem' has no certificate in PEM that can be read, {wanted}"
    ]
    assert problems(tmp_path, 'ca_file: ""') == [f"6: stores[0].ca_file: empty, {wanted}"]


async def test_a_proxy_is_asked_for_the_way_and_reads_nothing(tmp_path: Path, epcc: Epcc, proxy: Proxy) -> None:
    ca = trustme.CA()
    await epcc.start(served(tmp_path, ca))
    write_ca(tmp_path / "ca.pem", ca)
    way = f"proxy_url: http://me:{PASSWORD}@127.0.0.1:{proxy.port}"
    store = written(tmp_path, f"https://127.0.0.1:{epcc.port}", "ca_file: ca.pem", way)
    assert await asked(store) == "answered"
    credentials = "Basic " + base64.b64encode(f"me:{PLAIN}".encode()).decode()
    assert proxy.seen == [(f"CONNECT 127.0.0.1:{epcc.port} HTTP/1.1", credentials)]


@pytest.mark.parametrize("answer", ["407 Proxy Authentication Required", "502 Bad Gateway", "404 Not Found"])
async def test_a_proxy_that_refuses_is_a_failing_connection_and_not_epccs_answer(
    tmp_path: Path, proxy: Proxy, answer: str
) -> None:
    proxy.answer = answer
    store = written(tmp_path, "https://api.example", f"proxy_url: http://127.0.0.1:{proxy.port}")
    assert await asked(store) == "connection"


async def test_a_proxy_of_the_environment_is_not_taken(
    tmp_path: Path, epcc: Epcc, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    await epcc.start()
    assert await asked(written(tmp_path, f"http://127.0.0.1:{epcc.port}")) == "answered"
    assert proxy.seen == []


def test_a_proxys_password_is_in_no_repr_problem_or_log_line(tmp_path: Path) -> None:
    store = written(tmp_path, "https://api.example", f"proxy_url: http://me:{PASSWORD}@proxy.example:3128")
    assert store.proxy_url is not None
    line = logs.Logfmt().format(logging.makeLogRecord({"msg": f"{store!r} {store.proxy_url.reveal()} {PLAIN}"}))
    for secret in (PASSWORD, PLAIN):
        assert secret not in line
    for wrong in (
        f"https://me:{PASSWORD}@proxy.example",
        f"http://me:{PLAIN}@proxy.example",
        f"http://me:{PASSWORD}@/",
    ):
        (problem,) = problems(tmp_path, f"proxy_url: {wrong}")
        assert problem.startswith("6: stores[0].proxy_url: a value that is ")
        assert "ss-of-the-proxy" not in problem


@pytest.mark.parametrize(
    "headers",
    [{"X-Long": "x" * (LINE_BYTES_MAX + 1)}, {f"X-{i}": "x" for i in range(HEADERS_MAX + 1)}],
    ids=["one that is long", "many"],
)
async def test_an_answer_with_more_headers_than_anybody_needs_is_refused(
    tmp_path: Path, epcc: Epcc, headers: dict[str, str]
) -> None:
    await epcc.start()
    store = written(tmp_path, f"http://127.0.0.1:{epcc.port}")
    assert await asked(store) == "answered"
    epcc.headers = headers
    assert await asked(store) == "invalid_response"


async def test_no_cookie_is_kept_and_no_body_is_opened_beyond_our_own_limit(tmp_path: Path) -> None:
    async with session_of(written(tmp_path, "https://api.example")) as session:
        assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
        assert not session.auto_decompress
        assert not session.trust_env
