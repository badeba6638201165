"""What a simulated run is watched for, inside the exporter: states that are worth meeting, and logs left to an audit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from exporter.questions import Ended
from tests.simulation.faults import Reaper
from tests.world import START_NS, World


@dataclass
class Outcome:
    problems: list[str] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    logs: int = 0
    trace: str = ""  # a hash over every page that was read

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


def watch(world: World, outcome: Outcome, reaper: Reaper, *, punctual: bool, say: Callable[[str], None] | None) -> None:
    """Puts itself between the parts of a life. `punctual`: no log may be left to an audit."""
    feeds, store, publish, record = world.poller._feeds, world.store, world.announcer.publish, world.poller._record
    assert store is not None
    walk_list, commit = feeds._walk_list, store.commit

    async def walked(key: str, goal: Any, marks: Any) -> Ended:
        ended = await walk_list(key, goal, marks)
        outcome.reached[f"walk: {ended.how}{' of an integration' if key else ''}"] += 1
        outcome.reached["stitching broke"] += ended.broken
        outcome.reached["a list outran its walk"] += ended.lapsed
        outcome.reached[f"order: {goal.order}"] += 1
        if say is not None:
            say(f"{now():6.1f} s {described(key, goal, ended)}")
        return ended

    def committed(name: str, batch: Any) -> Any:
        held = store._held.get(name)  # None: the commit is about to read the file anew
        floor_ns = held.marks.floor_ns or 0 if held is not None else 0
        done = commit(name, batch)
        late = sum(1 for e in done.fresh if e.attempt.created_ns is not None and e.at_ns < floor_ns)
        if late:
            outcome.reached["counted below the floor"] += 1
            if punctual:
                outcome.problem(f"{late} logs were left to an audit, at {now():.0f} s")
        return done

    def published(name: str, changes: Any) -> None:
        reaper.point("publish")
        publish(name, changes)

    def recorded(failure: str | None, detail: str) -> None:
        if failure is not None:
            outcome.reached[f"poll fails: {failure}"] += 1
            if say is not None:
                say(f"{now():6.1f} s the poll fails: {failure}: {detail}")
        record(failure, detail)

    world.poller._record = recorded  # type: ignore[method-assign]
    feeds._walk_list, store.commit = walked, committed  # type: ignore[method-assign]
    world.announcer.publish = published  # type: ignore[method-assign,assignment]


def now() -> float:
    return asyncio.get_running_loop().time()


def described(key: str, goal: Any, ended: Ended) -> str:
    def since(ns: int | None) -> str:
        return "-" if ns is None else f"{(ns - START_NS) / 1e9:.1f}"

    marks = "".join(f" {name}" for name in ("complete", "broken", "lapsed", "ground", "swept") if getattr(ended, name))
    return (
        f"{'quick' if goal.quick else 'complete'} {key or 'all'} {goal.order}: {ended.how}{marks}"
        f" pages {ended.pages} floor {since(goal.floor_ns)} goal {since(goal.stop_ns)} stop {since(ended.stop_ns)}"
        f" newest {since(ended.newest_ns)} oldest {since(ended.oldest_ns)} clamp {since(ended.clamp_ns)}"
        f" evidence {ended.evidence}{'!' if ended.strong else ''} tail {goal.tail_hint}->{ended.tail_at}"
    )
