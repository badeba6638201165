"""What we serve: metrics, health, reload, and `pages` for people. Neither metrics nor health ask EPCC for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from exporter.clock import Clock
from exporter.exposition import Exposition
from exporter.guard import Guard
from exporter.listener import Listener
from exporter.negotiation import CONTENT_TYPES, wanted_format, wants_gzip
from exporter.pages import Pages

WRITE_BYTES: Final = 256 * 1024  # handed to a connection at once
SCRAPER_HEADER: Final = "X-Prometheus-Scrape-Timeout-Seconds"


class Server:
    """`scraped(client, is_scraper, version)` is called when a page of metrics was written whole.

    `guard` None: the pages are everybody's. `pages` None: none for people.
    """

    def __init__(
        self,
        *,
        exposition: Exposition,
        telemetry_path: str,
        unready: Callable[[], Sequence[str]],
        reload: Callable[[], Awaitable[Sequence[str]]],
        scraped: Callable[[tuple[str, str], bool, int], None],
        pages: Pages | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._exposition = exposition
        self._telemetry_path = telemetry_path
        self._unready = unready
        self._reload = reload
        self._scraped = scraped
        self._pages = pages
        self._guard = guard if guard is not None else Guard(None, Clock())
        self._bound: list[tuple[str, int]] = []
        self._listener: Listener | None = None

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard.middleware])
        application.on_response_prepare.append(self._guard.add_headers)
        application.router.add_get(self._telemetry_path, self._metrics)
        if self._pages is not None:
            self._pages.add_to(application.router, self.may_show_answers)
        application.router.add_get("/-/healthy", self._healthy)
        application.router.add_get("/-/ready", self._ready)
        application.router.add_post("/-/reload", self._reload_now)
        return application

    async def start(self, addresses: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        """Listens; returns what was bound. Raises OSError where an address is taken."""
        self._guard.tell()
        self._listener = Listener(self.application(), self._guard.listening_context(), Clock())
        try:
            await self._listener.start(addresses)
        except BaseException:
            await self.stop()
            raise
        self._bound = self._listener.addresses
        return self._bound

    def may_show_answers(self, asked_as: str) -> bool:
        """Whether a page may show what receivers answered; to be asked anew for each, with its request's `Host`."""
        return self._guard.may_show_answers(self._bound, asked_as)

    async def stop(self) -> None:
        if self._listener is not None:
            listener, self._listener = self._listener, None
            await listener.stop()

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
        lines = ("not reloaded: of a file with a problem the last good one stays", *problems)
        return _plain("".join(f"{line}\n" for line in lines), status=500)


async def _write(response: web.StreamResponse, pieces: Sequence[bytes]) -> None:
    """Slice by slice, each when the one before has gone: a large page is neither copied nor written at one go."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), WRITE_BYTES):
            await response.write(view[start : start + WRITE_BYTES])


def _plain(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, headers={"X-Content-Type-Options": "nosniff"})
