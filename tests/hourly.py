"""What each query of the dashboards must answer about deliveries at a time, worked out from a simulated shop's logs alone.

Dashboards ask for rates, and Prometheus estimates those: it stretches what it sees to the borders of its range. What it
would say if it did not is exact, so here each rate is written as the growth that it stands for, and each recorded series
as its rule. Everything else of a query, its joins, sums, quantiles and shares, is asked as it stands.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from exporter.shop import TIMEOUT_SECONDS, Log
from exporter.tally import DELIVERY_BOUNDS, PROCESSING_BOUNDS
from tests import dashboards, promql, rules

HOUR: Final = 3600
DAY: Final = 24 * HOUR
STEP: Final = 30  # of a backfill
BUDGET_STEP: Final = 300  # the budget's days are added up from each fifth minute
BUDGET: Final = 0.01

Panel = tuple[str, str]  # title, with its kind where two have it, and query
Answer = dict[str, float]  # integration, reason, status code, upper bound, or "" where there is one number → value

_SERIES: Final = re.compile(r"(?<![\w:])((?:integration|store):[\w:]+|epcc_\w+)(?:\{([^}]*)\})?")
_GROWTH: Final = re.compile(r"(rate|increase)\((\w+(?:\{[^}]*\})?)\[(\w+)\]\)")


def written_out(expr: str, selector: str = "") -> str:
    """Without recorded series: each is its rule, asked of what it was chosen by."""

    def series(found: re.Match[str]) -> str:
        labels = ",".join(filter(None, (found[2], selector)))
        if found[1] in promql.RECORDED:
            return f"({written_out(promql.RECORDED[found[1]].expr, labels)})"
        return f"{found[1]}{{{labels}}}"

    return _SERIES.sub(series, expr)


def exact(expr: str) -> str:
    """With growth in the place of what is estimated."""

    def grown(found: re.Match[str]) -> str:
        growth = f"({found[2]} - {found[2]} offset {found[3]})"
        return growth if found[1] == "increase" else f"({growth} / {rules.seconds(found[3]):.0f})"

    return _GROWTH.sub(grown, written_out(expr))


def asked(values: Mapping[str, str]) -> Iterator[tuple[str, Panel, str]]:
    """The queries of the dashboards of deliveries: dashboard, title and query, and how it is to be asked."""
    for board in dashboards.read():
        panels = list(board.panels()) if board.uid != "epcc-exporter" else []
        titles = Counter(each.body["title"] for each in panels)
        for each in panels:
            title = each.body["title"]
            for target in each.targets:
                name = title if titles[title] == 1 else f"{title} ({each.body['type']})"
                yield board.uid, (name, target["refId"]), exact(dashboards.filled(target["expr"], values))


@dataclass(frozen=True)
class Past:
    """The logs of one integration or of all, in the order of creation."""

    logs: Sequence[Log]
    since: int  # where the sum over the budget's days begins

    @cached_property
    def _times(self) -> list[int]:
        return [each.created_ns for each in self.logs]

    @cached_property
    def first_tries(self) -> dict[str, Log]:
        found: dict[str, Log] = {}
        for each in self.logs:
            found.setdefault(each.job_id, each)
        return found

    @cached_property
    def deliveries(self) -> dict[str, Log]:
        """By job: its first success."""
        found: dict[str, Log] = {}
        for each in self.logs:
            if each.succeeded:
                found.setdefault(each.job_id, each)
        return found

    @cached_property
    def by_integration(self) -> dict[str, Past]:
        names = {each.integration_id for each in self.logs}
        return {name: Past([each for each in self.logs if each.integration_id == name], self.since) for name in names}

    def within(self, seconds: float, at: int) -> Sequence[Log]:
        after = bisect_right(self._times, round((at - seconds) * 1e9))
        return self.logs[after : bisect_right(self._times, at * 10**9)]

    def jobs(self, seconds: float, at: int) -> int:
        return sum(self.first_tries[each.job_id] is each for each in self.within(seconds, at))

    def delivered(self, seconds: float, at: int) -> list[Log]:
        return [each for each in self.within(seconds, at) if self.deliveries.get(each.job_id) is each]

    def failed_in_a_row(self, at: int) -> int:
        number = 0
        for each in reversed(self.within(at, at)):
            if each.succeeded:
                break
            number += 1
        return number

    def jobs_failing(self, at: int) -> int:
        lately = {each.job_id for each in self.within(DAY, at)}
        return sum(job not in self.deliveries or self.deliveries[job].created_ns > at * 10**9 for job in lately)

    def since_success(self, at: int) -> float:
        return at - next(each.created_ns for each in reversed(self.within(at, at)) if each.succeeded) / 1e9


Truth = Callable[[Past, int], Answer]


def past_of(logs: Iterable[Log]) -> Past:
    """A backfill's series stand at 0 a place before the first log, and the budget begins at a fifth minute from there."""
    ordered = sorted(logs, key=lambda each: each.created_ns)
    zero = -(-ordered[0].created_ns // (STEP * 10**9)) * STEP - STEP
    return Past(ordered, -(-zero // BUDGET_STEP) * BUDGET_STEP)


def quantile(share: float, bounds: Sequence[float], values: Sequence[float]) -> Answer:
    """Prometheus's own, of classic buckets."""
    if not values:
        return {}
    rank, below = share * len(values), 0
    for low, high in pairwise((0.0, *bounds)):
        inside = sum(low < each <= high or each == low == 0.0 for each in values)
        if below + inside >= rank:
            return {"": low + (high - low) * (rank - below) / inside}
        below += inside
    return {"": bounds[-1]}


def time_taken(q: float, seconds: float) -> Truth:
    """A quantile of what attempts took, and at most EPCC's time-out: the bucket behind it knows no more."""

    def found(past: Past, at: int) -> Answer:
        values = quantile(q, PROCESSING_BOUNDS, taken(past, seconds, at))
        return {key: min(value, TIMEOUT_SECONDS) for key, value in values.items()}

    return found


def buckets(bounds: Sequence[float], values: Sequence[float]) -> Answer:
    """The growth of each bucket, where there was any at all."""
    ordered = sorted(values)
    found = {f"{bound:g}": float(bisect_right(ordered, bound)) for bound in bounds}
    return {**found, "inf": float(len(ordered))} if ordered else {}


def share(part: float, whole: float, by: float = 1.0) -> Answer:
    return {"": part / whole / by} if whole else {}


def failed(logs: Iterable[Log]) -> int:
    return sum(not each.succeeded for each in logs)


def a_minute(number: float) -> Answer:
    return {"": number / 60}


def by_code(past: Past, at: int) -> Answer:
    codes = Counter(str(each.status_code or "none") for each in past.within(HOUR, at))
    return {code: number / 60 for code, number in codes.items()}


def by_reason(past: Past, at: int) -> Answer:
    reasons = Counter(_reason(each) for each in past.within(HOUR, at) if not each.succeeded)
    return {reason: number / 60 for reason, number in reasons.items()}


def of_the_most_frequent_reason(past: Past, at: int) -> Answer:
    """How many; which, where two are as frequent, is anybody's guess."""
    reasons = Counter(_reason(each) for each in past.within(HOUR, at) if not each.succeeded)
    return {"": max(reasons.values())} if reasons else {}


def _reason(each: Log) -> str:
    if each.status_code:
        return f"http_{each.status_code // 100}xx"
    return "timeout" if "deadline exceeded" in each.error_detail else "connection"


def taken(past: Past, seconds: float, at: int) -> list[float]:
    return [each.processing_time for each in past.within(seconds, at) if each.processing_time is not None]


def until_delivered(past: Past, at: int) -> list[float]:
    return [(each.created_ns - past.first_tries[each.job_id].created_ns) / 1e9 for each in past.delivered(HOUR, at)]


def failing_share(seconds: float, by: float = 1.0) -> Truth:
    return lambda past, at: share(failed(past.within(seconds, at)), len(past.within(seconds, at)), by)


def left(budget: float) -> Truth:
    """Of what may fail over the budget's days."""

    def found(past: Past, at: int) -> Answer:
        return {key: 1 - value for key, value in failing_share(at - past.since, budget)(past, at).items()}

    return found


def first_of_jobs(past: Past, at: int) -> Answer:
    return share(sum(each.attempt == 1 for each in past.delivered(HOUR, at)), past.jobs(HOUR, at))


def over(limit: float) -> Truth:
    def found(past: Past, at: int) -> Answer:
        values = taken(past, HOUR / 2, at)
        return share(sum(each > limit for each in values), len(values))

    return found


# Of the dashboard of one integration: title and query → the answer from its logs up to a time.
OF_ONE: Final[Mapping[Panel, Truth]] = {
    ("State", "A"): lambda past, at: {"": float(past.failed_in_a_row(at) > 0)},
    ("Failed in a row (stat)", "A"): lambda past, at: {"": past.failed_in_a_row(at)},
    ("Failed in a row (timeseries)", "A"): lambda past, at: {"": past.failed_in_a_row(at)},
    ("Failing, 1 h", "A"): failing_share(HOUR),
    ("Jobs not delivered (stat)", "A"): lambda past, at: {"": past.jobs_failing(at)},
    ("Jobs not delivered (timeseries)", "A"): lambda past, at: {"": past.jobs_failing(at)},
    ("Last success", "A"): lambda past, at: {"": past.since_success(at)},
    ("Slowest twentieth", "A"): time_taken(0.95, HOUR / 2),
    ("Budget left", "A"): left(BUDGET),
    ("Attempts", "A"): lambda past, at: a_minute(sum(each.succeeded for each in past.within(HOUR, at))),
    ("Attempts", "B"): lambda past, at: a_minute(failed(past.within(HOUR, at))),
    ("Failures by reason", "A"): by_reason,
    ("Answers by status code", "A"): by_code,
    ("Failing share", "A"): failing_share(300),
    ("Failing share", "B"): failing_share(HOUR),
    ("Failing share", "C"): failing_share(DAY),
    ("Answer times", "A"): lambda past, at: buckets(PROCESSING_BOUNDS, taken(past, HOUR, at)),
    ("Quantiles", "A"): time_taken(0.5, HOUR),
    ("Quantiles", "B"): time_taken(0.95, HOUR),
    ("Quantiles", "C"): time_taken(0.99, HOUR),
    ("Nearly timed out", "A"): over(5.0),
    ("Mean answer time", "A"): lambda past, at: share(sum(taken(past, HOUR, at)), len(taken(past, HOUR, at))),
    ("Jobs", "A"): lambda past, at: a_minute(past.jobs(HOUR, at)),
    ("Jobs", "B"): lambda past, at: a_minute(sum(each.attempt == 1 for each in past.delivered(HOUR, at))),
    ("Jobs", "C"): lambda past, at: a_minute(sum(each.attempt > 1 for each in past.delivered(HOUR, at))),
    ("Jobs", "D"): lambda past, at: a_minute(sum(each.attempt > 1 for each in past.within(HOUR, at))),
    ("Delivered at once", "A"): first_of_jobs,
    ("How late jobs arrived", "A"): lambda past, at: buckets(DELIVERY_BOUNDS, until_delivered(past, at)),
    ("Time to delivery", "A"): lambda past, at: quantile(0.5, DELIVERY_BOUNDS, until_delivered(past, at)),
    ("Time to delivery", "B"): lambda past, at: quantile(0.95, DELIVERY_BOUNDS, until_delivered(past, at)),
    ("Time to delivery", "C"): lambda past, at: quantile(0.99, DELIVERY_BOUNDS, until_delivered(past, at)),
}  # fmt: skip


def by_integration(answer: Truth) -> Truth:
    """By integration, without those that have no answer."""
    return lambda past, at: {
        name: value for name, own in past.by_integration.items() for value in answer(own, at).values()
    }


def of_all(reduce: Callable[[Iterable[float]], float], answer: Truth) -> Truth:
    return lambda past, at: {"": float(reduce(by_integration(answer)(past, at).values()))}


def attempts(seconds: float) -> Truth:
    """A minute's."""
    return lambda past, at: {"": len(past.within(seconds, at)) / seconds * 60}


OF_ALL: Final[Mapping[Panel, Truth]] = {
    ("Integrations down", "A"): of_all(sum, lambda past, at: {"": past.failed_in_a_row(at) >= 5}),
    ("Jobs not delivered (stat)", "A"): of_all(sum, lambda past, at: {"": past.jobs_failing(at)}),
    ("Jobs not delivered (timeseries)", "A"): by_integration(lambda past, at: {"": past.jobs_failing(at)}),
    ("Success, 30 d", "A"): left(1.0),
    ("Worst budget", "A"): of_all(min, left(BUDGET)),
    ("Stores", "D"): attempts(300),
    ("Stores", "E"): failing_share(HOUR),
    ("Stores", "F"): left(BUDGET),
    ("Integrations, worst first", "A"): by_integration(lambda past, at: {"": float(past.failed_in_a_row(at) >= 5)}),
    ("Integrations, worst first", "B"): by_integration(failing_share(HOUR)),
    ("Integrations, worst first", "C"): by_integration(lambda past, at: {"": past.failed_in_a_row(at)}),
    ("Integrations, worst first", "D"): by_integration(lambda past, at: {"": past.jobs_failing(at)}),
    ("Integrations, worst first", "F"): by_integration(OF_ONE["Last success", "A"]),
    ("Integrations, worst first", "G"): by_integration(attempts(300)),
    ("Integrations, worst first", "H"): by_integration(OF_ONE["Slowest twentieth", "A"]),
    ("Integrations, worst first", "I"): by_integration(left(BUDGET)),
    ("Integrations, worst first", "K"): by_integration(of_the_most_frequent_reason),
    ("Budget left", "A"): by_integration(left(BUDGET)),
    ("How fast the budget burns", "A"): by_integration(failing_share(HOUR, BUDGET)),
    ("Attempts by integration", "A"): by_integration(attempts(HOUR)),
    ("Failing share by integration", "A"): by_integration(failing_share(300)),
    ("Failures by reason", "A"): by_reason,
    ("Answers by status code", "A"): by_code,
    ("Attempts by store", "A"): attempts(HOUR),
}  # fmt: skip

# What nobody knows of the past: whether an integration was enabled, jobs without a log, the exporter's own numbers, alerts;
# and what promtool cannot take.
NO_PAST: Final = {
    "epcc-integration": {
        ("Jobs without a log", "A"), ("Jobs not delivered (timeseries)", "B"), ("Answer times, finely", "A"),
    },
    "epcc-overview": {
        ("Pages", "A"), ("Tickets and notes", "A"), ("Stores not polled", "A"), ("Counted up to", "A"),
        ("Alerts that fire", "A"), ("Stores", "A"), ("Stores", "B"), ("Stores", "C"),
        ("Integrations, worst first", "E"), ("Integrations, worst first", "J"),
    },
}  # fmt: skip
