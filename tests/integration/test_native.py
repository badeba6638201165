"""What real Prometheus servers read in our protobuf: native histograms, exemplars and start timestamps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from exporter.epcc import Epcc, log
from exporter.shop import Integration
from tests.integration import servers
from tests.integration.process import Exporter, until
from tests.integration.test_prometheus import only

pytestmark = pytest.mark.integration

NATIVE = "--enable-feature=native-histograms,exemplar-storage"
STARTS = "--enable-feature=native-histograms,exemplar-storage,created-timestamp-zero-ingestion"
HISTOGRAM = "epcc_integration_processing_seconds"


def shop() -> Epcc:
    """With one integration, and a log before the exporter's time."""
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(log("before", time.time_ns() - 10**9))
    return epcc


def is_2(prometheus: servers.Prometheus) -> bool:
    return "version 2." in servers.version(prometheus.name)


async def test_a_native_histogram_gives_quantiles_and_exemplars_name_the_failing_job(
    tmp_path: Path, prometheus: servers.Prometheus
) -> None:
    epcc = shop()
    async with Exporter(tmp_path / "exporter", epcc) as exporter, exporter.running():
        await prometheus.start({"epcc": int(exporter.url.rpartition(":")[2])}, NATIVE)
        await prometheus.until(f"histogram_count({HISTOGRAM})", lambda answer: only(answer) == 0)
        times = [0.101 + step / 1000 for step in range(100)]
        epcc.add(*[log(f"log{n}", time.time_ns(), processing_time=seconds) for n, seconds in enumerate(times)])
        epcc.add(log("broken", time.time_ns(), job_id="job-broken", status_code=503, processing_time=7.0))
        await prometheus.until(f"histogram_count({HISTOGRAM})", lambda answer: only(answer) == 101)
        assert abs((only(await prometheus.query(f"histogram_sum({HISTOGRAM})")) or 0) - sum(times) - 7.0) < 1e-6
        median = only(await prometheus.query(f"histogram_quantile(0.5, {HISTOGRAM})")) or 0
        assert abs(median / times[50] - 1) < 0.045  # the resolution; the classic bucket would say 0.1 to 0.25
        failures = "epcc_integration_attempt_failures_total"
        found = await prometheus.get(
            "/api/v1/query_exemplars", query=failures, start=str(time.time() - 60), end=str(time.time() + 60)
        )
        ((labels, exemplar),) = [(each["seriesLabels"], one) for each in found for one in each["exemplars"]]
        assert (labels["reason"], exemplar["labels"], exemplar["value"]) == ("http_5xx", {"job_id": "job-broken"}, "1")
        slow = await prometheus.get(
            "/api/v1/query_exemplars", query=HISTOGRAM, start=str(time.time() - 60), end=str(time.time() + 60)
        )
        jobs = {one["labels"]["job_id"] for each in slow for one in each["exemplars"]}
        # The old server takes one exemplar of a native histogram at each scrape.
        assert jobs == ({"job-log99"} if is_2(prometheus) else {"job-log99", "job-broken"})


async def test_a_start_timestamp_shows_the_zero_that_nobody_scraped(
    tmp_path: Path, prometheus: servers.Prometheus
) -> None:
    epcc = shop()
    async with Exporter(tmp_path / "exporter", epcc) as exporter, exporter.running():
        await exporter.ready()
        epcc.add(*[log(f"log{n}", time.time_ns()) for n in range(7)])

        async def announced() -> bool:
            _, page = await exporter.get("/metrics")  # by no scraper: where there is none, any reader will do
            return 'status_code="200",store="acme"} 7.0' in page

        await until(announced, "seven answers")
        await prometheus.start({"epcc": int(exporter.url.rpartition(":")[2])}, STARTS)
        for series in ("epcc_integration_attempts_total", 'epcc_integration_responses_total{status_code="200"}'):
            await prometheus.until(series, lambda answer: only(answer) == 7)
            rise = f"max_over_time({series}[5m]) - min_over_time({series}[5m])"
            wanted = 0 if is_2(prometheus) else 7
            await prometheus.until(rise, lambda answer: only(answer) == wanted)  # noqa: B023
