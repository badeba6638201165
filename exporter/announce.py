"""From a series' first zero to its number: what is published is entered in the scrapers' book, and once everybody has
read the zero, that fact becomes durable and the number is shown.

A crash between leaves the series at 0, to wait again: shown before it is durable, a number would step back to 0. Who
the scrapers are is durable too, before anything is announced to them: the next life waits for the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from exporter import logs
from exporter.clock import Clock
from exporter.exposition import Exposition
from exporter.intake import Intake
from exporter.metrics import OwnMetrics, Shown
from exporter.scrapers import PATIENCE_SECONDS, Client, Key, Scrapers
from exporter.store import StorageError

RETRY_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class Announcer:
    """The publisher of every store. `intake_of` gives a store's intake; None: it is not running just now.

    `known`: the scrapers that `keep` was given last, in this life or the one before; it raises StorageError.
    """

    def __init__(
        self,
        exposition: Exposition,
        own: OwnMetrics,
        clock: Clock,
        intake_of: Callable[[str], Intake | None],
        *,
        known: Sequence[Client],
        keep: Callable[[Sequence[Client]], Awaitable[None]],
    ) -> None:
        self._exposition = exposition
        self._own = own
        self._clock = clock
        self._intake_of = intake_of
        self._kept = list(known)
        self._keep = keep
        self._scrapers = Scrapers()
        self._scrapers.recall(known, clock.monotonic())
        self._scraped = asyncio.Event()
        self._version = 0  # of the last publication
        self._readings: list[tuple[int, asyncio.Future[None]]] = []  # what `read_by_all` waits for

    def publish(self, store: str, changes: Mapping[str, Shown | None]) -> None:
        """Committed tallies, to the exposition; their newborn series, to the scrapers' book."""
        version = self._version = self._exposition.publish(store, changes)
        newborn: set[Key] = set()
        for integration_id, shown in changes.items():
            if shown is None:
                self._scrapers.forget_integration(store, integration_id)
                continue
            if not shown.tally.announced:
                newborn.add((store, integration_id, None))
            newborn.update([(store, integration_id, code) for code in shown.tally.newborn_codes])
        self._scrapers.newborn(newborn, version)
        self._own.series_held.labels(store=store).set(self._exposition.held(store))

    def note_scrape(self, client: tuple[str, str], is_scraper: bool, version: int) -> None:
        """A page of this version was written whole."""
        now = self._clock.monotonic()
        self._scrapers.read(client, is_scraper, version, now)
        self._scraped.set()
        for wanted, reading in self._readings:
            if not reading.done() and self._scrapers.all_read(wanted, now):
                reading.set_result(None)

    async def read_by_all(self) -> None:
        """Until every scraper has read what is published now; for as long as patience lasts, and not at all where none
        is known."""
        if self._scrapers.all_read(self._version, self._clock.monotonic()):
            return
        reading = (self._version, asyncio.get_running_loop().create_future())
        self._readings.append(reading)
        try:
            await asyncio.wait_for(reading[1], PATIENCE_SECONDS)
        except TimeoutError:
            logs.log(_log, logging.WARNING, "a scraper of the life before did not come, and is waited for no longer",
                     seconds=PATIENCE_SECONDS)  # fmt: skip
        finally:
            self._readings.remove(reading)

    def drop_store(self, store: str) -> None:
        self._scrapers.forget_store(store)
        self._exposition.drop_store(store)

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._something_due()
            if not (await self._keep_known() and await self._announce_ready()):
                # The next poll finds the disk as it is and says so; the series wait at 0 meanwhile.
                await self._clock.sleep(RETRY_SECONDS)
                self._scraped.set()

    async def _something_due(self) -> None:
        """Until a page was read, or until patience with a scraper that does not come has ended."""
        deadline = self._scrapers.deadline()
        left = None if deadline is None else max(0.0, deadline - self._clock.monotonic())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._scraped.wait(), left)
        self._scraped.clear()

    async def _keep_known(self) -> bool:
        """Whether those who are waited for now will be waited for by the next life."""
        clients = self._scrapers.active(self._clock.monotonic())
        if clients == self._kept:
            return True
        try:
            await self._keep(clients)
        except StorageError:
            return False
        self._kept = clients
        return True

    async def _announce_ready(self) -> bool:
        ready = self._scrapers.ready(self._clock.monotonic())
        return all([await self._announce(name, ready) for name in sorted({key[0] for key in ready})])

    async def _announce(self, name: str, ready: set[Key]) -> bool:
        """Whether a store's series that are ready show their numbers from now on."""
        keys = [key for key in ready if key[0] == name]
        intake = self._intake_of(name)
        if intake is None:
            return False  # between two configurations
        try:
            series = [(integration, code) for _, integration, code in keys]
            durable = await intake.announce(series, self._clock.wall_ns())
        except StorageError:
            return False
        if durable:
            self._scrapers.forget(keys)
        return durable
