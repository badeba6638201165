"""What a row holds as JSON, and the checksum beside it: a row that was changed by anybody but us is told."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgspec

from exporter.statefile import DamagedError


def encode(value: Any) -> tuple[bytes, int]:
    """The body of a row, and its checksum."""
    body = msgspec.json.encode(value)
    return body, crc32(body)


def decode(body: object, crc: object, kind: Any) -> Any:
    """Raises DamagedError."""
    # A turned bit can make a text of it, or NULL.
    if not isinstance(body, bytes) or crc32(body) != crc:
        raise DamagedError("a row's checksum does not match")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise DamagedError("a row cannot be decoded") from error
