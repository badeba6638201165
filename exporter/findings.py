"""What the probe's answers show of a store's lists: each finding, and how sure it is. Pure.

A finding's note is in our own words and numbers; nothing that the store sent as a text is in it, but for names of types
that can be nothing else.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from exporter.edge import DOCUMENTED
from exporter.observed import Answer, Edge, Failed, NotAsked, Observed, Told
from exporter.probe import PAGE_LIMITS
from exporter.shape import is_name
from exporter.verdicts import Order, order_of, paging_ignored, stability

OBSERVED: Final = "observed"
DOCUMENTED_ONLY: Final = "documented, not seen"
UNTOLD: Final = "could not tell"
NOT_ASKED: Final = "not asked"
SURE: Final = (OBSERVED, DOCUMENTED_ONLY, UNTOLD, NOT_ASKED)


@dataclass(frozen=True, slots=True)
class Finding:
    value: Any  # None: nothing was found
    sure: str  # one of SURE
    note: str = ""


Findings = dict[str, Finding]


def untold(answer: Answer | None, why: str = "nothing to ask for") -> Finding:
    if isinstance(answer, NotAsked):
        return Finding(None, NOT_ASKED, "request limit")
    return Finding(None, UNTOLD, f"the answer was {answer}" if isinstance(answer, Failed) else why)


def of_lists(seen: Observed) -> Findings:
    """Everything about the lists; `contents` has what is in the records."""
    found: Findings = {}
    found |= _integrations(seen)
    head = seen.head
    if not isinstance(head, Told):
        missing = untold(head, "the list of logs was not read")
        names = ("order", "stable", "envelope", "total", "next_on_last_page", "page_limit", "over_limit",
                 "default_limit", "paging", "length", "offset_limit", "past_limit")  # fmt: skip
        return found | dict.fromkeys(names, missing) | _other_lists(seen)
    order = order_of(seen)
    found["order"] = _order(seen, order)
    stable = stability(seen)
    found["stable"] = untold(seen.default, "no two answers to compare") if stable is None else Finding(stable, OBSERVED)
    found["envelope"] = Finding(head.shape.envelope, OBSERVED)
    found["total"] = _total(seen, head)
    found["next_on_last_page"] = _next(seen, head)
    found["page_limit"] = _page_limit(seen, head)
    found["over_limit"] = _over(seen, head, found["page_limit"])
    found["default_limit"] = _default(seen, head)
    found["paging"] = _paging(seen, head)
    found |= _edge(seen, seen.edge)
    return found | _other_lists(seen)


def _integrations(seen: Observed) -> Findings:
    if not isinstance(seen.integrations_first, Told):
        return {"integrations": untold(seen.integrations_first, "not asked after such an answer")}
    types = Counter(
        i.integration_type if is_name(i.integration_type) else "a type not shown" for i in seen.integrations
    )
    enabled = sum(i.enabled for i in seen.integrations)
    listed = ", ".join(f"{number} {name}" for name, number in sorted(types.items()))
    note = f"{enabled} enabled{'; ' + listed if listed else ''}"
    note += "" if seen.integrations_whole else "; there may be more"
    return {"integrations": Finding(len(seen.integrations), OBSERVED, note)}


# --- order and envelope


def _order(seen: Observed, order: Order) -> Finding:
    spread, tolerance = seconds_text(order.spread_ns / 1e9), seconds_text(order.tolerance_ns / 1e9)
    if order.verdict is not None:
        weak = "" if order.strong else "weak: "
        less = "" if order.tolerance_ns == seen.lookback_ns else ", less than lookback"
        note = f"{weak}{order.records} records over {spread}, within a tolerance of {tolerance}{less}"
        return Finding(order.verdict, OBSERVED, note)
    if order.records:
        return Finding(None, UNTOLD, f"the {order.records} records read lie within {spread}")
    at_head = _arrivals_at_head(seen)
    if at_head:
        return Finding("newest_first", OBSERVED, "weak: no record has a time, but new ones turned up in front")
    return Finding(None, UNTOLD, "no record has a time" if seen.pages and seen.pages[0][1].keys else "no records")


def _arrivals_at_head(seen: Observed) -> bool:
    """Whether new records were seen, each in front of all that were known."""
    came = False
    known = set(seen.known)
    for page in seen.readings[1:] if seen.readings_at == 0 else ():
        new = [key not in known for key in page.keys]
        number = sum(new)
        if number == len(new) or not all(new[:number]):
            return False
        came = came or number > 0
        known |= set(page.keys)
    return came


def _total(seen: Observed, head: Told) -> Finding:
    totals = [page.shape.total for page in seen.told() if page.shape.total is not None]
    if not totals or head.shape.total is None:
        return Finding("absent", OBSERVED) if not totals else Finding("changes", OBSERVED, "some pages have one")
    said, edge = head.shape.total, seen.edge
    if len(totals) > 2 and max(totals) - min(totals) > max(3, max(totals) // 10):
        return Finding("changes", OBSERVED, f"from answer to answer, between {min(totals)} and {max(totals)}")
    if edge is None or edge.last is None:
        return Finding(None, UNTOLD, f"it says {said}; the end of the list was not seen")
    return _total_at(edge, seen.limit, said if edge.last.shape.total is None else edge.last.shape.total)


def _total_at(edge: Edge, limit: int, said: int) -> Finding:
    """What the answer that showed the edge says of the total: no later record can have changed it."""
    reach = edge.reach
    if edge.how in ("end", "end_refused"):
        if abs(said - reach) <= reach // 100:
            return Finding("right", OBSERVED, f"{said}")
        return Finding("wrong", OBSERVED, f"it says {said}, and the list has {reach} records")
    if min(abs(said - at) for at in (edge.answered, edge.answered + limit, DOCUMENTED)) <= 1:
        return Finding("saturated", OBSERVED, f"it says {said}, which is as far as the list can be read")
    if said < reach:
        return Finding("wrong", OBSERVED, f"it says {said}, and at least {reach} records are listed")
    return Finding("plausible", OBSERVED, f"it says {said}; {reach} records can be reached")


def _next(seen: Observed, head: Told) -> Finding:
    if head.shape.next is None:
        return Finding(None, OBSERVED, "no links")
    edge = seen.edge
    if edge is not None and edge.how in ("end", "end_refused") and edge.last is not None:
        return Finding(edge.last.shape.next, OBSERVED)
    job = seen.job_logs
    if isinstance(job, Told) and job.shape.next is not None and len(job.keys) < PAGE_LIMITS[-1]:
        return Finding(job.shape.next, OBSERVED, "seen on the logs of a job")
    return untold(job if isinstance(job, NotAsked) else None, "the end of the list was not seen")


# --- how long pages are


def _longer(seen: Observed, than: int) -> bool:
    """Whether the list was seen to have more records than that."""
    reached = max((offset + len(page.keys) for offset, page in seen.pages), default=0)
    return max(reached, seen.edge.reach if seen.edge is not None else 0) > than


def _page_limit(seen: Observed, head: Told) -> Finding:
    got, wanted = len(head.keys), PAGE_LIMITS[0]
    if seen.limits_refused:
        refused = ", ".join(f"{limit} ({how})" for limit, how in seen.limits_refused.items())
        return Finding(("refused", seen.limit), OBSERVED, f"refused: {refused}; {seen.limit} works")
    if got >= wanted:
        return Finding(("honoured" if got == wanted else "exceeded", got), OBSERVED)
    if _longer(seen, got) and paging_ignored(head, seen.half) is not True:
        return Finding(("clamped", got), OBSERVED, f"{wanted} asked for, {got} came, and there are more")
    if head.shape.limit is not None:
        word = "honoured" if head.shape.limit >= wanted else "clamped"
        return Finding((word, head.shape.limit), OBSERVED, f"by what the answer says of itself; {got} records came")
    return Finding(None, UNTOLD, f"the list has {got} records")


def _over(seen: Observed, head: Told, page_limit: Finding) -> Finding:
    word, number = page_limit.value or ("", 0)
    if word in ("refused", "clamped"):
        return Finding((word, number), OBSERVED, "as with 100")
    over = seen.over
    if isinstance(over, Failed) and over.refuses:
        return Finding(("refused", PAGE_LIMITS[0]), OBSERVED, f"page[limit]={seen.over_limit}: {over}")
    if not isinstance(over, Told):
        return untold(over)
    got = len(over.keys)
    if got > PAGE_LIMITS[0] or (_longer(seen, got) and got >= len(head.keys)):
        word = "honoured" if got > PAGE_LIMITS[0] else "clamped"
        return Finding((word, got), OBSERVED, f"page[limit]={seen.over_limit} brought {got} records")
    if over.shape.limit is not None:
        word = "clamped" if over.shape.limit < seen.over_limit else "honoured"
        return Finding((word, over.shape.limit), OBSERVED, "by what the answer says of itself")
    return Finding(None, UNTOLD, f"not refused, but the list has {got} records")


def _default(seen: Observed, head: Told) -> Finding:
    default = seen.default
    if not isinstance(default, Told):
        return untold(default)
    got = len(default.keys)
    if got < len(head.keys) or _longer(seen, got):
        return Finding(got, OBSERVED)
    if default.shape.limit is not None:
        return Finding(default.shape.limit, OBSERVED, "by what the answer says of itself")
    return Finding(None, UNTOLD, f"the list has {got} records")


# --- how far the list goes


def _paging(seen: Observed, head: Told) -> Finding:
    ignored = paging_ignored(head, seen.half)
    if ignored is None:
        return untold(seen.half, "the list changes from request to request" if head.keys else "no records")
    note = f"page[offset]={seen.half_at} brought the first page again" if ignored else ""
    return Finding("ignored" if ignored else "honoured", OBSERVED, note)


def _edge(seen: Observed, edge: Edge | None) -> Findings:
    names = ("length", "offset_limit", "past_limit")
    if edge is None:
        why = "page[offset] is ignored, or not asked for after such an answer"
        return dict.fromkeys(names, untold(seen.half if isinstance(seen.half, NotAsked) else None, why))
    if edge.how == "not_asked":
        return dict.fromkeys(names, untold(NotAsked()))
    seen_text = f"at least {edge.reach} records"
    if edge.how == "unclear":
        return dict.fromkeys(names, Finding(None, UNTOLD, f"{edge.why}; {seen_text}"))
    if edge.how == "open":
        none = Finding("none", OBSERVED, f"offset {edge.answered} was still answered")
        return {"length": Finding(None, UNTOLD, seen_text), "offset_limit": none,
                "past_limit": Finding(None, UNTOLD, "no limit was met")}  # fmt: skip
    if not edge.limited:
        note = f"past its end it answers {edge.code or 'with an empty page'}"
        soft = Finding(None, DOCUMENTED_ONLY, f"a soft limit of {DOCUMENTED}; the list ends before")
        return {"length": Finding(edge.reach, OBSERVED, note if edge.reach else "no records"), "offset_limit": soft,
                "past_limit": Finding(None, UNTOLD, "no limit was met")}  # fmt: skip
    exact = edge.beyond == edge.answered + 1 and not edge.moved
    near = "" if exact else f"about: between {edge.answered - seen.limit * edge.moved} and {edge.beyond}; "
    what = {True: "offset and page length together", False: "the offset alone", None: "offset or both, not seen"}
    limit = edge.answered + (seen.limit if edge.counts_page else 0)
    past = {"refused": str(edge.code), "empty": "empty page", "repeated": "last page again"}[edge.how]
    return {
        "length": Finding(None, UNTOLD, f"{seen_text}; the rest is past the offset limit"),
        "offset_limit": Finding(limit, OBSERVED, f"{near}it counts {what[edge.counts_page]}"),
        "past_limit": Finding(past, OBSERVED),
    }


def _other_lists(seen: Observed) -> Findings:
    found: Findings = {}
    own = seen.integration_logs
    if isinstance(own, Told):
        note = f"{len(own.keys)} records" + ("" if seen.integration_logs_own else "; of other integrations as well")
        found["integration_logs"] = Finding("answers", OBSERVED, note)
    else:
        found["integration_logs"] = untold(own, "no integration to ask for")
    job = seen.job_logs
    if isinstance(job, Told):
        note = f"{len(job.keys)} records" + (
            "" if seen.job_logs_known else "; the log that led there is not among them"
        )
        found["job_logs"] = Finding("answers", OBSERVED, note)
    else:
        found["job_logs"] = untold(job, "no log names a job")
    found["jobs"] = _jobs(seen)
    return found


def _jobs(seen: Observed) -> Finding:
    jobs, half = seen.jobs, seen.jobs_half
    if not isinstance(jobs, Told):
        return untold(jobs, "no integration to ask for")
    note = f"{len(jobs.keys)} jobs without page[limit]"
    if half is None:
        return Finding(None, UNTOLD, f"{note}: too few to see whether the list is paged")
    if not isinstance(half, Told):
        return untold(half)
    if len(half.keys) > 2:
        return Finding("not paged", OBSERVED, f"{note}, {len(half.keys)} with page[limit]=2")
    moved = jobs.keys[0] not in half.keys
    return Finding("paged" if moved else "limit alone", OBSERVED, note)


def seconds_text(seconds: float) -> str:
    """A length of time for a reader, like 1h30m, 12.5s or 0.04s."""
    if abs(seconds) < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(abs(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    shown = [f"{number}{unit}" for number, unit in parts if number][:2]
    return ("-" if seconds < 0 else "") + "".join(shown)
