"""What the pages show of one running store, gathered from its poller, intake and last hour: memory alone, no disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from exporter import logs, remedies, status
from exporter.clock import Clock
from exporter.fetch import Fetch
from exporter.folding import OTHER
from exporter.intake import Intake, Publisher
from exporter.lasthour import SLOT_SECONDS, Hour, LastHour
from exporter.metrics import Shown
from exporter.poller import StorePoller
from exporter.recent import Failure
from exporter.records import UNKNOWN_INTEGRATION

_MADE_UP: Final = {UNKNOWN_INTEGRATION: "(logs that name no integration)", OTHER: "(others, beyond max_series)"}

Ranked = tuple[int, int, str, str]  # rank of its state, failures in a row (negative), state, integration id


class Board:
    """Stands between a store's intake and where its numbers are published, and takes note of both."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock
        self._hour = LastHour(clock.monotonic())

    def publish(self, store: str, changes: Mapping[str, Shown | None]) -> None:
        self._hour.note(changes, self._clock.monotonic())
        self._publisher.publish(store, changes)

    def note_request(self) -> None:
        self._hour.note_request(self._clock.monotonic())

    def ranked(self, poller: StorePoller) -> list[Ranked]:
        """Every integration that is known to /metrics, in no order."""
        intake, monotonic, now = poller.intake, self._clock.monotonic(), self._clock.wall_ns() / 1e9
        if not intake.marks.begun:
            return []
        found = []
        for integration_id, tally in intake.tallies.items():
            if not intake.wanted(integration_id):
                continue
            listed = intake.integrations.get(integration_id)
            state = status.integration_state(
                enabled=None if listed is None else listed.enabled,
                listed=listed is not None or not intake.integrations or integration_id in _MADE_UP,
                consecutive_failures=tally.consecutive_failures,
                hour=self._hour.sums(integration_id, monotonic),
                last_attempt=_seconds(tally.last_attempt_ns),
                now=now,
            )
            found.append((status.STATES.index(state), -tally.consecutive_failures, state, integration_id))
        return found

    def store(
        self, poller: StorePoller, ranked: Sequence[Ranked], shown: frozenset[str], *, texts: bool
    ) -> status.Store:
        """`shown`: the integrations to tell of; `texts`: whether errors' texts may be told."""
        intake, config, monotonic = poller.intake, poller.config, self._clock.monotonic()
        now = self._clock.wall_ns() / 1e9
        through = _seconds(intake.marks.complete_through_ns)
        failed = poller.failure if poller.ended_once else None
        rows = [self._integration(intake, i, state, texts=texts) for _, _, state, i in ranked if i in shown]
        advice = None
        if not poller.ended_once:
            advice = remedies.STARTING
        elif failed is not None:
            advice = remedies.POLL_FAILURES[failed]
        elif not ranked:
            advice = remedies.NO_INTEGRATIONS
        elif any(label == "integration_id" for label, _ in intake.folded):
            advice = remedies.FOLDED
        budget = poller.outage_budget_seconds
        used = self._hour.requests_per_second(monotonic) / config.requests_per_second
        return status.Store(
            name=config.name,
            state="starting" if not poller.ended_once else "failing" if failed else "polled",
            error=failed,
            advice=advice,
            last_poll=_seconds(poller.last_poll_ns),
            poll_interval_seconds=config.poll_interval,
            complete_through=through,
            lag_seconds=None if through is None else round(max(0.0, now - through), 1),
            requests_per_second=config.requests_per_second,
            budget_used_ratio=min(1.0, round(used, 4)),  # a start's burst is more than its seconds' worth, and allowed
            outage_budget_seconds=None if math.isinf(budget) else round(budget),
            observed_seconds=round(self._hour.seconds(monotonic)),
            gaps=[
                status.Gap(cause, count, poller.open_gaps.get(cause, 0), remedies.GAPS[cause])
                for cause, count in sorted(intake.marks.gaps.items())
            ],
            integrations_total=len(ranked),
            states=status.states([state for _, _, state, _ in ranked]),
            integrations=sorted(rows, key=status.by_urgency),
            recent_failures=[_failure(each, texts=texts) for each in intake.recent.newest if intake.wanted(each[0])],
        )

    def _integration(self, intake: Intake, integration_id: str, state: str, *, texts: bool) -> status.Integration:
        tally, listed = intake.tallies[integration_id], intake.integrations.get(integration_id)
        latest = intake.recent.latest(integration_id)
        return status.Integration(
            id=integration_id,
            name=listed.name if listed is not None and listed.name else _MADE_UP.get(integration_id, integration_id),
            type=listed.integration_type if listed is not None else "",
            state=state,
            consecutive_failures=tally.consecutive_failures,
            jobs_failing=tally.jobs_failing,
            jobs_unlogged=intake.unlogged.get(integration_id, 0),
            attempts=tally.attempts,
            failed=tally.failed,
            last_attempt=_seconds(tally.last_attempt_ns),
            last_success=_seconds(tally.last_success_ns),
            last_failure=_seconds(tally.last_failure_ns),
            failure=None if latest is None else _failure(latest, texts=texts),
            hour=_hour(self._hour.of(integration_id, self._clock.monotonic())),
        )


