"""What a seed chooses: the store's manners, its traffic, the settings, and what strikes when.

Swarm: most seeds have few features on; each profile turns one of them on hard. A scenario is *exact* if it stays within
the assumptions: then every number must be right and no gap told. Otherwise a shortfall must be told, never a silence.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from exporter.intake import BATCH_ATTEMPTS
from exporter.manners import ENVELOPES, TOTALS, Manners
from tests.simulation.traffic import Traffic

ORDERS = ("newest_first", "oldest_first", "newest_visible_first", "oldest_visible_first", "unordered")
API_FAULTS = (
    "429", "500", "502", "503", "504", "401", "truncated", "reset", "hang", "drip", "not_json", "data_null",
    "other_shape", "deep_nesting", "redirect", "empty_page", "short_page", "duplicate_in_page", "stale_page",
)  # fmt: skip
LIMIT_ANSWERS = ("400", "404", "422", "empty", "last_page")


@dataclass(frozen=True)
class Event:
    at: float  # seconds after the store went live
    kind: str
    argument: Any = None
    seconds: float = 0.0  # how long it lasts


@dataclass(frozen=True)
class Scenario:
    seed: int
    profile: str
    manners: Manners
    traffic: Traffic
    events: tuple[Event, ...]
    settings: dict[str, Any]
    seconds: float = 150.0  # of live traffic
    scrapers: tuple[float, ...] = (10.0,)  # their intervals
    exact: bool = True  # within the assumptions: no gap
    told: bool = True  # a shortfall must be told
    punctual: bool = True  # ... and no log is left to an audit
    early_traffic: bool = False  # logs arrive during the first walk already
    batch: int = BATCH_ATTEMPTS  # attempts of a transaction, beyond which a walk goes on while they are committed

    @property
    def lookback(self) -> float:
        return float(self.settings["lookback"])

    @property
    def counts_history(self) -> bool:
        return bool(self.settings["history"] == "count")


def scenario(seed: int, profile: str | None = None) -> Scenario:
    """`profile` None: the seed's own."""
    chooser = random.Random(f"scenario {seed}")
    drawn = chooser.choices(list(PROFILES), [weight for weight, _ in PROFILES.values()])[0]
    name = profile or drawn
    return _fit(PROFILES[name][1](_base(seed, name, chooser), chooser))


def _fit(drawn: Scenario) -> Scenario:
    """Times without digits make ties of every burst; how more of them than half a page end is `dense_ties`' subject."""
    if drawn.manners.time_digits > 0 or drawn.profile in ("ties", "dense_ties"):
        return drawn
    manners = replace(drawn.manners, page_length_max=100)
    settings = {**drawn.settings, "page_limit": max(50, drawn.settings["page_limit"])}
    return replace(drawn, manners=manners, settings=settings, traffic=replace(drawn.traffic, burst_jobs=10))


def _base(seed: int, profile: str, chooser: random.Random) -> Scenario:
    history = chooser.choice(["count", "skip"])
    lookback = chooser.choice([20.0, 30.0])
    manners = Manners(
        order=chooser.choice(ORDERS),
        envelope=chooser.choice(ENVELOPES),
        total_manner=chooser.choice(TOTALS),
        next_on_last_page=chooser.random() < 0.3,
        page_length_max=chooser.choice([100, 100, 25, 7]),
        offset_limit=None,
        time_digits=chooser.choice([9, 9, 6, 3, 0]),
        time_zone=chooser.choice(["Z", "Z", "+02:00"]),
        latency_seconds=chooser.choice([(0.0, 0.0), (0.02, 0.1), (0.05, 0.6)]),
        faults=_faults(chooser, 0.03) if chooser.random() < 0.3 else {},
    )
    traffic = Traffic(
        jobs_per_second=chooser.choice([0.05, 0.2, 0.3]),
        history_seconds=chooser.choice([0.0, 30.0, 80.0]),
        late_share=chooser.choice([0.0, 0.1, 0.5]),
        late_seconds=chooser.uniform(0.1, 0.95) * lookback,
        bursts=chooser.choice([0, 0, 1]),
        burst_jobs=chooser.randint(5, 30),
        newcomer_at=chooser.choice([None, 80.0]),
    )
    settings = {
        "history": history, "lookback": lookback, "poll_interval": 10.0, "page_limit": chooser.choice([5, 7, 10, 25, 100]),
        "reconcile_interval": chooser.choice([0.0, 0.0, 40.0]), "request_timeout": 3.0,
    }  # fmt: skip
    batch = random.Random(f"batch {seed}").choice([BATCH_ATTEMPTS, 4, 15])
    return Scenario(
        seed, profile, manners, traffic, _kills(chooser, chooser.choice([0, 0, 1, 2])), settings, batch=batch,
        scrapers=chooser.choice([(10.0,), (7.0, 15.0)]),
        early_traffic=history == "count" and chooser.random() < 0.5,
    )  # fmt: skip


