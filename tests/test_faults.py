"""How each fault ends: what a poll says of it, what stays shown, and that nothing is lost; jobs and integrations too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporter.epcc import log
from exporter.manners import Manners
from tests.world import ATTEMPTS, MakeWorld, at, simple, virtual

# --- faults


@pytest.mark.parametrize(
    ("down", "reason"),
    [("429", "rate_limited"), ("500", "server_error"), ("502", "server_error"), ("503", "server_error"),
     ("403", "forbidden"), ("401", "auth"), ("truncated", "invalid_response"), ("hang", "timeout"), ("drip", "timeout"),
     ("reset", "connection"), ("not_json", "invalid_response"), ("other_shape", "invalid_response"),
     ("data_null", "invalid_response"), ("gzip_bomb", "invalid_response"), ("deep_nesting", "invalid_response"),
     ("redirect", "other")],
)  # fmt: skip
def test_a_fault_fails_the_poll_with_its_reason_loses_nothing_and_passes(tmp_path: Any, down: str, reason: str) -> None:
    @virtual
    async def test(world: MakeWorld) -> None:
        w = world(simple(-5), request_timeout=2.0)
        await w.polls()
        w.epcc.manners = replace(w.epcc.manners, down=down)
        w.epcc.add(log("meanwhile", at(12)))
        await w.polls(2)
        samples = await w.scrape()
        assert (w.poller.failure, samples["epcc_up"]) == (reason, 0)
        assert samples[f"epcc_exporter_poll_failures_total{{reason={reason}}}"] >= 1
        assert samples[ATTEMPTS] == 1
        w.epcc.manners = replace(w.epcc.manners, down=None)
        await w.polls(2)
        samples = await w.scrape()
        assert (samples["epcc_up"], samples[ATTEMPTS]) == (1, 2)

    test(tmp_path)


@virtual
async def test_a_rotated_secret_is_found_without_a_restart(world: MakeWorld) -> None:
    epcc = simple(-5)
    epcc.client_secret = "rotated"
    w = world(epcc)
    secret_file = w.folder.parent / "secret"
    secret_file.write_text("old")
    w.config = replace(w.config, client_secret=None, client_secret_file=secret_file)
    w._poller = None
    await w.polls()
    assert w.poller.failure == "auth"
    secret_file.write_text("rotated\n")
    await w.polls()
    assert w.poller.failure is None


@virtual
async def test_a_token_is_renewed_before_it_ends_and_not_for_every_request(world: MakeWorld) -> None:
    epcc = simple(-5, manners=Manners(token_lifetime_seconds=100))
    w = world(epcc)
    await w.polls(30)
    assert 3 <= epcc.requests["token"] <= 5
    assert ("logs", "401") not in w.requests


@virtual
async def test_an_idle_store_costs_one_request_a_poll(world: MakeWorld) -> None:
    w = world(simple(*range(-5000, 0, 50)), lookback=3600.0, poll_interval=600.0)
    await w.polls(2)
    before = w.epcc.requests["logs"]
    await w.polls(10)
    assert w.epcc.requests["logs"] - before == 10


@virtual
async def test_an_idle_store_of_a_few_logs_or_none_costs_one_request_a_poll_too(world: MakeWorld) -> None:
    for seconds in ((), (-3.0, -2.0, -1.0)):
        w = world(simple(*seconds), lookback=3600.0, poll_interval=600.0)
        await w.polls(2)
        before = w.epcc.requests["logs"]
        await w.polls(10)
        assert w.epcc.requests["logs"] - before == 10
        w.close()
        (w.folder / "state.db").unlink()


@virtual
async def test_a_full_disk_shows_nothing_new_fails_the_poll_and_loses_nothing(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    assert w.store is not None
    w.store._ready().execute("PRAGMA max_page_count = 1")
    w.epcc.add(*[log(f"x{i}" * 30, at(5 + i / 1000)) for i in range(500)])
    await w.poller.poll()
    assert (w.poller.failure, (await w.scrape())[ATTEMPTS]) == ("storage", 1)
    await w.polls(2)
    assert (w.poller.failure, (await w.scrape())[ATTEMPTS]) == (None, 501)


@virtual
async def test_a_malformed_record_is_counted_as_rejected_once_and_stops_nothing(world: MakeWorld) -> None:
    w = world(simple(-9, -8))
    w.epcc.add(log("bad", at(-7), override={"id": None}))
    await w.polls(5)
    samples = await w.scrape()
    assert samples["epcc_exporter_logs_rejected_total{reason=no_id}"] == 1
    assert samples[ATTEMPTS] == 2


# --- integrations come and go


@virtual
async def test_a_renamed_integration_keeps_its_series_and_its_info_moves(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    w.epcc.add_integration(replace(w.epcc.integrations["shipping"], name="Renamed", enabled=False))
    await w.polls(10)
    samples = await w.scrape()
    infos = [name for name in samples if name.startswith("epcc_integration_info")]
    assert [("Renamed" in name) for name in infos] == [True]
    assert (samples[ATTEMPTS], samples["epcc_integration_enabled{integration_id=shipping}"]) == (1, 0)


@virtual
async def test_a_deleted_integration_keeps_its_series_for_a_day(world: MakeWorld) -> None:
    w = world(simple(-5), poll_interval=600.0)
    await w.polls()
    w.epcc.remove_integration("shipping")
    await w.polls(100, every=600)
    assert ATTEMPTS in await w.scrape()
    await w.polls(60, every=600)
    assert ATTEMPTS not in await w.scrape()
