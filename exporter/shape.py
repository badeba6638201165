"""How EPCC's JSON is made: its envelope, which fields are there, of which type, how times are written. Pure.

For the probe's report, which others will read: names and numbers come out, never a value that is a text. A field that
nobody knows yet is named only if it can be nothing but a name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

# Where a log's fields are, and the type that the samples in Elastic Path's documentation have.
FIELDS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "id": (("id",), "string"),
    "type": (("type",), "string"),
    "succeeded": (("succeeded",), "boolean"),
    "attempt": (("attempt",), "number"),
    "processing_time": (("processing_time",), "number"),
    "status_code": (("status_code",), "number"),
    "error_detail": (("error_detail",), "string"),
    "body": (("body",), "string"),
    "created_at": (("meta", "timestamps", "created_at"), "string"),
    "integration": (("relationships", "integration", "data", "id"), "string"),
    "job": (("relationships", "job", "data", "id"), "string"),
}
ABSENT: Final = ("missing", "null")
OTHERS_MAX: Final = 10  # unknown fields that are named
_TOP_LEVEL: Final = {path[0] for path, _ in FIELDS.values()}
_NAME: Final = re.compile(r"[a-z]+(?:_[a-z]+){0,4}")
_NAME_MAX: Final = 30  # characters; an id or a token has digits, or is longer
_LIMIT: Final = re.compile(r"page(?:\[|%5B)limit(?:\]|%5D)=(\d{1,6})(?!\d)", re.IGNORECASE)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,](?P<digits>\d{1,30}))?\s*(?P<zone>[Zz]|[+-]\d\d:?\d\d)?", re.ASCII
)


@dataclass(slots=True)
class Fields:
    """What the records of some pages have in common, and what not."""

    records: int = 0
    kinds: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in FIELDS})
    digits: Counter[int] = field(default_factory=Counter)  # of the fraction of a second
    zones: Counter[str] = field(default_factory=Counter)
    others: set[str] = field(default_factory=set)  # fields of a record that are not in FIELDS
    nameless: int = 0  # records with such a field whose name is not shown

    def read(self, records: Iterable[Any]) -> None:
        for record in records:
            self.records += 1
            for name, (path, _) in FIELDS.items():
                value = _at(record, path)
                self.kinds[name][kind(value)] += 1
                if name == "created_at" and isinstance(value, str):
                    self._read_time(value)
            self._read_others(record)

    def _read_time(self, text: str) -> None:
        match = _TIME.fullmatch(text.strip())
        if match is None:
            self.zones["unreadable"] += 1
            return
        self.digits[len(match["digits"] or "")] += 1
        self.zones[(match["zone"] or "none").upper().replace("NONE", "none")] += 1

    def _read_others(self, record: Any) -> None:
        unknown = set(record) - _TOP_LEVEL if isinstance(record, dict) else set()
        shown = {name for name in unknown if is_name(name)}
        self.nameless += shown != unknown
        self.others |= shown

    def add(self, other: Fields) -> None:
        self.records += other.records
        for name, kinds in other.kinds.items():
            self.kinds[name].update(kinds)
        self.digits.update(other.digits)
        self.zones.update(other.zones)
        self.others |= other.others
        self.nameless += other.nameless


@dataclass(frozen=True, slots=True)
class Shape:
    """The envelope of a page, and the fields of its records."""

    envelope: str  # 2026, 2025, both, neither
    next: bool | None  # whether it links to a next page; None: it has no links
    total: int | None  # results.total
    limit: int | None  # the page length as the server took it: meta.limit, or what its links ask for
    fields: Fields


def read_shape(body: bytes) -> Shape:
    """The shape of a page that `records` could read."""
    envelope = msgspec.json.decode(body)
    links, meta, results = (_mapping(envelope.get(name)) for name in ("links", "meta", "results"))
    old = meta is not None or results is not None
    fields = Fields()
    fields.read(envelope["data"])
    limit = _whole((meta or {}).get("limit"))
    for link in (links or {}).values():
        found = _LIMIT.search(link) if isinstance(link, str) else None
        limit = int(found[1]) if limit is None and found else limit
    return Shape(
        envelope="both" if links is not None and old else "2026" if links is not None else "2025" if old else "neither",
        next=None if links is None else bool(links.get("next")),
        total=_whole((results or {}).get("total")),
        limit=limit,
        fields=fields,
    )


def kind(value: Any) -> str:
    """A type in JSON's words; `missing` for what is not there."""
    if value is _MISSING:
        return "missing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "list" if isinstance(value, list) else "object"


def is_name(text: str) -> bool:
    """Whether a text that came from the store can only be a word of the API's own: no id, name of a person or token."""
    return len(text) <= _NAME_MAX and _NAME.fullmatch(text) is not None


_MISSING: Final = object()


def _at(record: Any, path: tuple[str, ...]) -> Any:
    node = record
    for key in path:
        node = node.get(key, _MISSING) if isinstance(node, dict) else _MISSING
    return node


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
