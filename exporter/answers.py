"""What a receiver answered to the attempts of one job: for the page that shows it, and for nothing else.

These texts are the receiver's and may hold anything: they are not remembered, counted, logged or exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from exporter.records import Attempt, read_page

TEXT_MAX: Final = 20_000  # characters shown of an answer; how long it was is told


@dataclass(frozen=True, slots=True)
class Answer:
    """One attempt and what came of it. The texts are the receiver's and EPCC's, cut at TEXT_MAX."""

    attempt: Attempt
    error: str
    body: str
    body_length: int  # characters, before the cut

    def __repr__(self) -> str:
        return f"Answer({self.attempt.id!r})"


class _Texts(msgspec.Struct):
    id: Any = None
    error_detail: Any = None
    body: Any = None


class _Page(msgspec.Struct):
    data: list[Any]


def read_answers(body: bytes, integration_id: str) -> list[Answer]:
    """The attempts of a job in order of time, without records that cannot be counted. Raises InvalidResponseError."""
    attempts = read_page(body, integration_id).attempts
    texts: dict[str, _Texts] = {}
    for record in msgspec.json.decode(body, type=_Page).data:
        fields = msgspec.convert(record, _Texts) if isinstance(record, dict) else _Texts()
        if isinstance(fields.id, str):
            texts[fields.id] = fields
    answers = [_answer(attempt, texts.get(attempt.id, _Texts())) for attempt in attempts]
    return sorted(answers, key=lambda each: (each.attempt.created_ns or 0, each.attempt.number or 0, each.attempt.id))


def _answer(attempt: Attempt, texts: _Texts) -> Answer:
    body = _text(texts.body)
    return Answer(attempt, _text(texts.error_detail)[:TEXT_MAX], body[:TEXT_MAX], len(body))


def _text(value: Any) -> str:
    """A text as it is; anything else as JSON has it; nothing where there is nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
