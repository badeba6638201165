"""A warm standby: a second process on the same storage path, which waits for its lock and then goes on from its state.

The lock is the kernel's (`statefile`): it is free as soon as the process that holds it has ended, however it ended, and
not a moment earlier, so there are never two that count. It is asked for once a second. While it waits the process is
healthy and not ready, and shows nothing but its own numbers: what it would read of the state would be another's to
show.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from exporter import __version__, logs
from exporter.board import Boards
from exporter.clock import Clock
from exporter.exposition import Exposition
from exporter.guard import Guard
from exporter.metrics import OwnMetrics
from exporter.pages import Pages
from exporter.server import Server
from exporter.sharding import Shard
from exporter.statefile import LockedError
from exporter.store import Store

LOCK_SECONDS: Final = 1.0  # from one look at the lock to the next

_log = logging.getLogger(__name__)


class _Pages(Server):
    """The exporter's pages, of one that has no stores yet."""

    waits_for = ""

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(text=f"not ready: standby: {self.waits_for}\n", status=503)


class Standby:
    """`open_store` raises LockedError while another process holds the state. `reload` reads the configuration, which is
    read again when the state is taken over; it returns its problems, and `own` shows whether there are any."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        reload: Callable[[], Awaitable[Sequence[str]]],
        own: OwnMetrics,
        *,
        telemetry_path: str,
        guard: Guard,
        shard: Shard,
    ) -> None:
        self._open_store = open_store
        clock = Clock()
        boards = Boards(dict, clock, version=__version__, metrics=telemetry_path, grafana=None, standby=True)
        own.standby.set(1)
        own.set_shard(shard.ordinal, shard.total)
        self._pages = _Pages(
            exposition=Exposition(own),
            telemetry_path=telemetry_path,
            unready=list,
            reload=reload,
            scraped=lambda client, is_scraper, version: None,
            pages=Pages(boards, dict, _nobodys, clock),
            guard=guard,
        )

    async def opened(
        self, addresses: Sequence[tuple[str, int]], stop: asyncio.Event
    ) -> tuple[Store, Sequence[tuple[str, int]]] | None:
        """The state, once it is free, and where to listen; None: `stop` was set before. Raises what opening raises, and
        OSError for a taken port."""
        stopped = asyncio.create_task(stop.wait())
        listening: Sequence[tuple[str, int]] = ()
        chosen = addresses
        try:
            while not stop.is_set():
                try:
                    return await asyncio.to_thread(self._open_store), chosen
                except LockedError as error:
                    self._pages.waits_for = str(error).partition(";")[0]
                if not listening:
                    listening = await self._pages.start(addresses)
                    if any(port == 0 for _, port in addresses):
                        chosen = listening  # by the system; scrapers know it by now
                    for host, port in listening:
                        logs.log(_log, logging.INFO, "listening", address=logs.address(host, port))
                    logs.log(_log, logging.INFO, "standing by", waits_for=self._pages.waits_for)
                await asyncio.wait([stopped], timeout=LOCK_SECONDS)
            return None
        finally:
            stopped.cancel()
            await self._pages.stop()


async def _nobodys(store: str, job_id: str, integration_ids: Sequence[str]) -> Sequence[str]:
    return ()  # its stores are another's for now
