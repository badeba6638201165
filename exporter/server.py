"""Our own pages: metrics, health, reload, and a plain state of things. No page asks EPCC for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

from aiohttp import web

from exporter import __version__
from exporter.clock import Clock
from exporter.exposition import Exposition
from exporter.guard import Guard
from exporter.negotiation import CONTENT_TYPES, wanted_format, wants_gzip

SHUTDOWN_SECONDS: Final = 2.0  # for answers under way
WRITE_BYTES: Final = 256 * 1024  # handed to a connection at once
SCRAPER_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"
INTEGRATIONS_SHOWN_MAX: Final = 1_000  # on the plain page, per store; the rest is named as a number
_SAFE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class IntegrationStatus:
    name: str
    id: str
    attempts: int
    failed: int
    consecutive_failures: int
    last_attempt_ns: int | None
    enabled: bool | None  # None: EPCC does not list it


@dataclass(frozen=True, slots=True)
class StoreStatus:
    name: str
    state: str  # starting, polled or failing
    last_poll_ns: int | None
    complete_through_ns: int | None
    last_error: str | None
    integrations: Sequence[IntegrationStatus]


class Server:
    """`scraped(client, is_scraper, version)` is called when a page of metrics was written whole.

    `guard` None: the pages are everybody's.
    """

    def __init__(
        self,
        *,
        exposition: Exposition,
        telemetry_path: str,
        unready: Callable[[], Sequence[str]],
        reload: Callable[[], Awaitable[Sequence[str]]],
        status: Callable[[], Sequence[StoreStatus]],
        scraped: Callable[[tuple[str, str], bool, int], None],
        guard: Guard | None = None,
    ) -> None:
        self._exposition = exposition
        self._telemetry_path = telemetry_path
        self._unready = unready
        self._reload = reload
        self._status = status
        self._scraped = scraped
        self._guard = guard if guard is not None else Guard(None, Clock())
        self._bound: list[tuple[str, int]] = []
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard.middleware])
        application.on_response_prepare.append(self._guard.add_headers)
        application.router.add_get(self._telemetry_path, self._metrics)
        if self._telemetry_path != "/":
            application.router.add_get("/", self._landing)
        application.router.add_get("/-/healthy", self._healthy)
        application.router.add_get("/-/ready", self._ready)
        application.router.add_post("/-/reload", self._reload_now)
        return application

    async def start(self, addresses: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Listens; returns what was bound. Raises OSError where an address is taken."""
        self._guard.tell()
        # The library waits twice as long as it is told: for the answer, and for the request that it then cancels.
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS / 2)
        await self._runner.setup()
        try:
            for host, port in addresses:
                await web.TCPSite(self._runner, host or None, port, ssl_context=self._guard.listening_context()).start()
        except BaseException:
            await self.stop()
            raise
        self._bound = [address[:2] for address in self._runner.addresses]
        return self._bound

    def may_show_answers(self) -> bool:
        """Whether a page may show what receivers answered; to be asked anew for each."""
        return self._guard.may_show_answers(self._bound)

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        form = wanted_format(", ".join(request.headers.getall("Accept", [])))
        gzip = wants_gzip(", ".join(request.headers.getall("Accept-Encoding", [])))
        page = await self._exposition.rendered(form, gzip=gzip)
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPES[form], "Vary": "Accept, Accept-Encoding"})
        response.content_length = sum(map(len, page.pieces))
        if gzip:
            response.headers["Content-Encoding"] = "gzip"
        try:
            await response.prepare(request)
            if request.method == "GET":
                await _write(response, page.pieces)
            await response.write_eof()
        except ConnectionError:
            # The reader has gone, as readers do: no fault of ours, and nothing that it has read.
            return response
        if request.method == "GET":
            client = (request.remote or "", request.headers.get("User-Agent", "")[:200])
            self._scraped(client, SCRAPER_HEADER in request.headers, page.version)
        return response

    async def _healthy(self, request: web.Request) -> web.Response:
        return _plain("healthy\n")

    async def _ready(self, request: web.Request) -> web.Response:
        waiting = self._unready()
        if not waiting:
            return _plain("ready\n")
        return _plain("not ready: first poll under way: " + ", ".join(waiting) + "\n", status=503)

    async def _reload_now(self, request: web.Request) -> web.Response:
        # A client that leaves must not leave a reload half done.
        problems = await asyncio.shield(asyncio.ensure_future(self._reload()))
        if not problems:
            return _plain("reloaded\n")
        return _plain("not reloaded, the last good configuration stays:\n" + "\n".join(problems) + "\n", status=500)

    async def _landing(self, request: web.Request) -> web.Response:
        stores = "".join(_store(store) for store in self._status())
        page = (
            "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>epcc-exporter</title>"
            "<meta name=viewport content='width=device-width'><h1>epcc-exporter</h1>"
            f"<p>Version {escape(__version__)}. Metrics for Prometheus are at "
            f'<a href="{escape(self._telemetry_path)}">{escape(self._telemetry_path)}</a>; '
            "health at <a href=/-/healthy>/-/healthy</a> and <a href=/-/ready>/-/ready</a>.</p>"
            f"{stores}</html>"
        )
        return web.Response(text=page, content_type="text/html", headers=_SAFE_HEADERS)


async def _write(response: web.StreamResponse, pieces: Sequence[bytes]) -> None:
    """Slice by slice, each when the one before has gone: a large page is neither copied nor written at one go."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), WRITE_BYTES):
            await response.write(view[start : start + WRITE_BYTES])


def _plain(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, headers={"X-Content-Type-Options": "nosniff"})


def _store(store: StoreStatus) -> str:
    words = {
        "starting": "The first poll is under way.",
        "polled": "The last poll ended well.",
        "failing": f"The last poll failed: {store.last_error}.",
    }[store.state]
    worst_first = sorted(store.integrations, key=lambda each: (-each.consecutive_failures, each.name, each.id))
    rows = "".join(_integration(each) for each in worst_first[:INTEGRATIONS_SHOWN_MAX])
    more = len(store.integrations) - INTEGRATIONS_SHOWN_MAX
    rest = f"<p>And {more} integrations more: see the metrics.</p>" if more > 0 else ""
    table = (
        "<table border=1 cellpadding=4><tr><th>Integration<th>State<th>Attempts<th>Failed<th>Last attempt (UTC)</tr>"
        f"{rows}</table>{rest}"
        if rows
        else "<p>No integration is known yet.</p>"
    )
    polled = f" That was at {_time(store.last_poll_ns)} UTC." if store.last_poll_ns is not None else ""
    through = store.complete_through_ns
    counted = (
        "No walk through the logs has been completed yet."
        if through is None
        else f"Every log created before {_time(through)} UTC and visible by then has been counted."
    )
    return f"<h2>Store {escape(store.name)}</h2><p>{escape(words)}{polled} {counted}</p>{table}"


def _integration(each: IntegrationStatus) -> str:
    if each.enabled is False:
        state = "disabled"
    elif each.consecutive_failures:
        state = f"FAILING: {each.consecutive_failures} failures in a row"
    elif each.last_attempt_ns is None:
        state = "no attempt seen yet"
    else:
        state = "the last attempt succeeded"
    return (
        f"<tr><td>{escape(each.name or each.id)}<td>{state}<td>{each.attempts}<td>{each.failed}"
        f"<td>{_time(each.last_attempt_ns)}</tr>"
    )


def _time(at_ns: int | None) -> str:
    if at_ns is None:
        return "never"
    return datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
