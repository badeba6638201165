"""From pages to what is shown: attempts gather here, are committed in batches, and only then published.

All writing goes through one thread (`Writer`), so that neither the event loop nor another store waits for a disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

from exporter import logs
from exporter.config import StoreConfig
from exporter.exemplars import Exemplars, updated
from exporter.folding import OTHER
from exporter.gaps import REMEMBERED_MAX, Gaps, Remembered
from exporter.ledger import Entry
from exporter.metrics import OwnMetrics, Shown
from exporter.recent import Recent
from exporter.records import UNKNOWN_INTEGRATION, Attempt, Integration, Page
from exporter.rows import Batch, Committed, Gap, Marks
from exporter.store import StorageError, Store
from exporter.tally import Tally

BATCH_ATTEMPTS: Final = 5_000  # per transaction: so many that fsync is cheap, so few that the disk is held shortly
SHOWN_AT_ONCE: Final = 1_000  # integrations, before the event loop has its turn: 5 ms, 10,000 took 50 to 140
LEAVE_NS: Final = 24 * 3600 * 1_000_000_000  # series of an integration that EPCC lists no more stay this long

# Shown with a name like an integration, so that alerts, which name whom they are about, know it too.
_FOLDED: Final = Integration(OTHER, OTHER, "", enabled=True)

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Publisher(Protocol):
    """Where committed numbers go."""

    def publish(self, store: str, changes: Mapping[str, Shown | None]) -> None: ...


def chosen(include: Sequence[str], exclude: Sequence[str], integration_id: str, known: Integration | None) -> bool:
    """Whether a configuration wants an integration, by id or name. `known` None: EPCC does not list it."""
    names = {integration_id} if known is None else {integration_id, known.name}
    return (not include or not names.isdisjoint(include)) and names.isdisjoint(exclude)


class Writer:
    """The one thread that touches the state file."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def __call__(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def close(self) -> None:
        """Waits for the transaction under way."""
        self._executor.shutdown(wait=True)


