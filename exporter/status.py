"""The state of every store, as `/` shows it in words and `/api/v1/status` in JSON: from memory, without a question to
EPCC or the disk.

`/api/v1/status` is a promise: fields are added, and none is renamed or removed within a major version. Times are
seconds since 1970, null where there was none. Nothing in it quotes what a receiver answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from exporter import __version__
from exporter.clock import Clock

KEPT_SECONDS: Final = 1.0  # the JSON is made at most once in, however many ask


@dataclass(frozen=True, slots=True)
class IntegrationStatus:
    name: str
    id: str
    attempts: int
    failed: int
    consecutive_failures: int
    last_attempt_ns: int | None
    enabled: bool | None  # None: EPCC does not list it
    last_success_ns: int | None = None
    last_failure_ns: int | None = None
    jobs_failing: int = 0
    jobs_unlogged: int = 0
    last_failed_job: str | None = None  # None: none since the exporter started

    @property
    def state(self) -> str:
        """`disabled`, `failing`, `unseen` (no attempt yet) or `succeeding`: what the latest attempt says."""
        if self.enabled is False:
            return "disabled"
        if self.consecutive_failures:
            return "failing"
        return "unseen" if self.last_attempt_ns is None else "succeeding"


@dataclass(frozen=True, slots=True)
class StoreStatus:
    name: str
    state: str  # starting, polled or failing
    last_poll_ns: int | None
    complete_through_ns: int | None
    last_error: str | None
    integrations: Sequence[IntegrationStatus]
    gaps: Mapping[str, int] | None = None  # since the state was made, by cause


class UnknownStoreError(Exception):
    """There is no such store here."""


class StatusJson:
    """The bytes of `/api/v1/status`. Of ten thousand integrations they take some 20 ms: not on the event loop."""

    def __init__(self, status: Callable[[], Sequence[StoreStatus]], clock: Clock) -> None:
        self._status = status
        self._clock = clock
        self._made_at: float | None = None
        self._body = b""
        self._making = asyncio.Lock()

    async def body(self) -> bytes:
        async with self._making:
            now = self._clock.monotonic()
            if self._made_at is None or now - self._made_at >= KEPT_SECONDS:
                made = await asyncio.to_thread(_encoded, self._status(), self._clock.wall_ns())
                self._made_at, self._body = now, made
            return self._body


def _encoded(stores: Sequence[StoreStatus], now_ns: int) -> bytes:
    answer = {"version": __version__, "time": now_ns / 1e9, "stores": [_store(store) for store in stores]}
    return msgspec.json.encode(answer)


def _store(store: StoreStatus) -> dict[str, Any]:
    return {
        "name": store.name,
        "state": store.state,
        "last_error": store.last_error,
        "last_poll_timestamp_seconds": _seconds(store.last_poll_ns),
        "complete_through_timestamp_seconds": _seconds(store.complete_through_ns),
        "gaps": dict(store.gaps or {}),
        "integrations": [
            {
                "id": each.id,
                "name": each.name,
                "enabled": each.enabled,
                "state": each.state,
                "attempts": each.attempts,
                "failures": each.failed,
                "consecutive_failures": each.consecutive_failures,
                "jobs_failing": each.jobs_failing,
                "jobs_unlogged": each.jobs_unlogged,
                "last_attempt_timestamp_seconds": _seconds(each.last_attempt_ns),
                "last_success_timestamp_seconds": _seconds(each.last_success_ns),
                "last_failure_timestamp_seconds": _seconds(each.last_failure_ns),
                "last_failed_job": each.last_failed_job,
            }
            for each in store.integrations
        ],
    }


def _seconds(at_ns: int | None) -> float | None:
    return None if at_ns is None else at_ns / 1e9
