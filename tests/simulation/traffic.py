"""What a store's integrations do in a simulated run: jobs, their tries, when each is logged, and when it shows.

Small on purpose: a few hundred logs meet every border of a page of five. Ids say nothing of the order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from exporter.epcc import log
from exporter.shop import SECOND, Log

CODES = (200, 200, 200, 200, 201, 302, 404, 500, 503, 0, None)


@dataclass(frozen=True)
class Traffic:
    jobs_per_second: float = 0.2
    integrations: int = 3
    history_seconds: float = 200.0  # how long before the first poll there had been logs
    late_share: float = 0.0  # of the logs
    late_seconds: float = 0.0  # at most
    burst_jobs: int = 0  # in one of the seconds
    bursts: int = 0
    failing_share: float = 0.25
    retry_seconds: float = 20.0
    future_share: float = 0.0  # logs dated an hour to years ahead
    past_share: float = 0.0  # logs dated long before they show
    long_ids: bool = False  # 200 bytes, and some that differ only in case
    newcomer_at: float | None = None  # when one more integration begins to have logs

    def integration_ids(self) -> list[str]:
        return [f"int-{chr(97 + number)}" for number in range(self.integrations)]


NEWCOMER = "newcomer"


def logs(traffic: Traffic, chooser: random.Random, begin: float, end: float) -> list[Log]:
    """In the order of their creation; `begin` and `end` in seconds, as `created_ns` is in ns, of the same clock."""
    starts = []
    at = begin
    while traffic.jobs_per_second > 0:
        at += chooser.expovariate(traffic.jobs_per_second)
        if at >= end:
            break
        starts.append(at)
    for _ in range(traffic.bursts):
        second = chooser.uniform(begin, end)
        starts += [second + chooser.random() for _ in range(traffic.burst_jobs)]
    made: list[Log] = []
    for start in sorted(starts):
        made += _job(traffic, chooser, start, end, begin)
    return sorted(made, key=lambda each: each.created_ns)


def _job(traffic: Traffic, chooser: random.Random, start: float, end: float, begin: float) -> list[Log]:
    ids = traffic.integration_ids()
    if traffic.newcomer_at is not None and start - begin >= traffic.newcomer_at:
        ids.append(NEWCOMER)
    integration_id, job_id = chooser.choice(ids), f"job-{_identity(traffic, chooser)}"
    tries = []
    at = start
    for attempt in range(1, 5):
        failed = chooser.random() < traffic.failing_share
        code = chooser.choice(CODES[5:] if failed else CODES[:5])
        tries.append(
            _visible(traffic, chooser, log(
                f"log-{_identity(traffic, chooser)}", round(at * SECOND), integration_id=integration_id, job_id=job_id,
                attempt=attempt, succeeded=not failed, status_code=code,
                processing_time=chooser.choice([None, 0.0, round(chooser.uniform(0, 12), 6)]),
            ))
        )  # fmt: skip
        at += chooser.uniform(0.5, 1.5) * traffic.retry_seconds
        if not failed or at >= end:
            break
    return tries


def _visible(traffic: Traffic, chooser: random.Random, made: Log) -> Log:
    shown_ns = made.created_ns
    if chooser.random() < traffic.late_share:
        shown_ns += round(chooser.uniform(0, traffic.late_seconds) * SECOND)
    created_ns = made.created_ns
    draw = chooser.random()
    if draw < traffic.future_share:
        created_ns += round(chooser.choice([3600, 86400, 10 * 365 * 86400]) * SECOND)
    elif draw < traffic.future_share + traffic.past_share:
        created_ns -= round(chooser.choice([3600, 86400, 10 * 365 * 86400]) * SECOND)
    return replace(made, created_ns=created_ns, visible_ns=shown_ns)


def _identity(traffic: Traffic, chooser: random.Random) -> str:
    text = f"{chooser.getrandbits(48):012x}"
    if not traffic.long_ids:
        return text
    return chooser.choice([text, text.upper(), text.ljust(190, "x")])
