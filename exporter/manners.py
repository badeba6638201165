"""How the simulated EPCC behaves: its bad manners, and how they show in its answers. Pure; chance is an argument.

Each manner is something that a store may do as far as anybody knows, or that a network does. What a manner does to a
record depends on the record's id alone, so a log keeps its content for as long as it is listed.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

import msgspec

from exporter.shop import SECOND, Integration, Log

ORDERS: Final = (
    "newest_first", "oldest_first",  # by created_at
    "newest_visible_first", "oldest_visible_first",  # as they were written
    "unordered",  # a fixed jumble, in which new logs turn up anywhere
    "shuffled",  # another jumble for each request
)  # fmt: skip
ENVELOPES: Final = ("2026", "2025", "both", "neither")
TOTALS: Final = ("right", "zero", "half", "double", "saturated", "random")
LIMIT_ANSWERS: Final = ("400", "404", "422", "500", "empty", "last_page")
ENDPOINTS: Final = ("token", "integrations", "integration", "logs", "integration_logs", "jobs", "job_logs", "other")
RECORD_FIELDS: Final = (
    "type", "succeeded", "attempt", "processing_time", "body", "status_code", "error_detail", "relationships", "meta",
    "created_at", "integration", "job",
)  # fmt: skip
SCALARS: Final = ("succeeded", "attempt", "processing_time", "status_code")

PAGE_FAULTS: Final = ("empty_page", "short_page", "duplicate_in_page", "stale_page", "data_null")  # of lists alone
SOCKET_FAULTS: Final[Mapping[str, str]] = {
    "truncated": "truncate", "hang": "hang", "reset": "reset", "drip": "drip", "huge": "huge",
}  # fmt: skip
STATUS_FAULTS: Final[Mapping[str, str]] = {
    "400": "Bad Request",
    "401": "Unauthorized",
    "403": "Forbidden",
    "404": "Not Found",
    "422": "Unprocessable Entity",
    "429": "Too Many Requests",
    "500": "Internal Server Error",
    "502": "Bad Gateway",
    "503": "Service Unavailable",
    "504": "Gateway Timeout",
}
FIXED_FAULTS: Final = ("502", "not_json", "other_shape", "deep_nesting", "gzip_bomb", "redirect")
FAULTS: Final = tuple(dict.fromkeys((*STATUS_FAULTS, *SOCKET_FAULTS, *FIXED_FAULTS, *PAGE_FAULTS)))

BOMB_BYTES: Final = 64 * 1024 * 1024  # what 64 kB of gzip become
NESTING: Final = 1_000_000  # from Python 3.14 on a parser is stopped by the end of its stack, and not before


@dataclass(frozen=True, slots=True)
class Manners:
    """The defaults are those of a polite store of 2026."""

    # What the lists look like.
    order: str = "newest_first"
    ties_permuted: bool = False  # records of equal created_at change places from request to request
    envelope: str = "2026"
    total_manner: str = "right"
    next_on_last_page: bool = False
    page_length_max: int = 100
    limit_over_max: str = "clamp"  # or "error": a page[limit] above the maximum
    paging_ignored: bool = False  # every request gets the first page
    offset_limit: int | None = 10_000
    offset_limit_counts_page: bool = False  # the limit is for offset + limit, as a search index has it
    offset_limit_answer: str = "400"
    jobs_paged: bool = True  # False: the whole list at once
    jobs_unlogged: Mapping[str, Sequence[str]] = field(default_factory=dict)  # integration: jobs listed without logs
    # When logs come and go.
    lateness_seconds: float = 0.0  # at most, beyond what the log itself says
    retention_seconds: float | None = None
    stale_seconds: float = 5.0  # how far behind the replica is that answers with a `stale_page`
    # What records look like.
    missing: frozenset[str] = frozenset()  # of RECORD_FIELDS
    missing_probability: float = 1.0
    relationships_null_probability: float = 0.0
    strings: frozenset[str] = frozenset()  # of SCALARS: arrive as strings
    time_digits: int = 9
    time_zone: str = "Z"  # or "+02:00"
    ties_ns: int = 1  # created_at is rounded down to a multiple of it
    created_skew_seconds: float = 0.0
    # Answers.
    date_header: bool = True
    date_skew_seconds: float = 0.0
    token_lifetime_seconds: int = 3600
    latency_seconds: tuple[float, float] = (0.0, 0.0)
    error_status: str = "number"  # or "string" or "missing"
    rate_limit_per_second: int | None = None
    retry_after: str = "seconds"  # or "date" or "none"
    retry_after_seconds: int = 1
    # Faults: kind → probability for each request, or one kind for all requests.
    faults: Mapping[str, float] = field(default_factory=dict)
    down: str | None = None
    fault_endpoints: frozenset[str] = frozenset(ENDPOINTS)

    def __post_init__(self) -> None:
        """A misspelt manner would be a test that tests nothing."""
        for name, value, known in (
            ("order", {self.order}, ORDERS),
            ("envelope", {self.envelope}, ENVELOPES),
            ("total_manner", {self.total_manner}, TOTALS),
            ("limit_over_max", {self.limit_over_max}, ("clamp", "error")),
            ("offset_limit_answer", {self.offset_limit_answer}, LIMIT_ANSWERS),
            ("missing", self.missing, RECORD_FIELDS),
            ("strings", self.strings, SCALARS),
            ("time_digits", {self.time_digits}, range(10)),
            ("error_status", {self.error_status}, ("number", "string", "missing")),
            ("retry_after", {self.retry_after}, ("seconds", "date", "none")),
            ("faults", set(self.faults), FAULTS),
            ("down", {self.down or "hang"}, FAULTS),
            ("fault_endpoints", self.fault_endpoints, ENDPOINTS),
        ):
            if unknown := set(value) - set(known):
                raise ValueError(f"{name}: unknown {', '.join(sorted(map(str, unknown)))}")
        if sum(self.faults.values()) > 1 + 1e-9 or min(self.faults.values(), default=0) < 0:
            raise ValueError("faults: the probabilities must be at least 0 and add up to at most 1")
        zone_minutes(self.time_zone)
        if self.page_length_max < 1 or self.ties_ns < 1:
            raise ValueError("page_length_max and ties_ns must be at least 1")


@dataclass(frozen=True, slots=True)
class Answer:
    """What EPCC answers, and what the network makes of it: `body` is whole even where `fault` spoils it on its way."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    delay_seconds: float = 0.0
    fault: str | None = None  # truncate, hang, reset, drip, huge, gzip_bomb


