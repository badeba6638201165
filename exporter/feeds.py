"""Which lists a walk reads, and what its end means for the marks.

*All logs* is the steady feed. *Logs for an integration* takes over where that ends at the offset limit above the floor,
or where few integrations are wanted. Past the limit of those, the job list and the logs of each job are all that is
left. What still cannot be reached is a gap; the marks move on all the same: waiting would only widen it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol
from urllib.parse import quote

from exporter import logs
from exporter.api import ApiError
from exporter.config import StoreConfig
from exporter.fetch import LIMIT_CODES, PAGE_LIMIT_MIN, Fetch, Pages
from exporter.foresight import pages_left
from exporter.metrics import OwnMetrics
from exporter.questions import ANY, NEWEST_FIRST, OLDEST_FIRST, UNKNOWN, UNORDERED, Ended, Goal, Got, Refused
from exporter.records import Integration, Page, read_integrations, read_jobs, read_page
from exporter.rows import Feed, Gap, Marks
from exporter.walk import THROUGH, Walk

OFFSET_LIMIT: Final = 10_000  # EPCC's documented soft limit, until this store has shown its own
FEW_INTEGRATIONS: Final = 5  # `include` naming no more than these is read from their own lists
AUDIT_EVERY: Final = 4  # complete walks: every fourth goes down to `keep`, for logs later than `lookback`
JOB_LOOKUPS_MAX: Final = 1_000  # per integration and walk, past every offset limit
GROWN_MAX: Final = 3  # short pages of a job list with jobs that none had shown: it grows while it is read
INTEGRATIONS_MAX: Final = 10_000  # EPCC allows 100 per store; more than this is refused as a broken answer
INTEGRATIONS_PAGE: Final = 100
DATE_NS: Final = 1_000_000_000  # `Date` tells whole seconds
VOTES: Final = 2  # walks in a row that must see another order before it is believed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    complete: bool
    again: bool  # walk completely, at once


class Taker(Protocol):
    """Who takes in what the walks bring."""

    marks: Marks
    counting: bool  # False while a baseline is remembered and not counted
    known_ns: int  # no log that an earlier walk has remembered was created later; 0: none is

    @property
    def integrations(self) -> Mapping[str, Integration]: ...
    def begin_walk(self) -> None: ...
    async def enter(self, page: Page, server_ns: int, /) -> frozenset[str]: ...
    async def flush(
        self, now_ns: int, /, *, marks: Marks | None = None, gaps: Sequence[Gap] = (),
        listed: frozenset[str] | None = None, announce_all: bool = False,
    ) -> None: ...  # fmt: skip
    def wanted(self, integration_id: str, /) -> bool: ...
    def known_integrations(self) -> list[str]: ...


class Feeds:
    """One store's lists."""

    def __init__(self, config: StoreConfig, fetch: Fetch, intake: Taker, own: OwnMetrics) -> None:
        self._config = config
        self._fetch = fetch
        self._intake = intake
        self._own = own
        self._complete_walks = 0
        # Integrations whose own lists the last walk did not come through → what it came down to (ns); None: not known.
        self._unreached: dict[str, int | None] = {}
        self._lookback_ns = round(config.lookback * 1e9)
        self.reach = OFFSET_LIMIT + config.page_limit  # logs that a walk can reach

    async def walk(self, *, complete: bool) -> Result:
        """One walk over the feed, with whatever it takes to reach the floor. Raises ApiError, StorageError."""
        self._intake.begin_walk()
        self._unreached = {}
        marks = self._intake.marks.copied()
        own_lists = self._own_lists()
        if own_lists is None:
            ended = await self._walk_list("", self._goal(marks, "", quick=not complete), marks)
            if ended.how in ("capped", "paging_ignored"):
                self._mind_reach(ended)
                if not complete:
                    return Result(complete=False, again=True)
        else:
            ended = await self._walk_each(own_lists, self._goal(marks, "", quick=not complete), marks)
        if not complete and not ended.complete:
            await self._intake.flush(_now(ended, marks), gaps=self._lapses(ended, marks))
            # One that came through without a proof waits for the next complete walk, which is due in half a lookback.
            return Result(complete=False, again=ended.how not in ("known", *THROUGH) or ended.broken)
        gaps: list[Gap] = []
        if not ended.complete:
            ended, gaps = await self._reach_further(ended, marks)
        await self._end(ended, marks, [*gaps, *self._lapses(ended, marks)])
        return Result(complete=ended.complete, again=ended.broken)

    def _own_lists(self) -> list[str] | None:
        """The integrations to read one by one, where `include` names few and all of them are known."""
        if not 0 < len(self._config.include) <= FEW_INTEGRATIONS:
            return None
        wanted = [i for i in self._intake.integrations if self._intake.wanted(i)]
        return wanted if len(wanted) == len(self._config.include) else None

    def _goal(self, marks: Marks, key: str, *, quick: bool) -> Goal:
        feed = marks.feeds.get(key) or Feed()
        stop_ns = marks.floor_ns
        if not quick:
            self._complete_walks += 1
            if self._complete_walks % AUDIT_EVERY == 0 and marks.keep_ns is not None:
                stop_ns = marks.keep_ns
        return Goal(
            lookback_ns=self._lookback_ns,
            floor_ns=marks.floor_ns,
            stop_ns=stop_ns,
            # A store without a floor that has begun was empty, or shows no times: all that it lists is news.
            whole=marks.floor_ns is None and (marks.begun or self._intake.counting),
            quick=quick,
            order=feed.order,
            tail_hint=feed.tail_at,
            head_ns=feed.newest_ns,
            trusted=feed.strong,
            page_limit=self._config.page_limit,
        )

    # --- one list

    async def _walk_list(self, key: str, goal: Goal, marks: Marks) -> Ended:
        """`key`: an integration's id, or "" for all logs. What the walk saw of the list's order goes into `marks`."""
        endpoint, path = ("integration_logs", f"/integrations/{quote(key, safe='')}/logs") if key else (
            "logs", "/integrations/logs")  # fmt: skip

        def page(offset: int) -> asyncio.Future[tuple[Page, int] | None]:
            return asyncio.ensure_future(self._fetch.page(endpoint, path, offset, self._config.page_limit, key or None))

        walk, pages = Walk(goal), Pages(page, partial(pages_left, goal, self._intake.known_ns))
        questions = walk.start()
        try:
            ask = next(questions)
            while True:
                asked_ns = self._fetch.wall_ns()
                found = await pages.at(ask.offset, ask.ahead)
                waited_ns = max(0, self._fetch.wall_ns() - asked_ns)
                if found is None:
                    ask = questions.send(Refused())
                    continue
                offset, got, server_ns = found
                unknown = await self._intake.enter(got, server_ns)
                ask = questions.send(Got(offset, got, unknown, server_ns, server_ns + waited_ns + DATE_NS))
        except StopIteration as stop:
            ended: Ended = stop.value
        finally:
            await pages.close()
        self._own.walk_pages.labels(store=self._config.name).set(ended.pages)
        self._vote(marks.feeds.setdefault(key, Feed()), ended, key)
        return ended

    def _vote(self, feed: Feed, ended: Ended, key: str) -> None:
        feed.tail_at = ended.tail_at if ended.tail_at is not None else feed.tail_at
        feed.newest_ns = ended.newest_ns if ended.complete else feed.newest_ns
        seen = ended.evidence
        if seen is None:
            # A walk that found the head or the far end elsewhere than the order says, without times to say why.
            seen = UNORDERED if ended.swept and feed.order in (NEWEST_FIRST, OLDEST_FIRST) else None
        if seen is None or seen == feed.order:
            feed.strong = feed.strong or (seen is not None and ended.strong)
            feed.dissent = 0 if seen is not None else feed.dissent
            return
        feed.dissent += 1
        if feed.order == UNKNOWN or feed.dissent >= VOTES:
            logs.log(_log, logging.INFO, "the order of a list was observed", store=self._config.name,
                     list=key or "all logs", order=seen, before=feed.order)  # fmt: skip
            feed.strong = ended.strong
            feed.order, feed.dissent, feed.tail_at = seen, 0, None if seen != OLDEST_FIRST else feed.tail_at

    async def _walk_each(self, integrations: list[str], goal: Goal, marks: Marks) -> Ended:
        """Several integrations' lists as one feed: complete if all of them are."""
        whole: Ended | None = None
        for integration_id in integrations:
            feed = marks.feeds.get(integration_id) or Feed()
            own = replace(goal, order=feed.order, tail_hint=feed.tail_at, head_ns=feed.newest_ns, trusted=feed.strong,
                          clamp_ns=whole.clamp_ns if whole is not None else goal.clamp_ns)  # fmt: skip
            try:
                ended = await self._walk_list(integration_id, own, marks)
            except ApiError as error:
                if error.code != 404 or integration_id in self._intake.integrations:
                    raise
                ended = _vanished(own)
            if ended.how == "capped":
                ended = replace(ended, complete=await self._walk_jobs(integration_id))
            if not ended.complete:
                self._unreached[integration_id] = _down_to(ended, marks.feeds.get(integration_id), marks.feeds.get(""))
            whole = ended if whole is None else _together(whole, ended)
        return whole if whole is not None else replace(_vanished(goal), complete=True, how="end")

    async def _walk_jobs(self, integration_id: str) -> bool:
        """The logs of the jobs of an integration whose list goes on past the offset limit. True: all were read."""
        path = f"/integrations/{quote(integration_id, safe='')}/jobs"
        jobs, whole, _ = await list_jobs(self._fetch, path, self._config.page_limit)
        for job_id in jobs[:JOB_LOOKUPS_MAX]:
            page, server_ns = await self._fetch.get(
                "job_logs", f"{path}/{quote(job_id, safe='')}/logs", {}, lambda body: read_page(body, integration_id)
            )
            await self._intake.enter(page, server_ns)
        return whole and len(jobs) <= JOB_LOOKUPS_MAX

    # --- what an end means

    def _mind_reach(self, ended: Ended) -> None:
        if ended.tail_at is not None and ended.how == "capped":
            self.reach = min(self.reach, ended.tail_at + 1)

    def _lapses(self, ended: Ended, marks: Marks) -> list[Gap]:
        """What left the list before the walk came to it."""
        return [Gap("retention", marks.complete_through_ns, _now(ended, marks))] if ended.lapsed else []

    def _long_ago(self, through_ns: int | None, now_ns: int) -> bool:
        """Whether logs can have come and gone since the last complete walk: some list keeps each for two lookbacks, by
        all that the exactness rests on. So the first log after a list has emptied hides none before it."""
        return through_ns is None or now_ns - through_ns > 2 * self._lookback_ns

    async def _reach_further(self, ended: Ended, marks: Marks) -> tuple[Ended, list[Gap]]:
        """A complete walk that did not come through: by other lists, or as a gap that says so."""
        if ended.how in ("stuck", "overtaken", "too_long"):
            # Only then: what a failed walk brought would be known ground to the next one, and hide what retention took.
            if ended.lapsed:
                await self._intake.flush(_now(ended, marks), gaps=self._lapses(ended, marks))
            raise ApiError("invalid_response", detail=f"the walk through the list is {ended.how.replace('_', ' ')}")
        if ended.how in ("capped", "paging_ignored"):
            goal = replace(self._goal(marks, "", quick=False), clamp_ns=ended.clamp_ns)
            each = await self._walk_each(self._intake.known_integrations(), goal, marks)
            together = replace(
                _together(ended, each), complete=each.complete, how="floor" if each.complete else ended.how
            )
            if together.complete:
                return together, []
            ended = together
        cause = {"capped": "offset_limit", "paging_ignored": "paging_ignored", "ties": "ties"}.get(ended.how, "order")
        through_ns = marks.complete_through_ns if marks.complete_through_ns is not None else ended.oldest_ns
        down_to = [*self._unreached.values()] if cause == "offset_limit" else []
        known = [at for at in down_to if at is not None]
        until_ns = max(known) if known and len(known) == len(down_to) else _now(ended, marks)
        return ended, [Gap(cause, marks.floor_ns if through_ns is None else through_ns, until_ns, (*self._unreached,))]

    async def _end(self, ended: Ended, marks: Marks, gaps: list[Gap]) -> None:
        """Moves the marks, which only a complete walk and a recorded gap may, in the transaction of its last batch."""
        first = not marks.begun
        now_ns = _now(ended, marks)
        floor_before = marks.floor_ns
        if floor_before is not None and ended.complete and ended.how != "floor" and not ended.ground and (
            ended.newest_ns is not None and self._long_ago(marks.complete_through_ns, now_ns)
        ):  # fmt: skip
            # The whole list was read, and nothing on it was known: retention has passed what had been counted.
            gaps = [*gaps, Gap("retention", floor_before, now_ns)]
        if ended.newest_ns is not None:
            floor_ns = ended.newest_ns - self._lookback_ns
            marks.floor_ns = floor_ns if floor_before is None else max(floor_before, floor_ns)
        feed = marks.feeds.get("")
        jumbled = ended.untimed or (feed is not None and feed.order == UNORDERED)
        if marks.floor_ns is not None and not (ended.swept and jumbled):
            keep_ns = marks.floor_ns - self._lookback_ns
            if first and ended.stop_ns is not None:
                keep_ns = marks.floor_ns  # what lies below was not looked at to its end
            marks.keep_ns = keep_ns if marks.keep_ns is None else max(marks.keep_ns, keep_ns)
        if ended.complete:
            marks.complete_through_ns = max(marks.complete_through_ns or 0, now_ns)
        if first:
            marks.begun, marks.begun_ns = True, self._fetch.wall_ns()
        await self._intake.flush(
            now_ns,
            marks=marks,
            gaps=gaps,
            listed=frozenset(ended.listed) if ended.swept and jumbled and ended.complete else None,
            announce_all=first and self._intake.counting,
        )
        self._intake.counting = True


