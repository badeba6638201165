"""A store's log list served as fast as Python can: bytes that were made beforehand, so that the client is what is measured.

The records are the simulated shop's, newest first, spread over as long whatever their number. They stand in one text, and a
page is a slice of it; nothing is decoded, encoded or looked up per request. There is no offset limit, no rate limit, no
compression, and any token will do: only reading is measured here, manners are the simulator's.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from itertools import accumulate
from multiprocessing import get_context
from multiprocessing.connection import Connection

import msgspec

from exporter.manners import Manners, integration_record, log_record
from exporter.shop import SCENARIOS, Log, Shop

SPAN_SECONDS = 7200.0
SEED = 1
_READY_SECONDS = 300.0
Numbers = ctypes.Array[ctypes.c_double]  # shared memory, written by the server alone but for `reset`
_LIST = re.compile(rb"page(?:\[|%5[bB])(offset|limit)(?:\]|%5[dD])=(\d+)")
_TOKEN = b'{"access_token":"standin","token_type":"Bearer","expires_in":36000,"expires":4102444800}'
_PAGE_HEAD, _PAGE_TAIL = b'{"data":[', b'],"links":{"first":"/integrations/logs?page[offset]=0"}}'
# Places of the numbers that both processes see.
_FIRST, _LAST, _REQUESTS, _RECORDS, _BYTES, _LATENCY, _HIDDEN = range(7)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the server has answered since `Standin.reset`; times by CLOCK_MONOTONIC, which processes share."""

    first: float | None  # when the first request came; None: none has come
    last: float | None  # when the page with the oldest record was sent; None: not yet
    requests: int
    records: int  # of logs, as often as they were sent
    sent: int  # bytes of bodies


class Standin:
    """The server's process, seen from outside."""

    def __init__(self, url: str, port: int, logs: int, numbers: Numbers) -> None:
        self.url = url
        self.port = port
        self.logs = logs
        self._numbers = numbers

    def reset(self) -> None:
        for place in (_FIRST, _LAST, _REQUESTS, _RECORDS, _BYTES):
            self._numbers[place] = 0.0

    def hide(self, newest: int) -> None:
        """So many of the newest logs are not visible yet."""
        self._numbers[_HIDDEN] = newest

    def seen(self) -> Seen:
        first, last, requests, records, sent = self._numbers[:_LATENCY]
        return Seen(first or None, last or None, int(requests), int(records), int(sent))


@contextmanager
def standin(logs: int, latency_seconds: float = 0.0, span_seconds: float = SPAN_SECONDS) -> Iterator[Standin]:
    """A server with so many logs, spread over so long, on a port of its own; each answer is held back for the latency."""
    context = get_context("spawn")
    numbers = context.RawArray(ctypes.c_double, 7)
    numbers[_LATENCY] = latency_seconds
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(logs, span_seconds, numbers, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_READY_SECONDS):
            raise TimeoutError("the stand-in does not begin")
        port = ours.recv()
        yield Standin(f"http://127.0.0.1:{port}", port, logs, numbers)
    finally:
        process.terminate()
        process.join()


def shop_logs(number: int, span_seconds: float, now_ns: int) -> tuple[Shop, list[Log]]:
    """The newest logs of a shop up to now, by their creation, and the shop."""
    scenario = replace(
        SCENARIOS["shop"], jobs_per_second=number / span_seconds, history_seconds=span_seconds * 1.25, daily_swing=0.0
    )
    while True:
        shop = Shop(scenario, SEED, now_ns)
        logs = shop.until(now_ns)
        if len(logs) >= number:
            return shop, logs[-number:]
        scenario = replace(scenario, history_seconds=scenario.history_seconds * 2 + 60)


class _List:
    """All records newest first, as one text, and where each of them begins."""

    def __init__(self, records: list[bytes]) -> None:
        self._text = memoryview(b",".join(records))
        self._at = [0, *accumulate(len(record) + 1 for record in records)]
        self.length = len(records)

    def page(self, offset: int, limit: int) -> memoryview:
        """The inside of `data`."""
        low, high = min(offset, self.length), min(offset + limit, self.length)
        return self._text[self._at[low] : max(self._at[low], self._at[high] - 1)]


def _serve(number: int, span_seconds: float, numbers: Numbers, ready: Connection) -> None:
    now_ns = time.time_ns()
    shop, logs = shop_logs(number, span_seconds, now_ns)
    manners = Manners()
    records = _List([msgspec.json.encode(log_record(log, manners)) for log in reversed(logs)])
    integrations = msgspec.json.encode({"data": [integration_record(each, manners) for each in shop.integrations]})

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Http(records, integrations, numbers), "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class _Http(asyncio.Protocol):
    """As much of HTTP/1.1 as clients of a list need."""

    def __init__(self, records: _List, integrations: bytes, numbers: Numbers) -> None:
        self._records = records
        self._integrations = integrations
        self._numbers = numbers
        self._transport: asyncio.Transport | None = None
        self._left = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._left += data
        while True:
            head, mark, rest = self._left.partition(b"\r\n\r\n")
            if not mark:
                return
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            body = int(length[1]) if length else 0
            if len(rest) < body:
                return
            self._left = rest[body:]
            self._request(head.split(b" ", 2)[1])

    def _request(self, target: bytes) -> None:
        numbers = self._numbers
        if not numbers[_FIRST]:
            numbers[_FIRST] = time.monotonic()
        path, _, query = target.partition(b"?")
        asked = {name: int(value) for name, value in _LIST.findall(query)}
        offset, limit = asked.get(b"offset", 0), min(asked.get(b"limit", 25), 100)
        status = b"200 OK"
        if path == b"/oauth/access_token":
            body: tuple[bytes | memoryview, ...] = (_TOKEN,)
        elif path == b"/v2/integrations/logs":
            offset += int(numbers[_HIDDEN])
            body = (_PAGE_HEAD, self._records.page(offset, limit), _PAGE_TAIL)
            numbers[_RECORDS] += max(0, min(limit, self._records.length - offset))
        elif path == b"/v2/integrations":
            body = (self._integrations if offset == 0 else b'{"data":[]}',)
        else:
            status, body = b"404 Not Found", (b'{"errors":[{"status":404}]}',)
        numbers[_REQUESTS] += 1
        numbers[_BYTES] += sum(map(len, body))
        latency = numbers[_LATENCY]
        last = path == b"/v2/integrations/logs" and offset + limit >= self._records.length > offset
        if latency:
            asyncio.get_running_loop().call_later(latency, self._answer, status, body, last)
        else:
            self._answer(status, body, last)

    def _answer(self, status: bytes, body: tuple[bytes | memoryview, ...], last: bool) -> None:
        assert self._transport is not None
        head = b"HTTP/1.1 %b\r\nDate: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
            status, _date(int(time.time())), sum(map(len, body)),
        )  # fmt: skip
        self._transport.write(b"".join((head, *body)))
        if last and not self._numbers[_LAST]:
            self._numbers[_LAST] = time.monotonic()


@functools.lru_cache(1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
