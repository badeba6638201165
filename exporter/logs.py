"""Log lines: logfmt or JSON on standard error, once per change of state, and never a secret.

`register_secret` is the last line of defence: whoever writes a message must not put a secret into it, but an
exception's text may quote one, so every line is searched for the secrets of this process before it leaves.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import IO, Any, Final

LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
FORMATS: Final = ("logfmt", "json")
VALUE_MAX: Final = 500  # characters of one value; what is longer is cut, with a mark
SECRETS_MAX: Final = 1_000  # the newest are kept: tokens come and go
STATES_MAX: Final = 100_000
_SECRET_MIN: Final = 4  # a shorter one would blot out half of every line

_secrets: OrderedDict[str, None] = OrderedDict()


def register_secret(value: str) -> None:
    """From now on this text leaves no line of ours."""
    if len(value) >= _SECRET_MIN:
        _secrets[value] = None
        _secrets.move_to_end(value)
        if len(_secrets) > SECRETS_MAX:
            _secrets.popitem(last=False)


def masked(text: str) -> str:
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "<secret>")
    return text


def log(logger: logging.Logger, level: int, message: str, **fields: object) -> None:
    """One line with fields; the caller's own place is its source."""
    logger.log(level, message, extra={"fields": fields}, stacklevel=2)


class OncePerState:
    """Says whether a state differs from the last one told under its key, so that each change is logged once."""

    def __init__(self) -> None:
        self._states: OrderedDict[Hashable, object] = OrderedDict()

    def changed(self, key: Hashable, state: object) -> bool:
        known = key in self._states
        before = self._states.get(key)
        self._states[key] = state
        self._states.move_to_end(key)
        if len(self._states) > STATES_MAX:
            self._states.popitem(last=False)
        return not known or before != state


class _Formatter(logging.Formatter):
    """The fields that both formats share, in their order."""

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        moment = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": {"WARNING": "WARN"}.get(record.levelname, record.levelname),
            "source": f"{record.filename}:{record.lineno}",
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            frames = traceback.extract_tb(trace)
            fields["error"] = kind.__name__
            fields["trace"] = " < ".join(f"{frame.name}@{frame.filename.rpartition('/')[2]}:{frame.lineno}"
                                         for frame in reversed(frames))  # fmt: skip
        return {key: _cut(masked(str(value))) for key, value in fields.items()}


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_MAX else text[:VALUE_MAX] + "…"


class Logfmt(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in self._fields(record).items())


def _quoted(value: str) -> str:
    plain = value != "" and value.isprintable() and not any(mark in value for mark in ' "=\\')
    return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())


class Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self._fields(record), ensure_ascii=False)


def setup(level: str, form: str, stream: IO[str]) -> None:
    """Everything that is logged goes to `stream`, in one format; aiohttp's access lines do not."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json() if form == "json" else Logfmt())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    for noisy in ("aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))
