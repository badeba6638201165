"""Every query of the dashboards, asked of real Prometheus servers that scrape the exporter with the project's rules.

The shop has one integration that works and one that breaks and whose jobs are tried again. Before and after that each
query must give series, but for those of what did not happen, which are listed; each panel whose queries give none says
why (tests/test_dashboards.py).
Grafana's own part is played: variables are filled in, and its interval is 10 s where Prometheus scrapes each second.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter.epcc import Epcc, log
from exporter.shop import Integration
from tests import dashboards
from tests.dashboards import Dashboard
from tests.integration.process import Exporter
from tests.integration.servers import Prometheus, version
from tests.integration.test_alerts_end_to_end import faster_rules

pytestmark = pytest.mark.integration

WORKS, BROKEN = Integration("erp", "ERP sync"), Integration("shipping", 'The "new" shipping')
NATIVE = "--enable-feature=native-histograms,exemplar-storage"
NEVER_HAPPENED = {  # in a shop that is polled well, whatever its integrations do
    ("epcc-exporter", "Failed polls by reason", "A"),
    ("epcc-exporter", "Gaps by cause", "A"),
    ("epcc-exporter", "Logs that are not whole", "A"),
    ("epcc-exporter", "Logs that are not whole", "C"),
}
QUIET = NEVER_HAPPENED | {  # and where nothing fails
    ("epcc-overview", "Alerts that fire", "A"),
    ("epcc-overview", "Failures by reason", "A"),
    ("epcc-overview", "Integrations, worst first", "K"),
    ("epcc-integration", "Failures by reason", "A"),
    ("epcc-exporter", "Logs that are not whole", "B"),
}
NO_NATIVE = {("epcc-integration", "Answer times, finely", "A")}


class Shop:
    """Jobs of two integrations, a new one of each whenever it is told to go on."""

    def __init__(self) -> None:
        self.epcc = Epcc()
        self._number = 0
        for integration in (WORKS, BROKEN):
            self.epcc.add_integration(integration)

    def goes_on(self, *, broken: bool) -> None:
        self._number += 1
        job, now = f"job-{self._number}", time.time_ns()
        self.epcc.add(log(f"works-{job}", now, integration_id=WORKS.id, job_id=f"works-{job}"))
        code = None if broken and self._number % 3 == 0 else 503 if broken else 200
        self.epcc.add(log(f"first-{job}", now, integration_id=BROKEN.id, job_id=job, status_code=code))
        if broken and self._number % 5 == 0:
            self.epcc.add(log(f"again-{job}", now + 1, integration_id=BROKEN.id, job_id=job, attempt=2))
            self.epcc.add(log(f"next-{job}", now + 2, integration_id=BROKEN.id, job_id=f"{job}b", status_code=503))


def values(integration: Integration) -> Mapping[str, str]:
    """What is chosen, as Grafana fills it in, All in most."""
    return {
        "__rate_interval": "10s", "job": ".+", "instance": ".+", "store": "acme", "integration": integration.id,
        "exporter": "unused", "datasource": "unused",
    }  # fmt: skip


def asked(board: Dashboard, integration: Integration) -> Iterator[tuple[tuple[str, str, str], str]]:
    for panel in board.panels():
        for target in panel.targets:
            # The budget's days, in steps of five minutes, are over at once.
            expr = target["expr"].replace("[30d:5m]", "[1h:1s]")
            yield (board.uid, panel.body["title"], target["refId"]), dashboards.filled(expr, values(integration))


async def without_series(prometheus: Prometheus, integration: Integration) -> set[tuple[str, str, str]]:
    found = set()
    for board in dashboards.read():
        for key, expr in asked(board, integration):
            if not await prometheus.query(f"count({expr})"):
                found.add(key)
    return found


async def until_only(
    prometheus: Prometheus, shop: Shop, integration: Integration, empty: set[Any], *, broken: bool
) -> None:
    """Until no others than these have no series. Deliveries go on while Prometheus gathers its samples."""
    end, found = time.monotonic() + 60, {("", "", "")}
    while found != empty and time.monotonic() < end:
        shop.goes_on(broken=broken)
        found = await without_series(prometheus, integration)
    assert found == empty, f"without series, and should have: {found - empty}; the other way round: {empty - found}"


async def start(prometheus: Prometheus, folder: Path, exporter: Exporter) -> bool:
    """Whether it keeps native histograms beside classic ones, which the oldest cannot."""
    native = "version 2." not in version(prometheus.name)
    prometheus.settings = {"rule_files": faster_rules(folder)}
    target = {"epcc-exporter": int(exporter.url.rpartition(":")[2])}
    if native:
        await prometheus.start(target, NATIVE, always_scrape_classic_histograms=True)
    else:
        await prometheus.start(target, "--enable-feature=exemplar-storage")
    return native


async def test_every_query_gives_series_but_those_of_what_did_not_happen_on_a_healthy_shop_and_on_a_broken_one(
    tmp_path: Path, prometheus: Prometheus
) -> None:
    shop = Shop()
    async with Exporter(tmp_path / "exporter", shop.epcc) as exporter, exporter.running():
        await exporter.ready()
        lacking = set() if await start(prometheus, tmp_path, exporter) else NO_NATIVE
        await until_only(prometheus, shop, WORKS, QUIET | lacking, broken=False)
        await nothing_is_broken(prometheus)
        await until_only(prometheus, shop, BROKEN, NEVER_HAPPENED | lacking, broken=True)
        await annotations_and_variables_are_right(prometheus)
        await each_dot_leads_to_a_job(prometheus, exporter)


async def nothing_is_broken(prometheus: Prometheus) -> None:
    for board in dashboards.read():
        for key, expr in asked(board, WORKS):
            if board.uid == "epcc-overview" and key[1] in ("Pages", "Tickets and notes", "Integrations down"):
                assert [*(await prometheus.query(expr)).values()] == [0.0], key


async def annotations_and_variables_are_right(prometheus: Prometheus) -> None:
    boards = {board.uid: board for board in dashboards.read()}
    for board in boards.values():
        for each in board.body["annotations"]["list"]:
            found = await prometheus.query(dashboards.filled(each["expr"], values(BROKEN)))
            fires = "exporter" not in each["name"]
            assert bool(found) == fires, (board.uid, each["name"], found)
        for name, variable in board.variables.items():
            if variable["type"] == "query":
                assert await options(prometheus, variable), (board.uid, name)
    chosen = await options(prometheus, boards["epcc-integration"].variables["integration"])
    assert sorted(chosen) == [(each.name, each.id) for each in (WORKS, BROKEN)]
    assert await options(prometheus, boards["epcc-overview"].variables["store"]) == [("acme", "acme")]


async def options(prometheus: Prometheus, variable: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to choose from, as text and value, found in Prometheus as Grafana does."""
    query = dashboards.filled(variable["query"]["query"], values(BROKEN))
    if found := re.fullmatch(r"label_values\((.+), (\w+)\)", query):
        return [
            (each, each) for each in await prometheus.get(f"/api/v1/label/{found[2]}/values", **{"match[]": found[1]})
        ]
    [inner] = re.findall(r"^query_result\((.+)\)$", query)
    answer = await prometheus.get("/api/v1/query", query=inner)
    texts = []
    for sample in answer["result"]:
        labels = ",".join(f'{name}="{value}"' for name, value in sample["metric"].items() if name != "__name__")
        texts.append(f"{sample['metric']['__name__']}{{{labels}}} {sample['value'][1]} 1")
    return dashboards.example(variable["regex"], tuple(texts))


async def each_dot_leads_to_a_job(prometheus: Prometheus, exporter: Exporter) -> None:
    dots = 0
    [board] = [each for each in dashboards.read() if each.uid == "epcc-integration"]
    for panel in board.panels():
        for target in panel.targets:
            if not target["exemplar"]:
                continue
            expr = dashboards.filled(target["expr"], values(BROKEN))
            found = await prometheus.get(
                "/api/v1/query_exemplars", query=expr, start=str(time.time() - 60), end=str(time.time() + 60)
            )
            jobs = {one["labels"]["job_id"] for each in found for one in each["exemplars"]}
            assert jobs, panel.key
            for job in sorted(jobs)[:3]:
                status, page = await exporter.get(f"/jobs/acme/{BROKEN.id}/{job}")
                assert (status, job in page) == (200, True)
                dots += 1
    assert dots >= 2
