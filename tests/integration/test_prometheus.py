"""Real Prometheus servers, the newest at hand and the oldest supported: what they make of our pages."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from exporter.epcc import Epcc, log
from exporter.shop import Integration
from tests.integration import servers
from tests.integration.process import Exporter

pytestmark = pytest.mark.integration

FAILURES = 'epcc_integration_attempt_failures_total{reason="http_5xx"}'
CODE = 'epcc_integration_responses_total{status_code="503"}'


def only(answer: dict[str, float]) -> float | None:
    return next(iter(answer.values())) if len(answer) == 1 else None


async def test_increase_sees_the_first_failure_and_a_new_status_code_through_a_restart(
    tmp_path: Path, prometheus: servers.Prometheus
) -> None:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(*[log(f"before{i}", time.time_ns() - 10**9) for i in range(50)])
    async with Exporter(tmp_path / "exporter", epcc) as exporter:
        async with exporter.running() as process:
            port = int(exporter.url.rpartition(":")[2])
            await prometheus.start({"epcc": port})
            await prometheus.until("epcc_integration_attempts_total", lambda answer: only(answer) == 0)
            epcc.add(log("first-failure", time.time_ns(), status_code=503))
            for series in (FAILURES, CODE):
                await prometheus.until(series, lambda answer: only(answer) == 1)
                await prometheus.until(f"increase({series}[1m])", lambda answer: 0.9 < (only(answer) or 0) < 2)
            await process.end()
        epcc.add(log("while-down", time.time_ns(), status_code=503))
        async with exporter.running(f"--web.listen-address=127.0.0.1:{port}"):
            await prometheus.until(FAILURES, lambda answer: only(answer) == 2)
            assert only(await prometheus.query(f"resets({FAILURES}[1m])")) == 0
            named = "epcc_integration_attempts_total * on (store, integration_id) group_left (integration_name)"
            joined = await prometheus.query(f"{named} epcc_integration_info")
            assert only(joined) == 2
            assert 'integration_name="Order shipping"' in next(iter(joined))


@pytest.mark.parametrize("name", servers.names())
async def test_promtool_finds_nothing_to_say_about_the_metrics(tmp_path: Path, name: str) -> None:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(log("a", time.time_ns() - 10**9), log("b", time.time_ns() - 10**9, status_code=500))
    async with Exporter(tmp_path / "exporter", epcc) as exporter:
        exporter.configure(history="count")
        async with exporter.running():
            await exporter.ready()
            _, page = await exporter.get("/metrics")
    said = servers.promtool(name, "check", "metrics", stdin=page)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
