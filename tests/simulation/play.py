"""One scenario, played from start to end: the exporter lives, dies and lives again while the store goes on.

The same seed gives the same run, to the byte of every page: `Outcome.trace` is a hash over them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from prometheus_client import CollectorRegistry

from exporter import intake
from exporter.epcc import Epcc
from exporter.shop import Integration, Log
from exporter.store import StorageError
from tests.simulation import observer
from tests.simulation.faults import Disk, KilledError, Reaper, on
from tests.simulation.nemesis import Nemesis
from tests.simulation.observer import Scraper, Truth
from tests.simulation.scenario import Scenario
from tests.simulation.traffic import NEWCOMER, logs
from tests.simulation.watch import Outcome, now, watch
from tests.world import START_NS, FakeSession, World, run

FAST = Path("/dev/shm")  # noqa: S108  only its speed is wanted; what is made there has a name that nobody can guess
QUIET_SECONDS = 160.0  # beyond the lookbacks: twice the longest pause between failing polls
FIRST_WALK_SECONDS = 900.0  # by then it has ended, or is helped


def play(scenario: Scenario, say: Callable[[str], None] | None = None) -> Outcome:
    """Everything in a folder of its own, in memory where the machine has such a place. `say` is told every walk."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder:
        game = _Game(scenario, Path(folder), say)
        try:
            with mock.patch.object(intake, "BATCH_ATTEMPTS", scenario.batch):
                run(game.play())
        finally:
            game.close()
            logging.disable(logging.NOTSET)
    return game.outcome


class Quiet:
    """The exporter's own metrics, left out of the pages: they would be half of the work of a run."""

    registry = CollectorRegistry()


class _Session(FakeSession):
    """Requests are points at which the process may die."""

    reaper: Reaper

    @contextlib.asynccontextmanager
    async def request(self, *arguments: Any, **keywords: Any) -> Any:
        self.reaper.point("request")
        async with super().request(*arguments, **keywords) as response:
            self.reaper.point("answer")
            yield response


