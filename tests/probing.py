"""The probe on a virtual clock against the simulated EPCC, and texts planted wherever a store can say something."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp

from exporter import report
from exporter.advice import advice
from exporter.config import Secret, StoreConfig
from exporter.epcc import Epcc, log
from exporter.findings import OBSERVED, SURE, Findings
from exporter.manners import ENVELOPES, LIMIT_ANSWERS, ORDERS, SCALARS, TOTALS, Manners
from exporter.probe import REQUESTS_MAX
from exporter.prober import Probed, Prober
from exporter.shop import Integration
from tests.world import START_NS, FakeSession, VirtualClock, at, run

NUMBER = 650  # logs, one every GAP seconds: pages spread more than a lookback
GAP = 20.0
PLANTED = {
    "client id": "PLANTED-client-id",
    "client secret": "PLANTED-client-secret",
    "webhook address": "planted.example.com",
    "webhook secret": "PLANTED-secret-key",
    "integration's name": "PLANTED name",
    "integration's id": "planted-integration",
    "body": "PLANTED-personal-data",
    "error text": "PLANTED-error-detail",
    "job's id": "planted-job",
    "log's id": "planted-log",
    "store's name": "planted-store",
    "host": "epcc.test",
    "unknown field": "PLANTED-field",
    "type of a record": "PLANTED-type",
    "header's value": "PLANTED-header",
    "type of an integration": "PLANTED-kind",
    "zone": "PLANTED-zone",
}


def store(number: int = NUMBER, manners: Manners | None = None, seed: int = 0) -> Epcc:
    """A list that stands still: the newest log is a second old."""
    epcc = Epcc(manners, seed=seed)
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add_integration(Integration("erp", "ERP sync", integration_type="aws_sqs", enabled=False))
    epcc.add(*[log(f"l{i}", at(-1 - i * GAP), job_id=f"j{i // 2}") for i in range(number)])
    return epcc


def config(**settings: Any) -> StoreConfig:
    fields: dict[str, Any] = {
        "name": PLANTED["store's name"], "api_url": f"http://{PLANTED['host']}", "client_id": Secret("demo"),
        "client_secret": Secret("demo-secret"), **settings,
    }  # fmt: skip
    return StoreConfig(**fields)


def probe(epcc: Epcc, watch: float = 15.0, session: type[FakeSession] = FakeSession, **settings: Any) -> Probed:
    """What the probe finds; its limit holds whatever the store does."""

    async def asked() -> Probed:
        clock = VirtualClock()
        made = cast("aiohttp.ClientSession", session(epcc, clock))
        return await Prober(config(**settings), made, clock).probe(watch)

    probed = run(asked())
    assert probed.requests == len(epcc.seen) <= REQUESTS_MAX == 40
    assert all(finding.sure in SURE for finding in probed.findings.values())
    return probed


def found(epcc: Epcc, **how: Any) -> dict[str, Any]:
    """The values of what was observed."""
    return {name: f.value for name, f in probe(epcc, **how).findings.items() if f.sure == OBSERVED}


def text_of(probed: Probed, **settings: Any) -> str:
    store = config(**settings)
    lines = advice(probed.findings, lookback=store.lookback, page_limit=store.page_limit,
                   requests_per_second=store.requests_per_second)  # fmt: skip
    return report.opening("1", "3", 1) + report.of_store(probed.findings, "Store 1 of 1", "", probed.failure, lines)


ORDER_TOLD = {"shuffled": "unordered"} | {order: order.replace("_visible", "") for order in ORDERS if "_" in order}


RATES = {
    "X-RateLimit-Limit": "100",
    "RateLimit-Policy": "100;w=1",
    "X-Rate-Limit-Remaining": PLANTED["header's value"],
    "Content-Encoding": "identity",
    "X-Request-Id": PLANTED["header's value"],
}


class WithHeaders(FakeSession):
    """Answers with the headers of a gateway that limits rates."""

    @asynccontextmanager
    async def request(self, *arguments: Any, **keywords: Any) -> Any:
        async with super().request(*arguments, **keywords) as response:
            response.headers.update(RATES)
            yield response


def wrong(findings: Findings, manners: Manners, number: int) -> Iterator[str]:
    """What was claimed to be observed and is not so."""
    told = {name: finding.value for name, finding in findings.items() if finding.sure == OBSERVED}
    limited = manners.offset_limit is not None and manners.offset_limit < number
    expected = {
        "order": ORDER_TOLD.get(manners.order, manners.order),
        "envelope": manners.envelope,
        "next_on_last_page": None if manners.envelope in ("2025", "neither") else manners.next_on_last_page,
        "paging": "ignored" if manners.paging_ignored else "honoured",
        "length": number,
        "offset_limit": manners.offset_limit,
        "jobs": "not paged" if not manners.jobs_paged else "limit alone" if manners.paging_ignored else "paged",
        "time_format": ((manners.time_digits,), (manners.time_zone,)),
        "types": {field: {"string": 1.0} for field in manners.strings},
        "date": "present" if manners.date_header else "absent",
    }
    for name, value in expected.items():
        if name in told and told[name] != value:
            yield f"{name}: {told[name]}, and it is {value}"
    if limited and "length" in told:
        yield "length: told of a list past its limit"
    if not limited and "offset_limit" in told and not manners.paging_ignored:
        yield "offset_limit: told of a list that ends before"


def drawn(chance: random.Random) -> Manners:
    return Manners(
        order=chance.choice(
            ["newest_first", "oldest_first", "newest_visible_first", "oldest_visible_first", "unordered"]
        ),
        envelope=chance.choice(ENVELOPES),
        total_manner=chance.choice(TOTALS),
        next_on_last_page=chance.random() < 0.5,
        page_length_max=chance.choice([10, 25, 50, 100, 100]),
        limit_over_max=chance.choice(["clamp", "error"]),
        paging_ignored=chance.random() < 0.1,
        offset_limit=chance.choice([None, 120, 333, 10_000]),
        offset_limit_answer=chance.choice(LIMIT_ANSWERS),
        jobs_paged=chance.random() < 0.5,
        strings=frozenset(name for name in SCALARS if chance.random() < 0.3),
        time_digits=chance.randrange(10),
        time_zone=chance.choice(["Z", "+02:00"]),
        date_header=chance.random() < 0.8,
    )


class Lettered(FakeSession):
    """Answers with planted texts wherever a text can stand."""

    @asynccontextmanager
    async def request(self, *arguments: Any, **keywords: Any) -> Any:
        async with super().request(*arguments, **keywords) as response:
            response.headers.update({"X-RateLimit-" + PLANTED["header's value"]: "1", **RATES})
            yield response


def planted() -> Epcc:
    epcc = Epcc(client_id=PLANTED["client id"], client_secret=PLANTED["client secret"])
    epcc.add_integration(
        Integration(PLANTED["integration's id"], PLANTED["integration's name"],
                    integration_type=PLANTED["type of an integration"],
                    url=f"https://{PLANTED['webhook address']}/", secret_key=PLANTED["webhook secret"])
    )  # fmt: skip
    override = {
        "body": PLANTED["body"],
        PLANTED["unknown field"]: 1,
        "type": PLANTED["type of a record"],
        "event_type": "order.paid",
    }
    epcc.add(*[
        log(PLANTED["log's id"] + str(i), at(-30 + i / 2), integration_id=PLANTED["integration's id"],
            job_id=PLANTED["job's id"], status_code=500, error_detail=PLANTED["error text"], override=override)
        for i in range(100)
    ])  # fmt: skip
    zone = {"meta": {"timestamps": {"created_at": f"2026-01-01T00:00:00{PLANTED['zone']}"}}}
    epcc.add(log(PLANTED["log's id"] + "x", START_NS, integration_id=PLANTED["integration's id"], override=zone))
    return epcc