class Intake:
    """One store's way to disk and from there to `/metrics`. `marks` are the committed ones, always."""

    def __init__(
        self,
        *,
        config: StoreConfig,
        store: Store,
        writer: Writer,
        publisher: Publisher,
        own: OwnMetrics,
        gaps: dict[str, int],
    ) -> None:
        """`gaps`: those that the counter has shown already, by cause; kept by the caller across reloads."""
        self.name = config.name
        self._include, self._exclude = config.include, config.exclude
        self._lookback_ns = round(config.lookback * 1e9)
        self._max_series = config.max_series
        self._store = store
        self._writer = writer
        self._publisher = publisher
        self._own = own
        self.marks = Marks(born_ns=0)
        self.tallies: dict[str, Tally] = {}
        self.integrations: dict[str, Integration] = {}  # as EPCC last listed them
        self.strangers: set[str] = set()  # met in logs, and not known well enough to say whether they are wanted
        self._unlisted: set[str] = set()  # strangers that a later list does not name either
        self.unlogged: dict[str, int] = {}
        self.folded: set[tuple[str, str]] = set()  # label and value, of what is shown as `other`
        self._exemplars: dict[str, Exemplars] = {}  # by integration
        self.recent = Recent()
        self.fresh = 0  # attempts counted since the poller last took note
        self._pending: list[Attempt] = []
        self._new_here: set[str] = set()  # ids that this walk met first
        self._newest_ns = 0  # no remembered id was created later
        self.known_ns = 0  # ... and was remembered before this walk; 0: none is
        self._entering: asyncio.Task[None] | None = None  # a batch of this walk, on its way to disk
        self._rejected = Remembered()
        self._gaps = Gaps(config.name, self._lookback_ns, own, gaps)
        self.counting = True  # False while a baseline is remembered and not counted
        self.alive: set[str] = set()  # integrations with new attempts since the poller last took note
        self._stale = True  # memory may be behind the disk: read it anew before anything else

    async def begin(self, now_ns: int) -> None:
        """Reads the committed state, at the start and after a failure, and shows it. Raises StorageError."""
        self._pending.clear()
        self._new_here.clear()
        if not self._stale:
            return
        self.marks, self.tallies = await self._writer(self._store.begin, self.name, now_ns)
        self._newest_ns = await self._writer(self._store.newest_ns, self.name)
        self._gaps.show(self.marks)
        self._stale = False
        await self._show_in_turns(self.tallies)

    # --- a walk's pages

    def begin_walk(self) -> None:
        """What an earlier walk of the same poll brought, and what is committed of it, is known ground to this one."""
        self._new_here = {attempt.id for attempt in self._pending}
        self.known_ns = max(self._newest_ns, _newest_ns(self._pending))

    async def enter(self, page: Page, server_ns: int) -> frozenset[str]:
        """Takes a page's attempts in; returns those of its ids that no earlier walk has remembered."""
        self._mind_rejected(page)
        self._gaps.find_late(page, self.marks, server_ns)
        unknown = await self._unknown(page)
        met = self._new_here.intersection(page.keys)
        news: Sequence[Attempt] = page.attempts
        if met or not unknown.issuperset(page.ids):
            news = [attempt for attempt in page.attempts if attempt.id in unknown and attempt.id not in met]
        self._new_here.update(unknown - met if met else unknown)
        self._pending.extend(news)
        self._own.logs_duplicate.labels(store=self.name).inc(len(page.attempts) - len(news))
        if len(self._pending) >= BATCH_ATTEMPTS:
            await self.settled()
            self._entering = asyncio.create_task(self._enter(self._batch(server_ns)))
        return unknown | met

    async def _unknown(self, page: Page) -> frozenset[str]:
        """What was created after all that is remembered cannot be among it: most pages of a long catching-up."""
        above = max(self.known_ns, (self.marks.keep_ns or 0) - 1)
        if len(page.times) == len(page.stamps) and (page.oldest_ns is None or page.oldest_ns > above):
            return frozenset(page.ids)
        return await self._guarded(self._store.unknown, self.name, page.attempts)

    async def settled(self) -> None:
        """Until no batch is on its way: the walk went on meanwhile, and hears of failure here. Raises StorageError."""
        if self._entering is not None:
            entering, self._entering = self._entering, None
            await entering

    def _mind_rejected(self, page: Page) -> None:
        for record in page.rejected:
            if self._rejected.new(record.key):
                self._own.logs_rejected.labels(store=self.name, reason=record.reason).inc()
                logs.log(_log, logging.WARNING, "a log record cannot be counted", store=self.name,
                         reason=record.reason, record=record.key)  # fmt: skip

    # --- commits

    async def flush(
        self,
        now_ns: int,
        *,
        marks: Marks | None = None,
        gaps: Sequence[Gap] = (),
        listed: frozenset[str] | None = None,
        announce_all: bool = False,
    ) -> None:
        """Commits what has gathered and publishes it. `marks`: a complete walk's, which also forget. StorageError."""
        await self.settled()
        if not self._pending and marks is None and not gaps and not self._gaps.waiting:
            return
        await self._enter(self._batch(now_ns, marks=marks, gaps=gaps, listed=listed, announce_all=announce_all))

    def _batch(
        self, now_ns: int, *, marks: Marks | None = None, gaps: Sequence[Gap] = (),
        listed: frozenset[str] | None = None, announce_all: bool = False,
    ) -> Batch:  # fmt: skip
        """With what has gathered, which is the batch's from here on."""
        attempts, self._pending = self._judged(self._pending), []
        return Batch(
            now_ns=now_ns,
            attempts=attempts,
            counting=self.counting,
            integrations=[i for i in self.integrations if self.wanted(i)] if marks is not None else (),
            excluded=frozenset(i for i in {a.integration_id for a in attempts} if not self.wanted(i)),
            marks=marks,
            announce_all=announce_all,
            gaps=[*gaps, *self._gaps.take()],
            forget=marks is not None,
            listed=listed,
            drop=self._leavers(marks, now_ns),
            max_series=self._max_series,
        )

    async def _enter(self, batch: Batch) -> None:
        if not batch.attempts and batch.marks is None and not batch.gaps:
            return  # all were of strangers
        self._newest_ns = max(self._newest_ns, _newest_ns(batch.attempts))
        baseline = not self.marks.begun  # whose end is in the very batch that begins
        try:
            done = await self.commit(batch)
        except BaseException:
            self._gaps.put_back(batch.gaps)
            raise
        self._gaps.tell(done.gaps)
        self._mind_folded(done, left=batch.drop)
        self._tell(done, batch.now_ns, baseline=baseline)
        while done.forgetful:  # the rest is shown, and other stores have their turns in between
            done = await self.commit(Batch(now_ns=batch.now_ns, forget=True))

    def _mind_folded(self, done: Committed, *, left: Sequence[str]) -> None:
        news = done.folded - self.folded
        if news:
            self._own.series_folded.labels(store=self.name).inc(len(news))
        if news and not self.folded:
            logs.log(_log, logging.WARNING, "max_series is reached: new label values are folded into other",
                     store=self.name, max_series=self._max_series)  # fmt: skip
        if left:
            self.folded.clear()  # there is room again
        self.folded.update(list(done.folded)[: max(0, REMEMBERED_MAX - len(self.folded))])

    # --- which integrations

    async def learn(self, integrations: dict[str, Integration]) -> None:
        """What EPCC lists now; strangers that it does not name are judged by their ids alone from here on."""
        changed = [i for i, each in integrations.items() if self.integrations.get(i) != each]
        changed += self.integrations.keys() - integrations.keys()
        self.integrations = integrations
        self._unlisted = {*self._unlisted, *self.strangers} - integrations.keys()
        self.strangers.clear()
        await self._show_in_turns(changed, left=[i for i in self.tallies if not self.wanted(i)])

    def wanted(self, integration_id: str) -> bool:
        """Whether `integrations.include` and `.exclude` let it count, by id or name. What was folded was wanted."""
        if integration_id == OTHER or not (self._include or self._exclude):
            return True
        return chosen(self._include, self._exclude, integration_id, self.integrations.get(integration_id))

    def _judged(self, attempts: list[Attempt]) -> list[Attempt]:
        """Without those of integrations whose name is not known yet and matters: they are not remembered either, so
        that the walk after the next list finds them again."""
        if not self._include and not self._exclude:
            return attempts
        known = self.integrations.keys() | self._unlisted | {*self._include, *self._exclude}
        strangers = {a.integration_id for a in attempts} - known - {UNKNOWN_INTEGRATION}
        self.strangers |= strangers
        return [a for a in attempts if a.integration_id not in strangers]

    def _leavers(self, marks: Marks | None, now_ns: int) -> list[str]:
        gone = marks.gone if marks is not None else {}
        return [integration for integration, since_ns in gone.items() if now_ns - since_ns > LEAVE_NS]

    async def announce(self, keys: Sequence[tuple[str, str | None]], now_ns: int) -> bool:
        """Scrapers have read these series at 0: from the commit on they show their numbers. Raises StorageError.

        False: memory is behind the disk, and nothing was announced; after the next poll's beginning it can be.
        """
        if self._stale:
            return False
        await self.commit(Batch(now_ns=now_ns, announce=keys))
        return True

    async def commit(self, batch: Batch) -> Committed:
        done = await self._guarded(self._store.commit, self.name, batch)
        begins = done.marks.begun and not self.marks.begun
        self.marks = done.marks
        self.tallies.update(done.tallies)
        for integration_id in batch.drop:
            self.tallies.pop(integration_id, None)
            self._exemplars.pop(integration_id, None)
            self.recent.forget(integration_id)
        if batch.counting:
            self._take_exemplars(done, batch.now_ns)
            self.recent.take(done.fresh)
        self._gaps.show(self.marks)
        await self._show_in_turns(self.tallies if begins else done.tallies, left=batch.drop)
        return done

    def _take_exemplars(self, done: Committed, now_ns: int) -> None:
        entries: dict[str, list[Entry]] = {}
        for entry in done.fresh:
            entries.setdefault(entry.attempt.integration_id, []).append(entry)
        for integration_id, news in entries.items():
            found = updated(self._exemplars.get(integration_id), news, now_ns)
            if found is not None:
                self._exemplars[integration_id] = found

    async def _guarded(self, work: Callable[..., _T], *arguments: Any) -> _T:
        try:
            return await self._writer(work, *arguments)
        except (StorageError, asyncio.CancelledError):
            # After a cancellation the thread goes on: what it commits is not in our memory.
            self._stale = True
            raise

    async def _show_in_turns(self, integration_ids: Iterable[str], *, left: Sequence[str] = ()) -> None:
        """`show`, so many at once that the event loop is held for milliseconds."""
        ids = list(integration_ids)
        self.show(ids[:SHOWN_AT_ONCE], left=left)
        for place in range(SHOWN_AT_ONCE, len(ids), SHOWN_AT_ONCE):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                self._stale = True  # the next beginning shows the rest
                raise
            self.show(ids[place : place + SHOWN_AT_ONCE])

    def show(self, integration_ids: Mapping[str, object] | Sequence[str], *, left: Sequence[str] = ()) -> None:
        """Publishes the committed tallies of these integrations, once the store's first walk has ended."""
        if not self.marks.begun:
            return
        changes: dict[str, Shown | None] = {
            integration: Shown(
                self.tallies[integration],
                _FOLDED if integration == OTHER else self.integrations.get(integration),
                self._unlogged_of(integration),
                self._exemplars.get(integration),
            )
            for integration in integration_ids
            if integration in self.tallies and self.wanted(integration)
        }
        changes.update(dict.fromkeys(left))
        if changes:
            self._publisher.publish(self.name, changes)

    def _unlogged_of(self, integration_id: str) -> int:
        if integration_id != OTHER:
            return self.unlogged.get(integration_id, 0)
        return sum(number for each, number in self.unlogged.items() if each not in self.tallies)

    def _tell(self, done: Committed, now_ns: int, *, baseline: bool) -> None:
        """The exporter's own numbers about what was committed."""
        if not self.counting:
            return
        self.fresh += len(done.fresh)
        self._own.logs_counted.labels(store=self.name).inc(len(done.fresh))
        self._own.logs_duplicate.labels(store=self.name).inc(done.duplicates)
        for field, number in Counter([each for entry in done.fresh for each in entry.attempt.missing]).items():
            self._own.log_fields_missing.labels(store=self.name, field=field).inc(number)
        self.alive.update([entry.attempt.integration_id for entry in done.fresh])
        if not baseline:
            created = [each.attempt.created_ns for each in done.fresh if each.attempt.created_ns is not None]
            self._own.arrival_delay.observe_all(self.name, [max(0, now_ns - created_ns) for created_ns in created])
        if (floor_ns := self.marks.floor_ns) is not None:
            for entry in done.fresh:
                if entry.at_ns < floor_ns:
                    self._gaps.counted_late(entry.attempt.id)

    def known_integrations(self) -> list[str]:
        """Every integration that may have a list of its own: listed by EPCC, or met in its logs."""
        met = {*self.integrations, *self.tallies} - {UNKNOWN_INTEGRATION, OTHER}
        return sorted(i for i in met if self.wanted(i))


def _newest_ns(attempts: Sequence[Attempt]) -> int:
    return max([attempt.created_ns for attempt in attempts if attempt.created_ns is not None], default=0)
