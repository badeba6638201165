"""EPCC's JSON to our nouns: the only file that knows the API's field names.

Every field but `id` may be missing, null or of a neighbouring type (`attempt` arrives as `"1"` from a first-party
client, `created_at` and `processing_time` are in no OpenAPI file): what cannot be read is None and is named in
`Attempt.missing`. `configuration` is never taken out of the JSON, and a receiver's answer (`body`) by `read_details`
alone, for the one page that may show it.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from exporter import values

REASONS: Final = ("http_3xx", "http_4xx", "http_5xx", "timeout", "connection", "dns", "tls", "other")
REJECT_REASONS: Final = ("no_id", "invalid", "too_long")
MISSABLE_FIELDS: Final = (
    "created_at", "succeeded", "attempt", "processing_time", "status_code", "integration", "job",
)  # fmt: skip
UNKNOWN_INTEGRATION: Final = "unknown"
ERROR_TEXT_MAX: Final = 500  # characters; net/http's longest are about 200
READ_MAX: Final = 4096  # characters of it that are looked at for a reason
REASONS_CACHED: Final = 256  # texts: a receiver that is down is down in few words
ANSWER_MAX: Final = 20_000  # characters of a receiver's answer
TOKEN_MAX: Final = 8_192  # characters: no server takes a longer header, and each is kept, to be masked in log lines


class InvalidResponseError(ValueError):
    """The answer is not JSON, or JSON of another shape than a list or a token. Never holds the answer itself."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
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
    error_text: str = ""  # of a failure, cut; it may quote the receiver, so only pages that may show answers show it


class Detail(msgspec.Struct, frozen=True):
    """An attempt with what the receiver said: never kept, logged or exported."""

    attempt: Attempt
    answer: str  # cut
    answer_characters: int  # before it was cut


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
    ids: tuple[str, ...] = field(init=False)  # of the attempts
    stamps: tuple[int | None, ...] = field(init=False)  # `created_ns` of each attempt
    times: tuple[int, ...] = field(init=False)  # those of them that are known
    oldest_ns: int | None = field(init=False)  # of the times; None: there are none

    def __post_init__(self) -> None:
        stamps = tuple([attempt.created_ns for attempt in self.attempts])
        times = tuple([at for at in stamps if at is not None])
        known = {
            "ids": self.keys if len(self.keys) == len(self.attempts) else tuple([each.id for each in self.attempts]),
            "stamps": stamps,
            "times": times,
            "oldest_ns": min(times, default=None),
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)


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
    with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        envelope = _PLAIN.decode(body)
        attempts = tuple([_plain(record, integration_id) for record in envelope.data])
        ids = tuple([each.id for each in attempts])
        # A NUL in an id makes it unusable, which is told record by record. To look for it in the body took longer.
        names = [each.job_id or "" for each in attempts]
        if "\x00" not in "".join([*ids, *names, *{each.integration_id for each in attempts}]):
            return Page(attempts, (), ids, _total(envelope.results))
    return _read_oddities(body, integration_id)


def _read_oddities(body: bytes, integration_id: str | None) -> Page:
    """A page that is not of the shape that EPCC's pages have: record by record, whatever each of them is."""
    envelope = _envelope(body)
    attempts, rejected, keys = [], [], []
    for record in _data(envelope):
        read = _judged(record, integration_id)
        if isinstance(read, Attempt):
            attempts.append(read)
            keys.append(read.id)
        else:
            rejected.append(read)
            keys.append(f"!{read.key}")
    return Page(tuple(attempts), tuple(rejected), tuple(keys), _total(envelope.get("results")))


def read_details(body: bytes, integration_id: str) -> tuple[list[Detail], int]:
    """The attempts on one page of a job's logs with their receivers' answers, and how many records it held.

    Raises InvalidResponseError. For few records on a person's wish: record by record, whatever each of them is.
    """
    records = _data(_envelope(body))
    found = []
    for record in records:
        read = _judged(record, integration_id)
        if isinstance(read, Attempt):
            answer = _answer(record.get("body"))
            found.append(Detail(read, answer[:ANSWER_MAX], len(answer)))
    return found, len(records)


def _answer(value: Any) -> str:
    """As text; one that EPCC hands on as JSON is JSON again."""
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def read_integrations(body: bytes) -> tuple[list[Integration], int]:
    """The integrations on one page, and how many records it held, readable or not."""
    records = _data(_envelope(body))
    found = []
    for record in records:
        if not isinstance(record, dict) or values.identifier(record.get("id")) is None:
            continue
        enabled = values.flag(record.get("enabled"))
        found.append(
            Integration(
                id=record["id"],
                name=values.text(record.get("name")),
                integration_type=values.text(record.get("integration_type")),
                enabled=True if enabled is None else enabled,
            )
        )
    return found, len(records)


def read_jobs(body: bytes) -> tuple[list[str], int]:
    """The job ids on one page, and how many records it held, readable or not."""
    records = _data(_envelope(body))
    ids = (values.identifier(record.get("id")) for record in records if isinstance(record, dict))
    return [job_id for job_id in ids if job_id is not None], len(records)


def read_token(body: bytes) -> Token:
    fields = _envelope(body)
    token = fields.get("access_token")
    if not isinstance(token, str) or not 1 <= len(token) <= TOKEN_MAX or not (token.isascii() and token.isprintable()):
        raise InvalidResponseError("the token's answer has no usable access_token")
    expires_in = values.number(fields.get("expires_in"))
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


