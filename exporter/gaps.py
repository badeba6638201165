"""What may have been missed: late logs that count no more, each stretch of time told of and counted once.

A gap is told when it is durable, and not before: a commit that fails is tried again, and would tell of it twice.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from exporter import logs
from exporter.metrics import OwnMetrics
from exporter.records import Page
from exporter.rows import Gap, Marks

REMEMBERED_MAX: Final = 10_000  # rejected records, late ids, folded values told apart; what is beyond is told again
INTEGRATIONS_SHOWN_MAX: Final = 10  # that a log line names

_log = logging.getLogger(__name__)


class Remembered:
    """A bounded set of keys: `new` is True the first time."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()

    def new(self, key: str) -> bool:
        if key in self._keys:
            self._keys.move_to_end(key)
            return False
        self._keys[key] = None
        if len(self._keys) > REMEMBERED_MAX:
            self._keys.popitem(last=False)
        return True


class Gaps:
    """One store's. `shown`: those that the counter has shown already, by cause; kept by the caller across reloads."""

    def __init__(self, store: str, lookback_ns: int, own: OwnMetrics, shown: dict[str, int]) -> None:
        self._store = store
        self._lookback_ns = lookback_ns
        self._own = own
        self._shown = shown
        self._late = Remembered()
        self.waiting: list[Gap] = []  # of late logs, for the next commit

    def find_late(self, page: Page, marks: Marks, server_ns: int) -> None:
        """A record below `keep` among records above the floor, in the order of arrival: too late to be counted."""
        if marks.keep_ns is None or marks.floor_ns is None or not marks.begun:
            return
        if page.oldest_ns is None or page.oldest_ns >= marks.keep_ns:
            return
        order = marks.feeds[""].order if "" in marks.feeds else ""
        attempts = {"newest_first": page.attempts, "oldest_first": page.attempts[::-1]}.get(order, ())
        before_ns = 0  # the newest of those that became visible earlier
        times = Counter(page.keys)
        for attempt in reversed(attempts):
            at = attempt.created_ns
            # Neither a date in the future nor a record shown twice says when anything became visible.
            if at is None or at > server_ns or times[attempt.id] > 1:
                continue
            late = at < marks.keep_ns and before_ns >= marks.floor_ns and before_ns - at > self._lookback_ns
            if late and self._late.new(attempt.id):
                self.waiting.append(Gap("late", at, server_ns, (attempt.integration_id,)))
            before_ns = max(before_ns, at)

    def counted_late(self, log_id: str) -> None:
        """No gap when `keep` has passed it."""
        self._late.new(log_id)

    def take(self) -> list[Gap]:
        taken, self.waiting = self.waiting, []
        return taken

    def put_back(self, gaps: Sequence[Gap]) -> None:
        """Of a commit that failed: what a walk found it finds again, a late log is not looked at twice."""
        self.waiting[:0] = [gap for gap in gaps if gap.cause == "late"]

    def show(self, marks: Marks) -> None:
        """Counts those that are new since the last time."""
        for cause, number in marks.gaps.items():
            news = number - self._shown.get(cause, 0)
            if news > 0:
                self._own.gaps.labels(store=self._store, cause=cause).inc(news)
                self._shown[cause] = number

    def tell(self, gaps: Sequence[Gap]) -> None:
        """A line for each stretch, with its time."""
        for gap in gaps:
            logs.log(_log, logging.WARNING, "logs may have been missed: a gap", store=self._store, cause=gap.cause,
                     since=_utc(gap.from_ns), until=_utc(gap.to_ns),
                     integrations=",".join(gap.integrations[:INTEGRATIONS_SHOWN_MAX]) or "unknown")  # fmt: skip


def _utc(ns: int | None) -> str:
    """For a log line, to the second."""
    return "unknown" if ns is None else datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
