"""Everything that EPCC still holds of one store, read through the same feeds as ever, into the spool.

A floor below `--since` makes a walk go down to there; past an offset limit the integrations' own lists and the job
lists are read, as the live exporter reads them. What differs is patience: a list may be long, an outage is waited out;
and jobs that are known to be complete are not asked about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar
from urllib.parse import quote

from exporter import logs, reach
from exporter.api import Api, ApiError
from exporter.clock import Clock
from exporter.config import StoreConfig
from exporter.feeds import Feeds, list_integrations, list_jobs
from exporter.fetch import TRIES, Fetch
from exporter.intake import chosen
from exporter.metrics import OwnMetrics
from exporter.poller import WALKS_MAX
from exporter.questions import UNKNOWN, Ended, Goal
from exporter.reach import Reach
from exporter.records import UNKNOWN_INTEGRATION, Integration, Page, read_page
from exporter.rows import Feed, Gap, Marks
from exporter.spool import Spool

LOGS_MAX: Final = 1_200_000  # of one list: a walk holds the ids of its list, about 160 bytes each
JOBS_MAX: Final = 20_000  # of one integration that are looked up one by one: half an hour at ten requests a second
PATIENCE_SECONDS: Final = 600.0  # an outage that a backfill waits out, at one request
BACKOFF_SECONDS: Final = (1.0, 30.0)  # between its tries: doubled up to the second

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Patient(Fetch):
    """Tries for minutes, where the poller would leave it to its next poll."""

    def __init__(self, api: Api, clock: Clock, store: str) -> None:
        super().__init__(api, clock)
        self._waits = clock
        self._store = store

    async def get(
        self, endpoint: str, path: str, query: dict[str, str], read: Callable[[bytes], _T], tries: int = TRIES
    ) -> tuple[_T, int]:
        until = self._waits.monotonic() + PATIENCE_SECONDS
        pause = BACKOFF_SECONDS[0]
        while True:
            try:
                return await super().get(endpoint, path, query, read, tries)
            except ApiError as error:
                if not error.passing or self._waits.monotonic() >= until:
                    raise
                logs.log(_log, logging.WARNING, "EPCC does not answer; trying again", store=self._store,
                         endpoint=endpoint, problem=error)  # fmt: skip
                await self._waits.sleep(max(pause, error.retry_after or 0.0))
                pause = min(2 * pause, BACKOFF_SECONDS[1])


@dataclass(slots=True)
class Gathered:
    """What was reached of one store. A reach of None: nothing is known to be complete."""

    all_logs: Reach | None  # of the list of all logs
    reaches: dict[str, Reach | None]  # by integration
    unreached: dict[str, str]  # integrations of which not everything was read → why
    integrations: dict[str, Integration]
    host_ahead_ns: int = 0  # by which this host's clock is ahead of EPCC's (behind: negative), as far as answers tell


@dataclass(slots=True)
class Taken:
    """How far the reading has come, for whoever watches."""

    logs: int = 0
    pages: int = 0
    oldest_ns: int | None = None


@dataclass(slots=True)
class _Basket:
    """Takes in what the walks bring; no marks are moved by it."""

    config: StoreConfig
    spool: Spool
    marks: Marks
    watch: Callable[[Taken], None]
    wall_ns: Callable[[], int]
    host_ahead_ns: int | None = None
    integrations: dict[str, Integration] = field(default_factory=dict)
    counting: bool = True
    known_ns: int = 0
    met: set[str] = field(default_factory=set)
    taken: Taken = field(default_factory=Taken)

    def begin_walk(self) -> None:
        """The spool knows each attempt, whichever walk brought it."""

    async def enter(self, page: Page, server_ns: int, /) -> frozenset[str]:
        # A slow answer, or one that waits for its turn, adds to the difference: the least is the nearest to the truth.
        apart_ns = self.wall_ns() - server_ns
        self.host_ahead_ns = min(apart_ns, apart_ns if self.host_ahead_ns is None else self.host_ahead_ns, key=abs)
        self.taken.logs += self.spool.enter(self.config.name, page)
        self.taken.pages += 1
        for attempt in page.attempts:
            self.met.add(attempt.integration_id)
            at_ns, oldest_ns = attempt.created_ns, self.taken.oldest_ns
            if at_ns is not None and at_ns <= server_ns and (oldest_ns is None or at_ns < oldest_ns):
                self.taken.oldest_ns = at_ns
        self.watch(self.taken)
        return frozenset(page.keys)

    async def flush(
        self, now_ns: int, /, *, marks: Marks | None = None, gaps: Sequence[Gap] = (),
        listed: frozenset[str] | None = None, announce_all: bool = False,
    ) -> None:  # fmt: skip
        if marks is not None:
            self.marks.feeds = marks.feeds

    def wanted(self, integration_id: str, /) -> bool:
        known = self.integrations.get(integration_id)
        return chosen(self.config.include, self.config.exclude, integration_id, known)

    def known_integrations(self) -> list[str]:
        return sorted(i for i in {*self.integrations, *self.met} - {UNKNOWN_INTEGRATION} if self.wanted(i))


class Gatherer(Feeds):
    """One store's lists, read as far back as `since_ns`."""

    def __init__(self, config: StoreConfig, fetch: Fetch, spool: Spool, since_ns: int,
                 watch: Callable[[Taken], None]) -> None:  # fmt: skip
        self._lookback_ns = round(config.lookback * 1e9)
        # In a list by arrival, a log that was late stands among younger ones.
        floor_ns = max(0, since_ns - 2 * self._lookback_ns)
        marks = Marks(born_ns=fetch.wall_ns(), floor_ns=floor_ns, begun=True)
        self._basket = _Basket(config, spool, marks, watch, fetch.wall_ns)
        self._spool = spool
        self._ended: dict[str, Ended] = {}
        self._jobs: dict[str, bool] = {}
        super().__init__(config, fetch, self._basket, OwnMetrics())

    async def gather(self) -> Gathered:
        """Raises ApiError, TooMuchError, OSError."""
        basket = self._basket
        basket.integrations = await list_integrations(self._fetch)
        for _ in range(WALKS_MAX):
            if not (await self.walk(complete=True)).again:
                break
        feeds = basket.marks.feeds
        whole = self._reach("", feeds)
        gathered = Gathered(whole, {}, {}, basket.integrations, basket.host_ahead_ns or 0)
        for integration_id in sorted(i for i in {*basket.met, *basket.known_integrations()} if basket.wanted(i)):
            own = Reach() if self._jobs.get(integration_id) else self._reach(integration_id, feeds)
            found = gathered.reaches[integration_id] = reach.either(whole, own)
            if found is None or not found.whole:
                gathered.unreached[integration_id] = reach.why_not(self._ended.get(integration_id))
        return gathered

    def _reach(self, key: str, feeds: dict[str, Feed]) -> Reach | None:
        ended = self._ended.get(key)
        order = feeds[key].order if key in feeds else UNKNOWN
        return None if ended is None else reach.of_list(ended, order, self._lookback_ns)

    # --- what differs from the live exporter's walks

    def _goal(self, marks: Marks, key: str, *, quick: bool) -> Goal:
        return replace(super()._goal(marks, key, quick=quick), logs_max=LOGS_MAX)

    async def _walk_list(self, key: str, goal: Goal, marks: Marks) -> Ended:
        ended = self._ended[key] = await super()._walk_list(key, goal, marks)
        return ended

    async def _reach_further(self, ended: Ended, marks: Marks) -> tuple[Ended, list[Gap]]:
        if ended.how == "too_long":
            logs.log(_log, logging.WARNING, "the list of all logs is longer than a backfill reads of one list",
                     store=self._config.name, logs_max=LOGS_MAX)  # fmt: skip
            ended = replace(ended, how="capped")  # by a limit of ours: the integrations' own lists are shorter
        return await super()._reach_further(ended, marks)

    async def _walk_jobs(self, integration_id: str) -> bool:
        if integration_id in self._jobs:
            return self._jobs[integration_id]
        path = f"/integrations/{quote(integration_id, safe='')}/jobs"
        listed, whole, _ = await list_jobs(self._fetch, path, self._config.page_limit)
        found = self._reach(integration_id, self._basket.marks.feeds)
        after_ns = found.after_ns if found is not None else None
        jobs = [job for job in listed if not self._is_complete(job, after_ns)]
        for job_id in jobs[:JOBS_MAX]:
            try:
                page, server_ns = await self._fetch.get(
                    "job_logs",
                    f"{path}/{quote(job_id, safe='')}/logs",
                    {},
                    lambda body: read_page(body, integration_id),
                )
            except ApiError as error:
                if error.code != 404:
                    raise
                continue  # EPCC has let go of it meanwhile
            await self._intake.enter(page, server_ns)
        self._jobs[integration_id] = whole and len(jobs) <= JOBS_MAX
        return self._jobs[integration_id]

    def _is_complete(self, job_id: str, after_ns: int | None) -> bool:
        """A job whose first attempt stands where nothing is missing has all its later ones there too."""
        return after_ns is not None and self._spool.has_first_attempt(self._config.name, job_id, after_ns)
