"""A store's series are bounded: what comes beyond is `other`, and nothing is lost of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from exporter.epcc import Epcc, log
from exporter.folding import OTHER, SERIES, Room, series_of
from exporter.records import REASONS, Attempt
from exporter.rows import Batch, Committed
from exporter.shop import Integration as Listed
from exporter.store import Store
from exporter.tally import Tally
from tests.shelf import NOW, SECOND, attempt
from tests.test_exposition import page, shown
from tests.world import START_NS, World, run

NOBODY: frozenset[str] = frozenset()


def fold(room: Room, *attempts: Attempt) -> list[tuple[str, str]]:
    return [(each.integration_id, each.status_code) for each in room.fold(attempts, NOBODY)]


def of(integration: str, code: str = "200") -> Attempt:
    return attempt(f"{integration}-{code}", NOW, integration_id=integration, status_code=code)


def test_an_integrations_series_are_those_on_the_page() -> None:
    view = shown(responses={"none": 1, "other": 1, "200": 1}, last_success_ns=1, last_failure_ns=1)
    lines = [line for line in page({"int-1": view}).splitlines() if not line.startswith("#")]
    assert len(lines) == series_of(view.tally) == SERIES + 1
    assert len(REASONS) == 8


def test_as_many_integrations_have_their_own_series_as_there_is_room_for() -> None:
    room = Room({}, 2 * (SERIES + 1))
    assert fold(room, of("a"), of("b"), of("c"), of("a"), of("c"), of("d")) == [
        ("a", "200"), ("b", "200"), (OTHER, OTHER), ("a", "200"), (OTHER, OTHER), (OTHER, OTHER),
    ]  # fmt: skip
    assert room.folded == {("integration_id", "c"), ("integration_id", "d"), ("status_code", "200")}


def test_what_is_known_keeps_its_series_though_there_is_no_room() -> None:
    room = Room({"a": Tally(responses={"200": 1})}, -1000)
    assert fold(room, of("a"), of("a", "503"), of("a", "none"), of("a", "other")) == [
        ("a", "200"), ("a", OTHER), ("a", "none"), ("a", OTHER),
    ]  # fmt: skip
    assert room.folded == {("status_code", "503")}


def test_a_status_code_takes_the_place_of_one_series() -> None:
    room = Room({"a": Tally()}, 2)
    assert [code for _, code in fold(room, of("a", "200"), of("a", "500"), of("a", "501"), of("a", "200"))] == [
        "200", "500", OTHER, "200",
    ]  # fmt: skip


def test_what_counts_nowhere_takes_no_place() -> None:
    room = Room({}, SERIES + 1)
    assert [each.integration_id for each in room.fold([of("out"), of("in")], frozenset({"out"}))] == ["out", "in"]
    assert room.folded == set()


def committed(store: Store, *attempts: Attempt, **more: object) -> Committed:
    return store.commit("acme", Batch(NOW, attempts, **more))  # type: ignore[arg-type]


def test_ids_jobs_and_streaks_of_what_was_folded_are_those_of_other(tmp_path: Path) -> None:
    store = Store.open(tmp_path, NOW)
    store.begin("acme", NOW)
    failed = {"succeeded": False, "status_code": "500", "reason": "http_5xx"}
    tries = [
        attempt(f"{job}{n}", NOW + n * SECOND, integration_id=f"int-{job}", job_id=job, number=n, **failed)
        for job in "abc" for n in (1, 2)
    ]  # fmt: skip
    done = committed(store, *tries, max_series=SERIES + 1, integrations=["int-z"])
    assert done.folded >= {("integration_id", "int-b"), ("integration_id", "int-c"), ("integration_id", "int-z")}
    assert {name: tally.attempts for name, tally in done.tallies.items()} == {"int-a": 2, OTHER: 4}
    other = done.tallies[OTHER]
    assert (other.jobs, other.jobs_failing, other.consecutive_failures) == (2, 2, 4)
    assert committed(store, *tries, max_series=SERIES + 1).fresh == []
    store.close()
    store = Store.open(tmp_path, NOW)  # the sums agree
    assert store.moved_aside is None
    done = committed(
        store, attempt("b3", NOW + 3 * SECOND, integration_id="int-b", job_id="b", number=3), max_series=SERIES
    )
    assert (done.tallies[OTHER].jobs_failing, done.tallies[OTHER].delivered_retry) == (1, 1)
    store.close()


def test_there_is_room_again_when_an_integration_has_left(tmp_path: Path) -> None:
    store = Store.open(tmp_path, NOW)
    store.begin("acme", NOW)
    limit = SERIES + 1
    committed(store, of("a"), max_series=limit)
    assert set(committed(store, of("b"), max_series=limit).tallies) == {OTHER}
    committed(store, drop=["a", OTHER], max_series=limit)
    assert set(committed(store, of("c"), max_series=limit).tallies) == {"c"}
    store.close()


def test_a_store_past_its_limit_says_so_once_and_counts_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    epcc = Epcc()
    for number in range(5):
        epcc.add_integration(Listed(f"int-{number}", f"Integration {number}"))

    async def live() -> str:
        world = World(tmp_path / "data", epcc, max_series=2 * SERIES + 2, include=tuple(f"int-{n}" for n in range(5)))
        try:
            await world.poller.poll()
            for turn in range(3):
                await asyncio.sleep(30)
                now_ns = START_NS + round(asyncio.get_running_loop().time() * SECOND)
                epcc.add(*[log(f"{turn}-{n}", now_ns - SECOND, integration_id=f"int-{n}") for n in range(5)])
                await world.poller.poll()
            assert world.poller.failure is None
            tallies = world.poller.intake.tallies
            assert sum(tally.attempts for tally in tallies.values()) == 15
            assert len(tallies) == 3
            assert OTHER in tallies
            assert OTHER not in world.poller.intake.known_integrations()
            assert OTHER not in world.poller.intake.marks.gone  # it is of integrations that are there
            return str((await world.exposition.rendered("text", gzip=False)).body.decode())
        finally:
            world.close()

    text = run(live())
    assert 'epcc_integration_attempts_total{integration_id="other",store="acme"}' in text
    # Alerts join names and skip what is disabled: without these two nobody would be woken for what was folded.
    assert (
        'epcc_integration_info{integration_id="other",integration_name="other",integration_type="",store="acme"} 1.0'
        in text
    )
    assert 'epcc_integration_enabled{integration_id="other",store="acme"} 1.0' in text
    folded = [line for line in text.splitlines() if line.startswith("epcc_exporter_series_folded_total{")]
    # Three integrations; and of the two series left for a 200, "other" has taken one.
    assert folded == ['epcc_exporter_series_folded_total{store="acme"} 4.0']
    said = [record.message for record in caplog.records if "max_series" in record.message]
    assert len(said) == 1
