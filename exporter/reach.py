"""How far a list was read, and so over which stretch of time the logs of an integration are complete. Pure.

A list that was read through is complete for all that EPCC holds. One that ends at an offset limit is complete from its
newer end down to where that was, less a lookback (in a list by arrival, late logs stand among newer ones), or, where it
runs the other way, from its older end up to there. Of any other end nothing is known, and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.questions import NEWEST_FIRST, OLDEST_FIRST, Ended


@dataclass(frozen=True, slots=True)
class Reach:
    """Complete for logs created after `after_ns` and up to `until_ns`; None: no bound on that side."""

    after_ns: int | None = None
    until_ns: int | None = None
    floor: bool = False  # older logs than were asked for stand on the list: it goes back to there

    @property
    def whole(self) -> bool:
        return self.after_ns is None and self.until_ns is None


def of_list(ended: Ended, order: str, lookback_ns: int) -> Reach | None:
    """None: nothing is known to be complete. `order`: what is known of the list beside this walk's own evidence."""
    if ended.complete:
        return Reach(floor=ended.how == "floor")
    if ended.how in ("capped", "too_long"):
        order = ended.evidence or order
        if order == NEWEST_FIRST and ended.oldest_ns is not None:
            return Reach(after_ns=ended.oldest_ns + lookback_ns)
        if order == OLDEST_FIRST and ended.newest_ns is not None:
            return Reach(until_ns=ended.newest_ns - lookback_ns)
    return None


def either(a: Reach | None, b: Reach | None) -> Reach | None:
    """The better of two lists' reaches, of the same logs."""
    if a is None or b is None:
        return b if a is None else a
    if a.whole or b.whole:
        return a if a.whole else b
    if a.after_ns is not None and b.after_ns is not None:
        return a if a.after_ns <= b.after_ns else b
    if a.until_ns is not None and b.until_ns is not None:
        return a if a.until_ns >= b.until_ns else b
    return a if a.after_ns is not None else b  # the newer end is what the live exporter goes on from


def why_not(ended: Ended | None) -> str:
    """For people: why a list could not be read through."""
    if ended is None:
        return "it has no list of its own"
    return {
        "capped": "its list ends at an offset limit",
        "gone": "EPCC has no list of it any more",
        "paging_ignored": "every offset brings the first page",
        "ties": "more logs of one instant than pages can overlap by",
        "disorder": "its list has no order that two readings agree on",
        "too_long": "its list is longer than the backfill reads",
    }.get(ended.how, f"the walk ended as {ended.how}")
