"""The poll of one store: walk, count, commit, publish, wait. The only file that decides how long to wait.

A store has a poller of its own, with its own budget and its own failures: one that hangs delays nobody else. A poll
that fails is counted once, with its reason, and followed by a longer wait; what it had counted before stays counted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

from exporter import logs
from exporter.api import ApiError
from exporter.clock import Clock
from exporter.config import StoreConfig
from exporter.feeds import Feeds, list_integrations
from exporter.fetch import Fetch
from exporter.folding import OTHER
from exporter.intake import Intake, Writer
from exporter.metrics import OwnMetrics
from exporter.reconcile import Reconciler
from exporter.store import StorageError, Store

INTEGRATIONS_SECONDS: Final = 60.0  # how often the list of integrations is read, at most; every tenth poll at least
BACKOFF_MAX: Final = 60.0  # seconds between polls of a store that keeps failing, unless poll_interval is longer
RATE_SECONDS: Final = 300.0  # over which the rate of logs is smoothed
WALKS_MAX: Final = 3  # complete walks in one poll, when bursts keep breaking them

_log = logging.getLogger(__name__)


class StorePoller:
    """Polls one store until cancelled."""

    def __init__(
        self,
        *,
        config: StoreConfig,
        fetch: Fetch,
        store: Store,
        writer: Writer,
        intake: Intake,
        own: OwnMetrics,
        clock: Clock,
    ) -> None:
        self.config = config
        self.intake = intake
        self._fetch = fetch
        self._store = store
        self._writer = writer
        self._own = own
        self._clock = clock
        self._feeds = Feeds(config, fetch, intake, own)
        self._reconciler = Reconciler(config, fetch, store, writer, intake, clock=clock)
        self.ended_once = False  # the first poll ended, or failed
        self.failure: str | None = None  # reason of the last poll's failure
        self.last_poll_ns: int | None = None
        self.outage_budget_seconds = math.inf
        self.open_gaps: dict[str, int] = {}  # by cause
        self._failures = 0  # polls in a row
        self._retry_after: float | None = None
        self._complete_at: float | None = None  # monotonic, of the last complete walk
        self._integrations_at: float | None = None
        self._reconciled_at: float | None = None
        self._rate = 0.0  # logs per second
        self._counted_at = clock.monotonic()

    async def run(self, poked: Callable[[], Awaitable[None]] | None = None) -> None:
        """For ever. Raises only what is no API's and no disk's failure: a broken invariant, which ends the process."""
        while True:
            began = self._clock.monotonic()
            await self.poll()
            if poked is not None:
                await poked()
            await self._clock.sleep(self._wait(self._clock.monotonic() - began))

    async def poll(self) -> None:
        """One poll, whose failure is counted, logged at the change, and held in `failure`."""
        began = self._clock.monotonic()
        failure, detail = None, ""
        self._retry_after = None
        try:
            await self._poll()
        except ApiError as error:
            failure, detail, self._retry_after = error.reason, str(error), error.retry_after
        except StorageError as error:
            failure, detail = "storage", str(error)
        finally:
            self._own.poll_duration.labels(store=self.config.name).observe(self._clock.monotonic() - began)
        self._record(failure, detail)

    def _record(self, failure: str | None, detail: str) -> None:
        name = self.config.name
        self._own.polls.labels(store=name).inc()
        self._own.up.labels(store=name).set(0 if failure else 1)
        self.last_poll_ns = self._clock.wall_ns()
        if failure is not None:
            self._own.poll_failures.labels(store=name, reason=failure).inc()
            self._failures += 1
            self._complete_at = None  # after a failed walk, a complete one
            if failure == "not_found":
                self._integrations_at = None  # an integration may just have been deleted
        else:
            self._failures = 0
            self._own.last_successful_poll.labels(store=name).set(self.last_poll_ns / 1e9)
        if failure != self.failure or not self.ended_once:
            if failure is not None:
                logs.log(_log, logging.ERROR, "polls of the store fail", store=name, reason=failure, detail=detail)
            else:
                logs.log(_log, logging.INFO, "polls of the store succeed", store=name,
                         integrations=len(self.intake.integrations))  # fmt: skip
        self.failure = failure
        self.ended_once = True

    def _wait(self, spent: float) -> float:
        interval = self.config.poll_interval
        if self._failures == 0:
            return max(interval - spent, interval / 10)
        pause = min(interval * 2.0 ** min(self._failures - 1, 16), max(interval, BACKOFF_MAX))
        pause *= 0.75 + self._clock.chance() / 2
        return max(pause, self._retry_after or 0.0)

    # --- what a poll does

    async def begin(self) -> None:
        """Shows what is durable, before anything is asked. Raises StorageError."""
        await self.intake.begin(self._clock.wall_ns())
        await self._show_state()

    async def _poll(self) -> None:
        await self.intake.begin(self._clock.wall_ns())
        self._mind_baseline()
        failure = await self._list_integrations()
        lookback = self.config.lookback
        for _ in range(WALKS_MAX):
            due = self._complete_at is None or self._clock.monotonic() - self._complete_at >= lookback / 2
            began = self._clock.monotonic()
            try:
                result = await self._feeds.walk(complete=due or not self.intake.marks.begun)
            finally:
                await self.intake.settled()  # nothing of this walk is on its way when the next one begins
            if result.complete:
                self._complete_at = began
            if not result.again:
                break
            self._complete_at = None
        self._measure()
        await self._reconcile()
        await self._show_state()
        if failure is not None:
            raise failure

    async def _reconcile(self) -> None:
        """A look at the jobs, as far as it comes within a `poll_interval`; the rest of it follows the next walk."""
        interval, now = self.config.reconcile_interval, self._clock.monotonic()
        due = self._reconciled_at is None or now - self._reconciled_at >= interval
        if interval == 0 or not (due or self._reconciler.under_way):
            return
        if not self._reconciler.under_way:
            self._reconciled_at = now
        await self._reconciler.look(now + self.config.poll_interval)

    def _mind_baseline(self) -> None:
        marks = self.intake.marks
        self.intake.counting = marks.begun or (self.config.history == "count" and not marks.begins_at_zero)

    async def _list_integrations(self) -> ApiError | None:
        """Reads the integrations when it is time. A failure is returned: the logs are walked all the same."""
        now = self._clock.monotonic()
        every = min(INTEGRATIONS_SECONDS, 10 * self.config.poll_interval)
        strangers = self.intake.alive - self.intake.integrations.keys() - self.intake.marks.gone.keys()
        strangers |= self.intake.strangers
        if self._integrations_at is not None and now - self._integrations_at < every and not strangers:
            return None
        try:
            found = await list_integrations(self._fetch)
        except ApiError as error:
            if self._integrations_at is None and (self.config.include or self.config.exclude):
                raise  # without names nobody can say what is wanted
            return error
        self._integrations_at = now
        if self.intake.strangers:
            self._complete_at = None  # their attempts were passed over: walk to where they are
        await self.intake.learn(found)
        await self._note_gone()
        return None

    async def _note_gone(self) -> None:
        """Integrations that EPCC lists no more keep their series for a day after their last attempt."""
        marks, now_ns = self.intake.marks.copied(), self._clock.wall_ns()
        alive, self.intake.alive = self.intake.alive, set()
        gone = {}
        for integration_id in self.intake.tallies.keys() - self.intake.integrations.keys() - {OTHER}:
            since_ns = marks.gone.get(integration_id)
            gone[integration_id] = now_ns if since_ns is None or integration_id in alive else since_ns
        shown = {*self.intake.tallies, *(value for _, value in self.intake.folded)}
        new = [i for i in self.intake.integrations if i not in shown and self.intake.wanted(i)]
        if marks.begun and (gone != marks.gone or new):
            marks.gone = gone
            await self.intake.flush(now_ns, marks=marks)

    # --- what a poll tells

    def _measure(self) -> None:
        now = self._clock.monotonic()
        spent, self._counted_at = now - self._counted_at, now
        fresh, self.intake.fresh = self.intake.fresh, 0
        if spent > 0 and self.ended_once:
            weight = 1 - math.exp(-spent / RATE_SECONDS)
            self._rate += weight * (fresh / spent - self._rate)
        reach = self._feeds.reach
        self.outage_budget_seconds = reach / self._rate if self._rate > 1e-9 else math.inf
        self._own.outage_budget.labels(store=self.config.name).set(self.outage_budget_seconds)

    async def _show_state(self) -> None:
        name, marks = self.config.name, self.intake.marks
        if marks.complete_through_ns is not None:
            self._own.complete_through.labels(store=name).set(marks.complete_through_ns / 1e9)
        feed = marks.feeds.get("")
        self._own.set_order(name, feed.order if feed is not None else "unknown")
        self.open_gaps = await self._writer(self._store.open_gaps, name, round(self.config.lookback * 1e9))
        for cause in marks.gaps:
            self._own.gap_open.labels(store=name, cause=cause).set(self.open_gaps.get(cause, 0))
        self._own.state_bytes.set(await self._writer(self._store.size_bytes))
