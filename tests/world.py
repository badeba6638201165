"""The real poller, walk, ledger and store on a virtual clock against the simulated EPCC: no sockets, no real sleep.

The loop never blocks: when every task waits, its clock jumps to the next timer. Threads run inline, one turn later.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from prometheus_client.parser import text_string_to_metric_families

from exporter.announce import Announcer
from exporter.api import Api, Budget
from exporter.board import Board, Followed
from exporter.clock import Clock
from exporter.config import Secret, StoreConfig
from exporter.epcc import Epcc, log
from exporter.exposition import Exposition
from exporter.fetch import Fetch
from exporter.intake import Intake, Writer
from exporter.manners import Manners
from exporter.metrics import OwnMetrics
from exporter.poller import StorePoller
from exporter.shop import SCENARIOS, Integration, Shop
from exporter.store import Store

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
_T = TypeVar("_T")


class DeadlockError(Exception):
    """Every task waits, and no timer will wake one."""


class _Selector(selectors.SelectSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise DeadlockError
        if not ready and timeout and timeout > 0:
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = self.create_future()

        def call() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except BaseException as error:
                future.set_exception(error)

        self.call_soon(call)
        return future


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class VirtualClock(Clock):
    """Host and EPCC share it, unless a manner skews one of them."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ns(self) -> int:
        return START_NS + round(self.monotonic() * SECOND)

    def chance(self) -> float:
        return 0.5


