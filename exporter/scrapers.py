"""Who has read a newborn series at 0, so that its first count is seen by `increase()`. Pure: the clock is an argument.

Prometheus ignores a series' first sample: one that is born at 7 has increased by nothing. So a newborn series waits at
0 for every scraper seen in the last five minutes, for one scrape at least, and for two minutes after it was first read
at most. A scraper is a client that sends `X-Prometheus-Scrape-Timeout-Seconds` (Prometheus and vmagent do), told apart
by address and user agent; a `curl` beside it delays nothing. Where no scraper has been seen, any client's reading will
do. Those of the life before are recalled after a restart: of two that scrape out of step, the first to come back must
not end the wait for the other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

SEEN_SECONDS: Final = 300.0
PATIENCE_SECONDS: Final = 120.0
CLIENTS_MAX: Final = 1_000  # scrapers remembered; beyond it the one that was silent longest is forgotten

Key = tuple[str, str, str | None]  # store, integration, status code (None: its other counters and histograms)
Client = tuple[str, str]  # remote address, user agent


class Scrapers:
    """The book of newborn series and of those who read them. `version` numbers publications, rising."""

    def __init__(self) -> None:
        self._newborn: dict[Key, int] = {}  # the version that showed it first
        self._first_read: dict[Key, float] = {}
        self._seen: OrderedDict[Client, tuple[float, int]] = OrderedDict()  # when last, and the version it read
        self._unread: set[Key] = set()

    def recall(self, clients: Iterable[Client], now: float) -> None:
        """Scrapers of the life before: waited for as if they had just been seen, with what they had read forgotten."""
        self._seen.update((client, (now, 0)) for client in clients)

    def active(self, now: float) -> list[Client]:
        """The scrapers of the last five minutes."""
        return sorted(client for client, (at, _) in self._seen.items() if now - at <= SEEN_SECONDS)

    def all_read(self, version: int, now: float) -> bool:
        """Whether every scraper of the last five minutes has read this version, or a later one."""
        return all(read >= version for read in self._read_by(now))

    def newborn(self, keys: Iterable[Key], version: int) -> None:
        """Series that `version` shows at 0; those known already keep their place."""
        for key in keys:
            if key not in self._newborn:
                self._newborn[key] = version
                self._unread.add(key)

    def read(self, client: Client, is_scraper: bool, version: int, now: float) -> None:
        """A response with `version` was written whole."""
        if is_scraper:
            before = self._seen.pop(client, (now, 0))[1]
            self._seen[client] = (now, max(before, version))
            if len(self._seen) > CLIENTS_MAX:
                self._seen.popitem(last=False)
        if is_scraper or not self.active(now):
            shown = {key for key in self._unread if self._newborn[key] <= version}
            self._first_read.update(dict.fromkeys(shown, now))
            self._unread -= shown

    def ready(self, now: float) -> set[Key]:
        """Series that may show their numbers as soon as that is durable; they stay in the book until `forget`."""
        versions = self._read_by(now)
        if not versions:
            # Whoever read them first was enough then, or has been silent for longer than patience lasts.
            return set(self._first_read)
        read_by_all = min(versions)
        return {
            key
            for key, first_read in self._first_read.items()
            if self._newborn[key] <= read_by_all or now - first_read >= PATIENCE_SECONDS
        }

    def deadline(self) -> float | None:
        """When patience ends with the first of the series that were read; None: nothing waits for it."""
        first_read = min(self._first_read.values(), default=None)
        return None if first_read is None else first_read + PATIENCE_SECONDS

    def _read_by(self, now: float) -> list[int]:
        return [version for at, version in self._seen.values() if now - at <= SEEN_SECONDS]

    def forget(self, keys: Iterable[Key]) -> None:
        """Announced, or gone."""
        for key in list(keys):
            self._newborn.pop(key, None)
            self._first_read.pop(key, None)
            self._unread.discard(key)

    def forget_integration(self, store: str, integration_id: str) -> None:
        self.forget([key for key in self._newborn if key[:2] == (store, integration_id)])

    def forget_store(self, store: str) -> None:
        self.forget([key for key in self._newborn if key[0] == store])
