"""EPCC's JSON to our nouns: the only file that knows the API's field names.

Every field but `id` may be missing, null or of a neighbouring type (`attempt` arrives as `"1"` from a first-party
client, `created_at` and `processing_time` are in no OpenAPI file): what cannot be read is None and is named in
`Attempt.missing`. Receivers' answers (`body`) and `configuration` are never taken out of the JSON.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

_T = TypeVar("_T")

REASONS: Final = ("http_3xx", "http_4xx", "http_5xx", "timeout", "connection", "dns", "tls", "other")
REJECT_REASONS: Final = ("no_id", "invalid", "too_long")
MISSABLE_FIELDS: Final = (
    "created_at", "succeeded", "attempt", "processing_time", "status_code", "integration", "job",
)  # fmt: skip
ID_BYTES_MAX: Final = 200  # a UUID has 36; a label longer than this is an attack or a mistake
PROCESSING_SECONDS_MAX: Final = 3600.0  # EPCC's time-out is 10 s (30 s in older prose); an hour is not a duration
ATTEMPT_MAX: Final = 1_000_000
UNKNOWN_INTEGRATION: Final = "unknown"


class InvalidResponseError(ValueError):
    """The answer is not JSON, or JSON of another shape than a list or a token. Never holds the answer itself."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at delivering one job: what EPCC calls a log."""

    id: str
    integration_id: str  # UNKNOWN_INTEGRATION where the record names none
    job_id: str | None
    created_ns: int | None  # since 1970, from `created_at`; None: missing or unreadable
    number: int | None  # 1 for the first try
    succeeded: bool | None  # None: neither the flag, nor a status, nor an error text says
    status_code: str  # "100" to "599", "none" or "other"
    reason: str | None  # one of REASONS where succeeded is False
    processing_us: int | None  # microseconds: integer sums do not depend on the order of counting
    missing: tuple[str, ...]  # of MISSABLE_FIELDS


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be counted: `key` tells it from others without holding its text."""

    reason: str  # one of REJECT_REASONS
    key: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `keys` has what arrived, rejected records included: the offset advances by it."""

    attempts: tuple[Attempt, ...]
    rejected: tuple[Rejected, ...]
    keys: tuple[str, ...]  # of every record in the list's order: its id, or "!" and the fingerprint of a rejected one
    total: int | None  # a hint, never believed: absent since 2026, and known to lag and to saturate


@dataclass(frozen=True, slots=True)
class Integration:
    id: str
    name: str
    integration_type: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Token:
    access_token: str
    expires_in: float | None  # seconds from the answer; None: the answer does not say

    def __repr__(self) -> str:
        return "Token(<secret>)"


def read_page(body: bytes, integration_id: str | None = None) -> Page:
    """The attempts on one page; `integration_id` is that of the list asked, for records that name none.

    Raises InvalidResponseError where the page itself cannot be read; a bad record in a good page is `rejected`.
    """
    envelope = _envelope(body)
    attempts, rejected, keys = [], [], []
    for record in _data(envelope):
        read = _attempt(record, integration_id)
        if isinstance(read, Attempt):
            attempts.append(read)
            keys.append(read.id)
        else:
            rejected.append(read)
            keys.append(f"!{read.key}")
    return Page(tuple(attempts), tuple(rejected), tuple(keys), _total(envelope))


def read_integrations(body: bytes) -> tuple[list[Integration], int]:
    """The integrations on one page, and how many records it held, readable or not."""
    records = _data(_envelope(body))
    found = []
    for record in records:
        if not isinstance(record, dict) or _checked_id(record.get("id")) is None:
            continue
        enabled = _flag(record.get("enabled"))
        found.append(
            Integration(
                id=record["id"],
                name=_text(record.get("name")),
                integration_type=_text(record.get("integration_type")),
                enabled=True if enabled is None else enabled,
            )
        )
    return found, len(records)


def read_jobs(body: bytes) -> tuple[list[str], int]:
    """The job ids on one page, and how many records it held, readable or not."""
    records = _data(_envelope(body))
    ids = (_checked_id(record.get("id")) for record in records if isinstance(record, dict))
    return [job_id for job_id in ids if job_id is not None], len(records)


def read_token(body: bytes) -> Token:
    fields = _envelope(body)
    token = fields.get("access_token")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise InvalidResponseError("the token's answer has no usable access_token")
    expires_in = _number(fields.get("expires_in"))
    return Token(token, expires_in if expires_in is not None and expires_in > 0 else None)


def _envelope(body: bytes) -> dict[str, Any]:
    try:
        envelope = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # The library's message can quote the text: it is dropped, cause and all.
        raise InvalidResponseError("the answer is not JSON") from None
    if not isinstance(envelope, dict):
        raise InvalidResponseError("the answer is JSON, but not an object")
    return envelope


def _data(envelope: dict[str, Any]) -> list[Any]:
    data = envelope.get("data")
    if not isinstance(data, list):
        raise InvalidResponseError("the answer has no list `data`")
    return data


def _total(envelope: Mapping[str, Any]) -> int | None:
    # `meta.total` counts pages, `results.total` records: only the second is a total.
    results = envelope.get("results")
    total = _number(results.get("total")) if isinstance(results, dict) else None
    return int(total) if total is not None and 0 <= total < 2**53 else None


