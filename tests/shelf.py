"""A list of logs with manners, for tests of the walk: no HTTP, no clock, no shop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from exporter.questions import Answer, Ended, Goal, Got, Refused
from exporter.records import Attempt, Page
from exporter.walk import Walk

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND


def attempt(log_id: str, created_ns: int | None, **changes: object) -> Attempt:
    fields: dict[str, object] = {
        "id": log_id, "integration_id": "int-1", "job_id": f"job-{log_id}", "created_ns": created_ns, "number": 1,
        "succeeded": True, "status_code": "200", "reason": None, "processing_us": 250_000, "missing": (),
    }  # fmt: skip
    return Attempt(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass
class Shelf:
    """`logs` in the order of the list. `before(request number)` may change it between two requests."""

    logs: list[Attempt]
    limit: int = 10
    offset_limit: int | None = None
    past_limit: str = "refused"  # or "empty", "last_page"
    known: set[str] = field(default_factory=set)
    before: Callable[[Shelf, int], None] = lambda shelf, number: None
    shape: Callable[[list[Attempt], int], list[Attempt]] = lambda page, number: page
    asked: list[int] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    now_ns: int = NOW
    doubt_ns: int = 0  # of the clock: how much later it may be

    def answer(self, offset: int) -> Answer:
        number = len(self.asked)
        self.before(self, number)
        self.asked.append(offset)
        if self.offset_limit is not None and offset > self.offset_limit:
            if self.past_limit == "refused":
                return Refused()
            offset = self.offset_limit if self.past_limit == "last_page" else len(self.logs)
        page = self.shape(self.logs[offset : offset + self.limit], number)
        unknown = frozenset(a.id for a in page if a.id not in self.known)
        self.counted.extend(sorted(unknown.difference(self.counted)))
        return Got(
            self.asked[-1],
            Page(tuple(page), (), tuple(a.id for a in page), None),
            unknown,
            self.now_ns,
            self.now_ns + self.doubt_ns,
        )

    def walk(self, **goal: object) -> Ended:
        wanted: dict[str, object] = {
            "lookback_ns": 60 * SECOND, "floor_ns": None, "stop_ns": None, "whole": False, "quick": False,
            "order": "newest_first", "tail_hint": None,
        }  # fmt: skip
        questions = Walk(Goal(**{**wanted, **goal})).start()  # type: ignore[arg-type]
        try:
            ask = next(questions)
            while True:
                ask = questions.send(self.answer(ask.offset))
        except StopIteration as stop:
            ended: Ended = stop.value
            return ended


def newest_first(number: int, seconds_apart: float = 1.0, start_ns: int = NOW) -> list[Attempt]:
    """`number` logs, ids l0000 (the oldest) upwards, newest first."""
    step = round(seconds_apart * SECOND)
    return [attempt(f"l{number - 1 - i:04}", start_ns - i * step) for i in range(number)]


def ids(attempts: Iterable[Attempt]) -> set[str]:
    return {each.id for each in attempts}
