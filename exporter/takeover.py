"""A store that comes from another process: what it brings is read by every scraper before it is polled again.

Where a process goes on from another's state it goes on from the same numbers. What Prometheus makes of that depends on
its labels. Where `instance` does not say which process was scraped (the README tells how), the series simply goes on,
and its increase is exact whatever happened to the process before: what is shown is durable, so it never steps back.
Where it does say, the old series ends and a new one begins, and Prometheus takes the first number of a series for
granted: it must be the one that the old series ended with. So a store whose state was shown under another name before
(`home`) is not polled until all scrapers that the state knows have read it here, two minutes at most. What the old
process had counted after its last scrape is missing from the increase then, and nothing can tell how much the scraper
had received of it.

A state that goes on where it was waits for nobody.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from exporter import logs
from exporter.intake import Writer
from exporter.store import StorageError, Store

# Addresses for documentation: none has a route of its own, and no packet is sent.
_ELSEWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

_log = logging.getLogger(__name__)


def home_key(store: str) -> str:
    """Of the note in the state. A state that is moved leaves it behind."""
    return f"home:{store}"


def home_of(addresses: Sequence[tuple[str, int]]) -> str:
    """What a scraper may know this process by: host, address, ports. The same again after a restart in its place."""
    listening = ",".join(sorted(f"{host}:{port}" for host, port in addresses))
    return f"{socket.gethostname()} {_own_address()} {listening}"


def _own_address() -> str:
    """That of the way out: a pod's changes when it is put elsewhere, and its name does not. "": none."""
    for family, far in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as way:
                way.connect((far, 9))
                return str(way.getsockname()[0])
        except OSError:
            continue  # no route, or a family that the host does not have
    return ""


class Takeover:
    """`read_by_all` returns once scrapers have read what is published when it is called."""

    def __init__(self, store: Store, writer: Writer, home: str, read_by_all: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._writer = writer
        self._home = home
        self._read_by_all = read_by_all

    async def settle(self, name: str, *, shown: bool) -> None:
        """Before a store's first poll. `shown`: its state has something to show already."""
        try:
            if await self._writer(self._store.note, home_key(name)) == self._home:
                return
            if shown:
                logs.log(_log, logging.INFO, "the store was shown elsewhere before: it is polled once its numbers were"
                         " read here", store=name)  # fmt: skip
                await self._read_by_all()
            await self._writer(self._store.keep_note, home_key(name), self._home)
        except StorageError as error:
            # The first poll meets the same disk, and counts the failure; the next life waits once more.
            logs.log(_log, logging.ERROR, "where the store was shown could not be kept", store=name, problem=error)