def _attempt(record: Any, integration_id: str | None) -> Attempt | Rejected:
    if not isinstance(record, dict):
        return Rejected("invalid", _fingerprint(record))
    raw_id = record.get("id")
    if raw_id is None or raw_id == "":
        return Rejected("no_id", _fingerprint(record))
    if not isinstance(raw_id, str) or "\x00" in raw_id:
        return Rejected("invalid", _fingerprint(record))
    if _checked_id(raw_id) is None:
        return Rejected("too_long", _fingerprint(raw_id))
    missing: list[str] = []

    def needed(field: str, value: _T | None) -> _T | None:
        if value is None:
            missing.append(field)
        return value

    meta = record.get("meta")
    stamps = meta.get("timestamps") if isinstance(meta, dict) else None
    created_ns = needed("created_at", read_time(stamps.get("created_at") if isinstance(stamps, dict) else None))
    status = _status(record.get("status_code"))
    needed("status_code", None if record.get("status_code") is None else status)
    flag = needed("succeeded", _flag(record.get("succeeded")))
    error = record.get("error_detail")
    error_text = error if isinstance(error, str) else ""
    succeeded = flag if flag is not None else _inferred(status, error_text)
    number = _number(record.get("attempt"))
    whole = int(number) if number is not None and 1 <= number <= ATTEMPT_MAX and number == int(number) else None
    integration = needed("integration", _related(record, "integration") or integration_id)
    return Attempt(
        id=raw_id,
        integration_id=integration or UNKNOWN_INTEGRATION,
        job_id=needed("job", _related(record, "job")),
        created_ns=created_ns,
        number=needed("attempt", whole),
        succeeded=succeeded,
        status_code=status,
        reason=failure_reason(status, error_text) if succeeded is False else None,
        processing_us=needed("processing_time", _microseconds(record.get("processing_time"))),
        missing=tuple(missing),
    )


def _related(record: Mapping[str, Any], name: str) -> str | None:
    node: Any = record
    for key in ("relationships", name, "data", "id"):
        node = node.get(key) if isinstance(node, dict) else None
    return _checked_id(node)


def _checked_id(value: Any) -> str | None:
    if not isinstance(value, str) or not value or "\x00" in value:
        return None
    return value if len(value.encode("utf-8", "surrogatepass")) <= ID_BYTES_MAX else None


def _fingerprint(record: Any) -> str:
    text = msgspec.json.encode(record, order="deterministic")
    return f"{zlib.crc32(text):08x}-{len(text)}"


def _text(value: Any) -> str:
    return value[:ID_BYTES_MAX] if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int):
        return float(value) if abs(value) < 2**53 else None
    return value if isinstance(value, float) and math.isfinite(value) and abs(value) < 2**53 else None


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def _status(value: Any) -> str:
    if value is None or value == "" or isinstance(value, bool):
        return "none"
    code = _number(value)
    if code == 0:
        return "none"
    return str(int(code)) if code is not None and code == int(code) and 100 <= code <= 599 else "other"


def _inferred(status: str, error_text: str) -> bool | None:
    if status not in ("none", "other"):
        return status.startswith("2")
    return False if error_text else None


def _microseconds(value: Any) -> int | None:
    seconds = _number(value)
    if seconds is None or not 0 <= seconds <= PROCESSING_SECONDS_MAX:
        return None
    return round(seconds * 1_000_000)


# The sender looks like Go (inferred), so its texts are those of net/http and crypto/tls. Order matters: a name that did
# not resolve says "dial tcp: lookup … i/o timeout", which is neither a connection nor the receiver's slowness.
_FAILURE_TEXTS: Final = (
    ("dns", re.compile(r"no such host|server misbehaving|\blookup |name resolution|\bdns\b|name or service not known")),
    ("timeout", re.compile(r"deadline exceeded|time-?d?[ -]?out|timeout")),
    ("tls", re.compile(r"\bx509\b|\btls\b|\bssl\b|certificate|http response to https client|handshake")),
    ("connection", re.compile(
        r"connection|\beof\b|broken pipe|no route to host|unreachable|\bdial |\breset\b|refused|use of closed network"
    )),
)  # fmt: skip


def failure_reason(status: str, error_text: str) -> str:
    """One of REASONS: by status where there is one that explains it, else by the error's text."""
    if status[0] in "345":
        return f"http_{status[0]}xx"
    text = error_text[:4096].lower()
    for reason, pattern in _FAILURE_TEXTS:
        if pattern.search(text):
            return reason
    return "other"


_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:[.,](\d{1,30}))?\s*([Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)


def read_time(value: Any) -> int | None:
    """`created_at` as nanoseconds since 1970: nine, six, three or no digits, any offset, UTC where none is given.

    By hand because `datetime` keeps microseconds: two attempts 71 ns apart would be equal.
    """
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    day, clock, digits, zone = match.groups()
    zone = "+00:00" if zone is None or zone in "Zz" else zone
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    seconds = int(moment.timestamp())
    nanoseconds = seconds * 1_000_000_000 + int((digits or "0")[:9].ljust(9, "0"))
    return nanoseconds if 0 <= nanoseconds < 2**62 else None
