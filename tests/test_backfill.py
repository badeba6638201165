"""The command as a whole, against the simulated EPCC on the virtual clock: what its file says is the truth by event time."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.backfill import BackfillError, StoppedError
from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.metrics import FAMILIES
from exporter.shop import Integration, Log
from tests.backfilled import STEP, Filled, backfill, store_config
from tests.world import START_NS, World, at, run, shop_of, simple

HOUR = 3600
START = START_NS // 10**9


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """On the virtual loop."""

    @functools.wraps(test)
    def sync(**keywords: Any) -> None:
        run(test(**keywords))

    return sync


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def logs_of(epcc: Epcc) -> list[Log]:
    return [entry[2] for entry in epcc._lists._every._settled()]


def truth_between(logs: Iterable[Log], after: float, until: float) -> dict[str, Counter[str]]:
    """Of the attempts created after one time and up to another, in seconds: by integration."""
    found: dict[str, Counter[str]] = {}
    for each in logs:
        if after * 1e9 < each.created_ns <= until * 1e9:
            counted = found.setdefault(each.integration_id, Counter())
            counted["attempts"] += 1
            counted["failures"] += not each.succeeded
            counted["retries"] += each.attempt > 1
            counted["jobs"] += each.attempt == 1
            counted["us"] += round((each.processing_time or 0) * 1e6)
            counted["fast"] += (each.processing_time or 0) <= 0.25
    return found


def shown_between(filled: Filled, integration_id: str, after: int, until: int) -> Counter[str]:
    """`x - x offset …`, as Prometheus would answer it."""
    one = f'{{integration_id="{integration_id}"}}'
    names = {
        "attempts": [f"epcc_integration_attempts_total{one}"],
        "failures": [
            name for name in filled.series
            if name.startswith("epcc_integration_attempt_failures_total") and integration_id in name
        ],
        "retries": [f"epcc_integration_retries_total{one}"],
        "jobs": [f"epcc_integration_jobs_total{one}"],
        "us": [f"epcc_integration_processing_seconds_sum{one}"],
        "fast": [f'epcc_integration_processing_seconds_bucket{{integration_id="{integration_id}",le="0.25"}}'],
    }  # fmt: skip
    found: Counter[str] = Counter()
    for what, series in names.items():
        for name in series:
            now, before = filled.at(name, until), filled.at(name, after)
            assert now is not None, (name, until)
            assert before is not None, (name, after)
            found[what] += round((now - before) * (1e6 if what == "us" else 1))
    return +found


def assert_true_by_hour(filled: Filled, logs: Sequence[Log], first: int, last: int) -> None:
    """Every whole hour between two times, for every integration."""
    for until in range(first + HOUR, last + 1, HOUR):
        for integration_id, counted in truth_between(logs, until - HOUR, until).items():
            assert shown_between(filled, integration_id, until - HOUR, until) == +counted, (integration_id, until)


MANNERS = {
    "polite": Manners(offset_limit=None),
    "oldest first": Manners(offset_limit=None, order="oldest_first"),
    "by arrival": Manners(offset_limit=None, order="newest_visible_first", lateness_seconds=40.0),
    "unordered": Manners(offset_limit=None, order="unordered"),
    "short pages, no dates, equal times": Manners(
        offset_limit=None, page_length_max=17, date_header=False, ties_ns=10**9, ties_permuted=True
    ),
    "faults": Manners(offset_limit=None, faults={"502": 0.05, "429": 0.02, "truncated": 0.02, "empty_page": 0.03}),
    "an offset limit, past which integrations have lists of their own": Manners(offset_limit=2_000),
    "an offset limit, past which jobs have logs": Manners(offset_limit=400, jobs_paged=False),
}


@pytest.mark.parametrize("manners", MANNERS.values(), ids=MANNERS.keys())
@virtually
async def test_each_hour_is_the_truth_to_the_last_attempt(tmp_path: Path, manners: Manners) -> None:
    epcc = shop_of(manners, jobs_per_second=0.2)
    await asyncio.sleep(4 * HOUR)
    epcc.truth(START_NS + 4 * HOUR * 10**9)
    # As they are shown, with the digits that are.
    logs = [replace(each, created_ns=each.created_ns // manners.ties_ns * manners.ties_ns) for each in logs_of(epcc)]
    filled = await backfill(tmp_path, epcc)
    assert "gaps: none" in filled.summary, filled.summary
    end = (START + 4 * HOUR - 120) // STEP * STEP
    begins = {
        integration_id: filled.series[f'epcc_integration_attempts_total{{integration_id="{integration_id}"}}'][0][0]
        for integration_id in truth_between(logs, 0, end)
    }
    assert_true_by_hour(filled, logs, -(-max(begins.values()) // HOUR) * HOUR, end)
    # From before the first log to the end: nothing is lost at the beginning either.
    for integration_id, counted in truth_between(logs, 0, end).items():
        assert shown_between(filled, integration_id, begins[integration_id], end) == +counted, integration_id


@virtually
async def test_the_last_values_are_those_of_live_counting(tmp_path: Path) -> None:
    epcc = shop_of(Manners(offset_limit=None), jobs_per_second=0.3)
    await asyncio.sleep(3 * HOUR)
    world = World(tmp_path / "live", epcc, history="count")
    try:
        epcc.truth(START_NS + 3 * HOUR * 10**9)
        epcc._lists._shop = None  # the shop is closed: both read the same logs
        await asyncio.sleep(120)
        await world.polls(2)
        shown = await world.scrape()
    finally:
        world.close()
    filled = await backfill(tmp_path, epcc)
    compared = 0
    for name, samples in filled.series.items():
        label = name.replace('"', "")
        assert shown[label] == pytest.approx(samples[-1][1], abs=1e-9), name
        compared += 1
    assert compared > 150


@virtually
async def test_a_file_is_the_same_whatever_the_order_of_reading_and_whoever_was_interrupted(tmp_path: Path) -> None:
    epcc = shop_of(Manners(offset_limit=None), jobs_per_second=0.2)
    await asyncio.sleep(2 * HOUR)
    until_ns = at(2 * HOUR - 60)
    first = await backfill(tmp_path, epcc, until_ns=until_ns)
    epcc.manners = replace(epcc.manners, order="oldest_first", page_length_max=31, faults={"503": 0.1})
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.001, stop.set)
    epcc.manners = replace(epcc.manners, latency_seconds=(0.1, 0.2))
    with pytest.raises(StoppedError):
        await backfill(tmp_path, epcc, until_ns=until_ns, stop=stop)
    assert (tmp_path / "history.om").read_text() == first.text  # an interrupted run leaves what was there
    second = await backfill(tmp_path, epcc, until_ns=until_ns)
    assert second.text == first.text
    assert names_in(tmp_path) == ["history.om"]


@virtually
async def test_an_interrupted_or_failed_run_leaves_nothing(tmp_path: Path) -> None:
    epcc = simple(1, 2, 3, manners=Manners(latency_seconds=(1.0, 1.0)))
    await asyncio.sleep(60)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(1.5, stop.set)
    with pytest.raises(StoppedError):
        await backfill(tmp_path, epcc, stop=stop)
    epcc.manners = Manners(down="503")
    with pytest.raises(BackfillError, match="acme: EPCC could not be read to the end: server_error 503"):
        await backfill(tmp_path, epcc)
    assert names_in(tmp_path) == []


@virtually
async def test_an_outage_of_minutes_is_waited_out(tmp_path: Path) -> None:
    epcc = simple(*range(1, 60))
    await asyncio.sleep(300)
    epcc.manners = Manners(down="reset")
    asyncio.get_running_loop().call_later(200, lambda: setattr(epcc, "manners", Manners()))
    filled = await backfill(tmp_path, epcc)
    assert "59 counted" in filled.summary


@virtually
async def test_a_series_stands_on_the_grid_begins_at_0_and_is_never_stale(tmp_path: Path) -> None:
    epcc = shop_of(Manners(offset_limit=None), jobs_per_second=0.02)
    await asyncio.sleep(3 * HOUR)
    filled = await backfill(tmp_path, epcc, step_seconds=20)
    lasts = set()
    for name, samples in filled.series.items():
        times = [seconds for seconds, _ in samples]
        assert all(seconds % 20 == 0 for seconds in times)
        assert all(0 < b - a <= 240 for a, b in itertools.pairwise(times)), name
        lasts.add(times[-1])
        if "_timestamp_seconds" not in name and "_info" not in name:
            assert samples[0][1] == 0, name
        if "_total{" in name or "_count{" in name or "_bucket{" in name:
            assert [value for _, value in samples] == sorted(value for _, value in samples), name
            rises = [(a, b) for a, b in itertools.pairwise(samples) if b[1] > a[1]]
            assert all(b[0] - a[0] == 20 for a, b in rises), name  # a rise stands between neighbours
    assert len(lasts) == 1
    assert filled.text.endswith("# EOF\n")


@virtually
async def test_families_names_and_labels_are_those_of_the_page_but_for_what_has_no_past(tmp_path: Path) -> None:
    epcc = simple(1, 2)
    epcc.add(log("f", at(3), status_code=503))
    await asyncio.sleep(600)
    filled = await backfill(tmp_path, epcc, labels=(("job", 'e"p'), ("instance", "x:1"), ("zone", "b")))
    declared = [line.split()[2:] for line in filled.text.splitlines() if line.startswith("# TYPE")]
    assert declared == [[family.name, family.kind] for family in FAMILIES if family.past]
    assert {family.name.removeprefix("epcc_integration_") for family in FAMILIES if not family.past} == {
        "jobs_unlogged", "enabled"
    }  # fmt: skip
    line = next(line for line in filled.text.splitlines() if line.startswith("epcc_integration_responses_total"))
    assert line.startswith(
        'epcc_integration_responses_total{instance="x:1",integration_id="shipping",job="e\\"p",status_code="200",store="acme",zone="b"} 0 '
    )
    info = next(line for line in filled.text.splitlines() if line.startswith("epcc_integration_info{"))
    assert 'integration_name="Order shipping"' in info


# --- what cannot be reached, read or placed


@pytest.mark.parametrize("manners", [
    Manners(offset_limit=500), Manners(offset_limit=500, order="newest_visible_first", lateness_seconds=55.0),
])  # fmt: skip
@virtually
async def test_what_an_offset_limit_hides_is_told_and_its_series_begin_where_they_are_complete(
    tmp_path: Path, manners: Manners
) -> None:
    epcc = shop_of(manners, jobs_per_second=0.5)
    await asyncio.sleep(3 * HOUR)
    epcc.truth(START_NS + 3 * HOUR * 10**9)
    logs = logs_of(epcc)
    filled = await backfill(tmp_path, epcc)
    assert "integrations were not read completely" in filled.summary
    assert "its list ends at an offset limit; shown from 2023-11-1" in filled.summary
    begins = set()
    end = (START + 3 * HOUR - 60) // STEP * STEP
    for integration_id in truth_between(logs, 0, end):
        first = filled.series[f'epcc_integration_attempts_total{{integration_id="{integration_id}"}}'][0][0]
        begins.add(first)
        shown = shown_between(filled, integration_id, first, end)
        jobs = shown.pop("jobs")
        told = truth_between(logs, first, end)[integration_id]
        assert jobs >= told.pop("jobs")  # one that was tried before is met with a later attempt
        assert shown == +told, integration_id
    assert len(begins) > 1, "each integration has a reach of its own"
    assert max(begins) > START + HOUR, "the oldest logs were out of reach: the test tests nothing otherwise"


@virtually
async def test_an_unordered_list_past_its_limit_is_left_out_and_not_guessed(tmp_path: Path) -> None:
    epcc = shop_of(Manners(offset_limit=300, order="unordered"), jobs_per_second=0.5)
    await asyncio.sleep(2 * HOUR)
    filled = await backfill(tmp_path, epcc)
    epcc.truth(START_NS + 2 * HOUR * 10**9)
    end = (START + 2 * HOUR) // STEP * STEP
    told = truth_between(logs_of(epcc), 0, end)
    shown = {
        name.split('"')[1]: samples[-1][1] for name, samples in filled.series.items() if "_attempts_total" in name
    }  # fmt: skip
    assert 0 < len(shown) < len(told)
    assert shown == {i: told[i]["attempts"] for i in shown}, "those whose own list is short are whole"
    assert filled.summary.count("of it nothing is shown") == len(told) - len(shown)
    assert "of integrations of which nothing is known to be complete" in filled.summary


@virtually
async def test_logs_without_a_time_ahead_of_time_or_not_readable_are_told_and_not_guessed(tmp_path: Path) -> None:
    epcc = simple(10, 20)
    epcc.add(
        log("untimed", at(30), override={"meta": {}}), log("odd", at(31), override={"meta": {"timestamps": {"created_at": "soon"}}}),
        log("no id", at(40), override={"id": None}),
        replace(log("ahead", at(90_000)), visible_ns=at(50)),
    )  # fmt: skip
    await asyncio.sleep(600)
    filled = await backfill(tmp_path, epcc)
    assert "5 read, 2 counted" in filled.summary
    assert "    2 have no readable created_at, and no place in time: not counted" in filled.summary
    assert "    1 records cannot be counted: no_id" in filled.summary
    assert "    1 are dated ahead of the reading" in filled.summary
    assert filled.series['epcc_integration_attempts_total{integration_id="shipping"}'][-1][1] == 2


CLOCKS = {
    7_200.0: "WRONG clock: this host's is 2h behind EPCC's, and the end was told by it: set it. What is dated later",
    -7_200.0: "WRONG clock: this host's is 2h ahead of EPCC's, and the end was told by it: set it, and make the file again "
    "with --until=2023-11-14T20:23:",
    20.0: None,
    -20.0: None,
    None: None,  # its answers have no Date
}


@pytest.mark.parametrize(("skew", "told"), CLOCKS.items())
@virtually
async def test_a_host_whose_clock_is_wrong_is_told_by_how_much_and_what_to_do(
    tmp_path: Path, skew: float | None, told: str | None
) -> None:
    manners = Manners(date_header=False) if skew is None else Manners(date_skew_seconds=skew)
    epcc = simple(10, 20, manners=manners)
    await asyncio.sleep(600)
    summary = (await backfill(tmp_path, epcc)).summary
    assert ("WRONG clock" in summary) is (told is not None)
    assert told is None or told in summary, summary
    given = (await backfill(tmp_path, epcc, until_ns=at(300))).summary
    assert ("EPCC's; set it" in given) is (told is not None)
    assert "--until=" not in given


@virtually
async def test_since_cuts_and_a_list_that_goes_further_back_begins_there(tmp_path: Path) -> None:
    epcc = simple(*range(0, 7200, 100))
    await asyncio.sleep(7200)
    filled = await backfill(tmp_path, epcc, since=3600.0)
    samples = filled.series['epcc_integration_attempts_total{integration_id="shipping"}']
    assert samples[0] == ((START + 3600) // STEP * STEP, 0)
    assert samples[-1][1] == sum(1 for t in range(0, 7200, 100) if t + START > samples[0][0])
    assert "are older than the range" in filled.summary


@virtually
async def test_since_misses_no_log_for_one_that_is_older_and_was_listed_later(tmp_path: Path) -> None:
    epcc = simple(*range(0, 7200, 10), manners=Manners(order="newest_visible_first", page_length_max=20))
    since = (START + 3600) // STEP * STEP - START
    epcc.add(*[log(f"soon{i}", at(since + 1 + i / 5)) for i in range(250)])
    epcc.add(replace(log("late", at(since - 5)), visible_ns=at(since + 54)))
    await asyncio.sleep(7200)
    filled = await backfill(tmp_path, epcc, since=3600.0)
    samples = filled.series['epcc_integration_attempts_total{integration_id="shipping"}']
    assert samples[0][0] == START + since
    assert samples[-1][1] == sum(1 for t in range(0, 7200, 10) if since < t <= samples[-1][0] - START) + 250


@virtually
async def test_unwanted_integrations_are_left_out_and_those_past_max_series_are_other(tmp_path: Path) -> None:
    epcc = Epcc()
    for i in range(4):
        epcc.add_integration(Integration(f"i{i}", f"Name {i}"))
        epcc.add(*[log(f"l{i}-{k}", at(i * 100 + k), integration_id=f"i{i}") for k in range(3 + i)])
    await asyncio.sleep(1200)
    config = store_config(exclude=("Name 1",), max_series=60)
    filled = await backfill(tmp_path, epcc, configs=[config])
    last = {
        name.split('"')[1]: samples[-1][1] for name, samples in filled.series.items() if "_attempts_total" in name
    }  # fmt: skip
    assert last == {"i0": 3, "other": 5 + 6}
    assert "4 are of integrations that the configuration leaves out" in filled.summary
    assert "folded into other, past max_series" in filled.summary


@virtually
async def test_a_day_after_its_last_attempt_a_job_fails_no_more(tmp_path: Path) -> None:
    epcc = simple(1)
    epcc.add(
        log("f1", at(100), job_id="j", status_code=500), log("f2", at(500), job_id="j", attempt=2, status_code=500)
    )
    epcc.add(log("k1", at(600), job_id="k", status_code=500), log("k2", at(900), job_id="k", attempt=2))
    epcc.add(log("later", at(100_000)))
    await asyncio.sleep(110_000)
    filled = await backfill(tmp_path, epcc)
    name = 'epcc_integration_jobs_failing{integration_id="shipping"}'
    assert [filled.at(name, START + s) for s in (90, 150, 640, 960, 86_400 + 400, 86_400 + 600)] == [0, 1, 2, 1, 1, 0]
    streak = 'epcc_integration_consecutive_failures{integration_id="shipping"}'
    assert [filled.at(streak, START + s) for s in (90, 150, 640, 960)] == [0, 1, 3, 0]
    delivered = 'epcc_integration_job_delivery_seconds_sum{integration_id="shipping"}'
    assert filled.at(delivered, START + 960) == 300


# --- several stores


@virtually
async def test_stores_share_a_file_each_with_its_own_series(tmp_path: Path) -> None:
    epcc = simple(1, 2, 3)
    await asyncio.sleep(600)
    filled = await backfill(tmp_path, epcc, configs=[store_config("acme"), store_config("bits")])
    lines = [line for line in filled.text.splitlines() if line.startswith("epcc_integration_attempts_total")]
    stores = [line.partition('store="')[2].partition('"')[0] for line in lines]
    assert set(stores) == {"acme", "bits"}
    assert stores == sorted(stores), "each series stands in one piece"
    assert filled.summary.count("3 counted") == 2