async def list_integrations(fetch: Fetch) -> dict[str, Integration]:
    """By id. Raises ApiError."""
    found: dict[str, Integration] = {}
    offset = 0
    while True:
        query = {"page[limit]": str(INTEGRATIONS_PAGE), "page[offset]": str(offset)}
        try:
            (page, length), _ = await fetch.get("integrations", "/integrations", query, read_integrations)
        except ApiError as error:
            if offset > 0 and error.code in LIMIT_CODES:
                return found  # some APIs refuse an offset past the end
            raise
        news = [integration for integration in page if integration.id not in found]
        found.update({integration.id: integration for integration in news})
        offset += length
        if not news or len(found) > INTEGRATIONS_MAX:
            return found


async def list_jobs(fetch: Fetch, path: str, limit: int) -> tuple[list[str], bool, int]:
    """The job ids that EPCC lists, whether it pages them or not; whether these are all; its clock (ns).

    No paging is documented for this list, so it is swept like any other: an empty page is not its end. One that grows
    at its end as fast as it is read has none, nor times that show a present: the next look sees what came after this.
    """
    goal = Goal(0, None, None, whole=True, quick=False, order=ANY, tail_hint=None, page_limit=limit)
    questions = Walk(goal).start()
    found: dict[str, None] = {}
    longest = server_ns = grown = 0
    try:
        ask = next(questions)
        while True:
            query = {"page[limit]": str(max(PAGE_LIMIT_MIN, limit)), "page[offset]": str(ask.offset)}
            try:
                (ids, length), server_ns = await fetch.get("jobs", path, query, read_jobs)
            except ApiError as error:
                if ask.offset == 0 or error.code not in LIMIT_CODES:
                    raise
                ask = questions.send(Refused())
                continue
            before = len(found)
            found.update(dict.fromkeys(ids))
            longest = max(longest, length)
            grown += before < len(found) and length < longest
            if longest > max(PAGE_LIMIT_MIN, limit):
                return list(found), True, server_ns  # longer than asked for: not paged at all
            if grown >= GROWN_MAX:
                questions.close()
                return list(found), False, server_ns
            ask = questions.send(Got(ask.offset, Page((), (), tuple(ids), None), frozenset(ids), server_ns, server_ns))
    except StopIteration as stop:
        ended: Ended = stop.value
    unpaged = ended.how == "paging_ignored" and longest < limit
    return list(found), ended.complete or unpaged, server_ns


