"""A million logs through a bounded store: `.venv/bin/python -m tests.bench.soak [--logs N]`.

Retention in the simulated EPCC, one minute of lookback, six integrations, faults now and then, a scrape each fifteen
seconds and a look at the job lists each five minutes. Memory and state must follow lookback times rate, not the past.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from exporter.manners import ORDERS
from tests.bench.far import End, Plan, Sample, soak

MB = 1_000_000


def table(samples: list[Sample]) -> str:
    tables = sorted({name for sample in samples for name in sample.rows})
    head = ["logs", "hours", "logs/CPU s", "RSS MB", "peak MB", "state MB", "tasks", "files", *tables]
    lines = [head]
    before = Sample(0, 0, 0, 0, 0, 0, {}, 0, 0, 0)
    for sample in samples:
        speed = (sample.logs - before.logs) / max(sample.cpu_seconds - before.cpu_seconds, 1e-9)
        lines.append(
            [
                f"{sample.logs:,}", f"{sample.seconds / 3600:.2f}", f"{speed:,.0f}", f"{sample.rss_bytes / MB:.1f}",
                f"{sample.peak_bytes / MB:.1f}", f"{sample.state_bytes / MB:.1f}", str(sample.tasks), str(sample.files),
                *(f"{sample.rows.get(name, 0):,}" for name in tables),
            ]
        )  # fmt: skip
        before = sample
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--logs", type=int, default=1_000_000)
    parser.add_argument("--jobs-per-second", type=float, default=Plan.jobs_per_second)
    parser.add_argument("--retention", type=float, default=Plan.retention, help="seconds that the store keeps its logs")
    parser.add_argument("--lookback", type=float, default=Plan.lookback)
    parser.add_argument("--poll-interval", type=float, default=Plan.poll_interval)
    parser.add_argument("--reconcile-interval", type=float, default=Plan.reconcile_interval)
    parser.add_argument("--order", choices=ORDERS, default=Plan.order)
    parser.add_argument("--untimed", type=float, default=0.0, help="share of the records without created_at")
    parser.add_argument(
        "--trace", action="store_true", help="show which lines allocated what the second half has added"
    )
    plan = Plan(**vars(parser.parse_args()))
    samples: list[Sample] = []
    end: End | None = None
    with tempfile.TemporaryDirectory() as folder:
        for found in soak(plan, Path(folder)):
            if isinstance(found, End):
                end = found
            else:
                samples.append(found)
                sys.stderr.write(f"{found.logs:,} of {plan.logs:,}\n")
    assert end is not None
    exact = end.counted == end.truth and not end.gaps
    sys.stdout.write(f"{table(samples)}\n{'every attempt counted once' if exact else f'WRONG: {end}'}\n")
    sys.stdout.write("".join(f"{line}\n" for line in end.trace))
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