def _faults(chooser: random.Random, most: float) -> dict[str, float]:
    kinds = chooser.sample(API_FAULTS, chooser.randint(1, 4))
    return {kind: round(chooser.uniform(0.1, 1.0) * most, 3) for kind in kinds}


def _kills(chooser: random.Random, number: int) -> tuple[Event, ...]:
    return tuple(Event(chooser.uniform(0, 150), "kill", chooser.choice([1, 2, 5, 20, 60])) for _ in range(number))


# --- profiles


def _calm(base: Scenario, chooser: random.Random) -> Scenario:
    return replace(base, manners=replace(base.manners, faults={}), events=())


def _mixed(base: Scenario, chooser: random.Random) -> Scenario:
    return base


def _late(base: Scenario, chooser: random.Random) -> Scenario:
    """Half of the logs show late, up to all of lookback."""
    late = replace(base.traffic, late_share=0.6, late_seconds=base.lookback * 0.98, bursts=2)
    return replace(base, traffic=late)


def _drift(base: Scenario, chooser: random.Random) -> Scenario:
    """Slow answers and busy seconds: the list moves under every walk."""
    manners = replace(base.manners, latency_seconds=(0.3, 2.0), faults={})
    traffic = replace(base.traffic, jobs_per_second=0.6, bursts=4, burst_jobs=chooser.randint(10, 60))
    settings = {**base.settings, "page_limit": chooser.choice([7, 10, 25])}
    return replace(base, manners=manners, traffic=traffic, settings=settings, seconds=90.0)


def _ties(base: Scenario, chooser: random.Random) -> Scenario:
    """Many logs of one instant, that change places: no more of them than half a page."""
    ties_seconds, page_limit = chooser.choice([(1, 25), (3, 25), (5, 50)])
    manners = replace(base.manners, ties_ns=ties_seconds * 10**9, ties_permuted=True, order=chooser.choice(ORDERS[:2]),
                      time_digits=chooser.choice([9, 0]), page_length_max=100)  # fmt: skip
    # A late one among them cannot be told from one that was missed.
    traffic = replace(
        base.traffic, bursts=0, jobs_per_second=0.6, history_seconds=100.0, retry_seconds=40.0, late_share=0
    )
    settings = {**base.settings, "page_limit": page_limit}
    return replace(base, manners=manners, settings=settings, traffic=traffic, early_traffic=False)


def _dense_ties(base: Scenario, chooser: random.Random) -> Scenario:
    """More logs of one instant than a page holds: told, or exact."""
    base = _ties(base, chooser)
    settings = {**base.settings, "page_limit": chooser.choice([7, 10])}
    return replace(base, settings=settings, traffic=replace(base.traffic, bursts=3, burst_jobs=30), exact=False)


def _untimed(base: Scenario, chooser: random.Random) -> Scenario:
    share = chooser.choice([0.1, 0.3, 1.0])
    manners = replace(base.manners, missing=frozenset({"created_at"}), missing_probability=share, faults={},
                      order=chooser.choice(ORDERS))  # fmt: skip
    # What a first walk that counts nothing did not come to may turn up later, with no time to say that it is old.
    settings = base.settings if share == 1.0 else {**base.settings, "history": "count"}
    base = replace(base, settings=settings, early_traffic=False)
    # A list without times proves no order: a late log anywhere in it is found by a sweep alone.
    return replace(base, manners=manners, punctual=False, exact=manners.order != "unordered")


