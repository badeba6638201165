"""Prometheus in the loop: what real servers have stored of the real exporter, through restarts of both, is the truth.

What is judged is what Prometheus keeps, not what we serve, and in three ways. *Raw samples*, under its own rule: between
two samples a counter has grown by their difference, or, where it fell, by all that stands after the fall. *`resets()`*,
which must be 0, so that newest minus oldest value says the same. *`increase()`*, which estimates: it stretches the
growth between the first and the last sample of its range to the range's borders. Asked at the time of the last sample it
has nothing to stretch at that end, and never stretches a counter to before where it would have been 0: so for a series
born at 0 it is exact, and for one born with a baseline it is too large by half a scrape's growth at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import Integration
from tests.integration import servers
from tests.integration.process import Exporter, Process
from tests.integration.servers import Prometheus

pytestmark = pytest.mark.integration

COUNTERS = '{__name__=~"epcc_integration_.+_(total|count|sum|bucket)"}'
RANGE = "[15m]"  # longer than any test
EVERY_SECONDS = 0.04  # from one attempt of the steady traffic to the next
LATE_SECONDS = (0.0, 0.2, 0.4, 0.8, 1.4)  # from an attempt to its log's turning up, in turn
LIFE_SECONDS = 2.5  # of an exporter that is then ended
DOWN_SECONDS = 0.7
ALL = tuple(servers.names())
INTERVALS = ("1s", "3s")  # of two that scrape at the same time
OUT_OF_STEP_SECONDS = 0.6
BACKLOG = 2_000  # logs, of the 40 s before the first start: some within the lookback, most not
SCRAPERS = sorted({ALL[:1], ALL})  # one, and where two are installed, both
NOTHING: Mapping[str, Any] = {}

Samples = list[tuple[float, float]]  # time, value


class Shop:
    """An EPCC by hand, with steady traffic. Every log's content follows from its number."""

    def __init__(self) -> None:
        self.epcc = Epcc()
        self._number = 0
        self._trading: asyncio.Task[None] | None = None
        self.opens("shipping")

    def opens(self, integration: str) -> None:
        self.epcc.add_integration(Integration(integration, integration.title()))

    def tries(
        self, integration: str = "shipping", job: str = "", number: int = 1, code: int | None = 200, age: float = 0.0
    ) -> None:
        """`age`: seconds since it was created, and visible."""
        self._number += 1
        created_ns = time.time_ns() - round(age * 1e9)
        late_ns = 0 if age else round(LATE_SECONDS[self._number % len(LATE_SECONDS)] * 1e9)
        self.epcc.add(
            log(
                f"log-{self._number}", created_ns, integration_id=integration, job_id=job or f"job-{self._number}",
                attempt=number, status_code=code, visible_ns=created_ns + late_ns, processing_time=0.125,
            )
        )  # fmt: skip

    def opens_for_business(self) -> None:
        async def trade() -> None:
            while True:
                self.tries()
                await asyncio.sleep(EVERY_SECONDS)

        self._trading = asyncio.create_task(trade())

    async def closes(self) -> None:
        if self._trading is not None:
            self._trading.cancel()
            await asyncio.wait([self._trading])

    def truth(self) -> dict[str, dict[str, Any]]:
        """What has been visible until now, an integration's name left out."""
        counted = self.epcc.truth(time.time_ns())["integrations"]
        return {i: {key: value for key, value in each.items() if key != "name"} for i, each in counted.items()}


# --- what happens in one life of the exporter


def a_first_failure_of_a_reason(shop: Shop) -> None:
    shop.tries(job="broken", code=503)


def a_new_integration_and_a_first_success_of_a_retry(shop: Shop) -> None:
    shop.tries(job="broken", number=2, code=503)
    shop.tries(job="broken", number=3)
    shop.opens("billing")
    for _ in range(5):
        shop.tries("billing")
    shop.tries("billing", job="refused", code=404)


def a_new_code_a_moment_before_the_end(shop: Shop) -> None:
    shop.tries("billing", job="refused", number=2, code=429)
    shop.tries("billing", job="late", code=None)


LIVES: tuple[tuple[Callable[[Shop], None], float, int], ...] = (  # what, for how long after it, ended by
    (a_first_failure_of_a_reason, LIFE_SECONDS, signal.SIGTERM),
    (a_new_integration_and_a_first_success_of_a_retry, LIFE_SECONDS, signal.SIGKILL),
    (a_new_code_a_moment_before_the_end, 0.9, signal.SIGKILL),
)


