"""prometheus_client, serving the same series: its generator, and its own HTTP server.

Its best case: a collector that hands out families made beforehand, so that nothing is collected, only written. Pages
are packed as its server packs them.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Metric, generate_latest, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tests.bench.far import memory

GENERATE: Mapping[str, Callable[[CollectorRegistry], bytes]] = {
    "text": generate_latest,
    "openmetrics": generate_openmetrics,
}


class _Made(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class Client:
    """Serves the families of a page in the text format."""

    def __init__(self, page: Path) -> None:
        before = memory("VmRSS")
        families = list(text_string_to_metric_families(page.read_text()))
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Made(families))
        self._grown = memory("VmRSS") - before
        self._server: WSGIServer
        self._server, self._thread = start_http_server(0, "127.0.0.1", self._registry)

    @classmethod
    async def made(cls, page: Path) -> Client:
        return cls(page)

    async def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    async def port(self) -> int:
        return self._server.server_port

    async def grown(self) -> int:
        """Bytes of resident memory that the families took."""
        return self._grown

    async def page(self, form: str, packed: bool) -> bytes:
        body = GENERATE[form](self._registry)
        return gzip.compress(body) if packed else body

    async def times(self, form: str, packed: bool, number: int, seconds: float) -> list[float]:
        """Of writing a page, that often, or until so many seconds have passed."""
        times: list[float] = []
        while not times or (len(times) < number and sum(times) < seconds):
            began = time.perf_counter()
            await self.page(form, packed)
            times.append(time.perf_counter() - began)
        return times
