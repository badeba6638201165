"""How late logs show, observed a commit's worth at a time.

The library's own histogram takes values one by one: a tenth of what a log costs, spent on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.tally import Histogram


class Delays(Collector):
    """A histogram by store, as `prometheus_client` would show it."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...]) -> None:
        """`bounds`: seconds, ascending, without +Inf."""
        self._name, self._text, self._bounds = name, text, bounds
        self._by_store: dict[str, Histogram] = {}

    def add(self, store: str) -> None:
        self._by_store.setdefault(store, Histogram.empty(self._bounds))

    def remove(self, store: str) -> None:
        self._by_store.pop(store, None)

    def observe_all(self, store: str, nanoseconds: Sequence[int]) -> None:
        self.add(store)
        self._by_store[store].observe_all([each // 1000 for each in nanoseconds])

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Without samples: by this a registry knows the name as taken."""
        yield HistogramMetricFamily(self._name, self._text, labels=["store"])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        (family,) = self.describe()
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for store, histogram in list(self._by_store.items()):  # a page is written in a thread of its own
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            family.add_metric([store], buckets, histogram.sum_us / 1e6)
        yield family
