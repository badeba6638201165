"""A gzip member of stretches that were deflated apart: what has not changed is not packed again.

Each stretch ends with a full flush, so that it refers to nothing before it and ends on a byte: one after the other they
are one stream to whoever reads it. Short stretches pack worse, long ones must be packed anew more often.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from exporter.lines import Key

LEVEL: Final = 1  # 9 takes six times as long for a seventh less
STRETCH_BYTES: Final = 16 * 1024  # as long as a family's first block says; deflate itself looks back 32 KiB
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class Packing:
    """One family's blocks, in stretches of the same number of integrations, in the order of the page."""

    def __init__(self) -> None:
        self._each = 0  # blocks in a stretch; 0: no block was seen yet
        self._keys: list[Key] = []
        self._places: dict[Key, int] = {}
        self._stale: set[int] | None = None  # stretches to pack anew; None: all of them, the order has changed
        self._packed: list[bytes] = []

    def note(self, key: Key, before: bytes, block: bytes) -> None:
        """A block that has changed; b"": there is none."""
        if not before or not block:
            self._stale = None  # what stands behind it moves
        elif self._stale is not None:
            self._stale.add(self._places[key] // self._each)

    def packed(self, blocks: Mapping[Key, bytes]) -> list[bytes]:
        """The stretches, deflated. `blocks`: all of them, in order."""
        if self._stale is None:
            self._each = max(1, STRETCH_BYTES // max(1, len(next(iter(blocks.values()), b""))))
            self._keys = list(blocks)
            self._places = {key: place for place, key in enumerate(self._keys)}
            ordered = iter(blocks.values())
            self._packed = [_deflated(part) for part in iter(lambda: b"".join(islice(ordered, self._each)), b"")]
        for number in self._stale or ():
            first = number * self._each
            self._packed[number] = _deflated(b"".join(blocks[key] for key in self._keys[first : first + self._each]))
        self._stale = set()
        return self._packed


class Member:
    """The packed page: what is added, in its order, must be all of `plain`."""

    def __init__(self, plain: Iterable[bytes]) -> None:
        self._crc = self._length = 0
        for part in plain:
            self._crc, self._length = zlib.crc32(part, self._crc), self._length + len(part)
        self._parts = [_HEADER]

    def add(self, plain: bytes) -> None:
        if plain:
            self._parts.append(_deflated(plain))

    def take(self, deflated: Iterable[bytes]) -> None:
        self._parts.extend(deflated)

    def ended(self, more: bytes) -> tuple[bytes, bytes]:
        """The same object each time, and what ends it: `more`, the check sum and the length."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        last = deflater.compress(more) + deflater.flush()
        trailer = struct.pack("<II", zlib.crc32(more, self._crc), (self._length + len(more)) & 0xFFFFFFFF)
        return self._parts[0], last + trailer


def _deflated(plain: bytes) -> bytes:
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(plain) + deflater.flush(zlib.Z_FULL_FLUSH)