def _failure(each: Failure, *, texts: bool) -> status.Failure:
    return status.Failure(
        at=each.at_ns / 1e9,
        integration=each.integration_id,
        job=each.job_id,
        attempt=each.number,
        reason=each.reason,
        status_code=each.status_code,
        error=logs.masked(each.error_text) if texts else None,
    )


def _hour(hour: Hour | None) -> status.Hour | None:
    if hour is None:
        return None
    attempts, failed = sum(hour.attempts), sum(hour.failed)
    return status.Hour(
        attempts=attempts,
        failed=failed,
        success_ratio=round(1 - failed / attempts, 4) if attempts else None,
        p95_seconds=None if hour.p95_seconds is None else round(hour.p95_seconds, 3),
        attempts_by_slot=hour.attempts,
        failed_by_slot=hour.failed,
    )


def _seconds(at_ns: int | None) -> float | None:
    return None if at_ns is None else round(at_ns / 1e9, 3)


@dataclass(frozen=True, slots=True)
class Followed:
    """A store under way, as far as pages need it."""

    board: Board
    poller: StorePoller
    fetch: Fetch

    def name_of(self, integration_id: str) -> str:
        listed = self.poller.intake.integrations.get(integration_id)
        return listed.name if listed is not None and listed.name else _MADE_UP.get(integration_id, integration_id)


class Boards:
    """Of all stores that run. `running`: by name."""

    def __init__(
        self,
        running: Callable[[], Mapping[str, Followed]],
        clock: Clock,
        *,
        version: str,
        metrics: str,
        grafana: str | None,
        standby: bool = False,
    ) -> None:
        self._running = running
        self._clock = clock
        self._started = clock.wall_ns() / 1e9
        self._version, self._metrics, self._grafana, self._standby = version, metrics, grafana, standby

    def status(self, *, texts: bool) -> status.Status:
        """Texts: whether receivers' answers, and what may quote them, may be shown."""
        running = dict(sorted(self._running().items()))
        ranked = {name: each.board.ranked(each.poller) for name, each in running.items()}
        worst = sorted((*place, name) for name, places in ranked.items() for place in places)[: status.INTEGRATIONS_MAX]
        shown: dict[str, set[str]] = {name: set() for name in running}
        for _, _, _, integration_id, name in worst:
            shown[name].add(integration_id)
        return status.Status(
            version=self._version,
            now=round(self._clock.wall_ns() / 1e9, 3),
            started=round(self._started, 3),
            metrics=self._metrics,
            grafana=self._grafana,
            standby=self._standby,
            answers_shown=texts,
            slot_seconds=SLOT_SECONDS,
            stores=[
                each.board.store(each.poller, ranked[name], frozenset(shown[name]), texts=texts)
                for name, each in running.items()
            ],
        )