class Loop:
    """The exporter of a shop, on a port that it keeps from life to life, and the servers that scrape it."""

    def __init__(self, folder: Path, shop: Shop, history: str = "skip") -> None:
        self._folder = folder
        self._shop = shop
        self._history = history
        self._exporter = Exporter(folder / "exporter", shop.epcc)
        self._stack = contextlib.AsyncExitStack()
        self._port = 0
        self.scraping: list[Prometheus] = []

    async def __aenter__(self) -> Loop:
        await self._stack.enter_async_context(self._exporter)
        self._stack.push_async_callback(self._shop.closes)
        self._exporter.configure(lookback="3s", history=self._history)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        flags = [f"--web.listen-address=127.0.0.1:{self._port}"] if self._port else []
        async with self._exporter.running(*flags) as process:
            self._port = self._port or int(self._exporter.url.rpartition(":")[2])
            yield process

    async def scrape(self, name: str, interval: str = "1s") -> Prometheus:
        """Begins, or goes on with what the server of that name had stored before it was stopped."""
        folder = self._folder / name
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        server = Prometheus(name, folder)
        self._stack.push_async_callback(server.stop)
        await server.start({"epcc": self._port}, scrape_interval=interval)
        self.scraping.append(server)
        return server

    async def shows(self, condition: str) -> None:
        """To every server."""
        for server in self.scraping:
            await server.until(condition, bool)

    async def ends(self, baseline: Mapping[str, Any] = NOTHING) -> None:
        """Once the last log has turned up and was counted, nothing is missing, and nothing is too much."""
        await self._shop.closes()
        last = time.time() + max(LATE_SECONDS)
        for server in self.scraping:
            await complete(server, last)
        truth = beyond(self._shop.truth(), baseline)
        for server in self.scraping:
            assert await has_stored(server) == truth, server.name


# --- what Prometheus has stored


async def stored(server: Prometheus) -> dict[str, Samples]:
    answer = await server.get("/api/v1/query", query=COUNTERS + RANGE)
    return {
        servers.series(each["metric"]): [(float(at), float(value)) for at, value in each["values"]]
        for each in answer["result"]
    }


def grown(samples: Samples) -> float:
    """Prometheus's own rule. What a series was born with is no growth."""
    values = [value for _, value in samples]
    return sum(after if after < before else after - before for before, after in itertools.pairwise(values))


async def complete(server: Prometheus, through: float) -> None:
    """Until it has scraped an exporter that has counted everything until `through`, and holds nothing back."""
    name = "epcc_exporter_complete_through_timestamp_seconds"
    await server.until(f"{name} >= {through} and on () (epcc_exporter_series_held == 0)", bool, 60)
    now = time.time()
    await server.until(f"timestamp(epcc_up) > {now}", bool)


async def has_stored(server: Prometheus) -> dict[str, dict[str, Any]]:
    """The growth since the first sample, in the shape of the simulated EPCC's truth, agreed on in all three ways."""
    samples = await stored(server)
    last = max(each[-1][0] for each in samples.values())
    assert {each[-1][0] for each in samples.values()} == {last}, "a series has ended"
    found: dict[str, Counter[str]] = {}
    for name in {key.partition("{")[0] for key in samples}:
        ways = [f"resets({name}{RANGE})", f"last_over_time({name}{RANGE}) - min_over_time({name}{RANGE})",
                f"increase({name}{RANGE})"]  # fmt: skip
        answers = [await _at(server, way, last) for way in ways]
        for key, each in samples.items():
            if key.partition("{")[0] == name:
                labels = f"{{{key.partition('{')[2]}"
                _agree(key, each, *(answer.get(labels) for answer in answers))
                _enter(found, key, grown(each))
    for integration, n in found.items():
        assert n["processing_seconds_count"] == n["processing:+Inf"] == n["attempts_total"], integration
    return {
        integration: {
            "attempts": n["attempts_total"],
            "failures": n["attempt_failures_total"],
            "responses": {
                code[10:]: value for code, value in sorted(n.items()) if code.startswith("responses:") and value
            },
            "retries": n["retries_total"],
            "jobs": n["jobs_total"],
            "delivered": {"first": n["delivered:first"], "retry": n["delivered:retry"]},
            "processing_us": round(n["processing_seconds_sum"] * 1e6),
        }
        for integration, n in found.items()
    }


async def _at(server: Prometheus, expression: str, moment: float) -> dict[str, float]:
    answer = await server.get("/api/v1/query", query=expression, time=f"{moment:.3f}")
    labels = ({k: v for k, v in each["metric"].items() if k != "__name__"} for each in answer["result"])
    return {
        servers.series(each): float(result["value"][1]) for each, result in zip(labels, answer["result"], strict=True)
    }


