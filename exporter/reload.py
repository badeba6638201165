"""When the configuration is read anew: on request, and when its files have another content.

The two files stand apart: of each the last good one stays. One reload runs at a time; whoever asks for one while it
runs gets the next, which is one for all of them, however many they are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from exporter import logs
from exporter.clock import Clock
from exporter.config import Config, ConfigError
from exporter.configfile import Checksums
from exporter.guard import Guard
from exporter.metrics import OwnMetrics

INTERVAL_SECONDS: Final = 30.0  # Prometheus' own default of --config.auto-reload-interval
INTERVAL_MIN: Final = 1.0
INTERVAL_MAX: Final = 3600.0

_log = logging.getLogger(__name__)


class Reloader:
    """`load` reads the configuration anew (None: there is nothing to reload), `apply` brings the stores to it."""

    def __init__(  # noqa: PLR0917  wired by hand, in one place
        self, config: Config, load: Callable[[], Config] | None, apply: Callable[[Config], Awaitable[None]],
        guard: Guard, own: OwnMetrics, clock: Clock, before: Reloader | None = None,
    ) -> None:  # fmt: skip
        """`before`: of whose configuration, and of what is known of its file, this one goes on."""
        self._load = load
        self._apply = apply
        self._guard = guard
        self._clock = clock
        self._files: Checksums = config.files if before is None else before._files
        self._problems: tuple[str, ...] = () if before is None else before._problems
        self._loaded_at: float = clock.wall_ns() / 1e9 if before is None else before._loaded_at
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[Sequence[str]] | None = None
        self._tasks: set[asyncio.Task[Sequence[str]]] = set()
        # Asked for at each scrape: the web configuration is looked at with each request, and may break on its own.
        own.config_last_reload_successful.set_function(lambda: 0 if self._problems or guard.problems else 1)
        own.config_last_reload_success_timestamp_seconds.set_function(lambda: self._loaded_at)

    async def reload(self) -> Sequence[str]:
        """The problems of both files; what has one is not used. Raises what broke an invariant."""
        if self._next is None:
            self._next = asyncio.create_task(self._reload())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._next)

    async def _reload(self) -> Sequence[str]:
        async with self._turn:
            self._next = None  # who asks from now on may have changed a file since
            self._guard.refresh()
            return [*await self._reload_stores(), *self._guard.problems]

    async def _reload_stores(self) -> Sequence[str]:
        if self._load is None:
            return ["there is no configuration file to reload"]
        try:
            config = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self._files, self._problems = error.files, error.problems
            for problem in error.problems:
                logs.log(_log, logging.ERROR, "the configuration was not reloaded", problem=problem)
            return error.problems
        self._files = config.files
        await self._apply(config)
        self._problems, self._loaded_at = (), self._clock.wall_ns() / 1e9
        logs.log(_log, logging.INFO, "the configuration was reloaded", stores=len(config.stores))
        return []

    async def watch(self, interval: float) -> None:
        """Looks every `interval` seconds, for ever, and reloads what has changed; a broken one once until then."""
        while True:
            await self._clock.sleep(interval)
            self._guard.refresh()
            if await asyncio.to_thread(self._files.changed):
                await self.reload()

    async def stop(self) -> None:
        """Ends a reload under way where it stands: what it has begun is the caller's to end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
