"""Every query of every dashboard against real Prometheus servers that scrape the real exporter and record its rules."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import Integration
from tests import dashboards, rules
from tests.dashboards import Query
from tests.integration.process import Exporter, until
from tests.integration.servers import Prometheus, ServerError

pytestmark = pytest.mark.integration

SETTINGS: dict[str, object] = {"rule_files": [str(path) for path in rules.RULE_FILES]}
NATIVE_FLAG = "--enable-feature=native-histograms"


def logs(number: int) -> list[Any]:
    """Successes, failures of several kinds, retries, and one that names no status."""
    now = time.time_ns()
    made = []
    for i in range(8):
        name = ("shipping", "search")[i % 2]
        code = (200, 503, 404, None)[i // 2]
        text = "" if code == 200 else "dial tcp: lookup h.example: no such host" if code is None else "refused"
        job = f"job-{number}-{i // 4}-{name}"
        made.append(log(f"log-{number}-{i}", now, integration_id=name, job_id=job, attempt=1 + i // 2, status_code=code,
                        error_detail=text, processing_time=None if code is None else 0.1 * (i + 1)))  # fmt: skip
    return made


async def answered(prometheus: Prometheus, query: Query) -> bool:
    """Whether it has a series with a number. `> 0` says where nothing happened to hide: here everything counts."""
    found = await prometheus.query(query.filled.replace(") > 0", ")"))
    return any(not math.isnan(value) for value in found.values())


async def test_every_query_of_every_dashboard_has_an_answer(prometheus: Prometheus, tmp_path: Path) -> None:
    epcc = Epcc()
    for name in ("shipping", "search"):
        epcc.add_integration(Integration(name, name.capitalize()))
    native = prometheus.name != "oldest"
    async with Exporter(tmp_path / "exporter", epcc) as exporter, exporter.running():
        await exporter.ready()
        prometheus.settings = SETTINGS
        # Both kinds of histogram at once, where a server can have both: else one of two panels is empty by design.
        both = {"always_scrape_classic_histograms": True} if native else {}
        await prometheus.start(
            {"epcc-exporter": int(exporter.url.rpartition(":")[2])}, *([NATIVE_FLAG] if native else []), **both
        )
        number = 0

        async def all_answered() -> bool:
            nonlocal number
            number += 1
            epcc.add(*logs(number))
            epcc.manners = Manners(down="503" if number % 8 == 3 else None)
            unanswered[:] = [query for query in unanswered if not await answered(prometheus, query)]
            return not unanswered

        unanswered = [query for query in dashboards.queries() if native or ", native" not in query.panel]
        assert len(unanswered) > 60
        try:
            await until(all_answered, "answers", 90)
        except AssertionError:
            raise AssertionError("without an answer: " + "; ".join(map(str, unanswered))) from None


async def test_every_variable_offers_something(prometheus: Prometheus, tmp_path: Path) -> None:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    async with Exporter(tmp_path / "exporter", epcc) as exporter, exporter.running():
        prometheus.settings = SETTINGS
        await prometheus.start({"epcc-exporter": int(exporter.url.rpartition(":")[2])})
        wanted = {"job": "epcc-exporter", "store": "acme", "integration": "Order shipping",
                  "instance": exporter.url.removeprefix("http://")}  # fmt: skip
        for dashboard in dashboards.read():
            for name, variable in dashboards.variables(dashboard).items():
                if variable["type"] == "query":
                    selector, _, label = (
                        variable["definition"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
                    )
                    expression = Query("", "", 0, f"count by ({label}) ({selector})").filled
                    found = await prometheus.until(expression, bool)
                    assert await offered(prometheus, expression, label) == [wanted[name]], found


async def offered(prometheus: Prometheus, expression: str, label: str) -> list[str]:
    answer = await prometheus.get("/api/v1/query", query=expression)
    return [sample["metric"][label] for sample in answer["result"]]


async def test_a_query_that_names_no_series_is_seen(prometheus: Prometheus) -> None:
    await prometheus.start({})
    assert not await answered(prometheus, Query("", "", 0, 'nothing{job=~"$job"}'))
    with pytest.raises(ServerError):
        await answered(prometheus, Query("", "", 0, "sum by ("))
