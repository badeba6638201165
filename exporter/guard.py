"""Who is answered: authentication before every page, TLS for every new connection, as `--web.config.file` says now.

The file and all that it names are looked at with each connection and each request, as exporter-toolkit does, and read
anew when one has changed. A broken one changes nothing: the last good one stays, and a log line says so. Nothing here
falls open: without a good file at the start there is no server.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from exporter import logs
from exporter.clock import Clock
from exporter.config import ConfigError
from exporter.passwords import BusyError, Passwords
from exporter.webconfig import RateLimit, WebConfig, read
from exporter.webtls import ListeningContext, ServerContext, Tls, names_of

RETRY_SECONDS: Final = 1  # Retry-After of one who is sent away

_log = logging.getLogger(__name__)


class Guard:
    """`file` None: everybody is answered. Raises ConfigError with every problem of the file."""

    def __init__(self, file: Path | None, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._passwords = Passwords()
        self._told = logs.OncePerState()
        self.problems: tuple[str, ...] = ()  # of the file as it is now, where it has any: then `config` is an older one
        self.config = WebConfig()
        if file is not None:
            reading = read(file)
            if reading.config is None:
                raise ConfigError(reading.problems)
            self.config, self._files = reading.config, reading.files
        self._bucket = _Bucket(self.config.rate_limit, clock)

    def listening_context(self) -> ssl.SSLContext | None:
        """For a listening socket; None: without TLS, for good."""
        if self.config.context is None:
            return None
        context = ListeningContext(ssl.PROTOCOL_TLS_SERVER)
        context.current = self._context
        return context

    def _context(self) -> ServerContext | None:
        self.refresh()
        return self.config.context

    def tell(self) -> None:
        """Writes into the log how the pages are protected, if a file says so."""
        if self._file is not None:
            logs.log(_log, logging.INFO, "the web configuration was read", file=self._file, **self.config.summary())

    def refresh(self) -> None:
        """Reads anew what has changed. On the event loop, for it is quick: a few stats, milliseconds after a change."""
        if self._file is None or not self._files.changed():
            return
        reading = read(self._file)
        self._files = reading.files
        new = reading.config
        problems = reading.problems or (
            [wrong] if new is not None and (wrong := self._unfit_while_running(new)) else ()
        )
        self.problems = tuple(problems)
        if new is None or problems:
            if self._told.changed("file", self.problems):
                logs.log(_log, logging.ERROR, "the web configuration has changed and cannot be used: the last good one "
                         "stays", problem="; ".join(problems))  # fmt: skip
            return
        self._told.changed("file", ())
        if new.rate_limit != self.config.rate_limit:
            self._bucket = _Bucket(new.rate_limit, self._clock)
        self.config = new
        logs.log(_log, logging.INFO, "the web configuration was read anew", file=self._file, **new.summary())

    def _unfit_while_running(self, new: WebConfig) -> str:
        """Empty where it is fit. A file that is being written lacks its end: for that moment it may ask for nothing."""
        if lost := self.config.asks_for - new.asks_for:
            return f"{self._file}: it no longer asks for {', '.join(sorted(lost))}, wanted a restart for that"
        if "TLS" in new.asks_for - self.config.asks_for:
            return f"{self._file}: it asks for TLS, wanted a restart for that: open ports have none"
        return ""

    # --- requests

    @property
    def middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        """For an application: in front of all of its pages, those that are not there too."""

        @web.middleware
        async def guarded(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            return await self._refusal(request) or await handler(request)

        return guarded

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """For `on_response_prepare`. A header that a page sets itself stays, as with exporter-toolkit."""
        for name, value in self.config.headers.items():
            response.headers.setdefault(name, value)

    async def _refusal(self, request: web.Request) -> web.Response | None:
        self.refresh()
        config = self.config
        if not self._bucket.take():
            return _busy(429, "too many requests\n")
        if config.tls is not None and (wrong := _wrong_certificate(request, config.tls)) is not None:
            self._tell(request, wrong)
            response = _plain(403, f"forbidden: {wrong}\n")
            response.force_close()
            return response
        if not config.users:
            return None
        try:
            refused = await self._wrong_password(request)
        except BusyError:
            return _busy(503, "too many passwords are being verified\n")
        if not refused:
            return None
        response = _plain(401, "unauthorized\n")
        response.headers["WWW-Authenticate"] = "Basic"
        return response

    async def _wrong_password(self, request: web.Request) -> bool:
        """Raises BusyError."""
        given = request.headers.get("Authorization")
        if given is None:
            return True  # a browser's first request: nothing to tell
        user_and_password = _credentials(given)
        right = user_and_password is not None and await self._passwords.right(self.config.users, *user_and_password)
        self._tell(request, None if right else "wrong user or password")
        return not right

    def _tell(self, request: web.Request, wrong: str | None) -> None:
        """Once per address and change. Not the user's name: people write passwords there."""
        if self._told.changed(("client", request.remote), wrong) and wrong is not None:
            logs.log(_log, logging.WARNING, "a client was refused", client=request.remote, problem=wrong)

    # --- for pages

    def may_show_answers(self, bound: Sequence[tuple[str, int]], asked_as: str) -> bool:
        """Whether receivers' answers may be shown, which can hold anything: only to people who have shown who they are,
        or on this machine. `bound` are the numeric addresses that the server listens on; `asked_as` is the request's
        `Host`: a page from elsewhere whose name was made to lead here does not ask for this machine."""
        self.refresh()
        if self.config.knows_who_asks:
            return True
        return bool(bound) and all(_is_loopback(host) for host, _ in bound) and _names_this_machine(asked_as)


class _Bucket:
    """exporter-toolkit's rate limit: a bucket of tokens for all clients together."""

    def __init__(self, limit: RateLimit | None, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._tokens = float(limit.burst) if limit is not None else 0.0
        self._at = clock.monotonic()

    def take(self) -> bool:
        if self._limit is None:
            return True
        now = self._clock.monotonic()
        self._tokens = min(self._limit.burst, self._tokens + (now - self._at) / self._limit.interval_seconds)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _wrong_certificate(request: web.Request, tls: Tls) -> str | None:
    """What OpenSSL could not know when the connection was made, or does not look at."""
    connection = request.get_extra_info("ssl_object")
    if connection is None or connection.context.trust != tls.trust:
        return "the client certificates that are trusted have changed since this connection was made"
    if tls.client_allowed_sans is not None:
        names = names_of(request.get_extra_info("peercert") or {})
        if names.isdisjoint(tls.client_allowed_sans):
            return "none of the client certificate's names is in client_allowed_sans"
    return None


def _credentials(header: str) -> tuple[bytes, bytes] | None:
    """User and password of an `Authorization` header (RFC 7617); None: it holds none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = decoded.partition(b":")
    return (user, password) if colon else None


def _names_this_machine(asked_as: str) -> bool:
    try:
        name = urlsplit(f"//{asked_as}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(host: str) -> bool:
    """A name is none: where it leads is not ours to say."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _plain(status: int, text: str) -> web.Response:
    return web.Response(text=text, status=status, headers={"X-Content-Type-Options": "nosniff"})


def _busy(status: int, text: str) -> web.Response:
    response = _plain(status, text)
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response
