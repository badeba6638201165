"""The helpers for real Prometheus servers: they start, scrape, answer and end, and say why where they cannot."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.integration import servers
from tests.integration.servers import Prometheus, ServerError

pytestmark = pytest.mark.integration

METRICS = """\
# HELP tries_total Tries.
# TYPE tries_total counter
tries_total{outcome="bad"} 2
tries_total{outcome="good"} 40
"""


class Target:
    """A /metrics that counts its scrapes."""

    scrapes = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        assert "X-Prometheus-Scrape-Timeout-Seconds" in request.headers
        self.scrapes += 1
        return web.Response(text=METRICS, headers={"Content-Type": "text/plain; version=0.0.4"})


async def test_it_scrapes_a_target_each_second_and_answers_queries(prometheus: Prometheus) -> None:
    target = Target()
    async with target.listening() as port:
        await prometheus.start({"tiny": port})
        assert await prometheus.until("up", lambda answer: answer == {"up": 1.0}) == {"up": 1.0}
        expected = {'tries_total{outcome="bad"}': 2.0, 'tries_total{outcome="good"}': 40.0}
        assert await prometheus.query("tries_total") == expected
        assert await prometheus.query("sum(tries_total)") == {"": 42.0}
        assert await prometheus.query("scalar(sum(tries_total))") == {"": 42.0}
        scrapes = await prometheus.until("count_over_time(up[1m])", lambda answer: answer.get("", 0) >= 3)
        assert target.scrapes >= scrapes[""]
        active = (await prometheus.get("/api/v1/targets", state="active"))["activeTargets"]
        assert [(each["labels"]["job"], each["lastError"]) for each in active] == [("tiny", "")]


async def test_its_processes_end_with_the_test_and_its_storage_stays_readable(prometheus: Prometheus) -> None:
    target = Target()
    async with target.listening() as port:
        await prometheus.start({"tiny": port})
        await prometheus.until("up", lambda answer: answer == {"up": 1.0})
        process = prometheus._process
        assert process is not None
        os.kill(process.pid, 0)
        await prometheus.stop()
    assert process.returncode == 0
    dumped = prometheus.promtool("tsdb", "dump", prometheus.storage)
    assert dumped.returncode == 0, dumped.stderr
    assert 'outcome="good"' in dumped.stdout


async def test_a_target_that_is_down_is_seen_as_down_and_a_wait_for_more_says_what_was_seen(
    prometheus: Prometheus,
) -> None:
    async with Target().listening() as port:
        pass
    await prometheus.start({"gone": port})
    await prometheus.until("up", lambda answer: answer == {"up": 0.0})
    with pytest.raises(ServerError, match=r"up was still \{'up': 0\.0\} after 0\.3 s"):
        await prometheus.until("up", lambda answer: answer == {"up": 1.0}, seconds=0.3)


async def test_a_wrong_query_is_an_error_with_its_reason(prometheus: Prometheus) -> None:
    await prometheus.start({})
    with pytest.raises(ServerError, match="parse error"):
        await prometheus.query("sum(")


async def test_a_server_that_does_not_start_shows_its_log(prometheus: Prometheus) -> None:
    with pytest.raises(ServerError, match=r"(?s)ended with [1-9].*--no\.such-flag"):
        await prometheus.start({}, "--no.such-flag")
    with pytest.raises(ServerError, match=r"(?s)ended with [1-9].*honor_lables"):
        await Prometheus(prometheus.name, prometheus.storage.parent).start({"tiny": 1}, honor_lables=True)


@pytest.mark.parametrize("name", servers.names())
def test_promtool_takes_good_metrics_and_refuses_bad_ones(name: str) -> None:
    assert servers.promtool(name, "--version").stdout.strip()
    good = servers.promtool(name, "check", "metrics", stdin=METRICS)
    assert (good.returncode, good.stderr) == (0, "")
    bad = servers.promtool(name, "check", "metrics", stdin=METRICS.replace("_total", ""))
    assert bad.returncode != 0
    assert 'counter metrics should have "_total" suffix' in bad.stderr


def test_a_program_that_is_not_installed_is_an_error_that_says_how_to_install_it() -> None:
    with pytest.raises(ServerError, match=r"no .*/none/promtool: python3 tests/run installs it"):
        servers.promtool("none", "--version")


def test_both_supported_versions_are_what_they_are_called() -> None:
    """Only where Debian's archive serves them; elsewhere the server is called `host`."""
    versions = {name: servers.version(name) for name in servers.names()}
    assert versions
    for name, version in versions.items():
        major = {"oldest": "2.42.", "newest": "3."}.get(name, "")
        assert f"version {major}" in version
