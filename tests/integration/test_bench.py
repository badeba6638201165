"""The benchmarks in small: that they measure what they say. No test here knows a time."""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from exporter.exposition import FORMATS
from tests.bench import backfill, ingest, page, scrape, state, wired
from tests.bench.contestants import BASE, EXPORTER, Contestant, own
from tests.bench.places import Missing
from tests.bench.rivals.client import GENERATE
from tests.bench.standin import standin

pytestmark = pytest.mark.integration

LOGS = 1_234
# A contestant that stops too early.
ASKS = """
import sys, urllib.request
urllib.request.urlopen(sys.argv[1] + "/v2/integrations").read()
print("done 7", flush=True)
sys.stdin.read()
"""


def test_the_stand_in_lists_every_log_once_newest_first() -> None:
    found: list[dict[str, Any]] = []
    with standin(LOGS) as server:
        assert server.seen().first is None
        for offset in range(0, LOGS + 100, 99):
            query = f"page%5Blimit%5D=99&page[offset]={offset}"
            with urllib.request.urlopen(f"{server.url}/v2/integrations/logs?{query}") as answer:  # noqa: S310  of this process
                found += json.load(answer)["data"]
        seen = server.seen()
        server.reset()
        assert server.seen().requests == 0
    assert len({record["id"] for record in found}) == len(found) == LOGS == seen.records
    times = [record["meta"]["timestamps"]["created_at"] for record in found]
    assert times == sorted(times, reverse=True)
    assert seen.first is not None
    assert seen.last is not None
    assert seen.last >= seen.first


async def test_ingest_takes_turns_and_names_who_is_missing_or_failed() -> None:
    short = Contestant("short", "too little", lambda server, _: [[sys.executable, "-c", ASKS, server.url]])
    dead = Contestant("dead", "nothing", lambda *_: [[sys.executable, "-c", "raise SystemExit('no module')"]])
    gone = Contestant("gone", "nothing", lambda *_: [["/nowhere/at-all"]])
    field = {**own(), "gone": gone, "short": short, "dead": dead, "absent": Missing("not for this machine")}
    result = await ingest.measure(LOGS, 2, field)
    assert {name: len(runs) for name, runs in result.runs.items()} == dict.fromkeys(own(), 2)
    assert all(each.seconds > 0 and each.peak_bytes > 0 for runs in result.runs.values() for each in runs)
    assert result.runs[EXPORTER][0].requests > LOGS // 100
    assert result.runs[BASE][0].requests == 14
    assert result.missing["absent"] == "not for this machine"
    assert result.missing["dead"].startswith("failed: it ended")
    assert "FileNotFoundError" in result.missing["gone"]
    assert "7 logs of 1234" in result.missing["short"]
    text = ingest.shown(result, {})
    assert text.count("missing: ") == 4
    assert [line.split("  ")[0] for line in text.splitlines()[2:5]] == list(own())


def test_scrape_has_a_line_for_each_page_and_compares_the_same_series() -> None:
    result = scrape.measure(100, number=3, seconds=5.0)
    assert result.series >= 100
    assert [(line.form, line.packed) for line in result.lines] == [(f, p) for f in FORMATS for p in (False, True)]
    for line in result.lines:
        assert len(line.rest) == len(line.changed) == len(line.http_rest) == len(line.http_changed) == 3
        assert len(line.http_committing) == 3
        assert line.form not in GENERATE or len(line.client) == len(line.http_client) == 3
        assert line.size > (100 if line.packed else 10_000)
    text = scrape.shown(result, 3, 5.0)
    assert text.count("openmetrics") == 2
    assert text.startswith(f"{result.series:,} series of {result.integrations:,} integrations")


def test_the_page_after_a_poll_shows_what_it_brought_and_at_rest_the_same_deliveries() -> None:
    with tempfile.TemporaryDirectory() as name:
        wired.build(Path(name), 3, 30)
        with wired.Far(scrape.Target.made, Path(name), 3) as target:
            first = deliveries(target.ask("page", "text", False))
            again = deliveries(target.ask("page", "text", False))
            target.ask("poll")
            changed = deliveries(target.ask("page", "text", False))
    attempts = [line.split()[-1] for line in first if line.startswith("epcc_integration_attempts_total")]
    assert sum(map(float, attempts)) == 30
    assert first == again
    differing = {line.partition("}")[0] for line in set(first) ^ set(changed)}
    assert len({name.partition('integration_id="')[2][:36] for name in differing}) == 1


def deliveries(page: bytes) -> list[str]:
    return [line for line in page.decode().splitlines() if line.startswith("epcc_integration_")]


def test_state_polls_cost_what_is_new_and_hold_what_is_known() -> None:
    known = state.polled(300, news=(0, 50), polls=3)
    assert [each.news for each in known] == [0, 50]
    assert known[0].requests.median == 1
    assert known[1].requests.median > 1
    assert 200 <= known[0].known <= known[1].known <= 500
    held = state.held(2_000, 50)
    assert [each.what for each in held] == ["2,000 ids", "50 integrations"]
    assert all(each.state > 50_000 for each in held)
    assert "0 new" in state.shown_polled(known, 3)
    assert "2,000 ids" in state.shown_held(held)


def test_a_backfill_counts_every_log_and_becomes_a_block() -> None:
    told = backfill.measure(LOGS, 0.2)
    assert told.startswith(f"{LOGS:,} logs of 0.2 days: ")
    assert len([line for line in told.splitlines() if line.startswith(("backfill ", "promtool, "))]) >= 2


async def test_the_page_is_weighed_and_its_scripts_are_timed() -> None:
    (load,) = await page.measure(10, 1)
    assert 10_000 < load.size < 100_000
    assert load.script > load.parse > 0
    assert load.refresh > 0
    assert load.status > 0
    assert load.loop > 0
