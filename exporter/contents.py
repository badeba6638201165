"""What the probe's answers show of the records: fields, times, lateness; and of the answers' headers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Final

from exporter.findings import NOT_ASKED, OBSERVED, UNTOLD, Finding, Findings, seconds_text, untold
from exporter.observed import Heard, NotAsked, Observed, Told
from exporter.questions import UNORDERED
from exporter.records import REASONS, Attempt
from exporter.shape import ABSENT, FIELDS, OTHERS_MAX, Fields
from exporter.verdicts import order_of

FUTURE_SECONDS: Final = 1.0  # a newest log that is younger than the server's clock by more was dated by another


def of_contents(seen: Observed) -> Findings:
    """Fields, times and lateness."""
    pages = [page for page in seen.told() if page.keys]
    attempts = list({attempt.id: attempt for page in pages for attempt in page.attempts}.values())
    fields = Fields()
    for page in pages:
        fields.add(page.shape.fields)
    if not attempts:
        why = untold(seen.head, "no records")
        return {**dict.fromkeys(("fields", "types", "time_format", "ties", "span", "numbers"), why), **_lateness(seen)}
    return {
        **_fields(fields),
        **_times(pages, attempts, fields),
        "numbers": _numbers(attempts, fields),
        **_lateness(seen),
    }


def _fields(fields: Fields) -> Findings:
    absent = {
        name: {kind: kinds[kind] / fields.records for kind in ABSENT if kinds[kind]}
        for name, kinds in fields.kinds.items()
        if any(kinds[kind] for kind in ABSENT)
    }
    wrong = {
        name: {
            kind: number / fields.records
            for kind, number in fields.kinds[name].items()
            if kind not in (wanted, *ABSENT)
        }
        for name, (_, wanted) in FIELDS.items()
    }
    wrong = {name: kinds for name, kinds in wrong.items() if kinds}
    of = f"of {fields.records} records read"
    others = sorted(fields.others)
    known = f"; fields unknown to the exporter: {', '.join(others[:OTHERS_MAX])}" if others else ""
    more = len(others) - OTHERS_MAX
    known += f" and {more} more" if more > 0 else ""
    known += f"; {fields.nameless} records have fields whose names are not shown" if fields.nameless else ""
    return {
        "fields": Finding(absent, OBSERVED, (_shares(absent) or "every field is there") + f", {of}{known}"),
        "types": Finding(wrong, OBSERVED, (_shares(wrong) or "as documented") + f", {of}"),
    }


def _shares(kinds: dict[str, dict[str, float]]) -> str:
    return "; ".join(
        f"{name} "
        + ", ".join(f"{kind} {share:.0%}" if share >= 0.01 else f"{kind} <1%" for kind, share in each.items())
        for name, each in kinds.items()
    )


# --- times


def _times(pages: Sequence[Told], attempts: Sequence[Attempt], fields: Fields) -> Findings:
    times = [attempt.created_ns for attempt in attempts if attempt.created_ns is not None]
    if not times:
        why = Finding(None, UNTOLD, "no record has a readable created_at")
        return dict.fromkeys(("time_format", "ties", "span"), why)
    digits, zones = sorted(fields.digits), sorted(fields.zones)
    listed = " or ".join(str(number) for number in digits)
    largest = max(max(Counter(page.times).values(), default=0) for page in pages)
    spread = (max(times) - min(times)) / 1e9
    newest = max(page.server_ns for page in pages)
    return {
        "time_format": Finding((tuple(digits), tuple(zones)), OBSERVED,
                               f"{listed} digits of a second, zone {' or '.join(zones)}"),
        "ties": Finding(largest, OBSERVED, "records of one page with the same created_at, at most"),
        "span": Finding(spread, OBSERVED, f"{seconds_text(spread)}; the oldest record read is "
                                          f"{seconds_text((newest - min(times)) / 1e9)} old"),
    }  # fmt: skip


def _numbers(attempts: Sequence[Attempt], fields: Fields) -> Finding:
    """The magnitudes of what is documented without a unit or a range."""
    durations = [a.processing_us / 1e6 for a in attempts if a.processing_us is not None]
    tries = [a.number for a in attempts if a.number is not None]
    said = []
    if durations:
        said.append(f"processing_time: half below {median(durations):.3g}, at most {max(durations):.3g}")
    if tries:
        said.append(f"attempt: at most {max(tries)}")
    without = sum(a.status_code == "none" for a in attempts)
    absent = sum(fields.kinds["status_code"][kind] for kind in ABSENT)
    said.append(
        f"without a status: {without} of {len(attempts)}" + (" (0, or not there)" if without and absent else "")
    )
    failed = Counter(a.reason for a in attempts if a.reason is not None)
    if failed:
        said.append("failures: " + ", ".join(f"{failed[reason]} {reason}" for reason in REASONS if failed[reason]))
    return Finding({"without_status": without, "attempt_max": max(tries, default=None)}, OBSERVED, "; ".join(said))


# --- lateness


def _lateness(seen: Observed) -> Findings:
    names = ("newest_age", "lateness", "arrival")
    if not seen.readings:
        return dict.fromkeys(names, _unread(seen))
    ages = [_age(page.server_ns, max(page.times)) for page in seen.readings if page.times]
    found = {"newest_age": Finding(None, UNTOLD, "no record has a time")}
    if ages:
        note = f"when it was first asked for; at least {seconds_text(min(ages))} in {len(ages)} readings"
        future = ages and min(ages) < -FUTURE_SECONDS
        found["newest_age"] = Finding(ages[0], OBSERVED, note + ("; it lies in the future" if future else ""))
    late, delays, new = _arrivals(seen)
    took = (seen.readings[-1].server_ns - seen.readings[0].server_ns) / 1e9
    if not new:
        asked = isinstance(seen.readings_answer, NotAsked) and len(seen.readings) < 2
        why = "request limit" if asked else f"no new log came within {seconds_text(took)}"
        nothing = Finding(None, NOT_ASKED if asked else UNTOLD, why)
        return {**found, "lateness": nothing, "arrival": nothing}
    note = f"at least: {new} new logs in {len(seen.readings)} readings over {seconds_text(took)}"
    found["lateness"] = Finding(max(late, default=0.0), OBSERVED, f"{note}, {len(late)} older than the newest before")
    between = f"{seconds_text(min(delays))} to {seconds_text(max(delays))} after they were created"
    found["arrival"] = Finding(
        max(delays), OBSERVED, f"new logs were first seen {between}; no log is seen before a reading"
    )
    return found


def _unread(seen: Observed) -> Finding:
    if isinstance(seen.readings_answer, NotAsked) or (seen.edge is not None and seen.edge.how == "not_asked"):
        return untold(NotAsked())
    if seen.edge is not None and seen.readings_at is None:
        jumbled = order_of(seen).verdict == UNORDERED
        where = "it has no order" if jumbled else "its end, where new logs stand, is out of reach"
        return Finding(None, UNTOLD, f"the list is longer than a page, and {where}")
    return untold(seen.head, "the newest logs were not watched")


def _arrivals(seen: Observed) -> tuple[list[float], list[float], int]:
    """Of the logs that turned up between two readings: by how much the late ones were created before the newest log
    that was listed already; how long after their creation each was first seen; and their number."""
    known, late, delays, new = set(seen.known) | set(seen.readings[0].keys), [], [], 0
    before = seen.readings[0]
    newest = max((at for page in (before, *(page for _, page in seen.pages)) for at in page.times), default=None)
    for page in seen.readings[1:]:
        # What is older than the whole page before came up from below it, and may have been listed for long.
        oldest = min(before.times, default=None)
        came = [a.created_ns for a in page.attempts if a.id not in known and a.created_ns is not None]
        came = [at for at in came if oldest is None or at >= oldest]
        new += len(came)
        delays += [_age(page.server_ns, at) for at in came]
        late += [(newest - at) / 1e9 for at in came if newest is not None and at < newest]
        known |= set(page.keys)
        newest = max([*page.times, *([newest] if newest is not None else [])], default=None)
        before = page
    return late, delays, new


def _age(server_ns: int, created_ns: int) -> float:
    """Seconds; the server's clock is known to a second, so that a little less than nothing is nothing."""
    age = (server_ns - created_ns) / 1e9
    return 0.0 if -FUTURE_SECONDS <= age < 0 else age


