"""One question to EPCC, asked until it is answered or its tries are spent; and the pages of a list, fetched ahead.

A request's tries are few and close together: an outage is the poller's to wait out. A 429 pauses the whole store, so
that no other request of ours runs into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from exporter.api import PAUSE_INLINE_MAX, Api, ApiError
from exporter.clock import Clock
from exporter.records import InvalidResponseError, Page, read_page

TRIES: Final = 4
BACKOFF_SECONDS: Final = 0.25  # doubled by each try, and drawn from the upper half
RATE_LIMITED_SECONDS: Final = 1.0  # likewise, after a 429 that names no time
CONCURRENCY: Final = 8  # pages asked for at once; the budget decides how many a second
LIMIT_CODES: Final = (
    400,
    404,
    413,
    416,
    422,
)  # what an offset past the limit is answered with, as far as anybody knows
PAGE_LIMIT_MIN: Final = 2  # pages must overlap by a record to be stitched

_T = TypeVar("_T")


class Fetch:
    """The API with patience."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    def wall_ns(self) -> int:
        """The host's clock, for what is told to others on this host."""
        return self._clock.wall_ns()

    async def get(
        self, endpoint: str, path: str, query: dict[str, str], read: Callable[[bytes], _T], tries: int = TRIES
    ) -> tuple[_T, int]:
        """What `read` makes of the answer, and the server's clock (ns). Raises ApiError when the tries are spent."""
        for tried in range(1, tries + 1):
            try:
                reply = await self._api.get(endpoint, path, query)
                return read(reply.body), reply.server_ns
            except InvalidResponseError as unreadable:
                error = ApiError("invalid_response", 200, detail=str(unreadable))
            except ApiError as refused:
                error = refused
            if not error.passing:
                raise error
            pause = self._pause(error, tried)
            if error.reason == "rate_limited" or error.retry_after is not None:
                self._api.budget.pause(pause)
            if tried == tries or pause > PAUSE_INLINE_MAX:
                raise error
            await self._clock.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _pause(self, error: ApiError, tried: int) -> float:
        if error.retry_after is not None:
            return error.retry_after
        base = RATE_LIMITED_SECONDS if error.reason == "rate_limited" else BACKOFF_SECONDS
        return base * 2.0 ** (tried - 1) * (0.5 + self._clock.chance() / 2)

    async def page(
        self, endpoint: str, path: str, offset: int, limit: int, integration_id: str | None
    ) -> tuple[Page, int] | None:
        """A page of logs; None: this offset is refused, as one past the offset limit is."""
        query = {"page[limit]": str(max(PAGE_LIMIT_MIN, limit)), "page[offset]": str(offset)}
        try:
            return await self.get(endpoint, path, query, lambda body: read_page(body, integration_id))
        except ApiError as error:
            if offset > 0 and error.code in LIMIT_CODES:
                return None
            raise


class Pages:
    """The pages of one list for one walk. One fetched ahead may have moved meanwhile: the walk's stitching sees it."""

    def __init__(
        self,
        fetch: Callable[[int], asyncio.Future[tuple[Page, int] | None]],
        left: Callable[[Page, int], int | None] = lambda page, server_ns: None,
    ) -> None:
        """`left`: of a page and the server's clock, how many are likely to be wanted after it; None: nothing says."""
        self._fetch = fetch
        self._left = left
        self._most: int | None = None  # that are likely to be wanted from here on
        self._ahead: dict[int, asyncio.Future[tuple[Page, int] | None]] = {}
        self._steps = 0

    async def at(self, offset: int, ahead: int) -> tuple[int, Page, int] | None:
        """(offset, page, server's clock) of a page that holds `offset`; None: refused. Raises ApiError."""
        usable = [at for at in self._ahead if offset - ahead // 2 <= at <= offset]
        if usable:
            at = max(usable)
            wanted = self._ahead.pop(at)
        else:
            await self.close()
            at, wanted = offset, self._fetch(offset)
        self._steps = self._steps + 1 if ahead else 0
        # Not before the third page in a row: a poll of a page or two should cost just these.
        window = min(CONCURRENCY - 1, 2 ** (self._steps - 1)) if self._steps > 1 else 0
        if self._most is not None:
            window = min(window, self._most - 1)
        for i in range(1, window + 1):
            if offset + i * ahead not in self._ahead:
                self._ahead[offset + i * ahead] = self._fetch(offset + i * ahead)
        try:
            fetched = await wanted
        except asyncio.CancelledError:
            wanted.cancel()
            raise
        self._most = None if fetched is None else self._left(*fetched)
        return None if fetched is None else (at, *fetched)

    async def close(self) -> None:
        """Ends what was fetched ahead in vain. Its errors are nobody's: a page that is needed is asked for again."""
        unwanted, self._ahead = list(self._ahead.values()), {}
        for future in unwanted:
            future.cancel()
        await asyncio.gather(*unwanted, return_exceptions=True)
