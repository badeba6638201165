"""The failures that were counted last: a store's newest, and each integration's newest, with the ids of their jobs.

They are told by what was committed, live in memory alone and begin anew with the process. Newest by `created_at`.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from exporter.ledger import Entry

RECENT_MAX: Final = 100  # failures of a store
LATEST_MAX: Final = 10_000  # integrations of a store whose newest failure is remembered
_ADDRESS: Final = re.compile(r"([a-z][a-z0-9+.-]{0,20}://)([^\s\"'<>]*)", re.IGNORECASE)


class Failure(NamedTuple):
    integration_id: str
    job_id: str | None
    at_ns: int
    number: int | None  # of the attempt
    reason: str  # one of records.REASONS
    status_code: str
    error_text: str  # may quote the receiver


class Recent:
    """Of one store. Immutable entries, so a reader may keep what `newest` gave it."""

    def __init__(self) -> None:
        self.newest: Sequence[Failure] = ()  # newest first
        self._latest: dict[str, Failure] = {}

    def take(self, entries: Sequence[Entry]) -> None:
        """Newly counted attempts, in any order. Costs next to nothing where none of them failed."""
        failed = [entry for entry in entries if entry.attempt.reason is not None]
        if not failed:
            return
        news = [_failure(entry) for entry in heapq.nlargest(RECENT_MAX, failed, key=lambda entry: entry.at_ns)]
        self.newest = heapq.nlargest(RECENT_MAX, [*self.newest, *news], key=lambda each: each.at_ns)
        newest: dict[str, Entry] = {}
        for entry in failed:
            known = newest.get(entry.attempt.integration_id)
            if known is None or entry.at_ns >= known.at_ns:
                newest[entry.attempt.integration_id] = entry
        for integration_id, entry in newest.items():
            before = self._latest.get(integration_id)
            if (before is None and len(self._latest) < LATEST_MAX) or (before and entry.at_ns >= before.at_ns):
                self._latest[integration_id] = _failure(entry)

    def latest(self, integration_id: str) -> Failure | None:
        """Its newest failure; None: none was counted in this life, or LATEST_MAX others had one before."""
        return self._latest.get(integration_id)

    def forget(self, integration_id: str) -> None:
        self._latest.pop(integration_id, None)
        self.newest = [each for each in self.newest if each.integration_id != integration_id]


def without_secrets(error_text: str) -> str:
    """The text with every address cut behind its host: Go quotes the receiver's, and paths and queries hold tokens."""
    return _ADDRESS.sub(lambda found: found[1] + _host(found[2]), error_text)


def _host(address: str) -> str:
    authority = re.split(r"[/?#\\]", address, maxsplit=1)[0]
    if ":" in authority and "@" in address[len(authority) :]:
        return "…"  # a password may hold a slash, and then this is no host
    return authority.rpartition("@")[2] + ("/…" if len(authority) < len(address) else "")


def _failure(entry: Entry) -> Failure:
    attempt = entry.attempt
    return Failure(
        attempt.integration_id,
        attempt.job_id,
        entry.at_ns,
        attempt.number,
        attempt.reason or "other",
        attempt.status_code,
        without_secrets(attempt.error_text),
    )