def _agree(key: str, samples: Samples, resets: float | None, difference: float | None, increase: float | None) -> None:
    growth, values = grown(samples), [value for _, value in samples]
    assert resets == 0, f"{key} fell: {values}"
    assert difference == pytest.approx(growth), key
    if len(samples) > 1:
        stretched = growth if values[0] == 0 else growth * (1 + 0.5 / (len(samples) - 1))
        assert increase is not None, key
        assert growth - 1e-9 <= increase <= stretched + 1e-9, key


def _enter(found: dict[str, Counter[str]], key: str, growth: float) -> None:
    name, _, labels = key.removesuffix("}").partition("{")
    by = dict(label.replace('"', "").split("=", 1) for label in labels.split(","))
    name = name.removeprefix("epcc_integration_")
    what = {
        "responses_total": f"responses:{by.get('status_code')}",
        "jobs_delivered_total": f"delivered:{by.get('attempt')}",
        "processing_seconds_bucket": f"processing:{by.get('le')}",
    }.get(name, name)
    found.setdefault(by["integration_id"], Counter())[what] += growth  # type: ignore[assignment]


def beyond(truth: Mapping[str, dict[str, Any]], baseline: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The truth without what happened before."""
    return {
        i: {key: _less(value, baseline.get(i, {}).get(key, {} if isinstance(value, dict) else 0)) for key, value in each.items()}
        for i, each in truth.items()
    }  # fmt: skip


def _less(value: Any, before: Any) -> Any:
    if not isinstance(value, dict):
        return value - before
    return {key: each - before.get(key, 0) for key, each in value.items()}


# --- the tests


@pytest.mark.parametrize("names", SCRAPERS, ids="+".join)
async def test_the_increase_over_a_run_is_the_truth_through_restarts_and_all_that_is_new(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    shop = Shop()
    async with Loop(tmp_path, shop) as loop:
        for happens, seconds, end in LIVES:
            async with loop.running() as process:
                if not loop.scraping:
                    for name, interval in zip(names, INTERVALS, strict=False):
                        await loop.scrape(name, interval)
                        await asyncio.sleep(OUT_OF_STEP_SECONDS)
                    await loop.shows("epcc_integration_attempts_total == 0")
                    shop.opens_for_business()
                happens(shop)
                await asyncio.sleep(seconds)
                await process.end(end)
            await asyncio.sleep(DOWN_SECONDS)
        async with loop.running():
            await loop.ends()


@pytest.mark.parametrize("name", ALL[-1:])
async def test_a_prometheus_that_was_down_has_the_truth_when_it_is_back(tmp_path: Path, name: str) -> None:
    shop = Shop()
    async with Loop(tmp_path, shop) as loop:
        async with loop.running() as process:
            server = await loop.scrape(name)
            await loop.shows("epcc_integration_attempts_total == 0")
            shop.opens_for_business()
            await loop.shows("epcc_integration_attempts_total > 10")
            await server.stop()
            loop.scraping.clear()
            a_first_failure_of_a_reason(shop)
            await asyncio.sleep(DOWN_SECONDS)
            await process.end(signal.SIGTERM)
        async with loop.running():
            a_new_integration_and_a_first_success_of_a_retry(shop)
            await asyncio.sleep(LIFE_SECONDS)
            await loop.scrape(name)
            await loop.ends()


@pytest.mark.parametrize("history", ["skip", "count"])
async def test_a_backlog_at_the_first_start_is_no_spike(tmp_path: Path, history: str) -> None:
    shop = Shop()
    for number in range(BACKLOG):
        shop.tries(code=503 if number % 10 == 0 else 200, age=1 + number * 0.02)
    shop.epcc.manners = Manners(down="503")
    async with Loop(tmp_path, shop, history) as loop, loop.running():
        for name in ALL:
            await loop.scrape(name)
        await loop.shows("epcc_up == 0 unless on () epcc_integration_attempts_total")
        shop.epcc.manners = Manners()
        born = {"skip": 0, "count": BACKLOG}[history]
        await loop.shows(f"epcc_integration_attempts_total == {born}")
        baseline = shop.truth()
        shop.opens_for_business()
        a_first_failure_of_a_reason(shop)
        shop.tries(job="broken", number=2)
        shop.tries(code=418)
        await asyncio.sleep(LIFE_SECONDS)
        await loop.ends(baseline)
        for server in loop.scraping:
            attempts = [each for key, each in (await stored(server)).items() if "attempts_total" in key]
            assert [each[0][1] for each in attempts] == [born]
