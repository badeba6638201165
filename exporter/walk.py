"""Which page next, and when a walk is complete. Pure: pages in, questions out.

A walk is a generator: it yields `Ask(offset)` and is sent `Got` (a page) or `Refused` (an error that may be the offset
limit); it returns `Ended`. Theory of operation, whatever the order of the list:

- Pages are stitched into a run that no record can slip out of (`stitching`).
- Three places to begin and end it: newest-first from offset 0 to the first record below the floor; oldest-first from a
  page that reaches below the floor to the end, or to what was created since; otherwise (`sweep`) the whole list.
- Order is evidence (`questions.Evidence`): times that spread more than `lookback` one way and never the other way. A
  run that shows the other way is no walk through the list: the whole of it is swept.
- Where one pass proves nothing (no order, more equal times than pages overlap by) two passes must agree.

Each rule has a test that loses a record without it: "exactly once" rests on them.
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
    Got,
    Questions,
    Steps,
    TooLongError,
)
from exporter.stitching import Stitching

PASSES_MAX: Final = 4  # through a list that one pass proves nothing of, until two agree
THROUGH: Final = ("floor", "end", "present")  # how a walk ends that has come through, as far as one pass proves
PROBES: Final = (1, 4, 16, 64)  # pages ahead, to see which way a list runs whose first page is dense


class Walk(Stitching):
    """One walk over one list. `start()` is the generator; the object holds what it has seen."""

    def start(self) -> Questions:
        order, swept = self.goal.order, False
        try:
            if self.goal.quick and order in (UNKNOWN, UNORDERED) and (yield from self._nothing_new()):
                return self._ended("known", swept)
            if order in (NEWEST_FIRST, OLDEST_FIRST) and not self.goal.trusted:
                self.proven = not self.goal.quick
                order = order if self.goal.quick else UNKNOWN
            if order == UNKNOWN:
                order = yield from self._decide()
            if order == NEWEST_FIRST:
                how = yield from self._descend()
            elif order == OLDEST_FIRST:
                how = yield from self._ascend()
            else:
                swept, how = True, (yield from self._sweep(order))
            if how == "disorder":
                self.lapsed = False  # the list may have turned round, and what comes reads all of it
                self.astray = order == NEWEST_FIRST
                swept, how = True, (yield from self._sweep(UNORDERED))
        except TooLongError:
            how = "too_long"
        return self._ended(how, swept)

    def _ended(self, how: str, swept: bool) -> Ended:
        complete = how in THROUGH and self.proven
        return Ended(
            complete=complete,
            how=how,
            clamp_ns=self.clamp_ns,
            newest_ns=self.newest_ns,
            oldest_ns=self.oldest_ns,
            stop_ns=self.stop_ns if how == "floor" or self.run.begins_at > 0 else None,
            evidence=self._order(how),
            strong=self.evidence.strong,
            listed=self.run.keys.keys() if swept and how == "end" else frozenset(),
            swept=swept and how == "end",
            pages=self.pages,
            tail_at=self.run.tail_at if how in ("end", "present", "known") and self.run.tail is not None else None,
            broken=self.broken,
            lapsed=self.lapsed,
            ground=self.ground,
            untimed=self.untimed,
        )

    def _order(self, how: str) -> str | None:
        """What the times show: of a list that looks like none, its new end may show one, if that was come to."""
        seen = self.evidence.verdict
        if seen != UNORDERED or self.untimed:
            return seen
        if how == "floor":
            return NEWEST_FIRST
        shown = self.ends.verdict
        return shown if how == "end" or (how == "capped" and shown == NEWEST_FIRST) else seen

    # --- before the walk

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
        if evidence.verdict is not None and evidence.strong:
            return evidence.verdict
        for pages in PROBES:
            far = yield from self._ask(len(near.page.keys) * pages)
            if not isinstance(far, Got) or not far.page.keys:
                return UNKNOWN
            apart = Evidence(self.goal.lookback_ns)
            apart.read(self._times(near.page))
            apart.read(self._times(far.page))
            if apart.verdict is not None and apart.strong:
                return apart.verdict
        return UNKNOWN

    # --- the three ways through a list

    def _descend(self) -> Steps:
        """Newest-first: from the head to the first record below the floor."""
        return (yield from self._through(0, descending=True))

    def _ascend(self) -> Steps:
        """Oldest-first: from a page that reaches below the floor, on to the end."""
        if self.goal.quick and self.goal.tail_hint is not None:
            self.proven = False  # it begins above the floor: late logs may stand before its beginning
            return (yield from self._forward(max(0, self.goal.tail_hint - 2), descending=False))
        if self.goal.whole:
            return (yield from self._through(0, descending=False))
        start = yield from self._tail_page()
        step = 0
        while start > 0:
            got = yield from self._ask(start)
            times = self._times(got.page) if isinstance(got, Got) else []
            if times and self.stop_ns is None and self.newest_ns is not None:
                self.stop_ns = self._first_stop(self.newest_ns)
            if self.stop_ns is not None and any(at < self.stop_ns for at in times):
                break
            step = max(1, step * 2, len(got.page.keys) - 1 if isinstance(got, Got) and step == 0 else 1)
            start = max(0, start - step)
        how = yield from self._through(start, descending=False)
        if self.broken and how in THROUGH:
            self.lapsed = self.lapsed or (yield from self._passed())
        # The far end shows nothing as new as what it showed before: not this order.
        return "disorder" if how == "end" and self.run.keys and not self.run.reached_head else how

    def _passed(self) -> Generator[Ask, Answer, bool]:
        """Whether the list's oldest records, which left it while it was read, were newer than the floor: late ones can
        have been among them, and have left from between those that were read."""
        oldest_ns, stop_ns = self.oldest_ns, self.stop_ns
        got = yield from self._ask(0)
        first_ns = got.page.oldest_ns if isinstance(got, Got) else None
        if first_ns is None or oldest_ns is None or stop_ns is None:
            return False
        return first_ns > max(oldest_ns, stop_ns)

    def _through(self, start: int, *, descending: bool) -> Steps:
        """An ordered list from `start` on; where more records share a time than pages can overlap by, until two passes
        agree."""
        how = yield from self._forward(start, descending=descending)
        for _ in range(PASSES_MAX - 1):
            if how not in THROUGH or not self.ties:
                return how
            if self.goal.quick:
                self.proven = False
                return how
            before = self.run.keys
            how = yield from self._forward(start, descending=descending)
            newest_ns = self._newest(before)
            young_ns = None if newest_ns is None else newest_ns + 1
            if how in THROUGH and self._only_arrivals(before, young_ns):
                return how
        return "ties" if how in THROUGH else how

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
        if not keys:
            return 0
        length, high = len(keys), None
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
        self.jumbled = order == UNORDERED
        how = yield from self._forward(0, descending=None)
        for _ in range(PASSES_MAX - 1):
            proven = how == "floor" or (order != UNORDERED and not self.untimed and not self.ties)
            if how not in THROUGH or proven:
                return how
            if self.goal.quick:
                self.proven = False
                return how
            before = self.run.keys
            how = yield from self._forward(0, descending=None)
            # What comes may be late by a lookback; it is swept again, and its id kept, as long as it is listed.
            newest_ns = self._newest(before)
            young_ns = None if newest_ns is None else newest_ns - self.goal.lookback_ns
            if how in THROUGH and self._only_arrivals(before, young_ns):
                return how
        return how if how not in THROUGH else "disorder"

    def _newest(self, keys: dict[str, int | None]) -> int | None:
        """The newest `created_at` of a pass that is not in the future."""
        clamp = self.clamp_ns
        return max((at for at in keys.values() if at is not None and (clamp is None or at <= clamp)), default=None)

    def _only_arrivals(self, before: dict[str, int | None], young_ns: int | None) -> bool:
        """Whether what the second pass shows beyond the first can have arrived meanwhile: it was created since
        `young_ns` (None: no time says that), or it stands at one end of the list. What is below the floor is no matter.
        """
        low, high = self.stop_ns, young_ns
        known = [
            key in before
            for key, at in self.run.keys.items()
            if key in before or at is None or not ((low is not None and at < low) or (high is not None and at >= high))
        ]
        strangers = known.count(False)
        return not any(known[:strangers]) or not any(known[len(known) - strangers :])
