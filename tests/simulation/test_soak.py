"""The short form of `tests.bench.soak`: what the exporter holds follows lookback times rate, and not the past."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from tests.bench.far import End, Plan, Sample, soak

PLAN = Plan(logs=40_000, retention=200.0, lookback=20.0, poll_interval=5.0, reconcile_interval=120.0)
# A log's id is held until a complete walk's floor (`lookback` below the newest) has a second `lookback` above it; such
# a walk comes each half `lookback`, at the next poll, or where that one fails, at one of the next.
HELD_SECONDS = 2.5 * PLAN.lookback + 3 * PLAN.poll_interval
BURST = 1.25  # the busiest minute, against the busiest tenth
RSS_GROWTH = 1.1
STATE_GROWTH = 1.3  # pages that are free are used again, not given back


def halves(samples: list[Sample], figure: Callable[[Sample], float]) -> tuple[float, float]:
    """The highest of each."""
    half = len(samples) // 2
    return max(map(figure, samples[:half])), max(map(figure, samples[half:]))


def rate(samples: list[Sample]) -> float:
    """Logs per second, in the busiest tenth after the first, which holds the history."""
    return max((b.logs - a.logs) / (b.seconds - a.seconds) for a, b in itertools.pairwise(samples))


def test_what_the_exporter_holds_follows_lookback_times_rate_and_not_the_past(tmp_path: Path) -> None:
    # One test, for one run: its facts are worth no second one.
    *taken, end = soak(PLAN, tmp_path)
    samples = [each for each in taken if isinstance(each, Sample)]
    assert isinstance(end, End)
    assert len(samples) == PLAN.samples
    assert end.counted == end.truth
    assert end.gaps == {}
    assert_rows_are_bounded(samples)
    assert_flat(samples, "memory", lambda sample: sample.rss_bytes, RSS_GROWTH)
    assert_flat(samples, "the state file", lambda sample: sample.state_bytes, STATE_GROWTH)
    assert_flat(samples, "tasks", lambda sample: sample.tasks)
    assert_flat(samples, "open files", lambda sample: sample.files)


def assert_rows_are_bounded(samples: list[Sample]) -> None:
    held = rate(samples) * BURST * HELD_SECONDS
    listed = rate(samples) * BURST * (PLAN.retention + PLAN.reconcile_interval)
    for sample in samples:
        rows = dict(sample.rows)
        assert rows.pop("seen") < held
        assert rows.pop("delivered") < HELD_SECONDS / PLAN.poll_interval + 3  # one for each commit
        assert rows.pop("job") - sample.undelivered < held  # an undelivered one is remembered for a day
        assert rows.pop("listed") < listed
        assert rows.pop("meta") <= 5  # the seam of the store, written once, is one of them
        assert rows == {"gap": 0, "store": 1, "tally": 6, "untimed": 0}
    assert samples[-1].logs > 4 * held, "the run is too short to tell"


def assert_flat(samples: list[Sample], what: str, figure: Callable[[Sample], float], growth: float = 1.0) -> None:
    first, second = halves(samples, figure)
    assert second <= first * growth, f"{what}: {[figure(sample) for sample in samples]}"
