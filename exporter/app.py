"""The exporter as a whole: pollers, announcements, pages, reload, and how it ends. Wired by hand, and here alone."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from exporter import __version__, logs
from exporter.announce import Announcer
from exporter.api import Api, Budget
from exporter.board import Board, Boards, Followed
from exporter.clock import Clock
from exporter.config import Config, StoreConfig
from exporter.exposition import Exposition
from exporter.fetch import Fetch
from exporter.guard import Guard
from exporter.intake import Intake, Writer
from exporter.metrics import OwnMetrics
from exporter.outbound import new_session
from exporter.pages import Pages
from exporter.poller import StorePoller
from exporter.prober import Probed, Prober
from exporter.reload import Reloader
from exporter.server import Server
from exporter.sharding import Shard
from exporter.store import StorageError, Store
from exporter.takeover import Takeover, home_of
from exporter.tokens import Tokens

STOP_SECONDS: Final = 4.0  # SIGTERM to end: what takes longer is left to the next start, which goes on from disk

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    """One store under way; `task` is None until it polls."""

    followed: Followed
    session: aiohttp.ClientSession
    task: asyncio.Task[None] | None = None

    @property
    def poller(self) -> StorePoller:
        return self.followed.poller

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.session.close()


class App:
    """`load` reads the configuration anew for a reload; None: there is nothing to reload."""

    def __init__(
        self,
        config: Config,
        store: Store,
        clock: Clock,
        load: Callable[[], Config] | None,
        telemetry_path: str,
        *,
        guard: Guard | None = None,
        shard: Shard | None = None,
        grafana_url: str | None = None,
        auto_reload_seconds: float | None = None,
        before: Reloader | None = None,
    ) -> None:
        """`before`: what read the configuration while the process stood by."""
        self._config = config
        self._store = store
        self._clock = clock
        self._own = OwnMetrics()
        if shard is not None:
            self._own.set_shard(shard.ordinal, shard.total)
        self._exposition = Exposition(self._own)
        self._writer = Writer()
        self._tokens = Tokens(clock)
        self._announcer = Announcer(
            self._exposition, self._own, clock, self._intake_of, known=store.scrapers,
            keep=lambda clients: self._writer(store.keep_scrapers, clients),
        )  # fmt: skip
        self._takeover: Takeover | None = None
        self._running: dict[str, _Running] = {}
        self._gaps_shown: dict[str, dict[str, int]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        guard = guard if guard is not None else Guard(None, clock)
        self._reloader = Reloader(config, load, self._apply, guard, self._own, clock, before)
        self._auto_reload_seconds = auto_reload_seconds
        boards = Boards(self._followed, clock, version=__version__, metrics=telemetry_path, grafana=grafana_url)
        self.server = Server(
            exposition=self._exposition,
            telemetry_path=telemetry_path,
            unready=self.unready,
            reload=self.reload,
            scraped=self._announcer.note_scrape,
            pages=Pages(boards, self._followed, self._owners, clock),
            guard=guard,
        )

    # --- life

    async def run(
        self,
        addresses: Sequence[tuple[str, int]],
        stop: asyncio.Event,
        listening: Callable[[Sequence[tuple[str, int]]], None] = lambda bound: None,
    ) -> None:
        """Until `stop` is set. `listening` is told what was bound. Raises OSError for a taken port, and whatever broke
        an invariant."""
        stopped, others = asyncio.create_task(stop.wait()), [asyncio.create_task(self._announcer.run())]
        stopped.add_done_callback(lambda _: None if self._failed.done() else self._failed.set_result(None))
        if self._auto_reload_seconds is not None:
            others.append(asyncio.create_task(self._reloader.watch(self._auto_reload_seconds)))
        for other in others:
            other.add_done_callback(self._mind_end)
        home = home_of(addresses)
        self._takeover = Takeover(self._store, self._writer, home, self._announcer.read_by_all)
        try:
            # What is durable is shown by the first answer already: no scrape finds less than the last one did.
            started = [await self._begin(store) for store in self._config.stores]
            bound = await self.server.start(addresses)
            for host, port in bound:
                logs.log(_log, logging.INFO, "listening", address=logs.address(host, port))
            listening(bound)
            for running in started:
                self._launch(running)
            await self._failed
        finally:
            for task in (stopped, *others):
                task.cancel()
            await self._end(stopped, *others)

    async def once(self) -> tuple[str, bool]:
        """One poll of each store: what a scrape would get, and whether every poll ended well."""
        started = [await self._begin(store) for store in self._config.stores]
        await asyncio.gather(*(running.poller.poll() for running in started))
        page = await self._exposition.rendered("text", gzip=False)
        await self._end()
        return page.body.decode(), all(running.poller.failure is None for running in started)

    async def _end(self, *others: asyncio.Task[Any]) -> None:
        await self._reloader.stop()  # first: it begins stores
        stopping = [asyncio.create_task(running.stop()) for running in self._running.values()]
        await asyncio.wait([*stopping, *others, asyncio.create_task(self.server.stop())], timeout=STOP_SECONDS)
        self._writer.close()

    def _mind_end(self, task: asyncio.Task[None]) -> None:
        """A task that ends by itself broke an invariant: the process ends, and the restart goes on from disk."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    # --- stores

    async def _begin(self, config: StoreConfig) -> _Running:
        """A store with what is known of it on disk; it does not poll yet."""
        name = config.name
        self._own.add_store(name)
        session, board = session_of(config), Board(self._announcer, self._clock)

        def observe(endpoint: str, code: str, seconds: float) -> None:
            self._own.api_requests.labels(store=name, endpoint=endpoint, code=code).inc()
            self._own.api_request_duration.labels(store=name, endpoint=endpoint).observe(seconds)
            board.note_request()

        budget = Budget(config.requests_per_second, self._clock)
        api = Api(config, session, self._clock, observe, budget, tokens=self._tokens.of(config))
        fetch = Fetch(api, self._clock)
        gaps = self._gaps_shown.setdefault(name, {})
        intake = Intake(
            config=config, store=self._store, writer=self._writer, publisher=board, own=self._own, gaps=gaps
        )
        poller = StorePoller(
            config=config,
            fetch=fetch,
            store=self._store,
            writer=self._writer,
            intake=intake,
            own=self._own,
            clock=self._clock,
        )
        running = self._running[name] = _Running(Followed(board, poller, fetch), session)
        try:
            await poller.begin()
        except StorageError as error:
            # The first poll tries again, and counts it.
            logs.log(_log, logging.ERROR, "the state cannot be read", store=name, problem=error)
        return running

    def _launch(self, running: _Running) -> None:
        running.task = asyncio.create_task(self._poll(running.poller))
        running.task.add_done_callback(self._mind_end)

    async def _poll(self, poller: StorePoller) -> None:
        if self._takeover is not None:
            await self._takeover.settle(poller.config.name, shown=poller.intake.marks.begun)
        await poller.run()

    async def reload(self) -> Sequence[str]:
        """Reads the configuration anew; the problems, after which the last good one stays."""
        try:
            return await self._reloader.reload()
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)
            return ["the reload broke: the process ends"]

    async def _apply(self, config: Config) -> None:
        """Stores that are as they were go on undisturbed; the others go on from what is durable of them."""
        before = {store.name: store for store in self._config.stores}
        wanted = {store.name: store for store in config.stores}
        for name in before.keys() - wanted.keys():
            await self._running.pop(name).stop()
            self._announcer.drop_store(name)
            self._own.remove_store(name)
            self._gaps_shown.pop(name, None)
        for name, store in wanted.items():
            if before.get(name) == store:
                continue
            if name in before:
                await self._running.pop(name).stop()
            self._launch(await self._begin(store))
        self._config = config

    # --- what is shown

    def _intake_of(self, name: str) -> Intake | None:
        running = self._running.get(name)
        return None if running is None else running.poller.intake

    def unready(self) -> list[str]:
        """Stores whose first poll has neither ended nor failed."""
        return sorted(name for name, running in self._running.items() if not running.poller.ended_once)

    def _followed(self) -> dict[str, Followed]:
        return {name: running.followed for name, running in self._running.items()}

    async def _owners(self, store: str, job_id: str, integration_ids: Sequence[str]) -> list[str]:
        return await self._writer(self._store.job_owners, store, job_id, integration_ids)


def session_of(store: StoreConfig) -> aiohttp.ClientSession:
    return new_session(store.ca_pem, None if store.proxy_url is None else store.proxy_url.reveal())


async def probe(store: StoreConfig, clock: Clock, watch_seconds: float) -> Probed:
    """What a store shows of itself; a lock, a state and the other stores are none of its business."""
    async with session_of(store) as session:
        return await Prober(store, session, clock).probe(watch_seconds)


def open_store(folder: Path, clock: Clock) -> Store:
    """Raises LockedError, NewerStateError, OSError, sqlite3.Error. A damaged file is moved aside, loudly."""
    store = Store.open(folder, clock.wall_ns())
    if store.moved_aside is not None:
        logs.log(_log, logging.ERROR, "the state was damaged: it was moved aside, and counters begin at 0",
                 moved_to=store.moved_aside)  # fmt: skip
    return store


def stop_on_signals(stop: asyncio.Event, reload: Callable[[], object]) -> None:
    """SIGTERM and SIGINT end the process, SIGHUP reloads."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