def _total(results: Any) -> int | None:
    # `meta.total` counts pages, `results.total` records: only the second is a total.
    total = values.number(results.get("total")) if isinstance(results, dict) else None
    return int(total) if total is not None and total >= 0 else None


# --- a record as EPCC writes it: what is not named here is passed over without being taken out of the JSON

_Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=values.ID_BYTES_MAX // 4)]  # whatever its characters


class _Id(msgspec.Struct, frozen=True, gc=False):
    id: _Identifier | None = None


class _Related(msgspec.Struct, frozen=True, gc=False):
    data: _Id = _Id()


class _Relationships(msgspec.Struct, frozen=True, gc=False):
    integration: _Related = _Related()
    job: _Related = _Related()


class _Timestamps(msgspec.Struct, frozen=True, gc=False):
    created_at: str | None = None


class _Meta(msgspec.Struct, frozen=True, gc=False):
    timestamps: _Timestamps = _Timestamps()


class _Record(msgspec.Struct, frozen=True, gc=False):
    id: _Identifier
    succeeded: bool | None = None
    attempt: Annotated[int, msgspec.Meta(ge=1, le=values.ATTEMPT_MAX)] | None = None
    processing_time: Annotated[float, msgspec.Meta(ge=0, le=values.PROCESSING_SECONDS_MAX)] | None = None
    status_code: int | None = None
    error_detail: str | None = None
    relationships: _Relationships = _Relationships()
    meta: _Meta = _Meta()


class _Envelope(msgspec.Struct):
    data: list[_Record]
    results: Any = None


_PLAIN: Final = msgspec.json.Decoder(_Envelope)


def _plain(record: _Record, integration_id: str | None) -> Attempt:
    related, seconds, code, flag = record.relationships, record.processing_time, record.status_code, record.succeeded
    integration, job_id = related.integration.data.id or integration_id, related.job.data.id
    created_ns, number = values.read_time(record.meta.timestamps.created_at), record.attempt
    status = values.CODES.get(code, "other")
    processing_us = None if seconds is None else round(seconds * 1_000_000)
    if flag is True and integration and job_id and code is not None and None not in (created_ns, number, seconds):
        # What nearly all are, and `_made` would make of it.
        return Attempt(record.id, integration, job_id, created_ns, number, flag, status, None, processing_us, ())
    return _made(
        record.id, integration, job_id, created_ns, number, flag, status, code is not None, record.error_detail or "",
        processing_us,
    )  # fmt: skip


# --- a record of any shape


def _judged(record: Any, integration_id: str | None) -> Attempt | Rejected:
    if not isinstance(record, dict):
        return Rejected("invalid", _fingerprint(record))
    raw_id = record.get("id")
    if raw_id is None or raw_id == "":
        return Rejected("no_id", _fingerprint(record))
    if not isinstance(raw_id, str) or "\x00" in raw_id:
        return Rejected("invalid", _fingerprint(record))
    log_id = values.identifier(raw_id)
    if log_id is None:
        return Rejected("too_long", _fingerprint(raw_id))
    related, meta = (_object(record, name) for name in ("relationships", "meta"))
    integration, job = (
        values.identifier(_object(_object(related, name), "data").get("id")) for name in ("integration", "job")
    )
    error_text = record.get("error_detail")
    return _made(
        log_id,
        integration or integration_id,
        job,
        values.read_time(_object(meta, "timestamps").get("created_at")),
        values.attempt_number(record.get("attempt")),
        values.flag(record.get("succeeded")),
        values.status(record.get("status_code")),
        record.get("status_code") is not None,
        error_text if isinstance(error_text, str) else "",
        values.microseconds(record.get("processing_time")),
    )


def _made(  # noqa: PLR0917  once per record: keywords would cost as much as the rest
    log_id: str, integration: str | None, job_id: str | None, created_ns: int | None, number: int | None,
    flag: bool | None, status: str, has_status: bool, error_text: str, processing_us: int | None,
) -> Attempt:  # fmt: skip
    """What both readers have read of a record: whatever its shape was, it becomes the same attempt."""
    succeeded = _inferred(status, error_text) if flag is None else flag
    missing: tuple[str, ...] = ()
    if not has_status or None in (created_ns, flag, integration, job_id, number, processing_us):
        found = (created_ns, flag, number, processing_us, has_status or None, integration, job_id)
        missing = tuple(name for name, value in zip(MISSABLE_FIELDS, found, strict=True) if value is None)
    failed = succeeded is False
    return Attempt(
        log_id,
        integration or UNKNOWN_INTEGRATION,
        job_id,
        created_ns,
        number,
        succeeded,
        status,
        failure_reason(status, error_text) if failed else None,
        processing_us,
        missing,
        error_text[:ERROR_TEXT_MAX] if failed else "",
    )


def _object(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = node.get(name)
    return found if isinstance(found, dict) else {}


def _fingerprint(record: Any) -> str:
    text = msgspec.json.encode(record, order="deterministic")
    return f"{zlib.crc32(text):08x}-{len(text)}"


def _inferred(status: str, error_text: str) -> bool | None:
    if status not in ("none", "other"):
        return status.startswith("2")
    return False if error_text else None


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
    return _text_reason(error_text[:READ_MAX])


@lru_cache(REASONS_CACHED)
def _text_reason(text: str) -> str:
    lowered = text.lower()
    return next((reason for reason, pattern in _FAILURE_TEXTS if pattern.search(lowered)), "other")
