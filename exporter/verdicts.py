"""What is judged of a store's lists while it is probed and afterwards: their order, and whether offsets move. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exporter.observed import Answer, Observed, Told
from exporter.questions import Evidence

# Seconds by which records may stand in another's place, from what the exporter takes for order downwards: a list that
# spans minutes shows its order to who is content with less.
TOLERANCES: Final = (300.0, 60.0, 10.0)
SAME_PAGE: Final = 0.8  # share of the first half of the head that a page shows which is the head again


@dataclass(frozen=True, slots=True)
class Order:
    verdict: str | None  # None: the times do not say
    strong: bool  # no jumble would have looked like that
    tolerance_ns: int
    records: int
    spread_ns: int


def order_of(seen: Observed) -> Order:
    """The order that the times of all logs show, as the exporter itself would take it, or with less tolerance."""
    times = in_order(seen.pages)
    spread_ns = max(times) - min(times) if times else 0
    for tolerance_ns in (seen.lookback_ns, *(round(seconds * 1e9) for seconds in TOLERANCES)):
        if tolerance_ns > seen.lookback_ns:
            continue
        evidence = Evidence(tolerance_ns)
        evidence.read(times)
        if evidence.verdict is not None:
            return Order(evidence.verdict, evidence.strong, tolerance_ns, len(times), spread_ns)
    return Order(None, False, seen.lookback_ns, len(times), spread_ns)


def in_order(pages: list[tuple[int, Told]]) -> list[int]:
    """The times of the records of several pages in the list's order, each once: pages overlap."""
    times, known = [], set[str]()
    for _, page in sorted(pages, key=lambda read: read[0]):
        for attempt in page.attempts:
            if attempt.id not in known and attempt.created_ns is not None:
                times.append(attempt.created_ns)
            known.add(attempt.id)
    return times


def paging_ignored(head: Told, half: Answer | None) -> bool | None:
    """Whether an offset brings the first page again; None: that cannot be told."""
    if not isinstance(half, Told):
        return None
    if len(half.keys) < len(head.keys):
        if not half.keys and len(head.keys) > 1:
            return None
        return len(half.keys) > 1 and half.keys == head.keys[: len(half.keys)]
    before = head.keys[: max(1, len(head.keys) // 2)]
    shown = places(before, half.keys)
    if len(shown) < SAME_PAGE * len(before):
        return False
    return True if shown == sorted(shown) else None


def places(keys: tuple[str, ...], page: tuple[str, ...]) -> list[int]:
    """Where a page shows some of these, in their order."""
    at = {key: place for place, key in reversed(list(enumerate(page)))}  # a fault may show one twice
    return [at[key] for key in keys if key in at]


def stability(seen: Observed) -> str | None:
    """`stable`, `ties_move` or `unstable`: whether the same offset shows the same, as far as new records let it."""
    head = seen.head
    again = seen.readings[1:] if seen.readings_at == 0 else []
    others = [page for page in (seen.default, seen.over, *again) if isinstance(page, Told) and page.keys]
    if not isinstance(head, Told) or not others:
        return None
    worst = "stable"
    times = {attempt.id: attempt.created_ns for attempt in head.attempts}
    for page in others:
        common = [key for key in page.keys if key in times]
        if not common and len(page.keys) < len(head.keys):
            return "unstable"
        ranks = places(tuple(common), head.keys)
        steps = list(zip(common, common[1:], ranks, ranks[1:], strict=False))
        turned = [(a, b) for a, b, one, two in steps if one > two]
        if any(times[a] is None or times[a] != times[b] for a, b in turned):
            return "unstable"
        worst = "ties_move" if turned else worst
    return worst
