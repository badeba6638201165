"""Where the backfill ends and live counting begins: every log on one side and on one alone, and the state left as it was."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import seam, statefile
from exporter.backfill import BackfillError
from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.rows import Batch
from exporter.shop import Integration
from exporter.store import Store
from tests.backfilled import STEP, Filled, backfill
from tests.shelf import attempt
from tests.world import START_NS, World, at, run, settled, simple

START = START_NS // 10**9
ATTEMPTS = 'epcc_integration_attempts_total{integration_id="shipping"}'


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def sync(**keywords: Any) -> None:
        run(test(**keywords))

    return sync


def live(world: World) -> Counter[str]:
    """Of all integrations: attempts and codes that the live exporter has counted."""
    found: Counter[str] = Counter()
    for tally in world.poller.intake.tallies.values():
        found["attempts"] += tally.attempts
        found.update(tally.responses)
    return +found


def filled_in(filled: Filled) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, samples in filled.series.items():
        if name.startswith("epcc_integration_attempts_total"):
            found["attempts"] += round(samples[-1][1])
        if name.startswith("epcc_integration_responses_total"):
            found[name.split('status_code="')[1].partition('"')[0]] += round(samples[-1][1])
    return +found


def listed(epcc: Epcc, now_ns: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for counted in epcc.truth(now_ns)["integrations"].values():
        found["attempts"] += counted["attempts"]
        found.update(counted["responses"])
    return +found


async def lived(world: World, *, seconds: float) -> None:
    for _ in range(round(seconds / 10)):
        await world.polls(1)


@settings(max_examples=25)
@given(
    times=st.lists(
        st.tuples(st.integers(0, 900), st.sampled_from([0, 0, 0, 5, 20, 50, 70, 110])), min_size=1, max_size=80
    ),
    order=st.sampled_from(
        ["newest_first", "newest_visible_first", "oldest_first", "oldest_visible_first", "unordered"]
    ),
    begins=st.integers(0, 600),
    down=st.booleans(),
)
def test_no_log_is_in_both_or_in_neither(
    tmp_path_factory: pytest.TempPathFactory, times: list[tuple[int, int]], order: str, begins: int, down: bool
) -> None:
    """Logs late by up to two lookbacks, whenever the exporter begins, through an EPCC that does not answer at first."""

    async def play() -> None:
        folder = tmp_path_factory.mktemp("seam")
        epcc = Epcc(Manners(order=order))
        epcc.add_integration(Integration("shipping", "Order shipping"))
        # A steady second log keeps the list from being a dense burst, whose order nobody can tell.
        epcc.add(*[log(f"s{t}", at(t)) for t in range(0, 1200, 37)])
        epcc.add(*[
            log(f"l{i}", at(t), status_code=200 + i % 3, visible_ns=at(t + late)) for i, (t, late) in enumerate(times)
        ])  # fmt: skip
        await asyncio.sleep(begins + 1)
        epcc.manners = Manners(order=order, down="503" if down else None)
        world = World(folder / "data", epcc, history="skip")
        try:
            await lived(world, seconds=60)
            epcc.manners = Manners(order=order)
            await lived(world, seconds=1300 - begins)
            await settled(world)
            filled = await backfill(folder, epcc)
            gaps = sum(world.poller.intake.marks.gaps.values())
            missed = listed(epcc, world.clock.wall_ns()) - (live(world) + filled_in(filled))
            doubled = (live(world) + filled_in(filled)) - listed(epcc, world.clock.wall_ns())
            assert not doubled
            assert missed["attempts"] <= gaps, "in neither, and the live exporter has not told"
            assert "by the ids that the exporter had seen when it began" in filled.summary
        finally:
            world.close()

    run(play())


@virtually
async def test_the_backfill_ends_on_the_grid_before_anything_is_shown_live(tmp_path: Path) -> None:
    epcc = simple(*range(0, 1000, 7))
    await asyncio.sleep(500)
    world = World(tmp_path / "data", epcc, history="skip")
    try:
        began_ns = world.clock.wall_ns()
        await lived(world, seconds=300)
        filled = await backfill(tmp_path, epcc)
        last, value = filled.series[ATTEMPTS][-1]
        assert last == began_ns // 10**9 // STEP * STEP
        assert value == len(range(0, 501, 7))
        assert (await world.scrape())["epcc_integration_attempts_total{integration_id=shipping}"] == 0
        await world.announce()
        assert live(world)["attempts"] == len(range(504, 791, 7))
        moved = sum(1 for t in range(0, 501, 7) if t + START > last)
        assert f"{moved} are dated after the end and belong before it: counted at the end" in filled.summary
    finally:
        world.close()


@virtually
async def test_with_a_baseline_the_backfill_ends_at_the_value_that_is_shown_first(tmp_path: Path) -> None:
    epcc = simple(*range(0, 5000, 7), processing_time=0.1)
    epcc.add(
        log("f", at(2500), job_id="j", status_code=503, processing_time=0.3), log("g", at(2600), job_id="j", attempt=2)
    )
    await asyncio.sleep(4000)
    world = World(tmp_path / "data", epcc, history="count")
    try:
        await world.polls(1)
        first = await world.scrape()
        await lived(world, seconds=600)
        # EPCC has let go of some, and not all of the rest is asked for.
        epcc.delete_logs(older_than_ns=at(300))
        filled = await backfill(tmp_path, epcc, since=3600.0)
    finally:
        world.close()
    compared = 0
    for name, samples in filled.series.items():
        if any(kind in name for kind in ("_total{", "_bucket{", "_count{", "_sum{")):
            assert samples[-1][1] == first[name.replace('"', "")], name
            compared += 1
    assert compared > 30
    assert filled.series[ATTEMPTS][0][1] > 0, "what is not in the file is in its first value"


@virtually
async def test_a_baseline_smaller_than_the_history_is_told(tmp_path: Path) -> None:
    epcc = simple(*range(0, 4000, 7), manners=Manners(offset_limit=100))
    await asyncio.sleep(4000)
    world = World(tmp_path / "data", epcc, history="count")
    try:
        await world.polls(1)
        epcc.manners = Manners()
        filled = await backfill(tmp_path, epcc)
    finally:
        world.close()
    assert "WRONG at the seam: shipping has " in filled.summary
    assert filled.series[ATTEMPTS][0][1] == 0


# --- states that say less, or nothing


@virtually
async def test_a_state_of_a_version_that_kept_no_ids_ends_it_by_time_and_says_so(tmp_path: Path) -> None:
    epcc = simple(*range(0, 1000, 7))
    await asyncio.sleep(500)
    world = World(tmp_path / "data", epcc, history="skip")
    await lived(world, seconds=100)
    world.close()
    with closing(sqlite3.connect(tmp_path / "data" / "state.db")) as connection:
        connection.execute("DELETE FROM meta WHERE key LIKE 'seam:%'")
        connection.commit()
    filled = await backfill(tmp_path, epcc)
    assert "by time alone: the exporter began with a version that kept no ids" in filled.summary
    assert filled_in(filled)["attempts"] == len(range(0, 501, 7))


@virtually
async def test_a_state_that_replaced_a_damaged_one_needs_a_word(tmp_path: Path) -> None:
    epcc = simple(*range(0, 1000, 7))
    await asyncio.sleep(500)
    folder = tmp_path / "data"
    world = World(folder, epcc, history="skip")
    await lived(world, seconds=100)
    world.close()
    (folder / "state.db").write_bytes(b"SQLite format 3\0" + b"\0" * 4000)
    world.boot()
    await lived(world, seconds=100)
    world.close()
    with pytest.raises(BackfillError, match=r"took the place of a damaged one at .*; give --until"):
        await backfill(tmp_path, epcc)
    filled = await backfill(tmp_path, epcc, until_ns=at(500))
    assert "end: by time alone: --until" in filled.summary


@virtually
async def test_a_walk_that_has_not_ended_is_waited_for_and_an_end_after_the_seam_is_refused(tmp_path: Path) -> None:
    epcc = simple(*range(0, 1000, 7), manners=Manners(down="503"))
    await asyncio.sleep(500)
    world = World(tmp_path / "data", epcc, history="skip")
    try:
        await world.polls(1)
        with pytest.raises(BackfillError, match="acme: the exporter's first walk of it has not ended"):
            await backfill(tmp_path, epcc)
        epcc.manners = Manners()
        await world.polls(10)
        with pytest.raises(BackfillError, match=r"--until is after .*, when the exporter of .* began to count it"):
            await backfill(tmp_path, epcc, until_ns=world.clock.wall_ns())
    finally:
        world.close()


# --- the state is read and nothing else


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["open", "closed", "killed"])
def test_reading_the_seam_changes_no_byte_and_takes_no_lock(tmp_path: Path, how: str) -> None:
    async def begun() -> World:
        epcc = simple(*range(0, 500, 7))
        await asyncio.sleep(500)
        world = World(tmp_path / "data", epcc, history="skip")
        await world.polls(2)
        return world

    world = run(begun())
    folder = tmp_path / "data"
    if how == "closed":
        world.close()
    elif how == "killed":
        copy = tmp_path / "killed"
        copy.mkdir()
        for name, content in contents(folder).items():
            (copy / name).write_bytes(content)
        folder = copy
    before = contents(folder)
    assert ("state.db-wal" in before) == (how != "closed")
    folder.chmod(0o500)
    for path in folder.iterdir():
        path.chmod(0o400)
    found = seam.read(folder, "acme")
    assert found is not None
    assert {"l497", "l441"} <= found.ids
    assert contents(folder) == before
    folder.chmod(0o700)
    for path in folder.iterdir():
        path.chmod(0o600)
    if how == "open":
        with pytest.raises(statefile.LockedError):
            Store.open(folder, START_NS)  # the exporter still has its lock
        assert world.store is not None
        world.store.keep_scrapers([("127.0.0.1", "Prometheus")])  # and can write
    world.close()


def test_where_there_is_no_state_or_not_this_store_there_is_no_seam(tmp_path: Path) -> None:
    assert seam.read(tmp_path, "acme") is None
    Store.open(tmp_path, START_NS).close()
    assert seam.read(tmp_path, "acme") is None


def test_a_file_that_is_no_state_is_named_and_not_touched(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        connection.execute("CREATE TABLE x(y)")
    before = contents(tmp_path)
    with pytest.raises(statefile.DamagedError, match="is not a state file of epcc-exporter"):
        seam.read(tmp_path, "acme")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("keep_ns", [100, None])
def test_the_seam_knows_what_this_store_remembers_from_keep_on_whatever_its_ids_look_like(
    tmp_path: Path, keep_ns: int | None
) -> None:
    odd = ['a"b\\c', "é\u2028\x01\x7f", "😀\n", "17"]
    store = Store.open(tmp_path, START_NS)
    store.begin("other", START_NS)
    store.commit("other", Batch(now_ns=200, attempts=[attempt("others", 150), attempt("others too", None)]))
    marks = store.begin("acme", START_NS)[0].copied()
    marks.begun, marks.keep_ns = True, keep_ns
    timed = [attempt(name, 100 + place) for place, name in enumerate(odd)]
    attempts = [attempt("below", 99), *timed, attempt("untimed", None)]
    store.commit("acme", Batch(now_ns=200, attempts=attempts, marks=marks))
    store.close()
    found = seam.read(tmp_path, "acme")
    assert found is not None
    assert found.keep_ns == keep_ns
    assert found.ids == frozenset([*odd, "untimed", *([] if keep_ns else ["below"])])
