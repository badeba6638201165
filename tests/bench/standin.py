"""A stand-in for EPCC that answers from memory, in a process of its own: `python -m tests.bench.standin --logs N`.

One list, newest first, whose records were written beforehand as the simulated EPCC writes them, with random UUIDs; a
page is one join of them, and HTTP is spoken by hand, so that whoever is measured waits for himself. It prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

from exporter.manners import Manners, log_record
from exporter.shop import Log

ROOT = Path(__file__).resolve().parent.parent.parent
INTEGRATIONS = 20
JOB_TRIES = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)  # one job in five is tried again
APART_NS = 20_000_000  # fifty logs a second
_TOKEN = b'{"access_token": "bench", "expires_in": 3600}'
_NOTHING = b'{"data": []}'


def records(number: int, integrations: int = INTEGRATIONS, seed: int = 1) -> list[bytes]:
    """`number` log records, newest first."""
    chance = random.Random(seed)
    names = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(integrations)]
    now_ns = time.time_ns()
    manners, made = Manners(), []
    job, tries, tried = "", 0, 0
    for place in range(number):  # oldest first
        if tried == tries:
            job, tries, tried = str(uuid.UUID(int=chance.getrandbits(128), version=4)), chance.choice(JOB_TRIES), 0
            integration = chance.choice(names)
        tried += 1
        good = tried == tries
        at_ns = now_ns - (number - place) * APART_NS - 10**9
        record = log_record(
            Log(
                id=str(uuid.UUID(int=chance.getrandbits(128), version=4)), integration_id=integration, job_id=job,
                attempt=tried, succeeded=good, status_code=200 if good else chance.choice((500, 503, 404)),
                error_detail="" if good else "unexpected status code", body='{"received": true}' * 4,
                processing_time=round(chance.lognormvariate(-1.5, 0.8), 6), created_ns=at_ns, visible_ns=at_ns,
                override=None,
            ),
            manners,
        )  # fmt: skip
        made.append(json.dumps(record).encode())
    return made[::-1]


class StandIn(asyncio.Protocol):
    """One connection. `listed`: the records, newest first."""

    def __init__(self, listed: list[bytes]) -> None:
        self._listed = listed
        self._transport: asyncio.Transport | None = None
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = self._held[:end].decode()
            size = 0
            if head.startswith("POST"):
                lines = (line.partition(":") for line in head.split("\r\n")[1:])
                size = next((int(value) for name, _, value in lines if name.lower() == "content-length"), 0)
            if len(self._held) < end + 4 + size:
                return
            self._held = self._held[end + 4 + size :]
            self._answer(head.split(" ", 2)[1])

    def _answer(self, target: str) -> None:
        path, _, query = target.partition("?")
        if path == "/oauth/access_token":
            body = _TOKEN
        elif path == "/v2/integrations/logs":
            wanted = parse_qs(query)
            offset = int(wanted.get("page[offset]", ["0"])[0])
            page = self._listed[offset : offset + int(wanted.get("page[limit]", ["100"])[0])]
            body = b'{"data": [' + b", ".join(page) + b"]}"
        else:
            body = _NOTHING
        assert self._transport is not None
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


@contextmanager
def serving(logs: int) -> Iterator[int]:
    """The port of a stand-in with so many logs."""
    command = [sys.executable, "-m", "tests.bench.standin", "--logs", str(logs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            assert child.stdout is not None
            yield int(child.stdout.readline())
        finally:
            child.terminate()


async def serve(logs: int) -> None:
    listed = records(logs)
    server = await asyncio.get_running_loop().create_server(lambda: StandIn(listed), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.standin", description=__doc__)
    parser.add_argument("--logs", type=int, default=20_000)
    asyncio.run(serve(parser.parse_args().logs))


if __name__ == "__main__":
    main()