class FakeSession:
    """What `Api` needs of a session: the simulated EPCC's answers, with their delays and faults."""

    def __init__(self, epcc: Epcc, clock: Clock) -> None:
        self.epcc = epcc
        self.clock = clock

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Any,
        data: Any,
        headers: Any,
        timeout: Any,  # noqa: ASYNC109  # aiohttp's own name
        **_: Any,
    ) -> Any:
        limit = timeout.total
        path = urlsplit(url).path
        answer = self.epcc.answer(method, path, dict(params or {}), headers, dict(data or {}), self.clock.wall_ns())
        if answer.fault in ("hang", "drip") or answer.delay_seconds > limit:
            await asyncio.sleep(limit)
            raise TimeoutError
        await asyncio.sleep(answer.delay_seconds)
        if answer.fault == "reset":
            raise aiohttp.ServerDisconnectedError
        body = answer.body[: len(answer.body) // 2] if answer.fault == "truncate" else answer.body

        async def chunks() -> Any:
            yield body
            if answer.fault == "truncate":
                raise aiohttp.ClientPayloadError

        yield SimpleNamespace(
            status=answer.status,
            headers=CIMultiDict(answer.headers),
            content=SimpleNamespace(iter_any=chunks),
            close=lambda: None,
        )


class World:
    """One store: its EPCC, its exporter, and what a scrape would read."""

    def __init__(self, folder: Path, epcc: Epcc | None = None, **settings: Any) -> None:
        self.folder = folder
        self.epcc = epcc if epcc is not None else Epcc()
        self.clock = VirtualClock()
        self.config = StoreConfig(
            **{
                "name": "acme", "api_url": "http://epcc.test", "client_id": Secret("demo"),
                "client_secret": Secret("demo-secret"), "poll_interval": 10.0, "lookback": 60.0, "history": "count",
                "reconcile_interval": 0.0, "requests_per_second": 100.0, **settings,
            }
        )  # fmt: skip
        self.store: Store | None = None
        self.boot()

    def boot(self) -> None:
        """Starts the exporter, from what is on disk."""
        if self.store is not None:
            self.store.close()
        self.store = Store.open(self.folder, START_NS)
        self.own = OwnMetrics()
        self.own.add_store("acme")
        self.exposition = Exposition(self.own)
        session = cast("aiohttp.ClientSession", FakeSession(self.epcc, self.clock))
        self.requests: list[tuple[str, str]] = []

        def observe(endpoint: str, code: str, seconds: float) -> None:
            self.requests.append((endpoint, code))
            self.own.api_requests.labels("acme", endpoint, code).inc()
            self.board.note_request()

        self._session, self._observe = session, observe
        store, writer = self.store, Writer()
        self.announcer = Announcer(
            self.exposition, self.own, self.clock, lambda _: self.poller.intake, known=store.scrapers,
            keep=lambda clients: writer(store.keep_scrapers, clients),
        )  # fmt: skip
        self.board = Board(self.announcer, self.clock)
        self._poller: StorePoller | None = None
        self._fetch: Fetch | None = None

    @property
    def followed(self) -> Followed:
        poller = self.poller
        assert self._fetch is not None
        return Followed(self.board, poller, self._fetch)

    @property
    def poller(self) -> StorePoller:
        if self._poller is None:
            assert self.store is not None
            budget = Budget(self.config.requests_per_second, self.clock)
            fetch = self._fetch = Fetch(Api(self.config, self._session, self.clock, self._observe, budget), self.clock)
            writer = Writer()
            intake = Intake(
                config=self.config, store=self.store, writer=writer, publisher=self.board, own=self.own, gaps={}
            )
            self._poller = StorePoller(
                config=self.config, fetch=fetch, store=self.store, writer=writer, intake=intake, own=self.own, clock=self.clock
            )  # fmt: skip
        return self._poller

    async def polls(self, number: int = 1, every: float = 10.0) -> None:
        for _ in range(number):
            await self.poller.poll()
            await asyncio.sleep(every)

    async def announce(self) -> None:
        """As if every scraper had read the zeros."""
        keys: list[tuple[str, str | None]] = []
        for integration, tally in self.poller.intake.tallies.items():
            keys += [(integration, None), *((integration, code) for code in tally.responses)]
        await self.poller.intake.announce(keys, self.clock.wall_ns())

    async def scrape(self) -> dict[str, float]:
        page = await self.exposition.rendered("text", gzip=False)
        samples = {}
        for family in text_string_to_metric_families(page.body.decode()):
            for sample in family.samples:
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k != "store")
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    def tallied(self) -> dict[str, dict[str, Any]]:
        """The committed tallies, in the shape of the simulated EPCC's truth."""
        return {
            integration: {
                "attempts": tally.attempts,
                "failures": tally.failed,
                "responses": {code: number for code, number in sorted(tally.responses.items()) if number},
                "retries": tally.retries,
                "jobs": tally.jobs,
                "delivered": {"first": tally.delivered_first, "retry": tally.delivered_retry},
                "processing_us": tally.processing.sum_us,
            }
            for integration, tally in sorted(self.poller.intake.tallies.items())
        }

    def truth(self) -> dict[str, dict[str, Any]]:
        truth = self.epcc.truth(self.clock.wall_ns())["integrations"]
        return {
            integration: {key: value for key, value in counted.items() if key != "name"}
            for integration, counted in sorted(truth.items())
        }

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test that takes a `World` factory and runs on the virtual loop."""

    def sync(tmp_path: Path, *arguments: Any, **keywords: Any) -> None:
        worlds: list[World] = []

        def world(epcc: Epcc | None = None, **settings: Any) -> World:
            worlds.append(World(tmp_path / "data", epcc, **settings))
            return worlds[-1]

        try:
            run(cast("Coroutine[Any, Any, None]", test(world, *arguments, **keywords)))
        finally:
            for each in worlds:
                each.close()

    sync.__name__, sync.__doc__ = test.__name__, test.__doc__
    return sync


MakeWorld = Callable[..., World]
ATTEMPTS = "epcc_integration_attempts_total{integration_id=shipping}"


def at(seconds: float) -> int:
    return START_NS + round(seconds * SECOND)


def shop_of(manners: Manners, seed: int = 1, **changes: Any) -> Epcc:
    scenario = replace(SCENARIOS["shop"], history_seconds=120.0, **changes)
    return Epcc(manners, seed=seed, shop=Shop(scenario, seed, START_NS))


def simple(*seconds: float, manners: Manners | None = None, **changes: Any) -> Epcc:
    """An EPCC with one integration, `shipping`, and a log at each of these times."""
    epcc = Epcc(manners)
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(*[log(f"l{second:g}", at(second), **changes) for second in seconds])
    return epcc


async def settled(world: World) -> None:
    """Until every late log is visible, and a complete walk has ended well."""
    await asyncio.sleep(world.config.lookback)
    world.poller._complete_at = None
    world.epcc.manners = replace(world.epcc.manners, faults={}, down=None)
    for _ in range(20):
        await world.poller.poll()
        if world.poller.failure is None:
            return
        await asyncio.sleep(5)
    raise AssertionError(f"polls still fail: {world.poller.failure}")


def assert_exact(world: World) -> None:
    assert world.tallied() == world.truth()
    assert world.poller.intake.marks.gaps == {}
