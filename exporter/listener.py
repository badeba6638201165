"""Our side of the connections: how many there are, how long one may be idle, shake hands or take an answer.

aiohttp bounds what a request may be (8 KiB a line, 128 headers) and closes a connection on which none comes. It does
not bound how many connections there are, nor how long one may take to read its answer: both are held here, so that no
client, broken or hostile, takes the files and the memory that polls and other scrapes need. What is refused is told
once a minute at most, with the number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from exporter import logs
from exporter.clock import Clock

CONNECTIONS_MAX: Final = 400  # those that shake hands count; a process may open 1,024 files unless it is told more
HANDSHAKE_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 75.0  # without a whole request: above the usual scrape intervals, so that connections are kept
ANSWER_SECONDS: Final = 60.0  # without a moment in which the client had read all that there was
WATCH_SECONDS: Final = 5.0
SHUTDOWN_SECONDS: Final = 2.0  # for answers under way
TELL_SECONDS: Final = 60.0
NO_FILES_SECONDS: Final = 1.0  # before the next accept, when the process or the machine has no file left

_log = logging.getLogger(__name__)


class Listener:
    """`context`: TLS; None: plain HTTP."""

    def __init__(self, application: web.Application, context: ssl.SSLContext | None, clock: Clock) -> None:
        self._shake: dict[str, Any] = (
            {} if context is None else {"ssl": context, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        )
        self._clock = clock
        self._told = Told(clock)
        # The library waits twice as long as it is told: for the answer, and for the request that it then cancels.
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS / 2, keepalive_timeout=IDLE_SECONDS,
            logger=_server_logger(self._told),
        )  # fmt: skip
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._shaking = 0
        self._open: dict[asyncio.Transport, float | None] = {}  # since when something waits to be sent; None: nothing

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [each.getsockname()[:2] for each in self._sockets]

    async def start(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Raises OSError where an address is taken or is none of this machine."""
        await self._runner.setup()
        for host, port in addresses:
            self._sockets += await _bound(host, port)
        for listening in self._sockets:
            listening.listen(CONNECTIONS_MAX)
            self._go(self._accept(listening))
        self._go(self._watch())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for each in self._sockets:
            each.close()
        await self._runner.cleanup()
        for transport in self._open:
            transport.abort()  # of those that read nothing, nothing else is the end

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except ConnectionError:
                continue  # the client has gone already
            except OSError as error:
                self._told.tell("no connection can be accepted", problem=error)
                await self._clock.sleep(NO_FILES_SECONDS)
                continue
            if self._shaking + len(self._open) >= CONNECTIONS_MAX:
                self.look()
            if self._shaking + len(self._open) >= CONNECTIONS_MAX:
                connection.close()
                self._told.tell("connections were refused", limit=CONNECTIONS_MAX)
                continue
            self._shaking += 1
            self._go(self._connect(connection))

    async def _connect(self, connection: socket.socket) -> None:
        loop, handler = asyncio.get_running_loop(), cast(Callable[[], asyncio.Protocol], self._runner.server)
        try:
            transport, _ = await loop.connect_accepted_socket(handler, connection, **self._shake)
            self._open[transport] = None
        except OSError:
            connection.close()  # no TLS, not with us, or not in time: OpenSSL has told the client what there is to tell
        except asyncio.CancelledError:
            connection.close()
            raise
        finally:
            self._shaking -= 1

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(WATCH_SECONDS)
            self.look()

    def look(self) -> None:
        """Forgets connections that have ended, and ends those whose client does not read what waits for it."""
        now = self._clock.monotonic()
        for transport, since in list(self._open.items()):
            waits = transport.get_write_buffer_size() > 0
            if not waits and transport.is_closing():
                del self._open[transport]
            elif not waits or since is None:
                self._open[transport] = now if waits else None
            elif now - since >= ANSWER_SECONDS:
                del self._open[transport]
                transport.abort()
                self._told.tell("a client did not read its answer", seconds=ANSWER_SECONDS)


class Told:
    """What clients can cause as often as they like: of each kind a line a minute, with how often it was since the last
    one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def due(self, kind: str) -> int | None:
        """How often it has been, this time too; None: it is not to be told yet."""
        now = self._clock.monotonic()
        times = self._untold.get(kind, 0) + 1
        if kind in self._last and now - self._last[kind] < TELL_SECONDS:
            self._untold[kind] = times
            return None
        self._last[kind], self._untold[kind] = now, 0
        return times

    def tell(self, message: str, **fields: object) -> None:
        times = self.due(message)
        if times is not None:
            logs.log(_log, logging.WARNING, message, times=times, **fields)


def _server_logger(told: Told) -> logging.Logger:
    """For aiohttp, which tells each request that is none, and each error of a handler, with its trace."""
    logger = logging.getLogger(f"{__name__}.http")

    def bounded(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno < logging.WARNING:
            return True
        if isinstance(error, HttpProcessingError):
            told.tell("a request was no HTTP", problem=type(error).__name__)
            return False
        times = told.due(type(error).__name__)
        record.fields = {"times": times}
        return times is not None

    logger.filters = [bounded]
    return logger


async def _bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of a name; of none, for all of IPv4 and all of IPv6."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                each = undo.enter_context(socket.socket(family, kind, protocol))
            except OSError:
                continue  # a kernel without IPv6, where names lead to it all the same
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                each.bind(address)
            except OSError as error:
                raise OSError(error.errno, f"{logs.address(host, port)}: {(error.strerror or '').lower()}") from None
            made.append(each)
        undo.pop_all()
    return made
