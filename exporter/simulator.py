"""The simulated EPCC on a socket, and as a command: plays on the wire what `epcc` answers, the broken answers too.

What cannot be played by a well-behaved server is done to the connection itself: a body that ends early, a reset, an
answer that never comes or comes a byte at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from exporter.clock import Clock
from exporter.epcc import Epcc, Request, log
from exporter.manners import ENVELOPES, ORDERS, Answer, Manners
from exporter.organization import Organization
from exporter.shop import SCENARIOS, Integration, Log, Shop

__all__ = [
    "SCENARIOS", "Answer", "Epcc", "Integration", "Log", "Manners", "Organization", "Request", "Shop",
    "add_arguments", "log", "make_app", "make_demo", "run", "serve",
]  # fmt: skip

ADDRESS: Final = ("127.0.0.1", 10059)
TRUTH_PATH: Final = "/simulator/truth"
DRIP_SECONDS: Final = 1.0  # from byte to byte
HUGE_BYTES: Final = 1 << 30
CHUNK_BYTES: Final = 1 << 20
LOOK_SECONDS: Final = 0.05  # how often an answer that never comes looks whether anybody still waits
COMPRESSED_FROM: Final = 1024  # bytes; less is sent as it is
STOP_SECONDS: Final = 1.0

_STOPPED: Final = web.AppKey("stopped", asyncio.Event)


def make_app(epcc: Epcc | Organization, clock_ns: Callable[[], int]) -> web.Application:
    async def truth(_: web.Request) -> web.Response:
        return web.json_response(epcc.truth(clock_ns()))

    async def answer(request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()} if request.method == "POST" else {}
        path = request.rel_url.raw_path
        answered = epcc.answer(request.method, path, request.query, request.headers, form, clock_ns())
        if answered.delay_seconds:
            await asyncio.sleep(answered.delay_seconds)
        return await _play(answered, request)

    async def undated(_: web.Request, response: web.StreamResponse) -> None:
        if not response.headers.get("Date"):
            response.headers.popall("Date", None)

    async def stopped(app: web.Application) -> None:
        app[_STOPPED].set()

    app = web.Application()
    app[_STOPPED] = asyncio.Event()
    app.router.add_get(TRUTH_PATH, truth)
    app.router.add_route("*", "/{path:.*}", answer)
    app.on_response_prepare.append(undated)
    app.on_shutdown.append(stopped)
    return app


async def _play(answer: Answer, request: web.Request) -> web.StreamResponse:
    # aiohttp dates what has no date; ours are dated by the simulated clock or not at all. The empty one is taken out.
    headers = {"Date": "", **answer.headers}
    match answer.fault:
        case "hang":
            while await _still_there(request, LOOK_SECONDS):
                pass
            _reset(request)  # we stop, and the client still waits
        case "reset":
            _reset(request)
        case "truncate" | "drip" | "huge":
            length = HUGE_BYTES if answer.fault == "huge" else len(answer.body)
            response = web.StreamResponse(status=answer.status, headers={**headers, "Content-Length": str(length)})
            with suppress(ConnectionError):  # a client that has had enough is what these are for
                await response.prepare(request)
                await _pour(response, request, answer)
            if request.transport is not None:
                request.transport.close()
            return response
        case _:
            whole = web.Response(status=answer.status, headers=headers, body=answer.body)
            if len(answer.body) >= COMPRESSED_FROM and "Content-Encoding" not in headers:
                whole.enable_compression()
            return whole
    return web.Response(status=answer.status)  # to a connection that is gone


async def _pour(response: web.StreamResponse, request: web.Request, answer: Answer) -> None:
    if answer.fault == "truncate":
        await response.write(answer.body[: len(answer.body) // 2])
    elif answer.fault == "drip":
        for place in range(len(answer.body)):
            await response.write(answer.body[place : place + 1])
            if not await _still_there(request, DRIP_SECONDS):
                return
    else:
        await response.write(b'{"data":[')
        for _ in range(HUGE_BYTES // CHUNK_BYTES - 1):
            if not await _still_there(request, 0.0):
                return
            await response.write(b" " * CHUNK_BYTES)


async def _still_there(request: web.Request, seconds: float) -> bool:
    """Whether the client still waits, and we still serve, after some seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(request.app[_STOPPED].wait(), max(seconds, 1e-6))
    return not request.app[_STOPPED].is_set() and request.transport is not None and not request.transport.is_closing()


def _reset(request: web.Request) -> None:
    if request.transport is None:
        return
    sock = request.transport.get_extra_info("socket")
    # Without lingering a close is a reset, not an orderly end.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def serve(
    host: str | None, port: int, epcc: Epcc | Organization, clock_ns: Callable[[], int] | None = None
) -> tuple[web.AppRunner, int]:
    """A running server and the port that it got. Raises OSError where the address cannot be had."""
    app = make_app(epcc, Clock().wall_ns if clock_ns is None else clock_ns)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host or None, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])


def make_demo(seed: int, scenario: str, now_ns: int) -> Epcc:
    """A store that has been open for as long as the scenario says, with the manners of a polite one."""
    plan = SCENARIOS[scenario]
    epcc = Epcc(
        Manners(retention_seconds=plan.retention_seconds, latency_seconds=(0.02, 0.08)),
        seed=seed,
        shop=Shop(plan, seed, now_ns),
    )
    epcc.advance(now_ns)
    return epcc


# --- the command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--web.listen-address", dest="listen_address", type=_address, default=ADDRESS,
                        metavar="HOST:PORT", help="where to listen (default {}:{})".format(*ADDRESS))  # fmt: skip
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="shop",
                        help="what happens in the shop (default shop)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same shop (default 1)")
    parser.add_argument("--order", choices=ORDERS, default=ORDERS[0], help=f"of the lists (default {ORDERS[0]})")
    parser.add_argument("--envelope", choices=ENVELOPES, default=ENVELOPES[0],
                        help=f"shape of a page, by year (default {ENVELOPES[0]})")  # fmt: skip


def _address(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        port = None
    if port is None or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted HOST:PORT or :PORT")
    return parts.hostname or "", port


async def run(arguments: argparse.Namespace, stop: asyncio.Event) -> None:
    """Serves until `stop`. Raises OSError where the address cannot be had."""
    epcc = make_demo(arguments.seed, arguments.scenario, Clock().wall_ns())
    epcc.manners = replace(epcc.manners, order=arguments.order, envelope=arguments.envelope)
    host, port = arguments.listen_address
    runner, port = await serve(host, port, epcc)
    try:
        shown = f"[{host}]" if ":" in host else host or "127.0.0.1"
        sys.stdout.write(
            f"A simulated EPCC listens. In a configuration it is\n"
            f"  api_url: http://{shown}:{port}\n"
            f"  client_id: {epcc.client_id}\n"
            f"  client_secret: {epcc.client_secret}\n"
            f"What it has sent, to compare: http://{shown}:{port}{TRUTH_PATH}\n"
            "Stop it with Ctrl-C.\n"
        )
        sys.stdout.flush()
        await stop.wait()
    finally:
        await runner.cleanup()
