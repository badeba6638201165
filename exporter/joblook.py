"""One job's attempts, live: asked of EPCC by *logs for a job* when somebody looks, within the store's own budget.

What comes is handed on and not kept. A look costs a few requests at most, and few looks go on at once: nobody who
reloads a page can take the polls' share.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import quote

from exporter.api import ApiError
from exporter.fetch import LIMIT_CODES, Fetch
from exporter.jobpage import LOOK_SECONDS, PAGE_LIMIT, PAGES_MAX, Look
from exporter.records import Detail, read_details

LOOKS_MAX: Final = 4  # at once, for all stores together; the next one is told to come again
TRIES: Final = 2  # a kept connection may have been closed meanwhile; more is a person's to decide
# As far as anybody knows: an id that is no UUID may be called wrong rather than unknown.
_UNKNOWN_CODES: Final = (400, 404, 410, 422)


class Looks:
    def __init__(self) -> None:
        self._going_on = 0

    async def look(self, fetch: Fetch, integration_id: str, job_id: str) -> Look:
        """Ends within LOOK_SECONDS, and never raises for anything that EPCC or the network does."""
        if self._going_on >= LOOKS_MAX:
            return Look("busy", retry_after=LOOK_SECONDS)
        self._going_on += 1
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await _read(fetch, integration_id, job_id)
        except TimeoutError:
            return Look("slow", reason="timeout")
        except ApiError as error:
            return _failed(error)
        finally:
            self._going_on -= 1


async def _read(fetch: Fetch, integration_id: str, job_id: str) -> Look:
    path = f"/integrations/{quote(integration_id, safe='')}/jobs/{quote(job_id, safe='')}/logs"
    found: dict[str, Detail] = {}
    offset = 0
    for _ in range(PAGES_MAX):
        query = {"page[limit]": str(PAGE_LIMIT), "page[offset]": str(offset)}
        try:
            (page, length), _ = await fetch.get(
                "job_logs", path, query, lambda body: read_details(body, integration_id), TRIES
            )
        except ApiError as error:
            if offset > 0 and error.code in LIMIT_CODES:
                return _found(found)
            raise
        before = len(found)
        for detail in page:
            found.setdefault(detail.attempt.id, detail)
        # A page may be shorter than asked for and not the last one: only one without anything new ends a list.
        if len(found) == before:
            return _found(found)
        offset += length
    return _found(found, more=True)


def _found(found: dict[str, Detail], *, more: bool = False) -> Look:
    in_order = sorted(found.values(), key=lambda each: (each.attempt.created_ns or 0, each.attempt.number or 0))
    return Look("found" if found else "nothing", tuple(in_order), more)


def _failed(error: ApiError) -> Look:
    if error.code in _UNKNOWN_CODES:
        return Look("not_found", reason=error.reason, code=error.code)
    outcome = {"rate_limited": "rate_limited", "auth": "refused", "forbidden": "refused", "timeout": "slow"}
    return Look(outcome.get(error.reason, "down"), reason=error.reason, code=error.code, retry_after=error.retry_after)