def json_answer(status: int, value: Any, **headers: str) -> Answer:
    return Answer(status, {"Content-Type": "application/json", **headers}, msgspec.json.encode(value))


def error_answer(status: int, manners: Manners, detail: str = "", **headers: str) -> Answer:
    error: dict[str, Any] = {"title": STATUS_FAULTS.get(str(status), "Error")}
    if manners.error_status != "missing":
        error["status"] = status if manners.error_status == "number" else str(status)
    if detail:
        error["detail"] = detail
    return json_answer(status, {"errors": [error]}, **headers)


def too_many_answer(manners: Manners, now_ns: int) -> Answer:
    if manners.retry_after == "none":
        return error_answer(429, manners)
    wanted = str(manners.retry_after_seconds)
    if manners.retry_after == "date":
        wanted = http_date(now_ns + manners.retry_after_seconds * SECOND, manners)
    return error_answer(429, manners, **{"Retry-After": wanted})


def spoilt(fault: str, manners: Manners, now_ns: int) -> Answer | None:
    """The answer where a fault takes the place of the real one; None: it spoils the real one."""
    if fault == "429":
        return too_many_answer(manners, now_ns)
    if fault in STATUS_FAULTS and fault != "502":
        return error_answer(int(fault), manners)
    return _fixed(fault) if fault in FIXED_FAULTS else None


@functools.cache
def _fixed(fault: str) -> Answer:
    as_json, as_html = {"Content-Type": "application/json"}, {"Content-Type": "text/html"}
    match fault:
        case "502":
            return Answer(502, as_html, b"<html><title>Bad Gateway</title><center>nginx</center></html>\n")
        case "not_json":
            return Answer(200, as_html, b"<!doctype html><title>Sign in to the network</title>\n")
        case "other_shape":
            return Answer(200, as_json, b'[{"data":[]}]')
        case "deep_nesting":
            return Answer(200, as_json, b'{"data":' + b"[" * NESTING + b"]" * NESTING + b"}")
        case "gzip_bomb":
            bomb = gzip.compress(b'{"data":[' + b" " * BOMB_BYTES + b"]}", mtime=0)
            return Answer(200, {**as_json, "Content-Encoding": "gzip"}, bomb, fault="gzip_bomb")
        case _:
            return Answer(302, {"Location": "https://elsewhere.example/"}, b"")


def http_date(now_ns: int, manners: Manners) -> str:
    seconds = now_ns // SECOND + manners.date_skew_seconds
    return format_datetime(datetime.fromtimestamp(int(seconds), UTC), usegmt=True)


