"""Jobs against logs: a job that EPCC lists and of which no log has appeared is asked about, and counted as unlogged.

The vendor's own post-mortem says that a webhook may be sent and its log never written. Only jobs first listed after
the first look are judged; each is looked up at most TRIES times, by *logs for a job*, whose records count like any
others if the feeds missed them. The table `listed` remembers a job for as long as EPCC lists it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

from exporter import logs
from exporter.api import ApiError
from exporter.clock import Clock
from exporter.config import StoreConfig
from exporter.feeds import list_jobs
from exporter.fetch import Fetch
from exporter.folding import OTHER
from exporter.intake import Intake, Writer
from exporter.jobs import Jobs
from exporter.records import read_page
from exporter.store import Store

TRIES: Final = 3
LISTED_MAX: Final = 100_000  # jobs per integration; a longer list is not reconciled, and the log says so
UNSEEN_NS: Final = 24 * 3600 * 10**9  # how long a job is remembered that only a part of the list has not shown
LOOKUPS_MAX: Final = 200  # per integration and look: the rest waits for the next one

_BASELINE, _NEW, _LOGGED, _UNLOGGED = "baseline", "new", "logged", "unlogged"

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Reconciler:
    """One store's."""

    def __init__(
        self, config: StoreConfig, fetch: Fetch, store: Store, writer: Writer, intake: Intake, *, clock: Clock
    ) -> None:
        self._config = config
        self._fetch = fetch
        self._store = store
        self._writer = writer
        self._intake = intake
        self._clock = clock
        self._too_long = logs.OncePerState()
        self._waiting: list[str] = []  # integrations that the look under way has still to come to
        self._unlogged: dict[str, int] = {}  # what it has found

    @property
    def under_way(self) -> bool:
        return bool(self._waiting)

    async def look(self, until: float) -> None:
        """One look at every integration's jobs. What is not reached by `until` (monotonic) waits for the next call: the
        walk through the logs must not wait for the jobs. Raises ApiError, after which the next look is a new one, and
        StorageError."""
        intake = self._intake
        if not self._waiting:
            self._waiting = [i for i in intake.integrations if intake.wanted(i)][::-1]
            self._unlogged = {}
        first = not intake.marks.looked
        try:
            while self._waiting:
                self._unlogged[self._waiting[-1]] = await self._number(self._waiting[-1], first=first)
                self._waiting.pop()
                if self._waiting and self._clock.monotonic() >= until:
                    return
        except ApiError:
            self._waiting.clear()
            raise
        await self._end(first=first)

    async def _number(self, integration_id: str, *, first: bool) -> int:
        try:
            return await self._look_at(integration_id, first=first)
        except ApiError as error:
            if error.code != 404:
                raise
            return 0  # the integration is gone, and its jobs with it

    async def _end(self, *, first: bool) -> None:
        intake, unlogged = self._intake, self._unlogged
        server_ns = intake.marks.complete_through_ns or 0
        if first:
            marks = intake.marks.copied()
            marks.looked = True
            await intake.flush(server_ns, marks=marks)
        changed = [i for i, number in unlogged.items() if intake.unlogged.get(i, 0) != number]
        changed += [OTHER] if any(i not in intake.tallies for i in changed) else []
        intake.unlogged = unlogged
        intake.show(changed)

    async def _look_at(self, integration_id: str, *, first: bool) -> int:
        """How many of an integration's jobs are unlogged."""
        path = f"/integrations/{quote(integration_id, safe='')}/jobs"
        # Jobs past the list's end cannot be judged; those that it shows can.
        jobs, whole, now_ns = await list_jobs(self._fetch, path, self._config.page_limit)
        too_long = len(jobs) > LISTED_MAX
        if self._too_long.changed(integration_id, too_long) and too_long:
            logs.log(_log, logging.WARNING, "the job list is too long to be reconciled", store=self._config.name,
                     integration=integration_id, jobs_max=LISTED_MAX)  # fmt: skip
        if too_long:
            return 0
        state = _BASELINE if first else _NEW
        before_ns = now_ns - round(self._config.lookback * 1e9)
        due = await self._in_store(
            lambda known: _enter(_Rows(known, integration_id), jobs, state, now_ns, before_ns, whole=whole)
        )
        for job_id in due[:LOOKUPS_MAX]:
            page, answered_ns = await self._fetch.get(
                "job_logs", f"{path}/{quote(job_id, safe='')}/logs", {}, lambda body: read_page(body, integration_id)
            )
            await self._intake.enter(page, answered_ns)
            await self._intake.flush(answered_ns)
            await self._judge(integration_id, job_id, _LOGGED if page.attempts else _UNLOGGED)
        return await self._in_store(lambda jobs: _unlogged(_Rows(jobs, integration_id)))

    async def _judge(self, integration_id: str, job_id: str, state: str) -> None:
        await self._in_store(lambda jobs: _judge(_Rows(jobs, integration_id), job_id, state))

    async def _in_store(self, work: Callable[[Jobs], _T]) -> _T:
        return await self._writer(self._store.reconciling, work, self._config.name)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one integration in the table `listed`."""

    logged: Jobs  # that are remembered of the store
    integration: str

    @property
    def connection(self) -> sqlite3.Connection:
        return self.logged.connection

    @property
    def ref(self) -> int:
        return self.logged.ref


def _enter(rows: _Rows, jobs: Sequence[str], state: str, now_ns: int, before_ns: int, *, whole: bool) -> list[str]:
    """Brings the table up to the list; returns the jobs that are due to be looked up."""
    execute, key = rows.connection.execute, (rows.ref, rows.integration)
    execute("CREATE TEMP TABLE IF NOT EXISTS named(job TEXT PRIMARY KEY) WITHOUT ROWID")
    execute("DELETE FROM named")
    rows.connection.executemany("INSERT OR IGNORE INTO named VALUES(?)", ((job,) for job in jobs))
    # What a part of the list does not show may be listed all the same, and must not come back as new.
    execute(
        "DELETE FROM listed WHERE store = ? AND integration = ? AND first_ns <= ?"
        " AND job NOT IN (SELECT job FROM named)",
        (*key, now_ns if whole else now_ns - UNSEEN_NS),
    )
    execute("INSERT OR IGNORE INTO listed SELECT ?, ?, job, ?, 0, ? FROM named", (*key, now_ns, state))
    open_jobs = execute(
        "SELECT job FROM listed WHERE store = ? AND integration = ? AND state IN (?, ?)", (*key, _NEW, _UNLOGGED)
    ).fetchall()
    logged = rows.logged.read([(rows.integration, job) for (job,) in open_jobs])
    rows.connection.executemany(
        "UPDATE listed SET state = ? WHERE store = ? AND integration = ? AND job = ?",
        [(_LOGGED, *key, job) for _, job in logged],
    )
    due = execute(
        "SELECT job FROM listed WHERE store = ? AND integration = ? AND state IN (?, ?) AND first_ns <= ? AND tries < ?"
        " ORDER BY tries, first_ns, job",
        (*key, _NEW, _UNLOGGED, before_ns, TRIES),
    )
    return [job for (job,) in due]


def _judge(rows: _Rows, job: str, state: str) -> None:
    rows.connection.execute(
        "UPDATE listed SET state = ?, tries = tries + 1 WHERE store = ? AND integration = ? AND job = ?",
        (state, rows.ref, rows.integration, job),
    )


def _unlogged(rows: _Rows) -> int:
    (number,) = rows.connection.execute(
        "SELECT count(*) FROM listed WHERE store = ? AND integration = ? AND state = ?",
        (rows.ref, rows.integration, _UNLOGGED),
    ).fetchone()
    return int(number)
