"""Families to bytes: rendered by change, off the event loop, cached between changes.

Each format that is asked for has a sheet: per family a block of bytes for each integration. A publication renders anew
the blocks of the integrations that it changes; the page is one join of blocks, and gzip is one pass over it. A scrape
between changes gets the same bytes. The exporter's own numbers change all the time and are few: they are rendered for
each scrape and appended.

A gzipped page is one gzip member: the deflated delivery part is cached, ended by a full flush, and the deflated own
part is appended to it.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from prometheus_client import CollectorRegistry

from exporter.lines import Key, Lines
from exporter.metrics import FAMILIES, HELD_SERIES, Family, OwnMetrics, Shown
from exporter.protobuf import Protobuf

Format = Literal["text", "openmetrics", "protobuf"]
FORMATS: Final[tuple[Format, ...]] = ("text", "openmetrics", "protobuf")
GZIP_LEVEL: Final = 1  # 9 takes six times as long for a seventh less
IDLE_RENDERINGS: Final = 100  # of other formats, after which a sheet that nobody asks for is dropped
_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


class Writer(Protocol):
    """How a format writes. `labels`: what all blocks of an integration share, made once; nobody else looks into it."""

    def labels(self, key: Key) -> Any: ...
    def block(self, family: Family, labels: Any, shown: Shown) -> bytes: ...
    def family(self, family: Family, blocks: Collection[bytes]) -> list[bytes]: ...
    def own(self, registry: CollectorRegistry) -> bytes: ...


WRITERS: Final[Mapping[Format, Writer]] = {
    "text": Lines("text"), "openmetrics": Lines("openmetrics"), "protobuf": Protobuf(),
}  # fmt: skip


@dataclass(slots=True)
class _Sheet:
    """The delivery part in one format. `dirty` is the event loop's, the rest the rendering thread's."""

    dirty: dict[Key, Shown | None]  # what the blocks do not show yet
    asked: int = 0  # the number of the rendering that asked for it last
    labels: dict[Key, Any] = field(default_factory=dict)
    blocks: list[dict[Key, bytes]] = field(default_factory=lambda: [{} for _ in FAMILIES])
    version: int = -1  # of the publication that `plain` shows
    plain: bytes = b""
    deflated: bytes | None = None  # of `plain`, and its crc, when a client has asked for gzip
    crc: int = 0

    def update(self, writer: Writer, dirty: Mapping[Key, Shown | None], version: int) -> None:
        for key, shown in dirty.items():
            if shown is None:
                self.labels.pop(key, None)
                for blocks in self.blocks:
                    blocks.pop(key, None)
                continue
            labels = self.labels.get(key)
            if labels is None:
                labels = self.labels[key] = writer.labels(key)
            for family, blocks in zip(FAMILIES, self.blocks, strict=True):
                block = writer.block(family, labels, shown)
                if block:
                    blocks[key] = block
                else:
                    blocks.pop(key, None)
        if version != self.version:
            pieces = []
            for family, blocks in zip(FAMILIES, self.blocks, strict=True):
                if blocks:
                    pieces += writer.family(family, blocks.values())
            self.plain, self.deflated, self.version = b"".join(pieces), None, version

    def deflate(self) -> bytes:
        if self.deflated is None:
            deflater = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            self.deflated = deflater.compress(self.plain) + deflater.flush(zlib.Z_FULL_FLUSH)
            self.crc = zlib.crc32(self.plain)
        return self.deflated


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page, in pieces to be written one after the other: the first is the same object until something changes."""

    pieces: tuple[bytes, ...]
    version: int  # of the publication that it shows

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


class Exposition:
    """The page. `publish` is called on the event loop, where it only takes note."""

    def __init__(self, own: OwnMetrics) -> None:
        self._own = own
        self._views: dict[Key, Shown] = {}
        self._held: dict[str, int] = {}  # by store
        self._version = 0
        self._sheets: dict[Format, _Sheet] = {}
        self._renderings = 0
        self._rendering = asyncio.Lock()  # one at a time, in its thread
        self._under_way: dict[tuple[Format, bool], asyncio.Task[Rendered]] = {}

    def publish(self, store: str, changes: Mapping[str, Shown | None]) -> int:
        """New views of integrations (None: it leaves), shown together from now on; returns their version."""
        for integration_id, shown in changes.items():
            key = (store, integration_id)
            for sheet in self._sheets.values():
                sheet.dirty[key] = shown
            before = self._views.pop(key, None) if shown is None else self._views.get(key)
            if shown is not None:
                self._views[key] = shown
            self._held[store] = self._held.get(store, 0) + _held(shown) - _held(before)
        self._version += 1
        return self._version

    def drop_store(self, store: str) -> None:
        self.publish(store, {integration: None for name, integration in list(self._views) if name == store})

    def held(self, store: str) -> int:
        """Series of a store that still show their first zero."""
        return self._held.get(store, 0)

    async def rendered(self, form: Format, *, gzip: bool) -> Rendered:
        """The whole page. Scrapes that come together share one rendering."""
        key = (form, gzip)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._render(form, gzip=gzip))
            task.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(task)

    async def _render(self, form: Format, *, gzip: bool) -> Rendered:
        async with self._rendering:
            sheet = self._sheet(form)
            dirty, sheet.dirty, version = sheet.dirty, {}, self._version
            try:
                return await asyncio.to_thread(self._work, form, sheet, dirty, version, gzip)
            except BaseException:
                sheet.dirty = {**dirty, **sheet.dirty}  # nothing of what was to be shown is forgotten
                raise

    def _sheet(self, form: Format) -> _Sheet:
        self._renderings += 1
        sheet = self._sheets.get(form)
        if sheet is None:
            sheet = self._sheets[form] = _Sheet(dict(self._views))
        sheet.asked = self._renderings
        for other in [each for each, one in self._sheets.items() if self._renderings - one.asked > IDLE_RENDERINGS]:
            del self._sheets[other]
        return sheet

    def _work(
        self, form: Format, sheet: _Sheet, dirty: Mapping[Key, Shown | None], version: int, gzip: bool
    ) -> Rendered:
        """In the rendering thread."""
        writer = WRITERS[form]
        sheet.update(writer, dirty, version)
        own = writer.own(self._own.registry)
        if not gzip:
            return Rendered((sheet.plain, own), version)
        packed = sheet.deflate()
        deflater = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        last = deflater.compress(own) + deflater.flush()
        trailer = struct.pack("<II", zlib.crc32(own, sheet.crc), (len(sheet.plain) + len(own)) & 0xFFFFFFFF)
        return Rendered((_GZIP_HEADER, packed, last + trailer), version)


def _held(shown: Shown | None) -> int:
    if shown is None:
        return 0
    tally = shown.tally
    if not tally.announced:
        return HELD_SERIES + len(tally.responses)
    return len(tally.responses.keys() - set(tally.announced_codes))
