"""Exemplars: of each failure reason and each processing-time bucket the newest attempt, by the id of its job.

They are told by what was committed, and are not durable: Prometheus keeps an exemplar when it has read it once. One a
series bounds them. Newest by `created_at`, because Prometheus refuses an exemplar older than the series' last.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from exporter.ledger import Entry
from exporter.tally import PROCESSING_BOUNDS

LABEL: Final = "job_id"
CHARACTERS_MAX: Final = 128  # of an exemplar's label names and values together, by OpenMetrics 1.0
JOB_ID_MAX: Final = CHARACTERS_MAX - len(LABEL)
AHEAD_NS: Final = 60 * 1_000_000_000  # how far a date may be ahead of the walk that brought it, which took its time


@dataclass(frozen=True, slots=True)
class Exemplar:
    job_id: str
    value: float  # seconds of a processing time; 1 for a failure
    at_ns: int


@dataclass(frozen=True, slots=True)
class Exemplars:
    """Of one integration. Published by reference, so replaced and never changed."""

    failures: dict[str, Exemplar] = field(default_factory=dict)  # by reason
    processing: dict[int, Exemplar] = field(default_factory=dict)  # by place in a histogram's counts


def updated(known: Exemplars | None, entries: Iterable[Entry], now_ns: int) -> Exemplars | None:
    """With an integration's new attempts; None where none of them has an exemplar to give.

    One dated well after `now_ns` gives none: no other would be taken before its time has come.
    """
    failures = {} if known is None else dict(known.failures)
    processing = {} if known is None else dict(known.processing)
    latest_ns = now_ns + AHEAD_NS
    for entry in entries:
        attempt, at_ns, job_id = entry.attempt, entry.at_ns, entry.attempt.job_id
        if job_id is None or at_ns > latest_ns or len(job_id) > JOB_ID_MAX:
            continue
        if attempt.processing_us is not None:
            seconds = attempt.processing_us / 1_000_000
            place = bisect_left(PROCESSING_BOUNDS, seconds)
            before = processing.get(place)
            if before is None or at_ns > before.at_ns:
                processing[place] = Exemplar(job_id, seconds, at_ns)
        if attempt.reason is not None:
            before = failures.get(attempt.reason)
            if before is None or at_ns > before.at_ns:
                failures[attempt.reason] = Exemplar(job_id, 1.0, at_ns)
    return Exemplars(failures, processing) if failures or processing else None
