"""The real process over real HTTP: signals, restarts, exit codes, reload, and what must not leak."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import Integration
from tests.integration.process import Exporter, started, until

pytestmark = pytest.mark.integration

ATTEMPTS = "epcc_integration_attempts_total{integration_id=shipping}"
PLANTED = {
    "client secret": "PLANTED-client-secret",
    "webhook token": "PLANTED-url-token",
    "webhook secret": "PLANTED-secret-key",
    "body": "PLANTED-personal-data",
    "error text": "PLANTED-error-detail",
}


def now_ns(seconds: float = 0.0) -> int:
    return time.time_ns() + round(seconds * 1e9)


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Exporter]:
    epcc = Epcc(client_secret=PLANTED["client secret"])
    epcc.add_integration(
        Integration("shipping", "Order shipping", url=f"https://hook.example/?t={PLANTED['webhook token']}",
                    secret_key=PLANTED["webhook secret"])
    )  # fmt: skip
    async with Exporter(tmp_path, epcc) as made:
        yield made


async def test_sigterm_ends_with_0_within_5_seconds_and_nothing_is_lost(exporter: Exporter) -> None:
    async with exporter.running() as process:
        await exporter.ready()
        exporter.epcc.add(*[log(f"a{i}", now_ns()) for i in range(7)])
        await exporter.sample(ATTEMPTS, 7)
        began = time.monotonic()
        assert await process.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5
    exporter.epcc.add(log("while-down", now_ns()))
    async with exporter.running() as process:
        await exporter.sample(ATTEMPTS, 8)
        assert await process.end(signal.SIGINT) == 0


async def test_the_first_scrape_after_a_restart_shows_what_is_durable_even_if_epcc_is_down(exporter: Exporter) -> None:
    async with exporter.running() as process:
        await exporter.ready()
        exporter.epcc.add(*[log(f"a{i}", now_ns()) for i in range(7)])
        await exporter.sample(ATTEMPTS, 7)
        await process.end(signal.SIGKILL)
    exporter.epcc.manners = Manners(down="hang")
    async with exporter.running():
        samples = await exporter.scrape()
        assert samples[ATTEMPTS] == 7
        assert "epcc_exporter_complete_through_timestamp_seconds{}" in samples


async def test_sigterm_ends_in_time_while_epcc_hangs(exporter: Exporter) -> None:
    exporter.epcc.manners = Manners(down="hang")
    async with exporter.running() as process:
        await asyncio.sleep(0.5)
        began = time.monotonic()
        assert await process.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5


async def test_after_sigkill_the_next_scrape_shows_the_same_numbers_or_more(exporter: Exporter) -> None:
    shown = 0.0
    for life in range(5):
        async with exporter.running() as process:
            if life == 0:
                await exporter.ready()  # what is there before the first walk is not counted
            for i in range(10):
                exporter.epcc.add(*[log(f"{life}-{i}-{j}", now_ns()) for j in range(3)])
                value = (await exporter.scrape()).get(ATTEMPTS)
                assert value is None or value >= shown
                shown = shown if value is None else value
                await asyncio.sleep(0.05)
            await process.end(signal.SIGKILL)
    async with exporter.running():
        await exporter.sample(ATTEMPTS, 150)


async def test_a_second_exporter_on_the_same_path_refuses_to_start_and_says_who_holds_it(exporter: Exporter) -> None:
    async with exporter.running() as first:
        command = (sys.executable, "-m", "exporter", f"--config.file={exporter.config}",
                   f"--storage.path={exporter.folder / 'data'}", "--web.listen-address=127.0.0.1:0")  # fmt: skip
        async with started(*command) as second:
            assert await second.ended() == 1
        assert f"in use by pid {first.child.pid}" in second.output
        assert first.child.returncode is None


async def test_a_taken_port_ends_with_1(exporter: Exporter) -> None:
    async with exporter.running():
        port = exporter.url.rpartition(":")[2]
        command = (sys.executable, "-m", "exporter", f"--config.file={exporter.config}",
                   f"--storage.path={exporter.folder / 'other'}", f"--web.listen-address=127.0.0.1:{port}")  # fmt: skip
        async with started(*command) as second:
            assert await second.ended() == 1
        assert "address already in use" in second.output


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--web.listen-adress=:1"], "did you mean --web.listen-address?"),
        (["--web.listen-address=nonsense"], "'nonsense', wanted HOST:PORT or :PORT"),
        (["--config.file=/nonexistent.yaml"], "/nonexistent.yaml: cannot be read (No such file or directory)"),
        (["--config.fil=x"], "unrecognized arguments: --config.fil=x, did you mean --config.file?"),
        (["--log.level=loud"], "invalid choice: 'loud'"),
        (["--web.config.file=/nonexistent.yml"], "/nonexistent.yml: cannot be read"),
        (["--web.telemetry-path=metrics"], "wanted a path like /metrics"),
        (["rum"], "unknown command 'rum', did you mean run?"),
        (["demo", "--scenario=none"], "invalid choice: 'none'"),
    ],
)
async def test_wrong_usage_ends_with_2_and_names_the_flag(flags: list[str], text: str) -> None:
    async with started(sys.executable, "-m", "exporter", *flags) as process:
        assert await process.ended() == 2
    assert text in process.output
    assert "Traceback" not in process.output


async def test_version_and_help_end_with_0() -> None:
    for flag, text in (("--version", "epcc-exporter, version "), ("--help", "--web.listen-address HOST:PORT")):
        async with started(sys.executable, "-m", "exporter", flag) as process:
            assert await process.ended() == 0
        assert text in process.output


async def test_config_check_ends_with_0_or_2_and_does_not_start(exporter: Exporter) -> None:
    command = (sys.executable, "-m", "exporter", "--config.check", f"--config.file={exporter.config}")
    async with started(*command) as good:
        assert await good.ended() == 0
    assert good.output == f"{exporter.config}: ok, 1 store: acme\n"
    exporter.configure("    page_limt: 5\n")
    async with started(*command) as bad:
        assert await bad.ended() == 2
    assert bad.output == (f"{exporter.config}:10: stores[0].page_limt: unknown key, did you mean 'page_limit'?\n")


async def test_once_prints_what_a_scrape_would_get_and_leaves_no_state(exporter: Exporter) -> None:
    exporter.configure(history="count")
    exporter.epcc.add(log("a", now_ns(-1)))
    data = exporter.folder / "data"
    command = (sys.executable, "-m", "exporter", "--once", f"--config.file={exporter.config}", f"--storage.path={data}")
    async with started(*command) as process:
        assert await process.ended() == 0
    assert 'epcc_integration_attempts_total{integration_id="shipping",store="acme"} 1.0\n' in process.output
    assert "epcc_exporter_config_last_reload_successful 1.0\n" in process.output
    assert not data.exists()
    exporter.epcc.manners = Manners(down="403")
    async with started(*command) as process:
        assert await process.ended() == 1


async def test_a_changed_file_is_reloaded_by_itself_where_that_is_wished(exporter: Exporter) -> None:
    flags = ("--config.enable-auto-reload", "--config.auto-reload-interval=1s")
    async with exporter.running(*flags) as process:
        await exporter.ready()
        exporter.epcc.add(log("a", now_ns()))
        await exporter.sample(ATTEMPTS, 1)
        good = exporter.config.read_text()
        exporter.config.write_text(good + good.removeprefix("stores:\n").replace("name: acme", "name: other"))

        async def both() -> bool:
            return 'epcc_up{store="other"} 1.0' in (await exporter.get("/metrics"))[1]

        await until(both, "the added store is polled")
        acme = 'epcc_integration_attempts_total{integration_id="shipping",store="acme"} 1.0'
        assert acme in (await exporter.get("/metrics"))[1]
        assert process.output.count('msg="the configuration was reloaded"') == 1


async def test_a_reload_adds_and_removes_stores_and_a_bad_one_changes_nothing(exporter: Exporter) -> None:
    async with exporter.running() as process:
        await exporter.ready()
        exporter.epcc.add(log("a", now_ns()))
        await exporter.sample(ATTEMPTS, 1)
        good = exporter.config.read_text()
        second = good.removeprefix("stores:\n").replace("name: acme", "name: other")
        exporter.config.write_text(good + second)
        async with exporter.session.post(f"{exporter.url}/-/reload") as response:
            assert (response.status, await response.text()) == (200, "reloaded\n")

        async def both() -> bool:
            return 'store="other"} 1.0' in (await exporter.get("/metrics"))[1]

        await until(both, "the added store is polled")
        exporter.config.write_text(good + "    nonsense: 1\n")
        async with exporter.session.post(f"{exporter.url}/-/reload") as response:
            assert response.status == 500
            assert "nonsense: unknown key" in await response.text()
        _, text = await exporter.get("/metrics")
        assert 'store="other"' in text
        assert "epcc_exporter_config_last_reload_successful 0.0" in text
        exporter.config.write_text(good)
        process.child.send_signal(signal.SIGHUP)

        async def gone() -> bool:
            return 'store="other"' not in (await exporter.get("/metrics"))[1]

        await until(gone, "the removed store leaves")
        assert (await exporter.scrape())[ATTEMPTS] == 1


async def test_a_store_that_hangs_does_not_slow_another(exporter: Exporter) -> None:
    hanging = Epcc(Manners(down="hang"))
    async with Exporter(exporter.folder, hanging) as other:
        exporter.configure(
            f"  - name: hangs\n    api_url: http://127.0.0.1:{other.port}\n    client_id: demo\n"
            "    client_secret: demo-secret\n    poll_interval: 200ms\n"
        )
        async with exporter.running():
            await exporter.sample(ATTEMPTS, 0)
            exporter.epcc.add(log("a", now_ns()))
            await exporter.sample(ATTEMPTS, 1)
            status, text = await exporter.get("/-/ready")
            assert (status, "hangs" in text) == (503, True)


async def test_no_line_page_or_metric_shows_a_secret(exporter: Exporter) -> None:
    async with exporter.running("--log.level=debug") as process:
        await exporter.ready()
        exporter.epcc.add(
            log("a", now_ns(), status_code=500, error_detail=PLANTED["error text"],
                override={"body": PLANTED["body"]}),
            log("b", now_ns(), override={"id": None, "body": PLANTED["body"]}),
        )  # fmt: skip
        await exporter.sample(ATTEMPTS, 1)
        pages = [(await exporter.get(path))[1] for path in ("/", "/metrics", "/-/ready")]
        for down in ("401", "500", "not_json", "502", "truncated"):
            exporter.epcc.manners = Manners(down=down)
            await asyncio.sleep(0.6)
        exporter.epcc.manners = Manners()
        pages.append((await exporter.get("/metrics"))[1])
        await process.end()
    seen = "\n".join([*pages, process.output])
    assert "a log record cannot be counted" in process.output
    assert [name for name, text in PLANTED.items() if text in seen] == []
    tokens = [token for token in exporter.epcc._tokens if token in seen]
    assert tokens == []


async def test_a_state_that_was_cut_in_half_is_moved_aside_loudly(exporter: Exporter) -> None:
    async with exporter.running() as process:
        await exporter.ready()
        exporter.epcc.add(log("a", now_ns()))
        await exporter.sample(ATTEMPTS, 1)
        await process.end()
    state = exporter.folder / "data" / "state.db"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    async with exporter.running() as process:
        await exporter.ready()
        assert "the state was damaged" in process.output
        samples = await exporter.scrape()
        assert samples["epcc_exporter_gaps_total{cause=state_lost}"] == 1
        assert samples[ATTEMPTS] == 0
    assert list((exporter.folder / "data").glob("state.db.damaged-*"))


async def test_demo_agrees_with_what_the_simulated_store_says_that_it_sent(exporter: Exporter) -> None:
    command = (sys.executable, "-m", "exporter", "demo", "--web.listen-address=127.0.0.1:0", "--scenario=quiet")
    async with started(*command) as process:

        async def told() -> str | None:
            lines = process.output.splitlines()
            pages = [line.split()[0] for line in lines if line.startswith("  http")]
            return f"{pages[0]} {pages[-1]}" if "/simulator/truth" in "".join(pages) else None

        page, truth_url = (await until(told, "the demo says where to look")).split()
        exporter.url = page.removesuffix("/")
        await exporter.ready()

        async def agrees() -> bool:
            async with exporter.session.get(truth_url) as response:
                truth = (await response.json())["integrations"]
            samples = await exporter.scrape()
            return len(truth) == 6 and all(
                samples.get(f"epcc_integration_attempts_total{{integration_id={i}}}") == counted["attempts"]
                for i, counted in truth.items()
            )

        await until(agrees, "the metrics agree with the truth")
        assert await process.end(signal.SIGTERM) == 0


async def test_demo_says_its_address_as_a_browser_wants_it() -> None:
    command = (sys.executable, "-m", "exporter", "demo", "--web.listen-address=[::1]:0")
    async with started(*command) as process:

        async def told() -> str | None:
            return next((line for line in process.output.splitlines() if line.startswith("  http")), None)

        url = (await until(told, "the demo says where to look")).split()[0]
        async with aiohttp.ClientSession() as session, session.get(f"{url}-/healthy") as response:
            assert response.status == 200