# --- headers


def of_headers(heard: Heard) -> Findings:
    whole = heard.dated + heard.undated
    if not whole:
        return {}
    date = "present" if not heard.undated else "absent" if not heard.dated else "sometimes"
    found = {"date": Finding(date, OBSERVED, "" if date != "sometimes" else f"in {heard.dated} of {whole} answers")}
    low, high = heard.skew_low_ns, heard.skew_high_ns
    if low is None or high is None:
        found["skew"] = Finding(None, UNTOLD, "no answer has a Date")
    else:
        middle, around = (low + high) / 2e9, (high - low) / 2e9
        note = f"the server's clock against this host's, give or take {seconds_text(around)}"
        found["skew"] = Finding(
            middle, OBSERVED, note + ("" if heard.skew_agrees else "; not every Date fits in with it")
        )
    listed = ", ".join(f"{name}: {value}" for name, value in sorted(heard.rate.items()))
    found["rate_headers"] = Finding(dict(heard.rate), OBSERVED, listed or "none")
    limited = heard.codes["429"]
    found["rate_limited"] = Finding(limited, OBSERVED, "answers of 429")
    coded = " or ".join(sorted(heard.encodings))
    found["encoding"] = Finding(tuple(sorted(heard.encodings)), OBSERVED, coded)
    odd = {code: number for code, number in sorted(heard.codes.items()) if code != "200"}
    found["codes"] = Finding(odd, OBSERVED, ", ".join(f"{number} of {code}" for code, number in odd.items()) or "none")
    return found
