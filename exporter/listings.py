"""What the simulated EPCC lists: which logs are visible, in which order, until when, and the truth about them. Pure.

Logs wait in a heap until they are visible, and then enter the lists; a list is kept sorted, so that a page costs what
its records cost, whatever the length of the list. What was once visible stays in the truth when it leaves the lists.
"""

from __future__ import annotations

import bisect
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from exporter.manners import Manners, chance, shown_ns
from exporter.shop import SECOND, Log, Shop

SORTED_IN_MAX: Final = 64  # new entries that are put in their places one by one; more are sorted in at once
FEEDS: Final = ("all", "integration", "job")

_Entry = tuple[int, int, Log]  # what it is sorted by, a number of its own, the log


class Listing:
    """The logs of one list, ascending by creation, and by another key where the manners want another order."""

    def __init__(self, entries: Iterable[_Entry] = ()) -> None:
        self._created = sorted(entries)
        self._other: list[_Entry] = []
        self._other_kind: str | None = None
        self._new: list[_Entry] = []  # not yet in `_created`

    def add(self, entry: _Entry) -> None:
        self._new.append(entry)
        if self._other_kind is not None:
            bisect.insort(self._other, _rekeyed(entry, self._other_kind))

    def __len__(self) -> int:
        return len(self._created) + len(self._new)

    def as_of(self, then_ns: int) -> Listing:
        """The list as a replica has it that was last written to at `then_ns`."""
        return Listing(entry for entry in self._settled() if entry[2].visible_ns <= then_ns)

    def page(self, offset: int, length: int, manners: Manners, chooser: random.Random) -> list[Log]:
        order = manners.order
        if order == "shuffled":
            every = [entry[2] for entry in self._settled()]
            chooser.shuffle(every)
            return every[offset : offset + length]
        if order == "unordered":
            return [entry[2] for entry in self._by("jumble")[offset : offset + length]]
        entries = self._by("visible") if "visible" in order else self._settled()
        low, high = offset, min(offset + length, len(entries))
        if order.startswith("newest"):
            low, high = max(0, len(entries) - high), len(entries) - offset
        if low >= high:
            return []
        if manners.ties_permuted and entries is self._created:
            logs = _permuted(entries, low, high, manners, chooser)
        else:
            logs = [entry[2] for entry in entries[low:high]]
        return logs[::-1] if order.startswith("newest") else logs

    def drop_before(self, created_ns: int) -> list[Log]:
        entries = self._settled()
        place = bisect.bisect_left(entries, created_ns, key=lambda entry: entry[0])
        gone = [entry[2] for entry in entries[:place]]
        if gone:
            del entries[:place]
            self._other_kind, self._other = None, []
        return gone

    def drop(self, unwanted: Callable[[Log], bool]) -> list[Log]:
        gone = [entry[2] for entry in self._settled() if unwanted(entry[2])]
        if gone:
            self._created = [entry for entry in self._created if not unwanted(entry[2])]
            self._other_kind, self._other = None, []
        return gone

    def _settled(self) -> list[_Entry]:
        if len(self._new) > SORTED_IN_MAX:
            self._created.extend(self._new)
            self._created.sort()
        else:
            for entry in self._new:
                bisect.insort(self._created, entry)
        self._new = []
        return self._created

    def _by(self, kind: str) -> list[_Entry]:
        if self._other_kind != kind:
            self._other_kind = kind
            self._other = sorted(_rekeyed(entry, kind) for entry in self._settled())
        return self._other


def _rekeyed(entry: _Entry, kind: str) -> _Entry:
    _, number, log = entry
    return (number if kind == "visible" else int(chance("jumble", log.id) * 2**48), number, log)


def _permuted(entries: Sequence[_Entry], low: int, high: int, manners: Manners, chooser: random.Random) -> list[Log]:
    """entries[low:high], where records of equal `created_at` have changed places, over the page's borders too."""

    def shown(place: int) -> int:
        return shown_ns(entries[place][2], manners)

    first, last = low, high
    while first > 0 and shown(first - 1) == shown(low):
        first -= 1
    while last < len(entries) and shown(last) == shown(high - 1):
        last += 1
    logs: list[Log] = []
    tied: list[Log] = []
    for place in range(first, last):
        tied.append(entries[place][2])
        if place + 1 == last or shown(place + 1) != shown(place):
            chooser.shuffle(tied)
            logs += tied
            tied = []
    return logs[low - first : high - first]


