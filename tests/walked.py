"""One walk over a small list, written down: what it asks, and what it ends as, as a line of words.

A list is the ages of its records in seconds, in its own order (None: no time; negative: dated in the future); `odd` is
what happens at a request, by its number: before it is answered, or to its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.questions import Answer, Ask, Ended, Goal, Got, Refused
from exporter.records import Attempt, Page
from exporter.walk import Walk
from tests.shelf import NOW, SECOND, attempt

LOOKBACK = 6  # seconds
WORDS = ("complete", "broken", "lapsed", "ground", "untimed", "swept", "strong")
NUMBERS = ("tail_at", "pages")
SLIPPED = {
    "slip": 3,
    "slip-old": 50,
    "slip-untimed": None,
    "slip-new": 0,
    "slip-future": -9,
    "slip-edge": 7,
    "slip-next": -1e-9,
}  # a record, at a place
AGES = ("newest_ns", "oldest_ns", "stop_ns", "clamp_ns")


@dataclass
class Case:
    ages: Sequence[int | None]
    limit: int = 5
    goal: Mapping[str, Any] = field(default_factory=dict)  # floor, stop, head and clamp as ages
    known: int | None = None  # records from this place of the list on are known
    last_offset: int | None = None  # the offset limit
    past: str = "refused"  # what lies past it: refused, empty, again (the last page)
    odd: Mapping[int, str] = field(default_factory=dict)


def walked(case: Case) -> str:
    """The questions (`offset`, or `offset+ahead`), then how it ended."""
    logs = [attempt(f"l{place}", _at(age)) for place, age in enumerate(case.ages)]
    known = {each.id for each in logs[case.known :]} if case.known is not None else set()
    ages = {f"{name}_ns": case.goal[name] for name in ("floor", "stop", "head", "clamp") if name in case.goal}
    plain = {name: value for name, value in case.goal.items() if f"{name}_ns" not in ages}
    goal = Goal(**{
        "lookback_ns": LOOKBACK * SECOND, "floor_ns": None, "stop_ns": None, "whole": False, "quick": False,
        "order": "newest_first", "tail_hint": None, **plain, **{name: _at(age) for name, age in ages.items()},
    })  # fmt: skip
    questions, asked = Walk(goal).start(), []
    try:
        ask = next(questions)
        while True:
            asked.append(f"{ask.offset}+{ask.ahead}" if ask.ahead else f"{ask.offset}")
            ask = questions.send(_answer(case, logs, known, ask, len(asked) - 1))
    except StopIteration as stop:
        return f"{' '.join(asked)} | {_told(stop.value)}"


def _happen(logs: list[Attempt], number: int, what: str, amount: str) -> None:
    """To the list, before the answer."""
    if what == "insert":
        logs[:0] = [attempt(f"new{number}-{place}", NOW) for place in range(int(amount))]
    if what == "append":
        logs += [attempt(f"new{number}-{place}", NOW) for place in range(int(amount))]
    if what == "delete":
        del logs[: int(amount)]
    if what == "mix":
        logs[: int(amount)] = logs[: int(amount)][::-1]
    if what in SLIPPED:
        logs.insert(int(amount), attempt(f"slip{number}", _at(SLIPPED[what])))


def _answer(case: Case, logs: list[Attempt], known: set[str], ask: Ask, number: int) -> Answer:
    what, _, amount = case.odd.get(number, "").partition(" ")
    _happen(logs, number, what, amount)
    if what == "refuse":
        return Refused()
    offset = ask.offset - int(amount) if what == "before" else ask.offset
    if case.last_offset is not None and offset > case.last_offset:
        if case.past == "refused":
            return Refused()
        offset = case.last_offset if case.past == "again" else len(logs)
    page = logs[offset : offset + case.limit]
    if what == "cut":
        page = page[: int(amount)]
    if what == "twice":
        page = [*page, *page[:1]]
    keys = tuple(each.id for each in page)
    if what == "rejected":
        page, keys = page[:-1], (*keys[:-1], f"!{number}")
    unknown = frozenset(each.id for each in page if each.id not in known)
    now_ns = NOW + number * SECOND
    offset = offset if what == "before" else ask.offset
    return Got(offset, Page(tuple(page), (), keys, None), unknown, now_ns, now_ns)


def _told(ended: Ended) -> str:
    assert {type(getattr(ended, word)) for word in WORDS} == {bool}
    words = [
        ended.how,
        *(word for word in WORDS if getattr(ended, word)),
        *([ended.evidence] if ended.evidence else []),
    ]
    words += [f"{name}={getattr(ended, name)}" for name in NUMBERS if getattr(ended, name) is not None]
    for name in AGES:
        at_ns = getattr(ended, name)
        if at_ns is not None:
            words.append(f"{name.removesuffix('_ns')}={(NOW - at_ns) / SECOND:g}")
    if ended.listed:
        words.append(f"listed={len(ended.listed)}")
    return " ".join(words)


def _at(age: float | None) -> int | None:
    return None if age is None else NOW - round(age * SECOND)
