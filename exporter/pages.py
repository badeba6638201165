"""The pages for people, and their JSON: what is served under which path, with which headers, and how often it is made.

The browser gets everything from here: the policy below lets it run and load nothing else, and nothing inline.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web
from msgspec import structs

from exporter import frontpage, jobpage, logs, markup, searchpage, values
from exporter.board import Boards, Followed
from exporter.clock import Clock
from exporter.joblook import Looks
from exporter.markup import JobName
from exporter.negotiation import wants_gzip
from exporter.records import Detail
from exporter.status import Status
from exporter.store import StorageError

FOLDER: Final = Path(__file__).parent / "page"
FILES: Final[Mapping[str, str]] = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "shared.js": "text/javascript; charset=utf-8",
    "integrations.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
STATUS_SECONDS: Final = 1.0  # an answer younger than this is given again …
STATUS_SHARE: Final = 20.0  # … or than so many times what gathering it took: at most a twentieth of the loop's time
GZIP_LEVEL: Final = 5
CHOICES_MAX: Final = 2_000  # integrations in the form that asks for a job's
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class _Made:
    until: float  # monotonic
    page: bytes
    json: bytes
    page_packed: bytes
    json_packed: bytes


@dataclass(frozen=True, slots=True)
class _File:
    content_type: str
    body: bytes
    packed: bytes
    tag: str


class Pages:
    """`running`: the stores by name. `owners(store, job, integrations)`: which of these have that job; StorageError."""

    def __init__(
        self,
        boards: Boards,
        running: Callable[[], Mapping[str, Followed]],
        owners: Callable[[str, str, Sequence[str]], Awaitable[Sequence[str]]],
        clock: Clock,
    ) -> None:
        self._boards = boards
        self._running = running
        self._owners = owners
        self._clock = clock
        self._looks = Looks()
        self._made: dict[bool, _Made] = {}
        self._making = asyncio.Lock()
        self._template = (FOLDER / "index.html").read_text()
        self._files = {name: _file(name, content_type) for name, content_type in FILES.items()}
        self._allowed: Callable[[web.Request], bool] = lambda _: False

    def add_to(self, router: web.UrlDispatcher, may_show: Callable[[str], bool]) -> None:
        """`may_show`: whether answers may be shown to who asks under this `Host`, each time anew."""
        self._allowed = lambda request: may_show(request.host)
        router.add_get("/", self._front)
        router.add_get("/api/v1/status", self._status)
        router.add_get("/page/{name}", self._static)
        router.add_get("/jobs", self._search)
        router.add_get("/jobs/{store}/{integration}/{job}", self._job, allow_head=False)

    # --- the state of things

    async def _front(self, request: web.Request) -> web.Response:
        made = await self._now(texts=self._allowed(request))
        return _answer(request, made.page, made.page_packed, "text/html; charset=utf-8")

    async def _status(self, request: web.Request) -> web.Response:
        made = await self._now(texts=self._allowed(request))
        return _answer(request, made.json, made.json_packed, "application/json")

    async def _now(self, *, texts: bool) -> _Made:
        async with self._making:
            began = self._clock.monotonic()
            made = self._made.get(texts)
            if made is not None and began < made.until:
                return made
            status = self._boards.status(texts=texts)
            gathered = self._clock.monotonic()
            page, encoded, *packed = await asyncio.to_thread(self._encoded, status)
            until = self._clock.monotonic() + max(STATUS_SECONDS, STATUS_SHARE * (gathered - began))
            made = self._made[texts] = _Made(until, page, encoded, *packed)
            return made

    def _encoded(self, status: Status) -> tuple[bytes, bytes, bytes, bytes]:
        encoded = msgspec.json.encode(status)
        page = frontpage.rendered(self._template, status).encode()
        return page, encoded, gzip.compress(page, GZIP_LEVEL), gzip.compress(encoded, GZIP_LEVEL)

    async def _static(self, request: web.Request) -> web.Response:
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        if request.headers.get("If-None-Match") == file.tag:
            return web.Response(status=304, headers={"ETag": file.tag, "Cache-Control": "no-cache"})
        response = _answer(request, file.body, file.packed, file.content_type)
        response.headers.update({"ETag": file.tag, "Cache-Control": "no-cache"})
        return response

    # --- jobs

    async def _job(self, request: web.Request) -> web.Response:
        store, integration_id, job_id = (request.match_info[part] for part in ("store", "integration", "job"))
        followed = self._running().get(store)
        if followed is None or not all(map(values.identifier, (integration_id, job_id))):
            return _html(searchpage.no_such_place(self._running(), store), 404)
        name = JobName(store, integration_id, followed.name_of(integration_id), job_id)
        if not self._allowed(request):
            return _html(jobpage.forbidden(name), jobpage.STATUS_OF["forbidden"])
        look = await self._looks.look(followed.fetch, integration_id, job_id)
        look = replace(look, details=tuple(map(_masked, look.details)))
        response = _html(jobpage.rendered(name, look, self._clock.wall_ns()), jobpage.STATUS_OF[look.outcome])
        if look.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, round(look.retry_after)))
        return response

    async def _search(self, request: web.Request) -> web.Response:
        """Where one integration has the job, there; else a choice."""
        job_id = request.query.get("id", "").strip()
        if job_id and values.identifier(job_id) is None:
            return _html(searchpage.rendered("", (), self._choices("")), 404)
        place = searchpage.chosen(request.query.get("in", ""))
        if place is not None and job_id:
            return _to(markup.job_path(*place, job_id))
        owners = await self._owners_of(job_id) if job_id else []
        if len(owners) == 1:
            return _to(owners[0].path)
        return _html(searchpage.rendered(job_id, owners, self._choices(job_id)))

    async def _owners_of(self, job_id: str) -> list[JobName]:
        found = []
        for store, followed in self._running().items():
            known = followed.poller.intake.known_integrations()
            try:
                owners = await self._owners(store, job_id, known)
            except StorageError:
                owners = ()  # the poll that fails on the same disk says so; the form asks for the integration instead
            found += [JobName(store, each, followed.name_of(each), job_id) for each in owners]
        return found

    def _choices(self, job_id: str) -> list[JobName]:
        found = [
            JobName(store, integration_id, followed.name_of(integration_id), job_id)
            for store, followed in self._running().items()
            for integration_id in followed.poller.intake.known_integrations()
        ]
        return sorted(found, key=lambda each: (each.store, each.integration_name.casefold()))[:CHOICES_MAX]


def _masked(detail: Detail) -> Detail:
    """Without this process's own secrets: a receiver can answer what it was sent."""
    attempt = structs.replace(detail.attempt, error_text=logs.masked(detail.attempt.error_text))
    return structs.replace(detail, attempt=attempt, answer=logs.masked(detail.answer))


def _to(path: str) -> web.Response:
    # Relative, as every link: a proxy may put all of this below a path of its own.
    return web.Response(status=303, headers={**HEADERS, "Location": path})


def _answer(request: web.Request, body: bytes, packed: bytes, content_type: str) -> web.Response:
    headers = {**HEADERS, "Content-Type": content_type, "Vary": "Accept-Encoding"}
    if wants_gzip(", ".join(request.headers.getall("Accept-Encoding", []))):
        return web.Response(body=packed, headers={**headers, "Content-Encoding": "gzip"})
    return web.Response(body=body, headers=headers)


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(
        body=text.encode(), status=status, headers={**HEADERS, "Content-Type": "text/html; charset=utf-8"}
    )


def _file(name: str, content_type: str) -> _File:
    body = (FOLDER / name).read_bytes()
    return _File(content_type, body, gzip.compress(body, GZIP_LEVEL), f'"{hashlib.sha256(body).hexdigest()[:16]}"')