@dataclass(slots=True)
class Counted:
    """What a perfect observer has counted of one integration."""

    attempts: int = 0
    failures: int = 0
    retries: int = 0
    responses: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    processing_us: int = 0
    jobs: dict[str, bool] = field(default_factory=dict)  # whether it was delivered

    def truth(self) -> dict[str, Any]:
        return {
            "attempts": self.attempts,
            "failures": self.failures,
            "responses": dict(sorted(self.responses.items())),
            "retries": self.retries,
            "jobs": len(self.jobs),
            "delivered": {"first": self.delivered["first"], "retry": self.delivered["retry"]},
            "processing_us": self.processing_us,
        }

    def count(self, log: Log) -> None:
        self.attempts += 1
        self.failures += not log.succeeded
        self.retries += log.attempt > 1
        self.processing_us += round((log.processing_time or 0.0) * 1_000_000)
        code = log.status_code
        self.responses["none" if not code else str(code) if 100 <= code <= 599 else "other"] += 1
        if log.succeeded and not self.jobs.get(log.job_id, False):
            self.delivered["first" if log.attempt == 1 else "retry"] += 1
        self.jobs[log.job_id] = log.succeeded or self.jobs.get(log.job_id, False)


class Lists:
    """Every list of the store, as it stands at the time of the last `advance`."""

    def __init__(self, shop: Shop | None = None) -> None:
        self.now_ns = 0
        self._shop = shop
        self._waiting: list[tuple[int, int, Log, Sequence[str]]] = []
        self._number = 0
        self._every = Listing()
        self._unlisted = Listing()  # visible, but not in the list of all logs
        self._of_integration: dict[str, Listing] = {}
        self._of_job: dict[str, dict[str, list[_Entry]]] = {}  # a few each: no Listing
        self._removed: set[str] = set()
        self._counted: dict[str, Counted] = {}

    def add(self, logs: Iterable[Log], manners: Manners, feeds: Sequence[str] = FEEDS) -> None:
        if unknown := set(feeds) - set(FEEDS):
            raise ValueError(f"feeds: unknown {', '.join(sorted(unknown))}")
        for added in logs:
            log = added
            if manners.lateness_seconds:
                late_ns = round(chance("late", log.id) * manners.lateness_seconds * SECOND)
                log = replace(log, visible_ns=log.visible_ns + late_ns)
            self._number += 1
            heapq.heappush(self._waiting, (log.visible_ns, self._number, log, feeds))

    def advance(self, now_ns: int, manners: Manners) -> None:
        """Everything that has happened by `now_ns`; a time before the last one changes nothing."""
        self.now_ns = max(self.now_ns, now_ns)
        if self._shop is not None:
            self.add(self._shop.until(self.now_ns), manners)
        while self._waiting and self._waiting[0][0] <= self.now_ns:
            _, _, log, feeds = heapq.heappop(self._waiting)
            if log.integration_id not in self._removed:
                self._show(log, feeds)
        if manners.retention_seconds is not None:
            self.drop_before(self.now_ns - round(manners.retention_seconds * SECOND))

    def all(self) -> Listing:
        return self._every

    def of_integration(self, integration_id: str) -> Listing:
        return self._of_integration.get(integration_id) or Listing()

    def of_job(self, integration_id: str, job_id: str) -> Listing | None:
        entries = self._of_job.get(integration_id, {}).get(job_id)
        return None if entries is None else Listing(entries)

    def jobs(self, integration_id: str) -> list[str]:
        """In the order in which they first had a log."""
        return list(self._of_job.get(integration_id, ()))

    def welcome(self, integration_id: str) -> None:
        self._removed.discard(integration_id)

    def remove(self, integration_id: str) -> None:
        """Its logs leave the lists, and none come after them."""
        self._removed.add(integration_id)
        self.drop(lambda log: log.integration_id == integration_id)

    def drop(self, unwanted: Callable[[Log], bool]) -> None:
        gone = self._every.drop(unwanted) + self._unlisted.drop(unwanted)
        for listing in self._of_integration.values():
            listing.drop(unwanted)
        self._drop_jobs(gone, unwanted)

    def drop_before(self, created_ns: int) -> None:
        gone = self._every.drop_before(created_ns) + self._unlisted.drop_before(created_ns)
        for integration_id in {log.integration_id for log in gone} & self._of_integration.keys():
            self._of_integration[integration_id].drop_before(created_ns)
        self._drop_jobs(gone, lambda log: log.created_ns < created_ns)

    def _drop_jobs(self, gone: Iterable[Log], unwanted: Callable[[Log], bool]) -> None:
        for log in gone:
            jobs = self._of_job.get(log.integration_id, {})
            left = [entry for entry in jobs.pop(log.job_id, ()) if not unwanted(entry[2])]
            if left:
                jobs[log.job_id] = left

    def _show(self, log: Log, feeds: Sequence[str]) -> None:
        self._number += 1
        entry = (log.created_ns, self._number, log)
        (self._every if "all" in feeds else self._unlisted).add(entry)
        if "integration" in feeds:
            self._of_integration.setdefault(log.integration_id, Listing()).add(entry)
        if "job" in feeds:
            self._of_job.setdefault(log.integration_id, {}).setdefault(log.job_id, []).append(entry)
        self._counted.setdefault(log.integration_id, Counted()).count(log)

    def truth(self, integration_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What a perfect observer has counted of those integrations, and of all that had logs."""
        ids = dict.fromkeys((*integration_ids, *self._counted))
        return {i: self._counted.get(i, Counted()).truth() for i in ids}
