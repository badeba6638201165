"""The command `backfill`: the logs that EPCC still holds, as series with their own times, in one OpenMetrics file.

Three passes, each bounded in memory: what the lists show goes into a spool on disk (`gather`, `spool`); each
integration is counted once through time, and the changes of its series go into a second file (`recount`, `history`,
`curves`); then the output is written, family by family, series by series, as the format has it. It is made beside its
name and renamed at the end, so that there is never half a file; nothing of it depends on the order of reading or on
when it was made.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from exporter import logs, recap, seam
from exporter.api import Api, ApiError, Budget
from exporter.clock import Clock
from exporter.config import StoreConfig
from exporter.curves import CurveKey, Curves, TooMuchError
from exporter.gather import Gathered, Gatherer, Patient, Taken
from exporter.history import PAST, Grid, joined, sampled
from exporter.lines import Lines, timed, whole_or_not
from exporter.metrics import Labels
from exporter.progress import Progress
from exporter.recap import StoreRecap, Written, utc
from exporter.recount import Account, Recount, Span
from exporter.spool import Spool
from exporter.statefile import DamagedError, NewerStateError

LINES_AT_ONCE: Final = 20_000  # written by one call

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class BackfillError(Exception):
    """Why there is no file, for people."""


class StoppedError(BackfillError):
    """SIGINT or SIGTERM."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. `since`: seconds before the end, or a time (ns). `until_ns` None: where live counting
    began."""

    stores: tuple[StoreConfig, ...]
    output: Path
    storage_path: Path
    since: float | int
    until_ns: int | None
    step_seconds: int
    labels: Labels


@dataclass(slots=True)
class _Read:
    config: StoreConfig
    span: Span
    note: str  # how its end was found
    gathered: Gathered | None = None
    account: Account | None = None


class Backfill:
    def __init__(self, plan: Plan, clock: Clock, stop: asyncio.Event,
                 new_session: Callable[[StoreConfig], aiohttp.ClientSession], progress: Progress) -> None:  # fmt: skip
        self._plan = plan
        self._clock = clock
        self._stop = stop
        self._new_session = new_session
        self._progress = progress
        self._grid = Grid(plan.step_seconds)

    async def run(self) -> str:
        """The summary; the file is in its place then. Raises BackfillError, OSError."""
        plan = self._plan
        now_ns = self._clock.wall_ns()
        reads = [_Read(store, *self._span(store.name, now_ns)) for store in plan.stores]
        with tempfile.TemporaryDirectory(dir=plan.output.absolute().parent, prefix=f".{plan.output.name}.") as folder:
            spool = Spool(Path(folder))
            try:
                for read in reads:
                    read.gathered = await self._unless_stopped(self._gather(read, spool))
                written = await self._in_thread(lambda: self._write(Path(folder), reads, spool))
            except TooMuchError as error:
                raise BackfillError(str(error)) from error
            except sqlite3.Error as error:
                raise BackfillError(f"the temporary file beside the output failed ({type(error).__name__})") from error
            finally:
                spool.close()
        self._progress.clear()
        return recap.text(written, plan.output, plan.labels)

    # --- where it ends

    def _span(self, store: str, now_ns: int) -> tuple[Span, str]:
        plan, path = self._plan, self._plan.storage_path
        try:
            found = seam.read(path, store)
        except seam.NotBegunError:
            raise BackfillError(
                f"{store}: the exporter's first walk of it has not ended; wait until it shows the store on /metrics"
            ) from None
        except (DamagedError, NewerStateError) as error:
            raise BackfillError(f"{store}: {error}") from error
        except sqlite3.Error as error:
            raise BackfillError(
                f"{store}: the state in {path} cannot be read ({getattr(error, 'sqlite_errorname', '')})"
            ) from error
        if plan.until_ns is not None:
            if found is not None and plan.until_ns > found.begun_ns:
                raise BackfillError(
                    f"{store}: --until is after {utc(found.begun_ns)}, when the exporter of {path} began to count it"
                )
            return self._spanned(plan.until_ns, None, now_ns), "by time alone: --until"
        if found is None:
            logs.log(_log, logging.WARNING, "no exporter has begun the store: what is logged from now until one begins "
                     "is counted by neither; start it first", store=store, storage_path=path)  # fmt: skip
            return self._spanned(now_ns, None, now_ns), f"now: no exporter has begun it in {path}"
        if found.replaces_damaged:
            raise BackfillError(
                f"{store}: the state in {path} took the place of a damaged one at {utc(found.begun_ns)}, and what was "
                "counted live before is not known to it; give --until, the time at which the first exporter began"
            )
        exact = "by the ids that the exporter had seen when it began" if found.exact else (
            "by time alone: the exporter began with a version that kept no ids")  # fmt: skip
        return self._spanned(found.begun_ns, found, now_ns), exact

    def _spanned(self, until_ns: int, found: seam.Seam | None, now_ns: int) -> Span:
        since = self._plan.since
        since_ns = since if isinstance(since, int) else until_ns - round(since * 1e9)
        if self._grid.at_or_before(since_ns) >= self._grid.at_or_before(until_ns):
            raise BackfillError(f"nothing lies between {utc(since_ns)} and {utc(until_ns)}")
        return Span(max(0, since_ns), until_ns, found, now_ns)

    # --- reading

    async def _gather(self, read: _Read, spool: Spool) -> Gathered:
        store, span, began = read.config, read.span, self._clock.monotonic()

        def watch(taken: Taken) -> None:
            share, reached = None, ""
            if taken.oldest_ns is not None:
                reached = f", back to {utc(taken.oldest_ns)}"
                share = (span.now_ns - taken.oldest_ns) / (span.now_ns - span.since_ns)
            rate = taken.logs / max(1e-3, self._clock.monotonic() - began)
            detail = f"{taken.logs:,} logs of {taken.pages:,} pages{reached}, {rate:,.0f} logs/s"
            self._progress.tell(f"reading {store.name}", share, detail)

        logs.log(_log, logging.INFO, "reading the logs of a store", store=store.name, since=utc(span.since_ns),
                 until=utc(span.until_ns), seam=read.note)  # fmt: skip
        async with self._new_session(store) as session:
            budget = Budget(store.requests_per_second, self._clock)
            api = Api(store, session, self._clock, lambda endpoint, code, seconds: None, budget)
            try:
                return await Gatherer(
                    store, Patient(api, self._clock, store.name), spool, span.since_ns, watch
                ).gather()
            except ApiError as error:
                raise BackfillError(f"{store.name}: EPCC could not be read to the end: {error}") from error

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T:
        task, stopped = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise StoppedError("stopped before the end: there is no file")
            return task.result()
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.wait([task, stopped])
            self._progress.clear()

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """The event loop stays free for signals; the work asks now and then whether one has come."""
        return await asyncio.to_thread(work)

    def _mind_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError("stopped before the end: there is no file")

    # --- counting and writing, in a thread

    def _write(self, folder: Path, reads: list[_Read], spool: Spool) -> Written:
        with (folder / "curves").open("w+b") as file:
            base = min(self._grid.at_or_before(read.span.since_ns) for read in reads)
            curves = Curves(file, base)
            offsets: dict[CurveKey, float] = {}
            recaps = [self._recount(read, spool, curves, offsets) for read in reads]
            lasts = {
                (read.config.name, integration_id): stretch.last
                for read in reads
                if read.account is not None
                for integration_id, stretch in read.account.stretches.items()
            }
            made = folder / "output.om"
            samples = self._write_series(made, curves, offsets, lasts)
        size = made.stat().st_size
        made.replace(self._plan.output)
        return Written(tuple(recaps), samples, len(curves.keys()), size)

    def _recount(self, read: _Read, spool: Spool, curves: Curves, offsets: dict[CurveKey, float]) -> StoreRecap:
        name, gathered = read.config.name, read.gathered
        assert gathered is not None  # noqa: S101  # every store was read before
        timed_logs, untimed, rejected = spool.read(name)

        def watch(number: int) -> None:
            self._mind_stop()
            self._progress.tell(f"counting {name}", number / max(1, timed_logs), f"{number:,} of {timed_logs:,} logs")

        recount = Recount(name, spool, curves, self._grid, offsets)
        read.account = recount.run(gathered, read.span, read.config.max_series, watch)
        return StoreRecap(name, read.span, read.note, gathered, read.account, self._grid, timed_logs, untimed, rejected,
                          until_given=self._plan.until_ns is not None)  # fmt: skip

    def _write_series(
        self, made: Path, curves: Curves, offsets: dict[CurveKey, float], lasts: dict[tuple[str, str], int]
    ) -> int:
        """How many samples it wrote. What is one metric to OpenMetrics, all of a histogram, stands time by time."""
        lines, samples, family = Lines("openmetrics"), 0, -1
        with made.open("w", encoding="utf-8", errors="replace", buffering=1 << 20) as out:
            metrics = [list(keys) for _, keys in groupby(curves.keys(), _metric)]
            for number, keys in enumerate(metrics):
                if keys[0].family != family:
                    family = keys[0].family
                    out.write(lines.header(PAST[family]).decode())
                for block in self._blocks(keys, curves, offsets, lasts[keys[0].store, keys[0].integration_id]):
                    samples += len(block)
                    out.write("".join(block))
                    self._mind_stop()
                self._progress.tell("writing", number / len(metrics), f"{samples:,} samples")
            out.write("# EOF\n")
            out.flush()
            os.fsync(out.fileno())
        return samples

    def _blocks(
        self, keys: list[CurveKey], curves: Curves, offsets: dict[CurveKey, float], last: int
    ) -> Iterator[list[str]]:
        heads = [
            timed(PAST[key.family], key.suffix, key.labels, (key.store, key.integration_id), self._plan.labels)
            for key in keys
        ]
        lifts = [offsets.get(key, 0.0) for key in keys]
        step, block = self._plan.step_seconds, list[str]()
        for place, values in sampled(joined([curves.changes(key) for key in keys]), last, self._grid.regular):
            at = place * step
            for head, lift, value in zip(heads, lifts, values, strict=True):
                # Sums are of microseconds: rounded, the last value is the baseline's own, to the last bit.
                block.append(f"{head}{whole_or_not(round(value + lift, 6) if lift else value)} {at}\n")
            if len(block) >= LINES_AT_ONCE:
                yield block
                block = []
        yield block


def _metric(key: CurveKey) -> object:
    return key if PAST[key.family].kind != "histogram" else key[:3]
