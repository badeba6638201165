"""Log lines: logfmt or JSON on standard error, once per change of state, and never a secret.

`register_secret` is the last line of defence: whoever writes a message must not put a secret into it, but an
exception's text may quote one, so every line is searched for the secrets of this process before it leaves.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import IO, Any, Final
from urllib.parse import quote, quote_plus

LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
FORMATS: Final = ("logfmt", "json")
VALUE_MAX: Final = 500  # characters of one value; what is longer is cut, with a mark
SECRETS_MAX: Final = 10_000  # forms of secrets; the latest used are kept: tokens come and go
STATES_MAX: Final = 100_000
_SECRET_MIN: Final = 4  # a shorter one would blot out half of every line


class _Secrets:
    """The texts that leave no line. A reload registers from its own thread, while others log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: OrderedDict[str, None] = OrderedDict()
        self._longest_first: tuple[str, ...] = ()  # one secret may hold another

    def register(self, value: str) -> None:
        if len(value) < _SECRET_MIN:
            return
        # As it stands, in a URL, in a form, and as Python and JSON quote it.
        forms = (value, quote(value, safe="", errors="replace"), quote_plus(value, errors="replace"),
                 repr(value)[1:-1], json.dumps(value)[1:-1])  # fmt: skip
        with self._lock:
            new = False
            for form in forms:
                new = new or form not in self._used
                self._used[form] = None
                self._used.move_to_end(form)
            while len(self._used) > SECRETS_MAX:
                self._used.popitem(last=False)
            if new:
                self._longest_first = tuple(sorted(self._used, key=len, reverse=True))

    def masked(self, text: str) -> str:
        for secret in self._longest_first:
            if secret in text:
                text = text.replace(secret, "<secret>")
        return text


_secrets = _Secrets()


def register_secret(value: str) -> None:
    """From now on this text leaves no line of ours. To be called at each use: the longest unused is forgotten first."""
    _secrets.register(value)


def masked(text: str) -> str:
    return _secrets.masked(text)


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
        fields: dict[str, Any] = {
            **_opening(record),
            "msg": _message(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            kind, _, trace = record.exc_info
            frames = traceback.extract_tb(trace)
            fields["error"] = kind.__name__
            fields["trace"] = " < ".join(f"{frame.name}@{frame.filename.rpartition('/')[2]}:{frame.lineno}"
                                         for frame in reversed(frames))  # fmt: skip
        return {key: _cut(masked(str(value))) for key, value in fields.items()}


def _opening(record: logging.LogRecord) -> dict[str, str]:
    moment = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")
    return {
        "time": moment.replace("+00:00", "Z"),
        "level": {"WARNING": "WARN"}.get(record.levelname, record.levelname),
        "source": f"{record.filename}:{record.lineno}",
    }


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    # asyncio's own report goes on with a line per object, and a failed task shows what its exception says.
    return text.partition("\n")[0] if record.name == "asyncio" else text


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_MAX else text[:VALUE_MAX] + "…"


class Logfmt(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _logfmt(self._fields(record))


def _logfmt(fields: dict[str, str]) -> str:
    return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def _quoted(value: str) -> str:
    plain = value != "" and value.isprintable() and not any(mark in value for mark in ' "=\\')
    return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())


class Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _json(self._fields(record))


def _json(fields: dict[str, str]) -> str:
    # What is not printable is escaped above ASCII too: a terminal obeys \x9b, and some readers break lines at \u2028.
    return json.dumps(fields, ensure_ascii=not all(value.isprintable() for value in fields.values()))


class _Handler(logging.StreamHandler[IO[str]]):
    """A line that cannot be made says so: logging's own report would quote the arguments, whatever they hold."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        kind = sys.exc_info()[0]
        fields = {**_opening(record), "msg": "a log line could not be written", "error": kind.__name__ if kind else ""}
        try:
            self.stream.write((_json if isinstance(self.formatter, Json) else _logfmt)(fields) + self.terminator)
            self.flush()
        except (OSError, ValueError):
            return  # the stream is broken or closed: there is nobody left to tell


def setup(level: str, form: str, stream: IO[str]) -> None:
    """Everything that is logged goes to `stream`, in one format; aiohttp's access lines do not."""
    handler = _Handler(stream)
    handler.setFormatter(Json() if form == "json" else Logfmt())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    for noisy in ("aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))


def address(host: str, port: int) -> str:
    """As it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
