"""A believable shop: what its integrations try to deliver, when they fail, and how late their logs show. Pure.

Theory of operation: one heap holds what happens next, an event of the shop or the end of a try at a job. Taking the
earliest draws from the seeded generator and puts what follows from it back, so the same seed and start give the same
logs, however `until` is called. No clock is read: time is what the caller says it is.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

SECOND: Final = 1_000_000_000
DAY_SECONDS: Final = 86_400
TIMEOUT_SECONDS: Final = 10.0  # EPCC gives a webhook this long

# Weights by how often a shop of this kind has them.
EVENTS: Final[Mapping[str, float]] = {
    "cart.updated": 3.0,
    "order.created": 2.0,
    "order.paid": 2.0,
    "order.fulfilled": 1.5,
    "product.updated": 1.0,
    "customer.created": 0.7,
    "order.refunded": 0.2,
}
CUSTOMERS: Final = (
    "Ada Muster", "Bela Sample", "Chidi Example", "Dana Placeholder", "Emil Specimen", "Farah Testperson",
)  # fmt: skip

NOT_2XX: Final = "Received a status code outside of 2xx range - treating webhook as a fail"
TIMED_OUT: Final = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"


@dataclass(frozen=True, slots=True)
class Log:
    """One attempt, as EPCC records it."""

    id: str
    integration_id: str
    job_id: str
    attempt: int
    succeeded: bool
    status_code: int | None  # None: the field is left out
    error_detail: str
    body: str  # the receiver's answer, personal data included
    processing_time: float | None  # seconds; None: the field is left out
    created_ns: int
    visible_ns: int  # when the lists begin to show it
    override: Mapping[str, Any] | None = None  # fields of the JSON record that take the place of the above


@dataclass(frozen=True, slots=True)
class Integration:
    """As EPCC lists it, secrets included."""

    id: str
    name: str
    integration_type: str = "webhook"
    observes: tuple[str, ...] = ("order.paid",)
    url: str = "https://hooks.example.com/?token=example"
    secret_key: str = "example-secret"  # noqa: S105  simulated: what a client must not show
    enabled: bool = True
    created_ns: int = 1_524_133_266_747_000_000


@dataclass(frozen=True, slots=True)
class Receiver:
    """The other end of an integration, and how it behaves."""

    name: str
    observes: tuple[str, ...]
    median_seconds: float
    spread: float = 0.35  # sigma of the logarithm
    flaky: float = 0.0  # share of tries that fail and would succeed a moment later
    refuses: float = 0.0  # share of jobs that it will never take
    breaks: bool = False
    integration_type: str = "webhook"
    host: str = "hooks.example.com"


RECEIVERS: Final = (
    Receiver("Order shipping", ("order.paid", "order.fulfilled"), 0.18, flaky=0.002, breaks=True,
             host="shipping.example.com"),
    Receiver("ERP sync", ("order.created", "order.paid", "order.refunded"), 4.0, spread=0.5, flaky=0.005,
             host="erp.example.com"),
    Receiver("Customer e-mail", ("order.paid", "order.fulfilled", "customer.created"), 0.07, flaky=0.001,
             host="mail.example.com"),
    Receiver("Fraud check", ("order.created",), 0.6, refuses=0.004, host="fraud.example.com"),
    Receiver("Search index", ("product.updated",), 0.12, spread=0.6, flaky=0.03, host="search.example.com"),
    Receiver("Data warehouse", ("cart.updated", "order.created"), 0.03, integration_type="aws_sqs",
             host="sqs.example.com"),
)  # fmt: skip
# A shop that no alert has anything to say about: each receiver well within its budget and the time-out.
WELL: Final = tuple(
    replace(each, median_seconds=min(each.median_seconds, 1.2), flaky=min(each.flaky, 0.0005), refuses=0.0)
    for each in RECEIVERS
)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """When the breaking receiver is broken: first it answers 503, then its machine is gone."""

    first_seconds: float  # after the shop's start
    lasts_seconds: float
    every_seconds: float
    refusing_share: float = 0.5  # of the time it is broken: the later part, in which connections are refused

    def kind(self, seconds: float) -> str | None:
        """`unavailable`, `refused` or None, `seconds` after the start (negative: before it)."""
        into = (seconds - self.first_seconds) % self.every_seconds
        if into >= self.lasts_seconds:
            return None
        return "unavailable" if into < self.lasts_seconds * (1 - self.refusing_share) else "refused"


@dataclass(frozen=True, slots=True)
class Scenario:
    jobs_per_second: float  # the day's mean of first tries; retries come on top
    breakdown: Breakdown | None = None
    history_seconds: float = 3600.0  # how long before its start the shop had been open
    retention_seconds: float = float(DAY_SECONDS)  # what the simulated lists keep
    late_seconds: float = 3.0  # at most, from a log's creation to its being listed
    daily_swing: float = 0.4  # the busiest hour has this much more than the mean
    attempts_max: int = 7
    backoff_seconds: float = 15.0  # before the second try; doubled by each further one
    receivers: tuple[Receiver, ...] = RECEIVERS

    def __post_init__(self) -> None:
        if not 0 <= self.daily_swing < 1 or self.jobs_per_second < 0 or self.attempts_max < 1:
            raise ValueError("a scenario needs 0 <= daily_swing < 1, jobs_per_second >= 0 and attempts_max >= 1")


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "shop": Scenario(1.5, Breakdown(first_seconds=120, lasts_seconds=300, every_seconds=1800)),
    "healthy": Scenario(1.5, receivers=WELL),
    "breaking": Scenario(1.5, Breakdown(first_seconds=10, lasts_seconds=600, every_seconds=1200)),
    "busy": Scenario(
        50.0, Breakdown(first_seconds=120, lasts_seconds=300, every_seconds=1800), 900.0, retention_seconds=3600.0
    ),
    "quiet": Scenario(1 / 240, history_seconds=float(DAY_SECONDS)),
    "empty": Scenario(0.0),
}


@dataclass(frozen=True, slots=True)
class _Job:
    id: str
    receiver: int
    customer: str
    refused: bool  # the receiver will never take it


@dataclass(frozen=True, slots=True)
class _Outcome:
    status_code: int | None
    error_detail: str  # "": the try succeeded
    answer: str  # what the receiver says
    seconds: float


@dataclass(frozen=True, slots=True)
class _Try:
    """A try at a job whose outcome is drawn and whose log is not yet written."""

    job: _Job
    attempt: int
    outcome: _Outcome


class Shop:
    def __init__(self, scenario: Scenario, seed: int, start_ns: int) -> None:
        self.scenario = scenario
        self.start_ns = start_ns
        self._random = random.Random(f"shop {seed}")  # noqa: S311  a simulation, and it must repeat
        self.integrations = tuple(self._integration(receiver) for receiver in scenario.receivers)
        self._names = list(EVENTS)
        self._weights = list(EVENTS.values())
        self._observers = {
            event: [i for i, receiver in enumerate(scenario.receivers) if event in receiver.observes]
            for event in EVENTS
        }
        jobs_per_event = sum(EVENTS[e] * len(o) for e, o in self._observers.items()) / sum(self._weights)
        # Drawn at the busiest hour's rate; events too many for the hour are dropped again.
        self._rate = scenario.jobs_per_second / max(jobs_per_event, 1e-9) * (1 + scenario.daily_swing)
        self._order = 0
        self._next: list[tuple[int, int, _Try | None]] = []
        if self._rate and jobs_per_event:
            self._push(start_ns - round(scenario.history_seconds * SECOND) + self._gap_ns(), None)

    def until(self, now_ns: int) -> list[Log]:
        """The logs created up to and at `now_ns` and not returned before, in the order of their creation."""
        logs = []
        while self._next and self._next[0][0] <= now_ns:
            at_ns, _, tried = heapq.heappop(self._next)
            if tried is None:
                self._event(at_ns)
                self._push(at_ns + self._gap_ns(), None)
            else:
                logs.append(self._log(tried, at_ns))
                if tried.outcome.error_detail and tried.attempt < self.scenario.attempts_max:
                    self._retry(tried, at_ns)
        return logs

    # --- what happens

    def _event(self, at_ns: int) -> None:
        hour = at_ns / SECOND % DAY_SECONDS / 3600
        busy = 1 + self.scenario.daily_swing * math.sin((hour - 9) / 12 * math.pi)
        if self._random.random() * (1 + self.scenario.daily_swing) >= busy:
            return
        event = self._random.choices(self._names, self._weights)[0]
        customer = self._random.choice(CUSTOMERS)
        for i in self._observers[event]:
            refused = self._random.random() < self.scenario.receivers[i].refuses
            job = _Job(self._uuid(), i, customer, refused)
            self._try(job, 1, at_ns + round(self._random.uniform(0.05, 0.8) * SECOND))

    def _retry(self, last: _Try, at_ns: int) -> None:
        wait = self.scenario.backoff_seconds * 2.0 ** (last.attempt - 1) * self._random.uniform(0.8, 1.2)
        self._try(last.job, last.attempt + 1, at_ns + round(wait * SECOND))

    def _try(self, job: _Job, attempt: int, begun_ns: int) -> None:
        receiver = self.scenario.receivers[job.receiver]
        broken = None
        if receiver.breaks and self.scenario.breakdown is not None:
            broken = self.scenario.breakdown.kind((begun_ns - self.start_ns) / SECOND)
        outcome = self._outcome(receiver, job.refused, broken)
        self._push(begun_ns + round(outcome.seconds * SECOND), _Try(job, attempt, outcome))

    def _outcome(self, receiver: Receiver, refused: bool, broken: str | None) -> _Outcome:
        draw = self._random.random()
        seconds = receiver.median_seconds * math.exp(self._random.gauss(0.0, receiver.spread))
        post = f'Post "https://{receiver.host}/": '
        outcome = _Outcome(200, "", "Thank you", seconds)
        # A missing status takes both of its shapes: 0 for a time-out, no field for a connection that was not made.
        if broken == "refused":
            outcome = _Outcome(None, post + "dial tcp 192.0.2.7:443: connect: connection refused", "", 0.002)
        elif broken == "unavailable":
            outcome = _Outcome(503, NOT_2XX, "Service Unavailable", seconds)
        elif seconds >= TIMEOUT_SECONDS:
            outcome = _Outcome(0, post + TIMED_OUT, "", TIMEOUT_SECONDS + draw * 0.005)
        elif refused:
            outcome = _Outcome(422, NOT_2XX, "The address is not complete", seconds)
        elif draw < receiver.flaky:
            outcome = _Outcome(502, NOT_2XX, "Bad Gateway", seconds)
        elif receiver.integration_type != "webhook":
            outcome = _Outcome(None, "", "", seconds)
        return outcome

    def _log(self, tried: _Try, created_ns: int) -> Log:
        job, outcome = tried.job, tried.outcome
        late = min(self.scenario.late_seconds, self._random.expovariate(4.0) * self.scenario.late_seconds)
        email = f"{job.customer.lower().replace(' ', '.')}@example.com"
        said = f'{{"message":"{outcome.answer}","customer":"{job.customer}","email":"{email}"}}'
        return Log(
            id=self._uuid(),
            integration_id=self.integrations[job.receiver].id,
            job_id=job.id,
            attempt=tried.attempt,
            succeeded=not outcome.error_detail,
            status_code=outcome.status_code,
            error_detail=outcome.error_detail,
            body=said if outcome.answer else "",
            processing_time=round(outcome.seconds, 4),
            created_ns=created_ns,
            visible_ns=created_ns + round(late * SECOND),
        )

    # --- drawing

    def _integration(self, receiver: Receiver) -> Integration:
        return Integration(
            id=self._uuid(),
            name=receiver.name,
            integration_type=receiver.integration_type,
            observes=receiver.observes,
            url=f"https://{receiver.host}/?token={self._random.getrandbits(64):016x}",
            secret_key=f"{self._random.getrandbits(128):032x}",
            created_ns=self.start_ns - 90 * DAY_SECONDS * SECOND,
        )

    def _gap_ns(self) -> int:
        return round(self._random.expovariate(self._rate) * SECOND)

    def _push(self, at_ns: int, tried: _Try | None) -> None:
        self._order += 1
        heapq.heappush(self._next, (at_ns, self._order, tried))

    def _uuid(self) -> str:
        text = f"{self._random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
