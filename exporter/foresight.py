"""How far a walk is likely to go: pages are fetched ahead no further than that.

A guess, from how densely the records of one page stand. A wrong one costs a request in vain, or the wait for one that
was not made ahead; what a walk reads in the end is the walk's own business.
"""

from __future__ import annotations

from exporter.questions import NEWEST_FIRST, OLDEST_FIRST, Goal
from exporter.records import Page


def pages_left(goal: Goal, known_ns: int, page: Page, server_ns: int) -> int | None:
    """How many pages a walk reads after this one, if they are like it; None: nothing says.

    `known_ns`: no log is remembered that was created later; 0: none is. `server_ns`: the server's clock of the page.
    """
    oldest_ns = page.oldest_ns
    if oldest_ns is None:
        return None
    newest_ns = max(page.times)
    if goal.order == NEWEST_FIRST:
        until_ns = known_ns if goal.quick else goal.stop_ns or 0
        if until_ns == 0 or newest_ns < until_ns:  # all of the list; or it goes on for another reason
            return None
        beyond_ns = oldest_ns - until_ns
    elif goal.order == OLDEST_FIRST:
        beyond_ns = server_ns - newest_ns
    else:
        return None
    if newest_ns == oldest_ns:
        return None
    # A poll ends with a page of known records, and the end of a list is looked at once more.
    last = 0 if goal.order == NEWEST_FIRST and not goal.quick else 1
    return max(0, -(-beyond_ns // (newest_ns - oldest_ns))) + last
