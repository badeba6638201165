"""Values of JSON as what they are meant to be: a field of a neighbouring type is read, one that makes no sense is None.

What EPCC sends is decoded as what it is (`records`); these are for what it might send one day.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

ID_BYTES_MAX: Final = 200  # a UUID has 36; a label longer than this is an attack or a mistake
PROCESSING_SECONDS_MAX: Final = 3600.0  # EPCC's time-out is 10 s (30 s in older prose); an hour is not a duration
ATTEMPT_MAX: Final = 1_000_000
SECONDS_CACHED: Final = 4096  # of created_at, read once each: a page holds few
# What a status code that is a number or nothing stands for; one that is not here is `other`.
CODES: Final[Mapping[int | None, str]] = {None: "none", 0: "none", **{code: str(code) for code in range(100, 600)}}


def identifier(value: Any) -> str | None:
    """A string that may stand in a label and in a row."""
    if not isinstance(value, str) or not value or "\x00" in value:
        return None
    if len(value) * 4 <= ID_BYTES_MAX:
        return value  # however many bytes its characters take
    return value if len(value.encode("utf-8", "surrogatepass")) <= ID_BYTES_MAX else None


def text(value: Any) -> str:
    return value[:ID_BYTES_MAX] if isinstance(value, str) else ""


def number(value: Any) -> float | None:
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


def flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    return {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else None


def status(value: Any) -> str:
    """The code, from 100 to 599, as text; `none` where there is none, else `other`."""
    if value is None or value == "" or isinstance(value, bool):
        return "none"
    code = number(value)
    return "other" if code is None or code != int(code) else CODES.get(int(code), "other")


def attempt_number(value: Any) -> int | None:
    read = number(value)
    return int(read) if read is not None and 1 <= read <= ATTEMPT_MAX and read == int(read) else None


def microseconds(value: Any) -> int | None:
    """Of a duration in seconds."""
    seconds = number(value)
    if seconds is None or not 0 <= seconds <= PROCESSING_SECONDS_MAX:
        return None
    return round(seconds * 1_000_000)


_SECOND: Final = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d"
_TIME: Final = re.compile(rf"({_SECOND})(?:[.,](\d{{1,30}}))?\s*([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_WHOLE: Final = re.compile(_SECOND, re.ASCII)
_SCALES: Final = {9: 1, 6: 1_000, 3: 1_000_000}  # ns, by how many digits a second's fraction is written with


def read_time(value: Any) -> int | None:
    """`created_at` as nanoseconds since 1970: nine, six, three or no digits, any offset, UTC where none is given.

    By hand because `datetime` keeps microseconds: two attempts 71 ns apart would be equal.
    """
    if not isinstance(value, str):
        return None
    digits = value[20:-1]
    scale = _SCALES.get(len(digits))
    if scale is not None and value[19] == "." and value[-1] == "Z" and digits.isdecimal() and digits.isascii():
        seconds, fraction_ns = _seconds(value[:19], "Z"), int(digits) * scale
    else:
        match = _TIME.fullmatch(value.strip())
        if match is None:
            return None
        second, odd_digits, zone = match.groups()
        seconds = _seconds(second, (zone or "Z").upper())
        fraction_ns = int((odd_digits or "0")[:9].ljust(9, "0"))
    if seconds is None:
        return None
    nanoseconds = seconds * 1_000_000_000 + fraction_ns
    return nanoseconds if 0 <= nanoseconds < 2**62 else None


@lru_cache(SECONDS_CACHED)
def _seconds(second: str, zone: str) -> int | None:
    """Since 1970."""
    if _WHOLE.fullmatch(second) is None:
        return None
    try:
        return int(datetime.fromisoformat(f"{second[:10]}T{second[11:]}{zone}").astimezone(UTC).timestamp())
    except (ValueError, OverflowError):
        return None