def _loose(base: Scenario, chooser: random.Random) -> Scenario:
    """Fields that are missing, or of another type."""
    fields = ["attempt", "succeeded", "status_code", "processing_time"]
    manners = replace(
        base.manners,
        missing=frozenset(chooser.sample(fields, chooser.randint(0, 2))),
        missing_probability=chooser.choice([0.2, 1.0]),
        strings=frozenset(chooser.sample(fields, chooser.randint(0, 3))),
    )
    return replace(base, manners=manners, traffic=replace(base.traffic, long_ids=True))


def _dates(base: Scenario, chooser: random.Random) -> Scenario:
    """Logs of the future, and clocks that differ."""
    manners = replace(
        base.manners,
        created_skew_seconds=chooser.choice([0.0, -3000.0, -20.0, 20.0, 3000.0]),
        date_skew_seconds=chooser.choice([0.0, -100.0, 100.0, 5.0]),
        date_header=chooser.random() < 0.8,
    )
    # What is newer than the clock of the answer cannot be told from a log of the future.
    return replace(base, manners=manners, traffic=replace(base.traffic, future_share=0.05), punctual=False)


def _past(base: Scenario, chooser: random.Random) -> Scenario:
    """Logs that show hours after they were created: where a list by `created_at` hides them, nobody can tell."""
    return replace(base, traffic=replace(base.traffic, past_share=0.03), exact=False, told=False)


def _limited(base: Scenario, chooser: random.Random) -> Scenario:
    """More logs than the offset limit reaches."""
    limit = chooser.choice([20, 35, 70, 150])
    settings = {**base.settings, "page_limit": chooser.choice([10, 25])}
    manners = replace(base.manners, offset_limit=limit, offset_limit_answer=chooser.choice(LIMIT_ANSWERS), faults={},
                      offset_limit_counts_page=limit > 100 and chooser.random() < 0.5)  # fmt: skip
    traffic = replace(base.traffic, jobs_per_second=0.6, burst_jobs=chooser.choice([20, 60, 120]), bursts=1)
    return replace(base, manners=manners, traffic=traffic, settings=settings, exact=False)


def _faulty(base: Scenario, chooser: random.Random) -> Scenario:
    return replace(base, manners=replace(base.manners, faults=_faults(chooser, 0.12)))


def _outages(base: Scenario, chooser: random.Random) -> Scenario:
    kinds = [*API_FAULTS[:13], "403", "404"]
    events = tuple(
        Event(chooser.uniform(0, 120), "outage", chooser.choice(kinds), chooser.uniform(5, 60))
        for _ in range(chooser.randint(1, 3))
    )
    return replace(base, events=(*base.events, *events, Event(chooser.uniform(0, 120), "revoke")))


def _killed(base: Scenario, chooser: random.Random) -> Scenario:
    return replace(base, events=_kills(chooser, chooser.randint(5, 14)))


def _stopped(base: Scenario, chooser: random.Random) -> Scenario:
    events = tuple(Event(chooser.uniform(0, 150), "stop") for _ in range(chooser.randint(2, 6)))
    return replace(base, events=(*base.events, *events))


def _bad_disk(base: Scenario, chooser: random.Random) -> Scenario:
    events = tuple(
        Event(chooser.uniform(0, 120), "disk",
              (chooser.choice(["full", "io", "unknown"]), chooser.choice([1.0, 0.3, 0.05])), chooser.uniform(5, 40))
        for _ in range(chooser.randint(1, 4))
    )  # fmt: skip
    return replace(base, events=(*base.events, *events))


def _flips(base: Scenario, chooser: random.Random) -> Scenario:
    """The order of the lists changes while we run."""
    events = tuple(
        Event(chooser.uniform(30, 120), "order", chooser.choice([*ORDERS, "shuffled"][: 5 if number else 6]))
        for number in range(2, 0, -1)
    )
    # Until two walks have seen the new order, a walk may end at the wrong end of the list: an audit finds the rest.
    return replace(base, events=(*base.events, *events), punctual=False, exact=False)


def _vanishing(base: Scenario, chooser: random.Random) -> Scenario:
    """Retention and deletions while we page."""
    keeps = base.lookback * 2 + 30
    manners = replace(base.manners, retention_seconds=keeps, latency_seconds=(0.05, 0.6))
    events = tuple(Event(chooser.uniform(20, 120), "delete", f"int-{chooser.choice('abc')}") for _ in range(1))
    return replace(base, manners=manners, events=(*base.events, *events), exact=False)