def log_record(log: Log, manners: Manners) -> dict[str, Any]:
    """A log as JSON has it."""
    fields: dict[str, Any] = {
        "id": log.id,
        "type": "integration-log",
        "succeeded": log.succeeded,
        "attempt": log.attempt,
        "processing_time": log.processing_time,
        "body": log.body,
        "status_code": log.status_code,
        "error_detail": log.error_detail,
        "relationships": _relationships(log, manners),
        "meta": {"timestamps": {"created_at": time_text(shown_ns(log, manners), manners)}},
    }
    for name in ("processing_time", "status_code"):
        if fields[name] is None:
            del fields[name]
    for name in manners.strings & fields.keys():
        fields[name] = msgspec.json.encode(fields[name]).decode()
    for name in manners.missing:
        if chance(f"missing {name}", log.id) < manners.missing_probability:
            _leave_out(name, fields)
    if log.override is not None:
        fields.update(log.override)
    return fields


def _relationships(log: Log, manners: Manners) -> dict[str, Any] | None:
    draw = chance("relationships", log.id) if manners.relationships_null_probability else 1.0
    if draw < manners.relationships_null_probability / 2:
        return None
    if draw < manners.relationships_null_probability:
        return {"integration": {"data": None}, "job": None}
    return {
        "integration": {"data": {"type": "integration", "id": log.integration_id}},
        "job": {"data": {"type": "integration-job", "id": log.job_id}},
    }


def _leave_out(name: str, fields: dict[str, Any]) -> None:
    if name == "created_at" and "meta" in fields:
        fields["meta"] = {"timestamps": {}}
    elif name in ("integration", "job") and fields.get("relationships"):
        fields["relationships"] = {k: v for k, v in fields["relationships"].items() if k != name}
    else:
        fields.pop(name, None)


def shown_ns(log: Log, manners: Manners) -> int:
    """The instant that `created_at` shows, before digits are cut off."""
    created_ns = log.created_ns + round(manners.created_skew_seconds * SECOND)
    return created_ns - created_ns % manners.ties_ns


def time_text(ns: int, manners: Manners) -> str:
    seconds, fraction = divmod(ns + zone_minutes(manners.time_zone) * 60 * SECOND, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    if manners.time_digits:
        text += f".{fraction:09d}"[: manners.time_digits + 1]
    return text + manners.time_zone


def zone_minutes(zone: str) -> int:
    """East of Greenwich. Raises ValueError unless it is "Z" or like "+02:00"."""
    if zone == "Z":
        return 0
    if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":":
        raise ValueError(f'time_zone: unknown {zone}: wanted "Z" or "+02:00"')
    minutes = int(zone[1:3]) * 60 + int(zone[4:])
    return -minutes if zone[0] == "-" else minutes


def integration_record(integration: Integration, manners: Manners) -> dict[str, Any]:
    created = time_text(integration.created_ns, manners)
    return {
        "id": integration.id,
        "type": "integration",
        "integration_type": integration.integration_type,
        "name": integration.name,
        "description": "",
        "enabled": integration.enabled,
        "observes": list(integration.observes),
        "configuration": {"url": integration.url, "secret_key": integration.secret_key},
        "links": {"self": f"/integrations/{integration.id}"},
        "meta": {"timestamps": {"created_at": created, "updated_at": created}},
    }


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of which list a page is, as the server took the request."""

    path: str
    offset: int
    limit: int
    total: int


def envelope(data: Sequence[Any] | None, window: Window, manners: Manners, chooser: random.Random) -> dict[str, Any]:
    """A page in the shape of its year."""
    offset, limit = window.offset, window.limit
    answer: dict[str, Any] = {"data": data}
    if manners.envelope in ("2025", "both"):
        shown = _shown_total(window.total, manners, chooser)
        pages = -(-shown // limit)
        answer["meta"] = {"limit": limit, "offset": offset, "current": offset // limit + 1, "total": pages}
        answer["results"] = {"total": shown}
    if manners.envelope in ("2026", "both"):

        def link(at: int) -> str:
            return f"{window.path}?page[offset]={at}&page[limit]={limit}"

        answer["links"] = {"first": link(0)}
        if manners.next_on_last_page or offset + len(data or ()) < window.total:
            answer["links"]["next"] = link(offset + limit)
        if offset > 0:
            answer["links"]["prev"] = link(max(0, offset - limit))
    return answer


def _shown_total(total: int, manners: Manners, chooser: random.Random) -> int:
    if manners.total_manner == "random":
        return chooser.randrange(2 * total + 2)
    saturated = total if manners.offset_limit is None else min(total, manners.offset_limit)
    return {"right": total, "zero": 0, "half": total // 2, "double": 2 * total, "saturated": saturated}[
        manners.total_manner
    ]


def chance(salt: str, key: str) -> float:
    """A number in [0, 1) that is always the same for the same words; `hash` is not, from run to run."""
    words = f"{salt}\x00{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(words, digest_size=6).digest(), "big") / 2**48
