"""`python -m tests.simulation`: plays seeds, prints those that fail, and what states were reached.

    python -m tests.simulation --seeds 10000            ten thousand seeds that nobody has played before
    python -m tests.simulation --first 0 --seeds 1000   what CI plays
    python -m tests.simulation --replay 4711            one seed again, with its scenario

Exit 1 if a seed failed, or if a long run never came by a state that it should have (`SOMETIMES`).
"""

from __future__ import annotations

import argparse
import os
import pprint
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import partial
from typing import Any

from exporter.manners import Manners
from tests.simulation.play import play
from tests.simulation.scenario import PROFILES, Scenario, scenario
from tests.simulation.traffic import Traffic
from tests.simulation.watch import Outcome

PLAIN: dict[type, Any] = {
    Scenario: Scenario(-1, "", Manners(), Traffic(), (), {}), Manners: Manners(), Traffic: Traffic(),
}  # fmt: skip
LONG = 5_000  # seeds from which on every state of SOMETIMES must have been reached
# If one of these is never reached, a run proves less than it seems to.
SOMETIMES: tuple[str, ...] = (
    "counted below the floor", "disk: full", "disk: io", "disk: unknown", "exact", "told", "no start on a bad disk",
    "gap: late", "gap: offset_limit", "gap: state_lost", "gap: ties",
    "killed at: request", "killed at: answer", "killed at: statement", "killed at: before commit",
    "killed at: after commit", "killed at: publish",
    "order: newest_first", "order: oldest_first", "order: unknown", "order: unordered",
    "poll fails: auth", "poll fails: connection", "poll fails: forbidden", "poll fails: invalid_response",
    "poll fails: not_found", "poll fails: other", "poll fails: rate_limited", "poll fails: server_error",
    "poll fails: storage", "poll fails: timeout",
    "state moved aside", "stitching broke",
    "walk: capped", "walk: capped of an integration", "walk: disorder", "walk: end", "walk: end of an integration",
    "walk: floor", "walk: floor of an integration", "walk: known", "walk: overtaken", "walk: paging_ignored",
    "walk: stuck", "walk: ties",
)  # fmt: skip


def outcome(seed: int, profile: str | None = None) -> tuple[int, Outcome]:
    try:
        return seed, play(scenario(seed, profile))
    except Exception as error:  # whatever ends a run: it is the seed's failure, and the next one is played
        return seed, Outcome([f"{type(error).__name__}: {error}"])


def outcomes(seeds: range, jobs: int, profile: str | None) -> Iterator[tuple[int, Outcome]]:
    if jobs == 1:
        yield from map(partial(outcome, profile=profile), seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(outcome, profile=profile), seeds, chunksize=8)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=None, help="the first; without it, one that the clock gives")
    parser.add_argument("--profile", choices=PROFILES, help="instead of each seed's own")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=None, help="stop after this long")
    parser.add_argument("--replay", type=int, help="play one seed and print its scenario")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        return replay(arguments.replay, arguments.profile)
    first = time.time_ns() // 1_000_000 if arguments.first is None else arguments.first
    return series(range(first, first + arguments.seeds), arguments)


def replay(seed: int, profile: str | None) -> int:
    drawn = scenario(seed, profile)
    for part in (drawn, drawn.manners, drawn.traffic):
        plain = PLAIN[type(part)]
        changed = {f.name: value for f in fields(part) if (value := getattr(part, f.name)) != getattr(plain, f.name)}
        pprint.pp({name: value for name, value in changed.items() if name not in ("manners", "traffic")}, width=140)
    played = play(drawn, say=partial(print, flush=True))
    pprint.pp(dict(sorted(played.reached.items())), width=140)
    print(*played.problems or ["exact"], sep="\n")  # noqa: T201
    print(f"trace {played.trace}, {played.logs} logs, {played.requests} requests")  # noqa: T201
    return 1 if played.problems else 0


def series(seeds: range, arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    reached: Counter[str] = Counter()
    number = failed = requests = 0
    for seed, played in outcomes(seeds, arguments.jobs, arguments.profile):
        number += 1
        requests += played.requests
        reached.update({state: 1 for state, times in played.reached.items() if times})
        if played.problems:
            failed += 1
            profile = arguments.profile or scenario(seed).profile
            print(f"FAILED --replay {seed} ({profile}): " + "; ".join(played.problems[:3]), flush=True)  # noqa: T201
        if arguments.seconds is not None and time.monotonic() - began > arguments.seconds:
            break
    spent = time.monotonic() - began
    for state, seeds_with in sorted(reached.items()):
        print(f"{seeds_with:7} seeds  {state}")  # noqa: T201
    missed = [state for state in SOMETIMES if not reached[state]] if number >= LONG and not arguments.profile else []
    for state in missed:
        print(f"NEVER REACHED: {state}")  # noqa: T201
    rate = f"{requests:,} requests; {number / spent:.1f} seeds a second"
    print(f"{number} seeds from {seeds.start}: {failed} failed; {rate}")  # noqa: T201
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
