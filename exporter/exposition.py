"""Families to bytes: rendered by change, off the event loop, cached between changes.

Each format that is asked for has a sheet: per family a block of bytes for each integration. A publication renders anew
the blocks of the integrations that it changes; the page is one join of blocks. A scrape between changes gets the same
bytes. The exporter's own numbers change all the time and are few: they are rendered for each scrape and appended.

A gzipped page is one gzip member, of stretches that were deflated apart (`packing`): only those are packed anew in
which a block has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from prometheus_client import CollectorRegistry

from exporter.lines import Key, Lines
from exporter.metrics import FAMILIES, HELD_SERIES, Family, OwnMetrics, Shown
from exporter.packing import Member, Packing
from exporter.protobuf import Protobuf

Format = Literal["text", "openmetrics", "protobuf"]
FORMATS: Final[tuple[Format, ...]] = ("text", "openmetrics", "protobuf")
IDLE_RENDERINGS: Final = 100  # of other formats, after which a sheet that nobody asks for is dropped


class Writer(Protocol):
    """How a format writes. `labels`: what all blocks of an integration share, made once; nobody else looks into it."""

    def labels(self, key: Key) -> Any: ...
    def block(self, family: Family, labels: Any, shown: Shown) -> bytes: ...
    def family(self, family: Family, blocks: Collection[bytes]) -> list[bytes]: ...  # what stands before them, and they
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
    packings: list[Packing] = field(default_factory=lambda: [Packing() for _ in FAMILIES])
    version: int = -1  # of the publication that `plain` shows
    plain: tuple[bytes, ...] = ()  # each family's; one join of all would keep the interpreter from everybody else
    heads: list[bytes] = field(default_factory=list)  # what stands before each family's blocks
    packed: Member | None = None  # of `plain`, when a client has asked for gzip

    def update(self, writer: Writer, dirty: Mapping[Key, Shown | None], version: int) -> None:
        for key, shown in dirty.items():
            if shown is None:
                self.labels.pop(key, None)
                self._put(key, {})
                continue
            labels = self.labels.get(key)
            if labels is None:
                labels = self.labels[key] = writer.labels(key)
            self._put(key, {number: writer.block(family, labels, shown) for number, family in enumerate(FAMILIES)})
        if version != self.version:
            plain = []
            self.heads = []
            for family, blocks in zip(FAMILIES, self.blocks, strict=True):
                pieces = writer.family(family, blocks.values()) if blocks else [b""]
                self.heads.append(pieces[0])
                plain.append(b"".join(pieces))
            self.plain, self.packed, self.version = tuple(plain), None, version

    def _put(self, key: Key, news: Mapping[int, bytes]) -> None:
        for number, blocks in enumerate(self.blocks):
            block, before = news.get(number, b""), blocks.get(key, b"")
            if block == before:
                continue
            self.packings[number].note(key, before, block)
            if block:
                blocks[key] = block
            else:
                del blocks[key]

    def deflate(self) -> Member:
        if self.packed is None:
            member = Member(self.plain)
            for head, blocks, packing in zip(self.heads, self.blocks, self.packings, strict=True):
                member.add(head)
                member.take(packing.packed(blocks))
            self.packed = member
        return self.packed


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page, in pieces to be written one after the other: all but the last are the same until something changes."""

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
        news = {(store, integration_id): shown for integration_id, shown in changes.items()}
        for sheet in self._sheets.values():
            sheet.dirty.update(news)
        held, views = self._held.get(store, 0), self._views
        for key, shown in news.items():
            before = views.pop(key, None) if shown is None else views.get(key)
            if shown is not None:
                views[key] = shown
            held += _held(shown) - _held(before)
        self._held[store] = held
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
            return Rendered((*sheet.plain, own), version)
        return Rendered(sheet.deflate().ended(own), version)


def _held(shown: Shown | None) -> int:
    if shown is None:
        return 0
    tally = shown.tally
    if not tally.announced:
        return HELD_SERIES + len(tally.responses)
    return len(tally.newborn_codes)
