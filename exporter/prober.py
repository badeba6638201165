"""Asks a store what the probe wants to know, within its request limit, and says what was found. No lock, no state."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import aiohttp

from exporter import logs
from exporter.api import Api, ApiError, Budget
from exporter.clock import Clock
from exporter.config import StoreConfig
from exporter.contents import of_contents, of_headers
from exporter.fetch import TRIES, Fetch
from exporter.findings import OBSERVED, UNTOLD, Finding, Findings, of_lists
from exporter.observed import Answer, Ask, Failed, Heard, NotAsked, Observed, Told
from exporter.probe import REQUESTS_MAX, Probe
from exporter.records import Integration, InvalidResponseError, Page, read_integrations, read_jobs, read_page
from exporter.shape import Shape, read_shape

IMPATIENT_TRIES: Final = 2  # where an error may be the answer
PATHS: Final = {
    "logs": "/integrations/logs",
    "integrations": "/integrations",
    "integration_logs": "/integrations/{}/logs",
    "jobs": "/integrations/{}/jobs",
    "job_logs": "/integrations/{}/jobs/{}/logs",
}

_log = logging.getLogger(__name__)


class SpentError(Exception):
    """The request limit is reached."""


class LimitedBudget(Budget):
    """A budget that ends."""

    def __init__(self, rate: float, clock: Clock, requests_max: int) -> None:
        super().__init__(rate, clock)
        self.left = requests_max

    async def take(self) -> None:
        if self.left == 0:
            raise SpentError
        await super().take()
        self.left -= 1

    def give_back(self) -> None:
        super().give_back()
        self.left += 1


@dataclass(frozen=True, slots=True)
class Probed:
    findings: Findings
    failure: str  # why EPCC could not be asked; "" where it could
    requests: int
    seconds: float


class Prober:
    """One store."""

    def __init__(self, config: StoreConfig, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._heard = Heard()
        self._budget = LimitedBudget(config.requests_per_second, clock, REQUESTS_MAX)
        self._api = Api(config, session, clock, self._observe, self._budget, self._heard.hear)
        self._fetch = Fetch(self._api, clock)

    async def probe(self, watch_seconds: float) -> Probed:
        began = self._clock.monotonic()
        questions = Probe(round(self._config.lookback * 1e9), watch_seconds).start()
        try:
            ask = next(questions)
            while True:
                if ask.after_seconds and self._budget.left:
                    await self._clock.sleep(ask.after_seconds)
                ask = questions.send(await self._answer(ask))
        except StopIteration as stop:
            seen: Observed = stop.value
        failure = _failure(seen)
        findings = {**self._access(failure), **of_headers(self._heard)}
        if not failure:
            findings |= {**of_lists(seen), **of_contents(seen)}
        return Probed(findings, failure, REQUESTS_MAX - self._budget.left, self._clock.monotonic() - began)

    def _observe(self, endpoint: str, code: str, seconds: float) -> None:
        self._heard.codes[code] += 1
        logs.log(_log, logging.DEBUG, "asked", store=self._config.name, endpoint=endpoint, code=code,
                 seconds=f"{seconds:.3f}")  # fmt: skip

    def _access(self, failure: str) -> Findings:
        lifetime = self._api.token_seconds
        return {
            "api": Finding(None, UNTOLD, failure) if failure else Finding("answers", OBSERVED),
            "token_seconds": Finding(lifetime, OBSERVED if lifetime is not None else UNTOLD,
                                     "" if lifetime is not None else "no token, or one that does not say"),
        }  # fmt: skip

    async def _answer(self, ask: Ask) -> Answer:
        query = {"page[limit]": ask.limit, "page[offset]": ask.offset}
        asked = {name: str(value) for name, value in query.items() if value is not None}
        path = PATHS[ask.endpoint].format(*(quote(name, safe="") for name in ask.names))
        tries = TRIES if ask.patient else IMPATIENT_TRIES
        try:
            read, server_ns = await self._fetch.get(ask.endpoint, path, asked, _reader(ask), tries)
        except SpentError:
            return NotAsked()
        except ApiError as error:
            return Failed(error.reason, error.code)
        except InvalidResponseError:
            raise AssertionError("unreachable: it is an ApiError when the tries are spent") from None
        return _told(read, server_ns)


_Read = tuple[Page | tuple[list[Integration], int] | tuple[list[str], int], Shape]


def _reader(ask: Ask) -> Callable[[bytes], _Read]:
    """What makes an answer readable; what `records` accepts, `shape` can describe."""

    def read(body: bytes) -> _Read:
        match ask.endpoint:
            case "integrations":
                return read_integrations(body), read_shape(body)
            case "jobs":
                return read_jobs(body), read_shape(body)
            case "integration_logs":
                return read_page(body, ask.names[0]), read_shape(body)
            case _:
                return read_page(body), read_shape(body)

    return read


def _told(read: _Read, server_ns: int) -> Told:
    content, shape = read
    if isinstance(content, Page):
        return Told(content.keys, shape, server_ns, attempts=content.attempts)
    found, _ = content
    integrations = tuple(each for each in found if isinstance(each, Integration))
    keys = tuple(each.id if isinstance(each, Integration) else each for each in found)
    return Told(keys, shape, server_ns, integrations=integrations)


def _failure(seen: Observed) -> str:
    """Why nothing could be learnt of this store; "" where something was."""
    if isinstance(seen.head, Told) or isinstance(seen.integrations_first, Told):
        return ""
    return str(seen.head)
