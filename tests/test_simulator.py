"""The simulated EPCC on a socket, and as a command."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from exporter import simulator
from exporter.epcc import Epcc
from exporter.manners import BOMB_BYTES, Manners
from exporter.records import read_page
from exporter.shop import SCENARIOS, SECOND, Integration
from tests.asks import HOUR_NS, LOGS, NOW, client, down, spoil

# --- on a socket


@asynccontextmanager
async def serving(epcc: Epcc) -> AsyncIterator[str]:
    runner, port = await simulator.serve("127.0.0.1", 0, epcc, lambda: NOW)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def read(
    url: str, token: str, seconds: float = 5.0, params: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    timeout = aiohttp.ClientTimeout(total=seconds)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, headers=headers, params=params, allow_redirects=False) as response,
    ):
        return response.status, await response.read()


async def test_the_socket_says_what_the_function_says() -> None:
    asks = client(number=60)
    asks.epcc.add_integration(Integration("a/b", "Odd"))
    async with serving(asks.epcc) as url, aiohttp.ClientSession() as session:
        form = {"grant_type": "client_credentials", "client_id": "demo", "client_secret": "demo-secret"}
        async with session.post(f"{url}/oauth/access_token", data=form) as response:
            token = (await response.json())["access_token"]
        params = {"page[limit]": "3", "page[offset]": "10"}
        status, body = await read(url + LOGS, token, params=params)
        assert (status, read_page(body).keys) == (200, ("49", "48", "47"))
        assert (await read(f"{url}{LOGS}?page[limit]=3&page[offset]=10", token))[1] == body
        assert (await read(f"{url}/v2/integrations/a%2Fb", token))[0] == 200
        assert (await read(url + LOGS, "wrong"))[0] == 401
        status, body = await read(f"{url}/simulator/truth", "")
        assert json.loads(body) == asks.epcc.truth(NOW)


async def test_the_date_on_the_wire_is_the_simulated_one_or_none_and_long_answers_are_compressed() -> None:
    asks = client(number=60)
    headers = {"Authorization": f"Bearer {asks.token}"}
    async with serving(asks.epcc) as url, aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(url + LOGS, headers=headers) as response:
            assert parsedate_to_datetime(response.headers["Date"]).timestamp() == NOW // SECOND
            assert response.headers["Content-Encoding"] in ("gzip", "deflate")
            assert response.headers["Content-Type"] == "application/json"
        spoil(asks, Manners(date_header=False))
        async with session.get(url + LOGS, headers=headers) as response:
            assert "Date" not in response.headers


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("truncated", aiohttp.ClientPayloadError),
        ("hang", TimeoutError),
        ("drip", TimeoutError),
        ("reset", aiohttp.ClientOSError),
    ],
)
async def test_a_broken_answer_breaks_on_the_wire(fault: str, error: type[Exception]) -> None:
    asks = down(fault)
    async with serving(asks.epcc) as url:
        with pytest.raises(error):
            await read(url + LOGS, asks.token, seconds=0.3)
        spoil(asks, Manners())
        assert (await read(url + LOGS, asks.token))[0] == 200


async def test_a_dripping_answer_begins_with_its_first_byte() -> None:
    asks = down("drip")
    headers = {"Authorization": f"Bearer {asks.token}"}
    async with (
        serving(asks.epcc) as url,
        aiohttp.ClientSession() as session,
        session.get(url + LOGS, headers=headers) as response,
    ):
        assert await response.content.readany() == b"{"
        response.close()


async def test_a_huge_answer_goes_on_until_the_client_has_had_enough() -> None:
    asks = down("huge")
    async with serving(asks.epcc) as url, aiohttp.ClientSession() as session:
        async with session.get(url + LOGS, headers={"Authorization": f"Bearer {asks.token}"}) as response:
            assert response.content_length == 1 << 30
            assert len(await response.content.readexactly(8 << 20)) == 8 << 20
            response.close()
        spoil(asks, Manners())
        assert (await read(url + LOGS, asks.token))[0] == 200


async def test_a_bomb_arrives_small_and_redirects_and_errors_as_they_are() -> None:
    asks = down("gzip_bomb")
    async with serving(asks.epcc) as url, aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(url + LOGS) as response:
            assert len(await response.read()) * 100 < BOMB_BYTES
        for fault, status in (("redirect", 302), ("502", 502), ("429", 429)):
            spoil(asks, Manners(down=fault))
            assert (await read(url + LOGS, asks.token))[0] == status


async def test_the_server_stops_while_an_answer_hangs() -> None:
    asks = down("hang")
    async with asyncio.timeout(4):
        async with serving(asks.epcc) as url:
            hanging = asyncio.create_task(read(url + LOGS, asks.token, seconds=30))
            while not asks.epcc.requests["logs"]:  # noqa: ASYNC110  a counter of the simulator has no event
                await asyncio.sleep(0)
        with pytest.raises(aiohttp.ClientError):
            await hanging


# --- the command


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    simulator.add_arguments(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        (":8080", ("", 8080)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:2", ("localhost", 2)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parsed(f"--web.listen-address={text}").listen_address == address


@pytest.mark.parametrize(
    "argument",
    [
        "--web.listen-address=localhost", "--web.listen-address=localhost:70000", "--web.listen-address=h:x",
        "--web.listen-address=h:1/path", "--scenario=holiday", "--order=newest", "--envelope=2024", "--seed=x",
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed(argument)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_demo_has_a_past_and_goes_on() -> None:
    for name in SCENARIOS:
        epcc = simulator.make_demo(1, name, NOW)
        before = sum(counted["attempts"] for counted in epcc.truth()["integrations"].values())
        after = sum(counted["attempts"] for counted in epcc.truth(NOW + HOUR_NS // 4)["integrations"].values())
        assert after > before > 0 if name != "empty" else after == before == 0, name


async def test_the_command_says_where_to_look_and_serves_until_it_is_stopped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop = asyncio.Event()
    arguments = parsed(
        "--web.listen-address=127.0.0.1:0", "--order=oldest_first", "--envelope=2025", "--scenario=quiet"
    )
    running = asyncio.create_task(simulator.run(arguments, stop))
    said = ""
    while "truth" not in said:
        await asyncio.sleep(0.01)
        said += capsys.readouterr().out
    url = said.split("api_url: ")[1].split()[0]
    async with aiohttp.ClientSession() as session:
        form = {"grant_type": "client_credentials", "client_id": said.split("client_id: ")[1].split()[0],
                "client_secret": said.split("client_secret: ")[1].split()[0]}  # fmt: skip
        async with session.post(f"{url}/oauth/access_token", data=form) as response:
            token = (await response.json())["access_token"]
    page = read_page((await read(url + LOGS, token))[1])
    created = [attempt.created_ns or 0 for attempt in page.attempts]
    assert created == sorted(created)
    assert page.total is not None
    assert page.total >= len(created) > 1
    assert json.loads((await read(f"{url}/simulator/truth", ""))[1])["integrations"]
    stop.set()
    await running


async def test_a_taken_port_is_an_error_that_leaves_nothing_running() -> None:
    async with serving(client().epcc) as url:
        with pytest.raises(OSError, match="address"):
            await simulator.serve("127.0.0.1", int(url.rpartition(":")[2]), Epcc())