class _Game:
    def __init__(self, scenario: Scenario, folder: Path, say: Callable[[str], None] | None) -> None:
        self.scenario = scenario
        self.say = say
        self.outcome = Outcome()
        self.reaper = Reaper(self.outcome.reached)
        self.disk = Disk(self.reaper, random.Random(f"disk {scenario.seed}"), self.outcome.reached)
        self.chooser = random.Random(f"traffic {scenario.seed}")
        self.epcc = Epcc(scenario.manners, seed=scenario.seed)
        for integration_id in scenario.traffic.integration_ids():
            self.epcc.add_integration(Integration(integration_id, integration_id.upper()))
        self.folder = folder / "data"
        self.world: World | None = None
        self.made: list[Log] = []  # every log, with its visible_ns
        self.baseline: list[Log] = []  # of these, what the first walk remembered and did not count
        self.truth = Truth()
        self.scrapers = [Scraper(f"scraper {number}") for number in range(len(scenario.scrapers))]
        for each in self.scrapers:
            each.baseline_allowed = scenario.counts_history
        self.nemesis = Nemesis(self.epcc, self.disk, self.reaper, self.outcome, self._stop)
        self.stopping: asyncio.Event | None = None
        self._hash = hashlib.blake2b(digest_size=8)

    def close(self) -> None:
        if self.world is not None:
            self.world.close()

    # --- the whole

    async def play(self) -> None:
        with on(self.disk):
            await self._play()
        self.outcome.logs = len(self.made)
        self.outcome.trace = self._hash.hexdigest()
        for each in self.scrapers:
            for text in each.problems:
                self.outcome.problem(text)

    async def _play(self) -> None:
        scenario = self.scenario
        history = self._seconds(-scenario.traffic.history_seconds)
        self.made += logs(scenario.traffic, self.chooser, history, self._seconds(0))
        if not scenario.counts_history:
            # What shows during a first walk that counts nothing may be counted or not: so nothing shows then.
            self.made = [replace(each, visible_ns=min(each.visible_ns, START_NS - 1)) for each in self.made]
        self.epcc.add(*self.made)
        self.truth.add(self.made)
        lives = asyncio.ensure_future(self._live())
        scrapes = [
            asyncio.ensure_future(self._scrape(*each)) for each in zip(self.scrapers, scenario.scrapers, strict=True)
        ]
        try:
            await self._go_live(lives)
            await self.nemesis.strike(scenario.events, scenario.seconds, self.say)
            await self._settle(lives)
        finally:
            for task in (lives, *scrapes):
                task.cancel()
            await asyncio.wait([lives, *scrapes])
        for task in (lives, *scrapes):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _seconds(self, after_start: float) -> float:
        return START_NS / 1e9 + after_start

    async def _go_live(self, lives: asyncio.Future[None]) -> None:
        """Begins the traffic: at once, or when the first walk has ended."""
        scenario = self.scenario
        while not (scenario.early_traffic or self._begun() or lives.done()):
            await asyncio.sleep(1)
            if now() > FIRST_WALK_SECONDS:
                self.nemesis.cease()  # a store that never answers twenty requests in a row proves nothing
        live_at = now()
        if not scenario.counts_history:
            self.baseline = list(self.made)
        live = logs(
            scenario.traffic, self.chooser, self._seconds(live_at + 0.5), self._seconds(live_at + scenario.seconds)
        )
        if scenario.traffic.newcomer_at is not None:
            self.epcc.add_integration(Integration(NEWCOMER, "New"))
        self.made += live
        self.epcc.add(*live)
        self.truth.add(live)

    def _server_ns(self) -> float:
        skew = self.scenario.manners.date_skew_seconds if self.scenario.manners.date_header else 0.0
        return START_NS + (now() + skew) * 1e9

    def _begun(self) -> bool:
        poller = self.world._poller if self.world is not None else None
        return poller is not None and poller.intake.marks.begun

    # --- the exporter's lives

    async def _live(self) -> None:
        while True:
            self.reaper.revive()
            with contextlib.suppress(KilledError):
                await self._one_life()
            if self.nemesis.damage is not None:
                self.nemesis.spoil(self.folder, self.chooser)
                for each in self.scrapers:
                    each.resets_allowed = True
            await asyncio.sleep(self.chooser.choice([0.5, 3.0, 40.0]))

    async def _one_life(self) -> None:
        """Until it is killed, or stopped by an event. Anything else that ends it is a crash."""
        tasks: list[asyncio.Future[Any]] = []
        try:
            try:
                world = self._boot()
            except (sqlite3.Error, OSError):
                self.outcome.reached["no start on a bad disk"] += 1
                return
            await self._begin(world)
            poller = world.poller
            tasks = [asyncio.ensure_future(poller.run()), asyncio.ensure_future(world.announcer.run())]
            self.stopping = asyncio.Event()
            tasks.append(asyncio.ensure_future(self.stopping.wait()))
            for each in self.scrapers:
                each.new_life()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except KilledError:
            self.reaper.dead = True
            raise
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            if self.world is not None:
                self.world.close()
                self.world.store = None

    def _stop(self) -> None:
        if self.stopping is not None:
            self.stopping.set()

    def _boot(self) -> World:
        scenario = self.scenario
        if self.world is None:
            self.world = World.__new__(World)  # which is there even if its first boot fails
            World.__init__(self.world, self.folder, self.epcc, **scenario.settings)
        else:
            self.world.boot()
        session = _Session(self.epcc, self.world.clock)
        session.reaper = self.reaper
        self.world._session = session  # type: ignore[assignment]
        self.world.exposition._own = Quiet()  # type: ignore[assignment]
        moved = self.world.store is not None and self.world.store.moved_aside
        self.outcome.reached["state moved aside"] += bool(moved)
        return self.world

    async def _begin(self, world: World) -> None:
        """What the process does before it serves: what is durable is shown."""
        punctual = self.scenario.punctual and self.scenario.exact
        watch(world, self.outcome, self.reaper, punctual=punctual, say=self.say)
        with contextlib.suppress(StorageError):
            await world.poller.begin()

    # --- who reads

    async def _scrape(self, scraper: Scraper, interval: float) -> None:
        client = (scraper.name, "Prometheus")
        await asyncio.sleep(self.chooser.random() * interval)
        while True:
            world = self.world
            # Between two lives nobody answers.
            if world is not None and world.store is not None and world._poller is not None and not self.reaper.dead:
                page = await world.exposition.rendered("text", gzip=False)
                samples = observer.read(page.body.decode())
                self._hash.update(repr((round(now(), 6), samples)).encode())
                scraper.take(samples)
                world.announcer.note_scrape(client, True, page.version)
                shown = sum(v for name, v in samples.items() if name.startswith("epcc_integration_attempts_total"))
                most = self.truth.by(world.clock.wall_ns())
                if shown > most:
                    self.outcome.problem(f"{shown:g} attempts are shown at {now():.0f} s, and {most} logs are visible")
            await asyncio.sleep(interval)

    # --- the end

    async def _settle(self, lives: asyncio.Future[None]) -> None:
        """Nothing more happens, and everything works: then the numbers must be right."""
        self.nemesis.cease()
        began = now()
        while True:
            # Long enough for a healthy store to do it at once, for a sick one to come round, and for an audit.
            await asyncio.sleep(self.scenario.lookback * 2)
            found = self._found(lives)
            if not found or now() - began > self.scenario.lookback * 4 + QUIET_SECONDS:
                break
        # ... and what is right stays right through some more walks, whatever they meet again.
        await asyncio.sleep(self.scenario.lookback * 1.5)
        self.outcome.problems += self._found(lives)
        self.outcome.requests = sum(self.epcc.requests.values())

    def _found(self, lives: asyncio.Future[None]) -> list[str]:
        """What is wrong now."""
        world = self.world
        if lives.done() or world is None or world.store is None or world._poller is None:
            return ["the exporter does not run at the end"]
        poller, found = world.poller, []
        if poller.failure is not None:
            found.append(f"polls still fail at the end: {poller.failure}")
        marks = poller.intake.marks
        through = marks.complete_through_ns
        for cause in marks.gaps:
            self.outcome.reached[f"gap: {cause}"] = 1
        if not marks.gaps and (through is None or through < self._server_ns() - 2 * self.scenario.lookback * 1e9):
            found.append("complete_through stands still")
        return found + self._judged(world, marks.gaps)

    def _judged(self, world: World, gaps: dict[str, int]) -> list[str]:
        scenario = self.scenario
        if any(event.kind in ("damage", "delete") for event in scenario.events):
            return []  # the scrapers and the truth on the way have judged already
        baseline = {each.id for each in self.baseline}
        counted = [each for each in self.made if each.id not in baseline]
        floor_ns = world.poller.intake.marks.floor_ns or 0
        wanted = observer.expected(counted, scenario.manners, floor_ns, gauges=scenario.counts_history)
        samples = observer.shown(world.exposition)
        wrong = observer.differences(wanted, samples)
        self.outcome.reached["exact"] = int(not wrong)
        self.outcome.reached["told"] = int(bool(gaps))
        # Where the list lost its oldest logs faster than they were read, some are missing, and a gap must say so.
        exact = scenario.exact and not self.outcome.reached["a list outran its walk"]
        # A jumble that looks ordered at first has logs that look late; where it grows as it is read, no two readings of
        # a first walk may agree.
        jumbled = scenario.manners.order == "unordered"
        may = {"late", "order"} if jumbled and scenario.early_traffic else {"late"} if jumbled else set()
        false = gaps.keys() - may
        if false and exact:
            wrong = [f"gaps are told though nothing is missing: {gaps}", *wrong]
        return wrong[:6] if exact or (scenario.told and not gaps) else []
