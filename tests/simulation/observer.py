"""The judge of a simulated run: what a perfect observer counts, and what scrapers may read on the way.

It shares no code with the exporter: logs in, numbers out, keyed as `/metrics` has them.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from exporter.exposition import WRITERS, Exposition
from exporter.manners import Manners, shown_ns
from exporter.shop import Log

PREFIX = "epcc_integration_"
COUNTERS = ("_total", "_bucket", "_count", "_sum")
LOOSE = frozenset({"attempt", "succeeded", "status_code", "processing_time"})  # without one, less can be said
Samples = dict[str, float]


def series(name: str, integration: str, **labels: str) -> str:
    pairs = sorted({"integration_id": integration, "store": "acme", **labels}.items())
    return f"{PREFIX}{name}{{" + ",".join(f'{key}="{value}"' for key, value in pairs) + "}"


def read(page: str) -> Samples:
    """The delivery families of a page."""
    samples = {}
    for line in page.splitlines():
        if line.startswith(PREFIX):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def shown(exposition: Exposition) -> Samples:
    """What a scrape would read now, at once."""
    sheet = exposition._sheet("text")
    dirty, sheet.dirty = sheet.dirty, {}
    sheet.update(WRITERS["text"], dirty, exposition._version)
    return read(b"".join(sheet.plain).decode())


def expected(counted: Iterable[Log], manners: Manners, floor_ns: int, *, gauges: bool) -> Samples:
    """What the page must show, once all is settled, of logs that were counted; `gauges`: also of the rest.

    `floor_ns`: no log that is older can show any more.
    """
    by_integration = defaultdict(list)
    for each in counted:
        by_integration[each.integration_id].append(each)
    samples: Samples = {}
    for integration, logs in by_integration.items():
        jobs = defaultdict(list)
        for each in logs:
            jobs[each.job_id].append(each)
        samples[series("attempts_total", integration)] = len(logs)
        samples[series("jobs_total", integration)] = len(jobs)
        if not LOOSE & manners.missing:
            samples |= _details(integration, logs, list(jobs.values()))
            if gauges and "created_at" not in manners.missing:
                samples |= _gauges(integration, logs, list(jobs.values()), manners, floor_ns)
    return samples


def _details(integration: str, logs: list[Log], jobs: list[list[Log]]) -> Samples:
    codes = Counter("none" if not each.status_code else str(each.status_code) for each in logs)
    delivered = [job for job in jobs if any(each.succeeded for each in job)]
    first = sum(1 for job in delivered if any(each.succeeded and each.attempt == 1 for each in job))
    samples = {series("responses_total", integration, status_code=code): number for code, number in codes.items()}
    reasons = Counter(_reason(each.status_code) for each in logs if not each.succeeded)
    samples |= {series("attempt_failures_total", integration, reason=why): number for why, number in reasons.items()}
    return samples | {
        series("retries_total", integration): sum(each.attempt > 1 for each in logs),
        series("processing_seconds_count", integration): sum(each.processing_time is not None for each in logs),
        series("processing_seconds_sum", integration): sum(
            round(each.processing_time * 1e6) for each in logs if each.processing_time is not None
        ) / 1e6,
        series("jobs_delivered_total", integration, attempt="first"): first,
        series("jobs_delivered_total", integration, attempt="retry"): len(delivered) - first,
    }  # fmt: skip


def _reason(code: int | None) -> str:
    return f"http_{code // 100}xx" if code else "other"


def _gauges(integration: str, logs: list[Log], jobs: list[list[Log]], manners: Manners, floor_ns: int) -> Samples:
    """What rests on `created_at`: as the list shows it, to the digit."""

    def at(each: Log) -> int:
        instant = shown_ns(each, manners)
        step: int = 10 ** (9 - manners.time_digits)
        return instant - instant % step

    success = max((at(each) for each in logs if each.succeeded), default=None)
    streak = sum(1 for each in logs if not each.succeeded and (success is None or at(each) > success))
    waits = [wait // 1000 for job in jobs if (wait := _wait(job, at, floor_ns)) is not None]
    samples = {
        series("consecutive_failures", integration): float(streak),
        series("jobs_failing", integration): sum(not any(each.succeeded for each in job) for job in jobs),
        series("last_attempt_timestamp_seconds", integration): max(map(at, logs)) / 1e9,
        series("job_delivery_seconds_count", integration): len(waits),
        series("job_delivery_seconds_sum", integration): sum(waits) / 1e6,
    }
    if success is not None:
        samples[series("last_success_timestamp_seconds", integration)] = success / 1e9
    return samples


def _wait(job: list[Log], at: Callable[[Log], int], floor_ns: int) -> int | None:
    """How long a job took to be delivered (ns); None: it was not, or wrong dates leave no time that can be told yet."""
    successes = [at(each) for each in job if each.succeeded]
    if not successes:
        return None
    began, delivered = min(map(at, job)), min(successes)
    if any(each.attempt == 1 and at(each) == began for each in job):
        return delivered - began
    return delivered - began if began < delivered < floor_ns else None


def differences(wanted: Samples, found: Samples) -> list[str]:
    return [
        f"{name} is {found.get(name)}, and {value} is true"
        for name, value in sorted(wanted.items())
        if abs(found.get(name, 0.0) - value) > 1e-6 * max(1.0, abs(value)) * 1e-3
    ]


class Truth:
    """How many logs were visible by when: nothing may ever show more."""

    def __init__(self) -> None:
        self._visible: list[int] = []

    def add(self, logs: Iterable[Log]) -> None:
        for each in logs:
            bisect.insort(self._visible, each.visible_ns)

    def by(self, now_ns: int) -> int:
        return bisect.bisect_right(self._visible, now_ns)


class Scraper:
    """Prometheus's own rules: a counter that falls is a reset, and the first sample of a series is no increase."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[str] = []
        self.resets = 0
        self._last: Samples = {}
        self._seen_in_this_life = False
        self._began_before = False
        self.baseline_allowed = False  # `history: count`: the first page with numbers shows them whole
        self.resets_allowed = False  # the state was lost

    def new_life(self) -> None:
        """The exporter was started again: it knows no scraper yet."""
        self._seen_in_this_life = False

    def take(self, page: Samples) -> None:
        for name, value in page.items():
            if not name.split("{", 1)[0].endswith(COUNTERS):
                continue
            before = self._last.get(name)
            if before is None:
                self._first(name, value)
            elif value < before:
                self._fall(name, before, value)
            self._last[name] = value
        self._seen_in_this_life = True
        self._began_before = self._began_before or bool(page)

    def _first(self, name: str, value: float) -> None:
        if value == 0 or not self._seen_in_this_life or (self.baseline_allowed and not self._began_before):
            return
        self.problems.append(f"{self.name}: {name} is born at {value:g}")

    def _fall(self, name: str, before: float, value: float) -> None:
        self.resets += 1
        if not (self.resets_allowed and (value == 0 or not self._seen_in_this_life)):
            self.problems.append(f"{self.name}: {name} falls from {before:g} to {value:g}")