def _retained(base: Scenario, chooser: random.Random) -> Scenario:
    """Retention alone, well behind lookback: it takes from the head of a list that runs oldest-first."""
    manners = replace(base.manners, retention_seconds=base.lookback * 5, latency_seconds=(0.2, 1.5), faults={},
                      order=chooser.choice(["oldest_first", "oldest_visible_first"]))  # fmt: skip
    settings = {**base.settings, "page_limit": chooser.choice([10, 25])}
    # What goes before the first walk has come to it is nobody's to count.
    traffic = replace(base.traffic, jobs_per_second=0.6, history_seconds=min(20.0, base.traffic.history_seconds))
    return replace(base, manners=manners, settings=settings, traffic=traffic, events=())


def _busy(base: Scenario, chooser: random.Random) -> Scenario:
    """More arrives than a page takes to come, at the end of a list that retention shortens: it never stands still."""
    base = _retained(base, chooser)
    manners = replace(base.manners, latency_seconds=(1.0, 2.5))
    settings = {**base.settings, "page_limit": 7}
    return replace(base, manners=manners, settings=settings, traffic=replace(base.traffic, jobs_per_second=1.2))


def _slow(base: Scenario, chooser: random.Random) -> Scenario:
    """A walk takes as long as logs are late."""
    manners = replace(base.manners, latency_seconds=(1.0, 2.5), faults={}, order=chooser.choice(ORDERS[:4]))
    traffic = replace(base.traffic, jobs_per_second=0.4, late_share=0.7, late_seconds=base.lookback * 0.98)
    return replace(base, manners=manners, settings={**base.settings, "page_limit": 7}, traffic=traffic)


def _cut(base: Scenario, chooser: random.Random) -> Scenario:
    """Pages that are cut short, empty, spun out with a record twice, or of a replica that lags."""
    kind = chooser.choice(["short_page", "empty_page", "duplicate_in_page", "stale_page"])
    manners = replace(base.manners, faults={kind: 0.15}, page_length_max=100)
    return replace(base, manners=manners, settings={**base.settings, "page_limit": chooser.choice([10, 25])})


def _newborn(base: Scenario, chooser: random.Random) -> Scenario:
    """Scrapers out of step, and many series that are born late."""
    traffic = replace(base.traffic, jobs_per_second=0.1, newcomer_at=chooser.uniform(20, 100), failing_share=0.4)
    return replace(base, traffic=traffic, scrapers=chooser.choice([(3.0, 30.0), (10.0, 13.0, 60.0), (45.0,)]))


def _killed_newborn(base: Scenario, chooser: random.Random) -> Scenario:
    base = _bad_disk(_newborn(base, chooser), chooser)
    return replace(base, events=(*base.events, *_kills(chooser, 8)), scrapers=(3.0, 5.0))


def _damaged(base: Scenario, chooser: random.Random) -> Scenario:
    """The state is spoilt while the exporter is down."""
    events = (Event(chooser.uniform(20, 120), "damage", chooser.choice(["truncate", "overwrite", "empty", "flip"])),)
    return replace(base, events=events, exact=False)


# Weights: the defects that a first version had were nearly all at the end of lists, and in what moves under a walk.
PROFILES = {
    "calm": (4, _calm), "mixed": (10, _mixed), "late": (6, _late), "drift": (6, _drift), "ties": (4, _ties),
    "dense_ties": (1, _dense_ties), "untimed": (5, _untimed), "loose": (3, _loose), "dates": (5, _dates),
    "past": (2, _past), "limited": (4, _limited), "faulty": (8, _faulty), "outages": (5, _outages),
    "killed": (8, _killed), "stopped": (3, _stopped), "bad_disk": (6, _bad_disk), "flips": (4, _flips),
    "slow": (4, _slow), "cut": (6, _cut), "killed_newborn": (3, _killed_newborn), "vanishing": (3, _vanishing), "retained": (2, _retained),
    "busy": (2, _busy), "newborn": (5, _newborn), "damaged": (2, _damaged),
}  # fmt: skip
