"""`/api/v1/status`: what state each store and integration is in, in words of a closed set, and its JSON. Pure.

The JSON's fields are those of the structs here, under their names; README's section on the pages documents them, and a
test holds the two together. Fields are added, never renamed or taken away. Times are seconds since 1970, durations
seconds, None is null: not known, or there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

STATES: Final = ("failing", "degraded", "silent", "healthy", "disabled", "deleted")  # worst first, at rest last
FAILING_AFTER: Final = 5  # failures in a row, as of the alert EpccIntegrationDown
DEGRADED_SHARE: Final = 0.05  # of the last hour's attempts …
DEGRADED_FAILED: Final = 5  # … and at least so many failures
SILENT_SECONDS: Final = 3600.0  # without an attempt
INTEGRATIONS_MAX: Final = 2_000  # in one answer, the worst of all stores; the rest is named as a number


class Failure(msgspec.Struct, frozen=True):
    at: float
    integration: str
    job: str | None
    attempt: int | None  # 1 for the first try
    reason: str  # one of records.REASONS
    status_code: str
    error: str | None  # None where answers may not be shown


class Hour(msgspec.Struct, frozen=True):
    attempts: int
    failed: int
    success_ratio: float | None
    p95_seconds: float | None
    attempts_by_slot: Sequence[int]  # the present slot last
    failed_by_slot: Sequence[int]


class Integration(msgspec.Struct, frozen=True):
    id: str
    name: str
    type: str
    state: str  # one of STATES
    consecutive_failures: int
    jobs_failing: int
    jobs_unlogged: int
    attempts: int  # ever counted
    failed: int
    last_attempt: float | None
    last_success: float | None
    last_failure: float | None
    failure: Failure | None  # the newest that was counted since the exporter's start
    hour: Hour | None


class Gap(msgspec.Struct, frozen=True):
    cause: str  # one of metrics.GAP_CAUSES
    count: int  # ever
    open: int  # of these, those that have not passed out of the lookback
    advice: str


class Store(msgspec.Struct, frozen=True):
    name: str
    state: str  # starting, polled or failing
    error: str | None  # one of metrics.POLL_FAILURE_REASONS
    advice: str | None  # what to do
    last_poll: float | None
    poll_interval_seconds: float
    complete_through: float | None
    lag_seconds: float | None
    requests_per_second: float
    budget_used_ratio: float
    outage_budget_seconds: float | None  # None: nothing comes in, so it is without end
    observed_seconds: float  # how much of the last hour `hour` tells of
    gaps: Sequence[Gap]
    integrations_total: int
    states: dict[str, int]  # how many integrations are in each of STATES, those that are not shown too
    integrations: Sequence[Integration]
    recent_failures: Sequence[Failure]


class Status(msgspec.Struct, frozen=True):
    version: str
    now: float
    started: float
    metrics: str  # path
    grafana: str | None
    standby: bool  # it waits for the state that another process holds, and has no stores until then
    answers_shown: bool
    slot_seconds: int
    stores: Sequence[Store]


def integration_state(
    *,
    enabled: bool | None,
    listed: bool,
    consecutive_failures: int,
    hour: tuple[int, int] | None,
    last_attempt: float | None,
    now: float,
) -> str:
    """`enabled` None: not known; `hour`: attempts and failed ones of the last hour, None where nobody knows."""
    if enabled is False:
        return "disabled"
    if not listed:
        return "deleted"
    if consecutive_failures >= FAILING_AFTER:
        return "failing"
    attempts, failed = hour or (0, 0)
    if consecutive_failures or (failed >= DEGRADED_FAILED and failed > DEGRADED_SHARE * attempts):
        return "degraded"
    if last_attempt is None or now - last_attempt > SILENT_SECONDS:
        return "silent"
    return "healthy"


def in_words(each: Integration, now: float) -> str:
    """Its state for people."""
    match each.state:
        case "failing" | "degraded" if each.consecutive_failures:
            row = f"{each.consecutive_failures} failure{'s' if each.consecutive_failures > 1 else ''} in a row"
            since = (
                "no success seen" if each.last_success is None else f"last success {age(now - each.last_success)} ago"
            )
            return f"{each.state}: {row}, {since}"
        case "degraded" if each.hour is not None:
            return f"degraded: {each.hour.failed} of {each.hour.attempts} attempts failed lately"
        case "silent":
            return (
                "silent: no attempt seen"
                if each.last_attempt is None
                else f"silent: no attempt for {age(now - each.last_attempt)}"
            )
        case "deleted":
            return "deleted: EPCC does not list it any more"
    return each.state


def age(seconds: float) -> str:
    """For people, in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def by_urgency(integration: Integration) -> tuple[int, int, int, str, str]:
    return (STATES.index(integration.state), -integration.consecutive_failures, -integration.jobs_failing,
            integration.name.casefold(), integration.id)  # fmt: skip


def states(names: Sequence[str]) -> dict[str, int]:
    """How often each of STATES is there."""
    counted = Counter(names)
    return {state: counted[state] for state in STATES}
