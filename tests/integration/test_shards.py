"""Several processes on the stores of one organization, and a real Prometheus that scrapes them all: what it has stored is
the truth, whichever of them was killed, stood by, or took stores over.

Prometheus is configured as the README says: whoever shows a store, its series have the same labels.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from exporter import simulator
from exporter.epcc import Epcc, log
from exporter.organization import Organization
from exporter.sharding import shard_of
from exporter.shop import Integration
from tests.integration import servers
from tests.integration.process import ROOT, Exporter, Process, started, until
from tests.integration.servers import Prometheus
from tests.integration.test_loop import RANGE, grown, stored

pytestmark = pytest.mark.integration

STORES = ("acme", "north", "south", "west", "east")
EVERY_SECONDS = 0.02  # from one attempt to the next, at one store after the other
LIFE_SECONDS = 1.5
DOWN_SECONDS = 0.5
ATTEMPTS = "epcc_integration_attempts_total"
THROUGH = "epcc_exporter_complete_through_timestamp_seconds"


Ports = Callable[[int], list[int]]


@pytest.fixture
def free_ports() -> Iterator[Ports]:
    """A process keeps its port from life to life, and Prometheus has to know it before. So they are held until the test
    ends, bound and not listening: nobody else is given one, and who asks for it with SO_REUSEADDR, as the exporter does, gets
    it."""
    with contextlib.ExitStack() as stack:

        def free(number: int) -> list[int]:
            held = [stack.enter_context(socket.socket()) for _ in range(number)]
            for each in held:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind(("127.0.0.1", 0))
            return [int(each.getsockname()[1]) for each in held]

        yield free


class Fleet:
    """An organization's stores with steady traffic, and the processes that share them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.organization = Organization("org", STORES)
        for name, epcc in self.organization.stores.items():
            epcc.add_integration(Integration(f"{name}-shipping", "Order shipping"))
        self.config = folder / "config.yaml"
        self.session = aiohttp.ClientSession()
        self._stack = contextlib.AsyncExitStack()
        self._trading: asyncio.Task[None] | None = None
        self.lives = 0  # of processes that polled

    async def __aenter__(self) -> Fleet:
        self._stack.push_async_callback(self.session.close)
        runner, port = await simulator.serve("127.0.0.1", 0, self.organization)
        self._stack.push_async_callback(runner.cleanup)
        self._stack.push_async_callback(self.closes)
        stores = "".join(f"  - {{name: {name}, store_id: {name}}}\n" for name in STORES)
        self.config.write_text(
            f"stores:\n{stores}defaults:\n  api_url: http://127.0.0.1:{port}\n  client_id: org\n"
            "  client_secret: org-secret\n  org_id: org\n  poll_interval: 200ms\n  lookback: 3s\n"
            "  reconcile_interval: 0s\n  requests_per_second: 100\n"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def data(self, number: int) -> Path:
        return self.folder / f"data-{number}"

    def opens(self) -> None:
        async def trade() -> None:
            for number in itertools.count():
                name = STORES[number % len(STORES)]
                self.organization.stores[name].add(
                    log(f"log-{number}", time.time_ns(), integration_id=f"{name}-shipping", job_id=f"job-{number // 10}",
                        attempt=1 + number // 5 % 2, status_code=503 if number // 5 % 3 == 0 else 200,
                        processing_time=0.125)
                )  # fmt: skip
                await asyncio.sleep(EVERY_SECONDS)

        self._trading = asyncio.create_task(trade())

    async def closes(self) -> None:
        if self._trading is not None:
            self._trading.cancel()
            await asyncio.wait([self._trading])

    async def start(self, shard: str, number: int, port: int, *flags: str) -> Process:
        """A process on the folder of this number; it is ended with the fleet at the latest."""
        command = (sys.executable, "-m", "exporter", f"--config.file={self.config}", f"--shard={shard}",
                   f"--storage.path={self.data(number)}", f"--web.listen-address=127.0.0.1:{port}", *flags)  # fmt: skip
        process = await self._stack.enter_async_context(started(*command))

        async def listening() -> bool:
            assert process.child.returncode is None, process.output
            return "msg=listening" in process.output

        await until(listening, f"shard {shard}")
        self.lives += not flags
        return process

    async def get(self, port: int, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{port}{path}") as response:
            return response.status, await response.text()

    async def ready(self, port: int) -> None:
        async def is_ready() -> bool:
            return (await self.get(port, "/-/ready"))[0] == 200

        await until(is_ready, f"the first polls at {port}")

    async def reshard(self, number: int) -> str:
        paths = [f"--storage.path={self.data(each)}" for each in range(number)]
        async with started(sys.executable, "-m", "exporter", "reshard", *paths) as moving:
            assert await moving.ended() == 0, moving.output
        return moving.output

    def truth(self) -> dict[str, dict[str, float]]:
        """Of each store."""
        return {
            name: {"attempts": each["attempts"], "failures": each["failures"], "jobs": each["jobs"]}
            for name, epcc in self.organization.stores.items()
            for each in epcc.truth(time.time_ns())["integrations"].values()
        }


def documented_relabelling() -> Any:
    """What the README tells to write."""
    (block,) = re.findall(r"```yaml\n(scrape_configs:.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (job,) = yaml.safe_load(block)["scrape_configs"]
    return job["metric_relabel_configs"]


async def scraped(prometheus: Prometheus, ports: list[int]) -> None:
    await prometheus.start(
        {"epcc-exporter": 0},
        static_configs=[{"targets": [f"127.0.0.1:{port}" for port in ports]}],
        metric_relabel_configs=documented_relabelling(),
    )


async def complete(prometheus: Prometheus) -> None:
    """Until it has scraped, of every store, an exporter that has counted all that was until now."""
    now = time.time()
    held = "sum(epcc_exporter_series_held) == 0"
    await prometheus.until(f"count({THROUGH} >= {now}) == {len(STORES)} and on () ({held})", bool)
    now = time.time()
    await prometheus.until(f"count(timestamp(epcc_up) > {now}) == {len(STORES)}", bool)


async def has_stored(prometheus: Prometheus) -> dict[str, dict[str, float]]:
    """Of each store the growth since the first sample, by Prometheus's rule for raw samples and by its functions."""
    samples = await stored(prometheus)
    found: dict[str, dict[str, float]] = {}
    for what, name in (("attempts", ATTEMPTS), ("failures", "epcc_integration_attempt_failures_total"),
                       ("jobs", "epcc_integration_jobs_total")):  # fmt: skip
        raw = {store: sum(grown(each) for key, each in samples.items()
                          if key.startswith(name) and f'store="{store}"' in key) for store in STORES}  # fmt: skip
        for store, growth in raw.items():
            found.setdefault(store, {})[what] = growth
        way = f"sum by (store) (last_over_time({name}{RANGE}) - min_over_time({name}{RANGE}))"
        assert by_store(await prometheus.query(way)) == raw
        # An estimate: it stretches the growth to the borders of the range, by an interval at most.
        estimate = by_store(await prometheus.query(f"sum by (store) (increase({name}{RANGE}))"))
        assert estimate == {store: pytest.approx(growth, rel=0.15) for store, growth in raw.items()}
    for name in {key.partition("{")[0] for key in samples}:
        assert set((await prometheus.query(f"resets({name}{RANGE})")).values()) == {0.0}, name
    return found


def by_store(answer: dict[str, float]) -> dict[str, float]:
    return {key.split('"')[1]: value for key, value in answer.items()}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    folder = tmp_path / "fleet"
    folder.mkdir()
    async with Fleet(folder) as made:
        yield made


@pytest.mark.parametrize("name", servers.names()[:1])
async def test_the_sum_over_shards_is_the_truth_through_kills_a_take_over_and_a_shard_more(
    tmp_path: Path, fleet: Fleet, name: str, free_ports: Ports
) -> None:
    prometheus, ports = Prometheus(name, tmp_path), free_ports(4)
    try:
        first, second = [await fleet.start(f"{shard}/2", shard, ports[shard]) for shard in range(2)]
        standby = await fleet.start("0/2", 0, ports[2], "--storage.wait-for-lock")
        await scraped(prometheus, ports)
        await prometheus.until(f"count({ATTEMPTS} == 0) == {len(STORES)}", bool)
        fleet.opens()
        await asyncio.sleep(LIFE_SECONDS)

        await second.end(signal.SIGKILL)
        await asyncio.sleep(DOWN_SECONDS)
        second = await fleet.start("1/2", 1, ports[1])
        await asyncio.sleep(LIFE_SECONDS)

        await first.end(signal.SIGKILL)
        await fleet.ready(ports[2])
        fleet.lives += 1
        await asyncio.sleep(LIFE_SECONDS)

        await standby.end(signal.SIGKILL)
        assert await second.end(signal.SIGTERM) == 0
        moved = {store for store in STORES if shard_of(store, 2) != shard_of(store, 3)}
        output = await fleet.reshard(3)
        assert set(re.findall(r"^(\w+): ", output, re.MULTILINE)) == moved
        for shard, port in enumerate((ports[0], ports[1], ports[3])):
            await fleet.start(f"{shard}/3", shard, port)
        for port in (ports[0], ports[1], ports[3]):
            await fleet.ready(port)
        await asyncio.sleep(LIFE_SECONDS)

        await fleet.closes()
        await complete(prometheus)
        assert await has_stored(prometheus) == fleet.truth()
        assert all(each["attempts"] > 50 for each in fleet.truth().values())
        shown = await prometheus.get("/api/v1/label/instance/values", **{"match[]": ATTEMPTS})
        assert shown == ["epcc-exporter"]
        for counted, number in (("epcc_up == 1", len(STORES)), (ATTEMPTS, len(STORES)),
                                ("count by (instance) (epcc_up)", 3),
                                ("epcc_exporter_total_shards == 3", 3)):  # fmt: skip
            assert await prometheus.query(f"count({counted})") == {"": number}, counted
        assert fleet.organization.office.requests["token"] == fleet.lives == 7
    finally:
        await prometheus.stop()


async def test_a_shard_starts_on_no_other_shards_state_and_says_what_to_do(fleet: Fleet, free_ports: Ports) -> None:
    (port,) = free_ports(1)
    first = await fleet.start("0/2", 0, port)
    await fleet.ready(port)
    assert await first.end(signal.SIGTERM) == 0
    command = (sys.executable, "-m", "exporter", f"--config.file={fleet.config}", f"--storage.path={fleet.data(0)}")
    for shard in ("0/3", "0/1"):
        async with started(*command, f"--shard={shard}") as process:
            assert await process.ended() == 1
        assert f"data-0 holds the state of shard 0/2, and this is shard {shard}: stop all shards" in process.output
        assert "Traceback" not in process.output
    async with started(*command, "--shard=0/2", "--config.check") as check:
        assert await check.ended() == 0
    assert "\nshard 0/2: 3 stores: acme, south, east\n" in check.output


async def test_a_store_that_a_reload_brings_goes_to_its_shard_and_to_no_other(fleet: Fleet, free_ports: Ports) -> None:
    ports = free_ports(2)
    for shard, port in enumerate(ports):
        await fleet.start(f"{shard}/2", shard, port)
    text = await asyncio.to_thread(fleet.config.read_text)
    await asyncio.to_thread(
        fleet.config.write_text, text.replace("stores:\n", "stores:\n  - {name: new, store_id: acme}\n")
    )
    shown = {}
    for shard, port in enumerate(ports):
        async with fleet.session.post(f"http://127.0.0.1:{port}/-/reload") as answer:
            assert answer.status == 200
        await fleet.ready(port)
        page = (await fleet.get(port, "/metrics"))[1]
        shown[shard] = set(re.findall(r'^epcc_up{store="(\w+)"} 1', page, re.MULTILINE))
    assert shown == {shard: {n for n in (*STORES, "new") if shard_of(n, 2) == shard} for shard in range(2)}


async def test_states_are_not_moved_from_under_a_running_exporter(fleet: Fleet, free_ports: Ports) -> None:
    (port,) = free_ports(1)
    first = await fleet.start("0/2", 0, port)
    command = (sys.executable, "-m", "exporter", "reshard", f"--storage.path={fleet.data(0)}")
    async with started(*command) as moving:
        assert await moving.ended() == 1
    assert re.search(
        rf"problem=\".*data-0 is in use by pid {first.child.pid} on .*: stop all shards first", moving.output
    )


async def test_a_standby_shows_nothing_of_the_state_and_takes_over_with_the_configuration_of_that_moment(
    tmp_path: Path, free_ports: Ports
) -> None:
    epcc, (port,) = Epcc(), free_ports(1)
    epcc.add_integration(Integration("shipping", "Order shipping"))
    attempts = f"{ATTEMPTS}{{integration_id=shipping}}"
    async with Exporter(tmp_path, epcc) as exporter, exporter.running() as leader:
        await exporter.ready()
        epcc.add(log("a", time.time_ns()))
        await exporter.sample(attempts, 1)
        async with exporter.running("--storage.wait-for-lock", f"--web.listen-address=127.0.0.1:{port}") as standby:
            assert (await exporter.get("/-/healthy"))[0] == 200
            data = exporter.folder / "data"
            waits = (503, f"not ready: standby: {data} is in use by pid {leader.child.pid} on {socket.gethostname()}\n")
            assert await exporter.get("/-/ready") == waits
            page = await exporter.scrape()
            assert (page["epcc_exporter_standby{}"], page["epcc_exporter_config_last_reload_successful{}"]) == (1, 1)
            assert not [name for name in page if name.startswith(("epcc_integration_", "epcc_up"))]
            standby.child.send_signal(signal.SIGHUP)
            exporter.configure(name_of_no_key="1")
            async with exporter.session.post(f"{exporter.url}/-/reload") as answer:
                assert (answer.status, "unknown key" in await answer.text()) == (500, True)
            assert (await exporter.scrape())["epcc_exporter_config_last_reload_successful{}"] == 0
            exporter.configure("  - {name: other, api_url: http://127.0.0.1:1, client_id: a, client_secret: b}\n")
            epcc.add(log("b", time.time_ns()))
            await leader.end(signal.SIGKILL)
            began = time.monotonic()

            async def taken_over() -> float | None:
                return (await exporter.scrape(as_scraper=False)).get(attempts)

            assert await until(taken_over, "the state") == 1
            assert time.monotonic() - began < 5
            await asyncio.sleep(1)  # five polls, if it polled: the scraper that the leader knew has not read the 1 here
            assert await taken_over() == 1
            assert (await exporter.scrape())[attempts] == 1
            await exporter.sample(attempts, 2)
            page = await exporter.scrape()
            assert (page["epcc_exporter_standby{}"], page["epcc_exporter_config_last_reload_successful{}"]) == (0, 1)
            assert "store=other" in (await exporter.get("/metrics"))[1].replace('"', "")
            assert await standby.end(signal.SIGTERM) == 0


async def test_a_standby_that_is_not_needed_ends_with_0(tmp_path: Path) -> None:
    async with Exporter(tmp_path, Epcc()) as exporter, exporter.running():
        async with exporter.running("--storage.wait-for-lock") as standby:
            began = time.monotonic()
            assert await standby.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 5
        async with exporter.running("--storage.wait-for-lock", f"--storage.path={tmp_path / 'free'}"):
            await exporter.ready()
