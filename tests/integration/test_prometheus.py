"""Real Prometheus servers, the newest at hand and the oldest supported: what they make of our pages."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from exporter.epcc import Epcc, log
from exporter.shop import Integration
from tests.integration.process import SERVERS, Exporter, Prometheus

pytestmark = pytest.mark.integration

VERSIONS = [name for name in ("newest", "oldest") if (SERVERS / name / "prometheus").exists()]


def test_a_prometheus_is_installed() -> None:
    assert "oldest" in VERSIONS, "run tests/run, which installs it"


@pytest.mark.parametrize("version", VERSIONS)
async def test_increase_sees_the_first_failure_and_a_new_status_code_through_a_restart(
    tmp_path: Path, version: str
) -> None:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(*[log(f"before{i}", time.time_ns() - 10**9) for i in range(50)])
    async with Exporter(tmp_path, epcc) as exporter, exporter.running() as process:
        port = exporter.url.rpartition(":")[2]
        async with Prometheus.scraping(version, exporter.url, tmp_path / "prometheus", exporter.session) as server:
            await server.shows("epcc_integration_attempts_total", lambda value: value == 0)
            epcc.add(log("first-failure", time.time_ns(), status_code=503))
            failures = 'epcc_integration_attempt_failures_total{reason="http_5xx"}'
            await server.shows(failures, lambda value: value == 1)
            assert await server.shows(f"increase({failures}[1m])", lambda value: value > 0.9) < 2
            code = 'epcc_integration_responses_total{status_code="503"}'
            await server.shows(code, lambda value: value == 1)
            await server.shows(f"increase({code}[1m])", lambda value: value > 0.9)
            await process.end()
            epcc.add(log("while-down", time.time_ns(), status_code=503))
            async with exporter.running(f"--web.listen-address=127.0.0.1:{port}"):
                await server.shows(failures, lambda value: value == 2)
                assert await server.query(f"resets({failures}[1m])") == 0
                assert await server.query('up{job="epcc"}') in (0, 1)
                named = "epcc_integration_attempts_total * on (store, integration_id) group_left (integration_name)"
                assert await server.query(f"{named} epcc_integration_info") == 2


@pytest.mark.parametrize("version", VERSIONS)
async def test_promtool_finds_nothing_to_say_about_the_metrics(tmp_path: Path, version: str) -> None:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(log("a", time.time_ns() - 10**9), log("b", time.time_ns() - 10**9, status_code=500))
    async with Exporter(tmp_path, epcc) as exporter:
        exporter.configure(history="count")
        async with exporter.running():
            await exporter.ready()
            _, page = await exporter.get("/metrics")
    child = await asyncio.create_subprocess_exec(
        str(SERVERS / version / "promtool"), "check", "metrics",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await child.communicate(page.encode())
    assert (child.returncode, said.decode()) == (0, "")
