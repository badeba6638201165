"""Which page next, and when a walk is complete. Pure: pages in, questions out.

A walk is a generator: it yields `Ask(offset)` and is sent `Got` (a page) or `Refused` (an error that may be the offset
limit); it returns `Ended`. Theory of operation, whatever the order of the list:

- One *stitched run* (`_forward`): each page overlaps the last one by at least a record, and by the whole group of
  records that share its last `created_at`. A page that shares no id with the run shows that the list moved: step back.
- Three places to begin and end it: newest-first from offset 0 to the first record below the floor; oldest-first from a
  page that reaches below the floor to the end; otherwise (`sweep`) the whole list.
- The end of a list is certain only when our own last record is shown several times with nothing after it. An empty
  page, a short page, a missing link, a total are hints. A full page that ends with our last record is not the end.
- Order is evidence (`questions.Evidence`): times that spread more than `lookback` one way and never the other way.

Each stopping rule has a test that loses a record without it: "exactly once" rests on them.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from exporter.questions import (
    NEWEST_FIRST,
    OLDEST_FIRST,
    UNKNOWN,
    UNORDERED,
    Answer,
    Ask,
    Ended,
    Evidence,
    Goal,
    Got,
    Questions,
    Refused,
    Run,
    Steps,
    TooLongError,
)
from exporter.records import Page

LOGS_MAX: Final = 500_000  # per walk, in pages of the length asked for; one that needs more fails and says so
CONFIRMATIONS: Final = 3  # sightings of "our last record and nothing after it" that make an end
BACK: Final = (0, 1, 3, 7)  # how far before the last record the confirming requests begin: a cut page hides less
IDLE_MAX: Final = 9  # requests in a row that neither advance nor confirm
EMPTY_MAX: Final = 3  # empty answers at offset 0 that make an empty list
RESTARTS_MAX: Final = 5  # times that a burst may overtake a walk at offset 0
PASSES_MAX: Final = 4  # sweeps of a list without order, until two agree
PROBES: Final = (1, 4, 16, 64)  # pages ahead, to see which way a list runs whose first page is dense


class Walk:
    """One walk over one list. `start()` is the generator; the object holds what it has seen."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self.clamp_ns = goal.clamp_ns
        self.pages = 0
        self.newest_ns: int | None = None
        self.oldest_ns: int | None = None
        self.stop_ns = goal.stop_ns
        self.broken = False
        self.ground = False
        self.untimed = False
        self.ties = False  # more equal times than a page can overlap: one pass proves nothing
        self.proven = True  # False: a single pass over a list that one pass proves nothing of
        self.evidence = Evidence(goal.lookback_ns)
        self.run = Run()

    def start(self) -> Questions:
        order, swept = self.goal.order, False
        try:
            if self.goal.quick and order in (UNKNOWN, UNORDERED) and (yield from self._nothing_new()):
                return self._ended("known", swept)
            if order == UNKNOWN:
                order = yield from self._decide()
            if order == NEWEST_FIRST:
                how = yield from self._descend()
            elif order == OLDEST_FIRST:
                how = yield from self._ascend()
            else:
                swept, how = True, (yield from self._sweep(order))
            if how == "disorder":
                swept, how = True, (yield from self._sweep(UNORDERED))
        except TooLongError:
            how = "too_long"
        return self._ended(how, swept)

    def _ended(self, how: str, swept: bool) -> Ended:
        complete = how in ("floor", "end") and self.proven
        return Ended(
            complete=complete,
            how=how,
            clamp_ns=self.clamp_ns,
            newest_ns=self.newest_ns,
            oldest_ns=self.oldest_ns,
            stop_ns=self.stop_ns if how == "floor" else None,
            evidence=self.evidence.verdict,
            listed=frozenset(self.run.keys) if swept and how == "end" else frozenset(),
            swept=swept and how == "end",
            pages=self.pages,
            tail_at=self.run.tail_at if how in ("end", "known") and self.run.tail is not None else None,
            broken=self.broken,
            ground=self.ground,
            untimed=self.untimed,
        )

    # --- asking

    def _ask(self, offset: int, ahead: int = 0) -> Generator[Ask, Answer, Answer]:
        self.pages += 1
        if self.pages > LOGS_MAX // self.goal.page_limit:
            raise TooLongError
        answer = yield Ask(offset, ahead)
        if isinstance(answer, Got):
            if self.clamp_ns is None:
                self.clamp_ns = answer.server_ns
            for attempt in answer.page.attempts:
                self.ground = self.ground or attempt.id not in answer.unknown
                self.untimed = self.untimed or attempt.created_ns is None
            times = self._times(answer.page)
            if times:
                self.newest_ns = max(times) if self.newest_ns is None else max(self.newest_ns, *times)
                self.oldest_ns = min(times) if self.oldest_ns is None else min(self.oldest_ns, *times)
        return answer

    def _times(self, page: Page) -> list[int]:
        """`created_at` of a page in the list's order, without those in the future of the walk's start."""
        clamp = self.clamp_ns
        stamps = (attempt.created_ns for attempt in page.attempts)
        return [at for at in stamps if at is not None and (clamp is None or at <= clamp)]

    def _nothing_new(self) -> Generator[Ask, Answer, bool]:
        """Whether a list that fits on one page, as far as that can be seen, shows nothing new."""
        got = yield from self._ask(0)
        return isinstance(got, Got) and not got.unknown and len(got.page.keys) < self.goal.page_limit

    def _decide(self) -> Generator[Ask, Answer, str]:
        """Which way a list runs that nobody has seen yet: its first page, and where that is dense, pages further on."""
        near = yield from self._ask(0)
        if not isinstance(near, Got) or not near.page.keys:
            return UNKNOWN
        evidence = Evidence(self.goal.lookback_ns)
        evidence.read(self._times(near.page))
        if evidence.verdict is not None:
            return evidence.verdict
        for pages in PROBES:
            far = yield from self._ask(len(near.page.keys) * pages)
            if not isinstance(far, Got) or not far.page.keys:
                return UNKNOWN
            apart = Evidence(self.goal.lookback_ns)
            apart.read(self._times(near.page))
            apart.read(self._times(far.page))
            if apart.verdict is not None:
                return apart.verdict
        return UNKNOWN

    # --- the three ways through a list

    def _descend(self) -> Steps:
        """Newest-first: from the head to the first record below the floor."""
        how = yield from self._forward(0, descending=True)
        for _ in range(PASSES_MAX - 1):
            if how not in ("floor", "end") or not self.ties or self.goal.quick:
                # A quick poll vouches for nothing, where more records share a time than pages can overlap by.
                self.proven = self.proven and not self.ties
                return how
            before = self.run.keys
            how = yield from self._forward(0, descending=True)
            if how in ("floor", "end") and self._only_arrivals(before):
                return how
        return "ties" if how in ("floor", "end") else how

    def _ascend(self) -> Steps:
        """Oldest-first: from a page that reaches below the floor, on to the end."""
        if self.goal.quick and self.goal.tail_hint is not None:
            self.proven = False  # it begins above the floor: late logs may stand before its beginning
            return (yield from self._forward(max(0, self.goal.tail_hint - 2), descending=False))
        if self.goal.whole:
            return (yield from self._forward(0, descending=False))
        start = yield from self._tail_page()
        step = 0
        while start > 0:
            got = yield from self._ask(start)
            times = self._times(got.page) if isinstance(got, Got) else []
            if times and self.stop_ns is None and self.newest_ns is not None:
                self.stop_ns = self.newest_ns - self.goal.lookback_ns
            if self.stop_ns is not None and any(at < self.stop_ns for at in times):
                break
            step = max(1, step * 2, len(got.page.keys) - 1 if isinstance(got, Got) and step == 0 else 1)
            start = max(0, start - step)
        how = yield from self._forward(start, descending=False)
        # Nothing at or above the floor at the far end, though that is where the floor comes from: not this order.
        return "disorder" if how == "end" and self.run.keys and not self.run.reached_floor else how

    def _tail_page(self) -> Generator[Ask, Answer, int]:
        """An offset near the list's end: the remembered one, or found by galloping and bisecting."""
        hint = self.goal.tail_hint
        if hint is not None:
            start = max(0, hint - 2)
            while start > 0:
                got = yield from self._ask(start)
                if isinstance(got, Got) and got.page.keys:
                    return start
                start //= 2
            return 0
        low, step = 0, 1
        first = yield from self._ask(0)
        keys = first.page.keys if isinstance(first, Got) else ()
        length, high = max(1, len(keys)), None if keys else 0
        while high is None or high - low > length:
            middle = low + step * length if high is None else (low + high) // 2
            got = yield from self._ask(middle)
            # A page that comes again is how some lists answer what lies past their end.
            if isinstance(got, Got) and got.page.keys and got.page.keys != keys:
                low, step, keys = middle, step * 2, got.page.keys
            else:
                high = middle
        return low

    def _sweep(self, order: str) -> Steps:
        """The whole list; where nothing vouches for its order, again and again until two passes agree."""
        how = yield from self._forward(0, descending=None)
        for _ in range(PASSES_MAX - 1):
            proven = order != UNORDERED and not self.untimed and not self.ties
            if how != "end" or proven:
                return how
            if self.goal.quick:
                self.proven = False
                return how
            before = self.run.keys
            how = yield from self._forward(0, descending=None)
            if how == "end" and self._only_arrivals(before):
                return how
        return how if how != "end" else "disorder"

    def _only_arrivals(self, before: dict[str, None]) -> bool:
        """Whether what the second pass shows beyond the first can have arrived meanwhile: at one end of the list."""
        order = list(self.run.keys)
        places = [place for place, key in enumerate(order) if key not in before]
        if not places:
            return True
        return places[-1] == len(places) - 1 or places[0] == len(order) - len(places)

    # --- the stitched run

    def _forward(self, start: int, *, descending: bool | None) -> Steps:
        """`descending` True: may end below `stop_ns`; False: oldest-first; None: neither is known."""
        run = self.run = Run(begins_at=start)
        self.evidence = Evidence(self.goal.lookback_ns)
        position, ahead = start, 0
        while True:
            answer = yield from self._ask(position, ahead)
            ahead = 0
            # Past a list of one record a refusal says no more than an empty page does.
            if isinstance(answer, Refused) and not (run.longest == 1 and position == 1):
                return "capped"
            keys = answer.page.keys if isinstance(answer, Got) else ()
            run.longest = max(run.longest, len(keys))
            if isinstance(answer, Refused) or not keys:
                if (how := self._empty(position)) is not None:
                    return how
                position = self._near_tail()
                continue
            if run.keys and not any(key in run.keys for key in keys):
                self.broken = True
                if answer.offset > 0:
                    position = self._step_back(answer.offset)
                    continue
                if run.restarts >= RESTARTS_MAX:
                    return "overtaken"
                run = self.run = Run(longest=run.longest, restarts=run.restarts + 1)
                self.evidence = Evidence(self.goal.lookback_ns)
            if (how := self._advance(answer, descending)) is not None:
                return how
            if self.run.onward:
                ahead = self._step(answer.page)
                position = answer.offset + ahead
            else:
                position = self._near_tail()

    def _advance(self, got: Got, descending: bool | None) -> str | None:
        """Enter a page that shares a record with the run (or is its first). Not None: how the walk ends."""
        run, page, keys = self.run, got.page, got.page.keys
        place = len(keys) - 1 - keys[::-1].index(run.tail) if run.tail in keys else None
        shared = max((i for i, key in enumerate(keys) if key in run.keys), default=-1)
        after = [key for key in keys[(place if place is not None else shared) + 1 :] if key not in run.keys]
        if run.first_key is None:
            run.first_key = keys[0]
        run.keys.update(dict.fromkeys(keys))
        self._mind_floor(page)
        run.onward = True
        if after:
            self._enter_progress(got, set(after))
            if descending and self.evidence.rising:
                return "disorder"
        elif place == len(keys) - 1 or (place is None and got.offset + len(keys) > run.tail_at):
            return self._confirm(got, place) or self._known(got, descending)
        # Otherwise inserts pushed known records towards us, or we stepped back: on, until the tail shows again.
        if (
            descending
            and self.stop_ns is not None
            and any(a.created_ns is not None and a.created_ns < self.stop_ns for a in page.attempts)
        ):
            # The floor stands `lookback` below a record that is listed first: a list that shows none runs another way.
            return "floor" if run.reached_floor else "disorder"
        return self._known(got, descending)

    def _mind_floor(self, page: Page) -> None:
        if self.stop_ns is None and not self.goal.whole and self.newest_ns is not None:
            self.stop_ns = self.newest_ns - self.goal.lookback_ns
        floor = self.goal.floor_ns
        self.run.reached_floor = self.run.reached_floor or any(
            floor is None or a.created_ns is None or a.created_ns >= floor for a in page.attempts
        )

    def _enter_progress(self, got: Got, after: set[str]) -> None:
        run, keys = self.run, got.page.keys
        run.idle = run.confirmed = run.lost = 0
        run.tail, run.tail_at = keys[-1], got.offset + len(keys) - 1
        run.tail_full = len(keys) >= run.longest
        clamp = self.clamp_ns
        stamps = (a.created_ns for a in got.page.attempts if a.id in after)
        self.evidence.read([at for at in stamps if at is not None and (clamp is None or at <= clamp)])

    def _known(self, got: Got, descending: bool | None) -> str | None:
        if not self.goal.quick or descending is None or got.unknown:
            return None
        # Oldest-first, new records stand behind the known ones: a long page of known ones is no reason to stop.
        return "known" if descending or len(got.page.keys) <= len(BACK) + 1 else None

    def _confirm(self, got: Got, place: int | None) -> str | None:
        """A page that ends with our last record, or stands where it should: the end, if it is not just a full page."""
        run, length = self.run, len(got.page.keys)
        run.idle += 1
        run.onward = False
        run.repeated = run.repeated or (
            run.begins_at == 0 and got.offset > 0 and got.page.keys[0] == run.first_key and length > 1
        )
        if place is not None:
            run.tail_at = got.offset + place
        if run.longest > 1 and length < run.longest:
            run.confirmed += 1
            if run.confirmed >= (CONFIRMATIONS if self.proven else 1):
                return "end"
        return self._given_up()

    def _empty(self, position: int) -> str | None:
        run = self.run
        if run.tail is None:
            run.empties += 1
            if position > 0:
                return "stuck"
            return "end" if run.empties >= EMPTY_MAX else None
        run.idle += 1
        run.onward = False
        if run.longest == 1 and position == run.tail_at + 1:
            run.confirmed += 1
            if run.confirmed >= CONFIRMATIONS:
                return "end"
        return self._given_up()

    def _given_up(self) -> str | None:
        run = self.run
        if run.idle < IDLE_MAX:
            return None
        return "paging_ignored" if run.repeated else "capped" if run.tail_full else "stuck"

    def _near_tail(self) -> int:
        """Where to ask when the last answer brought nothing: at the last record, or a little before it."""
        run = self.run
        if run.tail is None:
            return 0
        if run.longest == 1:
            return run.tail_at + 1
        # After fruitless tries, further and further back: an offset limit may lie between.
        if run.idle <= len(BACK):
            return max(0, run.tail_at - min(BACK[run.confirmed], run.longest - 2))
        back = 1 << run.idle
        return max(0, run.tail_at - back)

    def _step_back(self, offset: int) -> int:
        run = self.run
        step = max(1, run.longest - 1) << run.lost
        run.lost = min(run.lost + 1, 20)
        return max(0, offset - step)

    def _step(self, page: Page) -> int:
        """How far the next page begins after this one: all of it, less the records that it must show again."""
        last = page.attempts[-1].created_ns if page.attempts else None
        ties = 1
        if last is not None and page.keys[-1] == page.attempts[-1].id:
            ties = sum(1 for attempt in page.attempts if attempt.created_ns == last)
        distinct = len(set(page.keys))
        half = max(1, distinct // 2)
        self.ties = self.ties or ties > half
        return max(1, distinct - min(ties, half))
