"""The backfill's file made into blocks by promtool, and what real Prometheus servers make of these, alone and with live
scraping after them.

Asked is `x - x offset 1h`, which is exact wherever a series did not begin anew between; `increase()` estimates, because
it stretches what it sees to the borders of its range. Over the seam raw samples are judged under Prometheus's own rule:
a counter has grown by the difference of two samples, or, where it fell, by what stands after the fall.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import SCENARIOS, Integration, Shop
from tests import hourly
from tests.integration import servers
from tests.integration.process import Exporter, Process, started
from tests.integration.servers import Prometheus
from tests.test_backfill import logs_of, truth_between

pytestmark = pytest.mark.integration

HOUR = 3600
DAYS = 2
BLOCKS = "--max-block-duration=744h"
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "recording.rules.yml"
ATTEMPTS = "epcc_integration_attempts_total"
RESPONSES = "epcc_integration_responses_total"
KEYS = ("integration_id", "reason", "status_code", "le")
QUERIES = {
    "attempts": f"{ATTEMPTS} OFFSET",
    "failures": "sum without (reason) (epcc_integration_attempt_failures_total OFFSET)",
    "retries": "epcc_integration_retries_total OFFSET",
    "jobs": "epcc_integration_jobs_total OFFSET",
    "fast": 'sum without (le) (epcc_integration_processing_seconds_bucket{le="0.25"} OFFSET)',
}


def filling(exporter: Exporter, *flags: str) -> Any:
    return started(
        sys.executable, "-m", "exporter", "backfill", f"--config.file={exporter.config}",
        f"--storage.path={exporter.folder / 'data'}", f"--output={exporter.folder / 'history.om'}", *flags,
    )  # fmt: skip


async def filled(exporter: Exporter, *flags: str) -> str:
    """What it tells, when it has ended well."""
    async with filling(exporter, *flags) as process:
        assert await process.ended(120) == 0, process.output
        told: str = process.output
        return told


def make_blocks(prometheus: Prometheus, om: Path) -> str:
    """Into the storage of a server that does not run."""
    made = prometheus.promtool("tsdb", "create-blocks-from", "openmetrics", BLOCKS, om, om.parent / "blocks")
    assert made.returncode == 0, made.stderr
    prometheus.storage.mkdir(exist_ok=True)
    for block in (om.parent / "blocks").iterdir():
        shutil.move(block, prometheus.storage)
    return made.stdout


async def by_integration(prometheus: Prometheus, expression: str, at: float) -> dict[str, float]:
    answer = await prometheus.get("/api/v1/query", query=expression, time=f"{at:.3f}")
    found = {sample["metric"]["integration_id"]: float(sample["value"][1]) for sample in answer["result"]}
    assert len(found) == len(answer["result"])
    return found


async def samples_of(prometheus: Prometheus, selector: str, seconds: float) -> list[tuple[float, float]]:
    answer = await prometheus.get("/api/v1/query", query=f"{selector}[{seconds:.0f}s]")
    assert len(answer["result"]) == 1, [each["metric"] for each in answer["result"]]
    return [(at, float(value)) for at, value in answer["result"][0]["values"]]


def growth(samples: list[tuple[float, float]]) -> float:
    return sum(b - a if b >= a else b for (_, a), (_, b) in itertools.pairwise(samples))


def shop(now_ns: int) -> Epcc:
    """Open for days, with an outage every half hour. Whenever the test runs, each hour is the same: quantiles jump where
    a share of the attempts falls between two buckets to the very attempt."""
    plan = replace(SCENARIOS["shop"], jobs_per_second=0.05, history_seconds=DAYS * 86_400.0, daily_swing=0.0)
    this_hour_ns = now_ns // (HOUR * 10**9) * HOUR * 10**9
    epcc = Epcc(Manners(offset_limit=None), seed=7, shop=Shop(plan, 7, this_hour_ns))
    epcc.advance(now_ns)
    return epcc


async def test_each_hour_each_rule_and_each_query_of_the_dashboards_is_the_truth(
    tmp_path: Path, prometheus: Prometheus
) -> None:
    now = time.time()
    epcc = shop(round(now * 1e9))
    logs = logs_of(epcc)
    assert len(logs) > 7_000
    async with Exporter(tmp_path / "exporter", epcc) as exporter:
        told = await filled(exporter, "--label=job=epcc-exporter", "--label=instance=shop:10058", "--since=30d")
    assert "gaps: none; everything that EPCC lists in the range was read" in told
    make_blocks(prometheus, tmp_path / "exporter" / "history.om")
    await prometheus.start({})
    first, last = min(each.created_ns for each in logs) // 10**9, now - 120
    hours = list(range(-(-first // HOUR) * HOUR + HOUR, int(last), HOUR))
    assert len(hours) >= DAYS * 24 - 2
    total: Counter[str] = Counter()
    truths = {until: truth_between(logs, until - HOUR, until) for until in hours}
    for what, series in QUERIES.items():
        now_and_before = f"{series.replace('OFFSET', '')} - {series.replace('OFFSET', 'offset 1h')}"
        answer = await by_hour(prometheus, now_and_before, hours)
        for until, truth in truths.items():
            wanted = {integration_id: counted[what] for integration_id, counted in truth.items() if counted[what]}
            found = {i: round(value, 6) for i, value in answer[until].items() if value}
            assert found == wanted, (what, until)
            total[what] += sum(wanted.values())
    assert min(total.values()) > 100, total
    await dashboards_tell_the_truth(prometheus, hourly.past_of(logs), hours[DAYS * 12 :])
    await rules_by_promtool(prometheus, hours[-1])


async def dashboards_tell_the_truth(prometheus: Prometheus, past: hourly.Past, hours: list[int]) -> None:
    """Each query of deliveries, at each of these hours."""
    [broken] = [i for i, own in past.by_integration.items() if hourly.by_reason(own, hours[-1]).get("connection")]
    values = {
        "__rate_interval": "1h", "job": ".+", "instance": ".+", "store": "acme", "integration": broken,
        "exporter": "unused", "datasource": "unused",
    }  # fmt: skip
    of = {"epcc-integration": (hourly.OF_ONE, past.by_integration[broken]), "epcc-overview": (hourly.OF_ALL, past)}
    met = {board: {*without} for board, without in hourly.NO_PAST.items()}
    for board, panel, expression in hourly.asked(values):
        found = await by_hour(prometheus, expression, hours)
        if panel in hourly.NO_PAST[board]:
            assert found == {}, (board, panel, expression)
            continue
        truths, logs = of[board]
        met[board].add(panel)
        for until in hours:
            wanted = truths[panel](logs, until)
            assert found.get(until, {}) == pytest.approx(wanted, rel=1e-9, abs=1e-9), (board, panel, until, expression)
    for board, (truths, _) in of.items():
        assert met[board] == {*truths} | hourly.NO_PAST[board]


async def by_hour(prometheus: Prometheus, expression: str, hours: list[int]) -> dict[int, hourly.Answer]:
    answer = await prometheus.get(
        "/api/v1/query_range", query=expression, start=str(hours[0]), end=str(hours[-1]), step=str(HOUR)
    )
    found: dict[int, hourly.Answer] = {}
    for each in answer["result"]:
        labels = each["metric"]
        key = next((labels[name] for name in KEYS if name in labels), "")
        for at, value in each["values"]:
            there = found.setdefault(int(at), {})
            assert key not in there, (expression, key)
            if not ("status_code" in labels and float(value) == 0):  # one that others have, and not in this hour
                there[f"{float(key):g}" if "le" in labels else key] = float(value)
    return found


async def rules_by_promtool(prometheus: Prometheus, until: int) -> None:
    """Recording rules over the backfilled hours, from the server that has them, twice: some are made of others."""
    start, folder, server = until - 4 * HOUR, prometheus.storage.parent, prometheus
    try:
        for number in range(2):
            blocks = folder / f"rules-{number}"
            made = server.promtool(
                "tsdb", "create-blocks-from", "rules", f"--start={start}", f"--end={until}", f"--url={server.url}",
                f"--output-dir={blocks}", "--eval-interval=1m", RULES,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            await server.stop()
            for block in blocks.iterdir():
                if (block / "meta.json").exists():
                    shutil.move(block, prometheus.storage)
            server = Prometheus(prometheus.name, folder)
            await server.start({})
        await assert_rules_are_right(server, start, until)
    finally:
        await server.stop()


async def assert_rules_are_right(server: Prometheus, start: int, until: int) -> None:
    rate = "max without (instance, pod) (rate({}[1h]))"
    failures = "max without (instance, pod) (sum without (reason) (rate(epcc_integration_attempt_failures_total[1h])))"
    for at in range(start + 600, until, 1800):
        for rule, expression in (
            ("integration:epcc_integration_attempts:rate1h", rate.format(ATTEMPTS)),
            (
                "integration:epcc_integration_jobs_missed_first:rate1h",
                "max without (instance, pod) (rate(epcc_integration_jobs_total[1h]) - ignoring (attempt) "
                'rate(epcc_integration_jobs_delivered_total{attempt="first"}[1h]))',
            ),
            ("integration:epcc_integration_info:named", "max without (instance, pod) (epcc_integration_info)"),
            (
                "integration:epcc_integration_attempt_failures:ratio_rate1h",
                f"{failures} / ({rate.format(ATTEMPTS)} > 0)",
            ),
        ):
            recorded = await by_integration(server, rule, at)
            # A group has its own second of each minute, in promtool as in Prometheus.
            [then] = {*(await by_integration(server, f"timestamp({rule})", at)).values()}
            asked = await by_integration(server, expression, then)
            assert recorded.keys() == asked.keys() != set()
            assert all(recorded[each] == pytest.approx(asked[each]) for each in asked), rule


@pytest.mark.parametrize("history", ["skip", "count"])
async def test_the_seam_with_live_scraping_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, prometheus: Prometheus, history: str
) -> None:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    now_ns = time.time_ns()
    past = 600
    epcc.add(*[log(f"past{i}", now_ns - (i + 3) * 5 * 10**9, status_code=200 if i % 9 else 503) for i in range(past)])
    async with Exporter(tmp_path / "exporter", epcc) as exporter:
        exporter.configure(history=history, lookback="20s")
        async with exporter.running():
            await exporter.ready()
            port = int(exporter.url.rpartition(":")[2])
            labels = ("--label=job=epcc", f"--label=instance=127.0.0.1:{port}")
            # The first were created before the exporter began, and are listed only now: live, as all these are.
            epcc.add(*[log(f"late{i}", now_ns) for i in range(20)])
            epcc.add(*[log(f"soon{i}", time.time_ns() + i * 10**8, status_code=503) for i in range(10)])
            live = past + 30 if history == "count" else 30
            await exporter.counted(live)
            told = await filled(exporter, *labels)
            assert "end: by the ids that the exporter had seen when it began" in told
            assert f"{past:,} counted" in told
            assert "30 are the live exporter's" in told
            make_blocks(prometheus, tmp_path / "exporter" / "history.om")
            await prometheus.start({"epcc": port})
            await prometheus.until(ATTEMPTS, lambda answer: [*answer.values()] == [live])
            epcc.add(*[log(f"new{i}", time.time_ns(), status_code=503) for i in range(5)])
            await prometheus.until(ATTEMPTS, lambda answer: [*answer.values()] == [live + 5])
            await prometheus.until(f"sum({RESPONSES})", lambda answer: [*answer.values()] == [live + 5])
            samples = await samples_of(prometheus, ATTEMPTS, 2 * HOUR)
            # One series from the first log to the last, over the seam.
            assert growth(samples) == past + 35
            falls = sum(b < a for (_, a), (_, b) in itertools.pairwise(samples))
            assert falls == (1 if history == "skip" else 0)
            for code, number in (("200", past - -(-past // 9) + 20), ("503", -(-past // 9) + 15)):
                selector = f'{RESPONSES}{{status_code="{code}"}}'
                assert growth(await samples_of(prometheus, selector, 2 * HOUR)) == number, code
            # What people ask: stretched to the borders of the range by what stands there, which is nothing.
            [increase] = (await prometheus.query(f"increase({ATTEMPTS}[2h])")).values()
            assert increase == pytest.approx(past + 35, rel=0.01)


async def test_an_interrupted_backfill_ends_with_1_and_leaves_nothing_behind(tmp_path: Path) -> None:
    epcc = shop(time.time_ns())
    epcc.manners = replace(epcc.manners, latency_seconds=(0.2, 0.2))
    async with Exporter(tmp_path / "exporter", epcc) as exporter, filling(exporter) as process:
        await asking(epcc, process)
        assert await process.end(signal.SIGINT) == 1
        assert "stopped before the end: there is no file" in process.output
        assert [path.name for path in exporter.folder.iterdir()] == ["config.yaml"]


async def asking(epcc: Epcc, process: Process) -> None:
    async with asyncio.timeout(30):
        while epcc.requests["logs"] < 5:
            assert process.child.returncode is None, process.output
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", servers.names())
async def test_a_block_that_ends_after_prometheus_own_makes_its_next_start_forget(tmp_path: Path, name: str) -> None:
    """Why the recipe waits: whatever is in its write-ahead log alone and older than the newest block is dropped, of every
    series that it scrapes."""
    (tmp_path / "target").mkdir()
    (tmp_path / "server").mkdir()
    target, server = Prometheus(name, tmp_path / "target"), Prometheus(name, tmp_path / "server")
    try:
        await target.start({})
        port = int(target.url.rpartition(":")[2])
        await server.start({"other": port})
        await server.until("count_over_time(up[1m])", lambda answer: sum(answer.values()) >= 4)
        oldest = (await samples_of(server, "up", 60))[0][0]
        await server.stop()
        now = int(time.time())
        om = tmp_path / "history.om"
        om.write_text(f"# TYPE x counter\nx_total 0 {now - 600}\nx_total 1 {now}\n# EOF\n")
        make_blocks(server, om)
        server = Prometheus(name, tmp_path / "server")
        await server.start({"other": port})
        await server.until("up", lambda answer: len(answer) == 1)
        kept = (await samples_of(server, "up", 120))[0][0]
        assert oldest < now < kept, "it keeps what is older: the recipe need not wait any more"
    finally:
        await server.stop()
        await target.stop()