def _now(ended: Ended, marks: Marks) -> int:
    return ended.clamp_ns if ended.clamp_ns is not None else marks.born_ns


def _down_to(ended: Ended, *feeds: Feed | None) -> int | None:
    """What a list that ends at the offset limit was read down to (ns); None: it does not run newest-first."""
    orders = (ended.evidence, *(feed.order for feed in feeds if feed is not None))
    order = next((order for order in orders if order not in (None, UNKNOWN)), None)
    return ended.oldest_ns if ended.how == "capped" and order == NEWEST_FIRST else None


def _vanished(goal: Goal) -> Ended:
    """The list of an integration that is gone: nothing of it can be shown to be complete."""
    return Ended(
        complete=False,
        how="gone",
        clamp_ns=goal.clamp_ns,
        newest_ns=None,
        oldest_ns=None,
        stop_ns=goal.stop_ns,
        evidence=None,
        strong=False,
        listed=frozenset(),
        swept=False,
        pages=0,
        tail_at=None,
        broken=False,
        lapsed=False,
        ground=False,
        untimed=False,
    )


def _together(a: Ended, b: Ended) -> Ended:
    newest = [at for at in (a.newest_ns, b.newest_ns) if at is not None]
    oldest = [at for at in (a.oldest_ns, b.oldest_ns) if at is not None]
    stops = [at for at in (a.stop_ns, b.stop_ns) if at is not None]
    return replace(
        a,
        complete=a.complete and b.complete,
        how=a.how if not a.complete else b.how,
        clamp_ns=a.clamp_ns if a.clamp_ns is not None else b.clamp_ns,
        newest_ns=max(newest, default=None),
        oldest_ns=min(oldest, default=None),
        stop_ns=max(stops, default=None),
        listed=a.listed | b.listed,
        swept=a.swept and b.swept,
        pages=a.pages + b.pages,
        broken=a.broken or b.broken,
        lapsed=a.lapsed or b.lapsed,
        ground=a.ground or b.ground,
        untimed=a.untimed or b.untimed,
    )
