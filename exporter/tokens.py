"""Access tokens, one for each credential: all stores that have the same one share its token.

An organization's key opens many stores (`EP-Org-ID` and `EP-Store-ID` choose among them). Were each to ask for a token
of its own, a hundred stores would ask at once at each start and at each renewal. So one store asks, pays for it from
its own budget, and all who wait get what came of it, the failure too: each tries again in its own time, and nobody
stands in line for a hundred time-outs. A store whose budget makes it wait keeps nobody else from asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from exporter.clock import Clock
from exporter.config import Secret, StoreConfig
from exporter.records import Token


class Credential(NamedTuple):
    """What a token is asked for with, and for whom. `secret`: itself, or the path of its file, read at each renewal."""

    api_url: str
    client_id: Secret
    secret: object
    org_id: str | None

    @classmethod
    def of(cls, store: StoreConfig) -> Credential:
        secret = store.client_secret_file if store.client_secret is None else store.client_secret
        return cls(store.api_url.rstrip("/"), store.client_id, secret, store.org_id)


class Paying(Protocol):
    """A budget. `take` raises what a wait that is too long raises; `give_back`: no request was made after all."""

    async def take(self) -> None: ...
    def give_back(self) -> None: ...


class TokenCache:
    """The token of one credential."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.token: Token | None = None  # the present one; None: none yet, or it was refused
        self._until = 0.0
        self._asking: asyncio.Task[tuple[Token, float]] | None = None

    async def valid(self, budget: Paying, ask: Callable[[], Awaitable[tuple[Token, float]]]) -> Token:
        """The present token, or a new one. `ask` brings it and when to renew it (monotonic seconds), and is paid for
        already; its error is raised to all who wait for it."""
        if (token := self._fresh()) is not None:
            return token
        if self._asking is None:
            await budget.take()
            if (token := self._fresh()) is not None:
                budget.give_back()
                return token
            if self._asking is not None:
                budget.give_back()
            else:
                self._ask(ask)
        assert self._asking is not None  # noqa: S101  # begun here, or by another that we wait with
        # A request that is not wanted any more must not end what others wait for.
        return (await asyncio.shield(self._asking))[0]

    def refused(self, token: Token) -> None:
        """EPCC does not take it any more: whoever comes next asks for another, unless that was done meanwhile."""
        if self.token is token:
            self.token = None

    def _fresh(self) -> Token | None:
        return None if self._clock.monotonic() >= self._until else self.token

    def _ask(self, ask: Callable[[], Awaitable[tuple[Token, float]]]) -> None:
        async def asking() -> tuple[Token, float]:
            return await ask()

        self.token = None
        self._asking = asyncio.create_task(asking())
        self._asking.add_done_callback(self._asked)

    def _asked(self, done: asyncio.Task[tuple[Token, float]]) -> None:
        self._asking = None
        # Looked at here in any case: those who waited for a failure may all have left.
        if not done.cancelled() and done.exception() is None:
            self.token, self._until = done.result()


class Tokens:
    """The caches in use, by credential; one that no store uses any more is forgotten, with its token."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._caches: WeakValueDictionary[Credential, TokenCache] = WeakValueDictionary()

    def of(self, store: StoreConfig) -> TokenCache:
        credential = Credential.of(store)
        cache = self._caches.get(credential)
        if cache is None:
            cache = self._caches[credential] = TokenCache(self._clock)
        return cache
