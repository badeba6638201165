"""Families to bytes: rendered by change, off the event loop, cached between changes.

Per family there is a block of lines for each integration. A publication renders anew the blocks of the integrations
that it changes, and joins anew the families in which a block has changed; a scrape between changes gets the same bytes.
The exporter's own numbers change all the time and are few: they are rendered for each scrape and appended.

A gzipped page is one gzip member: the deflated delivery part is cached, ended by a full flush, and the deflated own
part is appended to it. Both formats share their sample lines; only the headers and the end differ.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client.exposition import generate_latest as own_text
from prometheus_client.openmetrics.exposition import generate_latest as own_openmetrics
from prometheus_client.utils import floatToGoString

from exporter.metrics import FAMILIES, HELD_SERIES, Family, OwnMetrics, Shown

Format = Literal["text", "openmetrics"]
FORMATS: Final[tuple[Format, ...]] = ("text", "openmetrics")
GZIP_LEVEL: Final = 1  # 9 takes six times as long for a seventh less
_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

_Key = tuple[str, str]  # store, integration


@dataclass(slots=True)
class _Part:
    """The delivery part in one format; `deflated` and `crc` when a client has asked for gzip."""

    version: int
    plain: bytes
    deflated: bytes | None = None
    crc: int = 0


@dataclass(frozen=True, slots=True)
class Rendered:
    body: bytes
    version: int  # of the publication that it shows


class Exposition:
    """The page. `publish` is called on the event loop, where it only takes note."""

    def __init__(self, own: OwnMetrics) -> None:
        self._own = own
        self._views: dict[_Key, Shown] = {}
        self._dirty: dict[_Key, Shown | None] = {}
        self._held: dict[str, int] = {}  # by store
        self._version = 0
        # Below: touched by one rendering at a time, in its thread.
        self._rendering = asyncio.Lock()
        self._blocks: list[dict[_Key, bytes]] = [{} for _ in FAMILIES]
        self._joined: list[bytes | None] = [None] * len(FAMILIES)
        self._parts: dict[Format, _Part] = {}
        self._under_way: dict[tuple[Format, bool], asyncio.Task[Rendered]] = {}

    def publish(self, store: str, changes: Mapping[str, Shown | None]) -> int:
        """New views of integrations (None: it leaves), shown together from now on; returns their version."""
        for integration_id, shown in changes.items():
            key = (store, integration_id)
            self._dirty[key] = shown
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
            dirty, self._dirty, version = self._dirty, {}, self._version
            try:
                return await asyncio.to_thread(self._work, dirty, version, form, gzip)
            except BaseException:
                self._dirty = {**dirty, **self._dirty}  # nothing of what was to be shown is forgotten
                raise

    # --- in the rendering thread

    def _work(self, dirty: dict[_Key, Shown | None], version: int, form: Format, gzip: bool) -> Rendered:
        self._update(dirty)
        part = self._parts.get(form)
        if part is None or part.version != version:
            part = self._parts[form] = _Part(version, self._join(form))
        own = (own_text if form == "text" else own_openmetrics)(self._own.registry)
        if not gzip:
            return Rendered(part.plain + own, version)
        if part.deflated is None:
            deflater = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            part.deflated = deflater.compress(part.plain) + deflater.flush(zlib.Z_FULL_FLUSH)
            part.crc = zlib.crc32(part.plain)
        deflater = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        last = deflater.compress(own) + deflater.flush()
        trailer = struct.pack("<II", zlib.crc32(own, part.crc), (len(part.plain) + len(own)) & 0xFFFFFFFF)
        return Rendered(b"".join((_GZIP_HEADER, part.deflated, last, trailer)), version)

    def _update(self, dirty: dict[_Key, Shown | None]) -> None:
        for key, shown in dirty.items():
            for place, family in enumerate(FAMILIES):
                blocks = self._blocks[place]
                block = b"" if shown is None else render_block(family, key[0], key[1], shown)
                if blocks.get(key, b"") == block:
                    continue
                self._joined[place] = None
                if block:
                    blocks[key] = block
                else:
                    blocks.pop(key, None)

    def _join(self, form: Format) -> bytes:
        pieces = []
        for place, family in enumerate(FAMILIES):
            blocks = self._blocks[place]
            if not blocks:
                continue
            joined = self._joined[place]
            if joined is None:
                joined = self._joined[place] = b"".join(blocks.values())
            pieces += [header(family, form), joined]
        return b"".join(pieces)


def _held(shown: Shown | None) -> int:
    if shown is None:
        return 0
    tally = shown.tally
    if not tally.announced:
        return HELD_SERIES + len(tally.responses)
    return len(tally.responses.keys() - set(tally.announced_codes))


def header(family: Family, form: Format) -> bytes:
    """HELP and TYPE, as `prometheus_client` writes them: OpenMetrics names a counter without its `_total`."""
    name = f"{family.name}_total" if family.kind == "counter" and form == "text" else family.name
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if form == "openmetrics":
        text = text.replace('"', '\\"')
    return f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n".encode()


def escaped(value: str) -> str:
    """A label's value, for both formats."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def render_block(family: Family, store: str, integration_id: str, shown: Shown) -> bytes:
    """The lines of one integration in one family; the labels that all of them have are escaped once."""
    fixed = {"integration_id": escaped(integration_id), "store": escaped(store)}
    lines = []
    for suffix, extra, value in family.samples(shown):
        labels = {**fixed, **{name: escaped(text) for name, text in extra}}
        inside = ",".join(f'{name}="{labels[name]}"' for name in sorted(labels))
        lines.append(f"{family.name}{suffix}{{{inside}}} {_number(value)}\n")
    return "".join(lines).encode("utf-8", "replace")
