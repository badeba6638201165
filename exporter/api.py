"""Requests to EPCC: token, budget, limits on answers, and what each error means.

Facts (Elastic Path's guides): the token comes from `POST /oauth/access_token` by client credentials, lives an hour and
has no refresh token; a store bears 100 requests/s (25 on development stores), shared with the shop itself; a 429 has no
documented `Retry-After`, which is honoured where it comes. Redirects are not followed: the token would go along. Error
bodies are never read into a message: they may quote what must not be logged.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final, Protocol

import aiohttp

from exporter import __version__, logs, records
from exporter.clock import Clock
from exporter.config import StoreConfig
from exporter.records import InvalidResponseError, Token
from exporter.tokens import TokenCache

RESPONSE_BYTES_MAX: Final = 32 * 1024 * 1024  # decompressed; a page of 100 samples has 44 kB, and bodies can be long
ERROR_BYTES_MAX: Final = 64 * 1024  # read and dropped, so that the connection can be used again
RETRY_AFTER_MAX: Final = 300.0  # seconds; a longer wish is asked about again after five minutes
PAUSE_INLINE_MAX: Final = 10.0  # seconds a request waits for a pause to end; a longer one fails the poll
TOKEN_SECONDS: Final = 3600.0  # where the answer does not say
TOKEN_MARGIN: Final = 60.0  # renewed this long before its end, as the vendor's client does; a fifth of a short life
DATES_CACHED: Final = 64  # of answers, which name a second
REFUSED_SECONDS: Final = 5.0  # a store that EPCC refused with a new token does not renew again before


@dataclass(eq=False)
class ApiError(Exception):
    """A request that did not bring what it should. `reason` is one of metrics.POLL_FAILURE_REASONS."""

    reason: str
    code: int | None = None  # HTTP status; None: no answer
    retry_after: float | None = None  # seconds that the server asks for
    detail: str = ""  # our own words, without a byte of the answer

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.reason in ("rate_limited", "server_error", "timeout", "connection", "invalid_response")

    def __str__(self) -> str:
        code = f" {self.code}" if self.code is not None else ""
        return f"{self.reason}{code}{': ' + self.detail if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes
    server_ns: int  # a lower bound of the server's clock when it answered: `Date` less the round trip


class Budget:
    """A token bucket: `rate` requests a second, a burst of one second's worth, first come first served."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._level = self._burst = max(1.0, rate)
        self._at = clock.monotonic()
        self._paused_until = self._at
        self._turn = asyncio.Lock()

    def pause(self, seconds: float) -> None:
        """No request of this store before `seconds` have passed."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    async def take(self) -> None:
        """Waits for a request's turn. Raises ApiError where a pause is too long to wait for inside a poll."""
        async with self._turn:
            while True:
                now = self._clock.monotonic()
                self._level = min(self._burst, self._level + (now - self._at) * self._rate)
                self._at = now
                pause = self._paused_until - now
                if pause > PAUSE_INLINE_MAX:
                    raise ApiError("rate_limited", retry_after=pause, detail="the server asked for a pause")
                wait = max(pause, (1.0 - self._level) / self._rate)
                if wait <= 0:
                    self._level -= 1.0
                    return
                # Not less than a millisecond: a wait that rounding makes nothing of would be asked for without end.
                await self._clock.sleep(max(wait, 0.001))

    def give_back(self) -> None:
        """What was taken for a request that was not made."""
        self._level = min(self._burst, self._level + 1.0)


class Observer(Protocol):
    """Told of every try at a request that was not dropped: endpoint, status code or `error`, seconds."""

    def __call__(self, endpoint: str, code: str, seconds: float, /) -> None: ...


# Told of every answer, refusals and tokens included: headers, `Date` (ns), our clock before it and when it came (ns).
Listener = Callable[[Mapping[str, str], int | None, int, int], None]


class Api:
    """One store's API. Every try is a request to the observer and takes from the budget, the token's included.

    `tokens`: the cache of the store's credential, shared with others that have the same; None: one of its own.
    """

    def __init__(  # noqa: PLR0917  wired by hand, in two places
        self, store: StoreConfig, session: aiohttp.ClientSession, clock: Clock, observe: Observer, budget: Budget,
        listen: Listener | None = None, *, tokens: TokenCache | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._session = session
        self._clock = clock
        self._observe = observe
        self._listen = listen
        self.budget = budget
        self._tokens = TokenCache(clock) if tokens is None else tokens
        self._timeout = aiohttp.ClientTimeout(total=store.request_timeout)
        self._renewing = asyncio.Lock()
        self._refused_at: float | None = None  # when a token that had been renewed for this store was refused

    @property
    def token_seconds(self) -> float | None:
        """How long the present token lives, by what its answer said."""
        return None if self._tokens.token is None else self._tokens.token.expires_in

    async def get(self, endpoint: str, path: str, query: Mapping[str, str]) -> Reply:
        """One GET below /v2. Raises ApiError. A 401 renews the token once, for all who use it, and tries once more."""
        token = await self._valid_token()
        try:
            return await self._request(endpoint, "GET", f"/v2{path}", query=query, token=token)
        except ApiError as error:
            if error.code != 401 or self._is_refused():
                raise
        self._tokens.refused(token)
        token = await self._valid_token()
        try:
            return await self._request(endpoint, "GET", f"/v2{path}", query=query, token=token)
        except ApiError as error:
            if error.code == 401:
                self._refused_at = self._clock.monotonic()
            raise

    def _is_refused(self) -> bool:
        """Whether a new token did not help a moment ago: one more at each poll would help no better, and take the
        token from under the requests of the other stores."""
        return self._refused_at is not None and self._clock.monotonic() - self._refused_at < REFUSED_SECONDS

    async def _valid_token(self) -> Token:
        async with self._renewing:  # one of this store's requests asks and pays, the others wait for it
            try:
                return await self._tokens.valid(self.budget, self._new_token)
            except ApiError as error:
                # One of its own for each that waited: who raises an exception writes into it.
                raise ApiError(error.reason, error.code, error.retry_after, error.detail) from None

    async def _new_token(self) -> tuple[Token, float]:
        """A token, and when to renew it (monotonic seconds); its request was taken from the budget."""
        try:
            secret = self._store.secret()
        except (OSError, ValueError) as error:
            self.budget.give_back()
            raise ApiError("auth", detail=f"the client secret cannot be read ({type(error).__name__})") from None
        form = {
            "grant_type": "client_credentials",
            "client_id": self._store.client_id.reveal(),
            "client_secret": secret,
        }
        began = self._clock.monotonic()
        try:
            reply = await self._request("token", "POST", "/oauth/access_token", form=form)
        except ApiError as error:
            if error.code in (400, 401):
                raise ApiError("auth", error.code, detail="the client id or secret is not accepted") from None
            raise
        token = _checked(records.read_token, reply.body)
        logs.register_secret(token.access_token)
        seconds = token.expires_in if token.expires_in is not None else TOKEN_SECONDS
        return token, began + seconds - min(TOKEN_MARGIN, seconds / 5)

    def _headers(self, token: Token | None) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"epcc-exporter/{__version__}",
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token.access_token}"
            if self._store.org_id is not None:
                headers["EP-Org-ID"] = self._store.org_id
            if self._store.store_id is not None:
                headers["EP-Store-ID"] = self._store.store_id
        return headers

    async def _request(
        self,
        endpoint: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        token: Token | None = None,
    ) -> Reply:
        if token is not None:
            await self.budget.take()  # a token's own was taken before it was decided who asks for it
        began, wall_ns = self._clock.monotonic(), self._clock.wall_ns()
        code = "error"
        try:
            async with self._session.request(
                method,
                self._store.api_url.rstrip("/") + path,
                params=query,
                data=form,
                headers=self._headers(token),
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                code = str(response.status)
                if self._listen is not None:
                    date_ns = _http_date(response.headers.get("Date"))
                    self._listen(response.headers, date_ns, wall_ns, self._clock.wall_ns())
                if not 200 <= response.status < 300:
                    await _drain(response)
                    raise _refusal(response)
                body = await _read(response)
                seconds = self._clock.monotonic() - began
                return Reply(body, _server_ns(response.headers.get("Date"), wall_ns, seconds))
        except ApiError:
            raise
        except asyncio.CancelledError:
            code = ""  # fetched ahead and not wanted: it has no outcome to tell of
            raise
        except Exception as error:
            raise _meaning(error) from None
        finally:
            if code:
                self._observe(endpoint, code, self._clock.monotonic() - began)


def _checked(read: Callable[[bytes], Token], body: bytes) -> Token:
    try:
        return read(body)
    except InvalidResponseError as error:
        raise ApiError("invalid_response", detail=str(error)) from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, decompressed by hand: the limit holds for what comes out, whatever a few bytes blow up to."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "deflate"):
        raise ApiError("invalid_response", response.status, detail="an encoding that was not asked for")
    inflater = zlib.decompressobj(wbits=47) if encoding in ("gzip", "deflate") else None
    parts: list[bytes] = []
    left = RESPONSE_BYTES_MAX
    async for chunk in response.content.iter_any():
        part = chunk if inflater is None else inflater.decompress(chunk, left + 1)
        left -= len(part)
        if left < 0:
            response.close()
            raise ApiError("invalid_response", response.status, detail=f"more than {RESPONSE_BYTES_MAX} bytes")
        parts.append(part)
    if inflater is not None and not inflater.eof:
        raise ApiError("invalid_response", response.status, detail="a compressed answer that ends early")
    return b"".join(parts)


async def _drain(response: aiohttp.ClientResponse) -> None:
    left = ERROR_BYTES_MAX
    async for chunk in response.content.iter_any():
        left -= len(chunk)
        if left < 0:
            response.close()
            return


def _refusal(response: aiohttp.ClientResponse) -> ApiError:
    code = response.status
    if code == 429 or (code == 503 and "Retry-After" in response.headers):
        after = retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
        return ApiError("rate_limited" if code == 429 else "server_error", code, retry_after=after)
    if code == 407:
        return ApiError("connection", code, detail="the proxy asks for other credentials")
    if 300 <= code < 400:
        return ApiError("other", code, detail="a redirect, which is not followed: is api_url right?")
    reasons = {401: "auth", 403: "forbidden", 404: "not_found", 408: "timeout"}
    return ApiError(reasons.get(code, "server_error" if code >= 500 else "other"), code)


def _meaning(error: Exception) -> ApiError:
    kind = type(error).__name__
    if isinstance(error, TimeoutError):
        return ApiError("timeout", detail=kind)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        # No code: it is the proxy's, and a 404 of EPCC's means something else.
        return ApiError("connection", detail=f"the proxy answered {error.status}")
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return ApiError("tls", detail=kind)
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientResponseError, zlib.error)):
        return ApiError("invalid_response", detail=kind)
    if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
        return ApiError("connection", detail=kind)
    if isinstance(error, aiohttp.ClientError):
        return ApiError("other", detail=kind)
    raise error


def retry_after(value: str | None, date: str | None) -> float | None:
    """Seconds to wait, at most RETRY_AFTER_MAX; None where the header is absent or makes no sense."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), RETRY_AFTER_MAX)
    wanted_ns, now_ns = _http_date(text), _http_date(date)
    if wanted_ns is None or now_ns is None or wanted_ns < now_ns:
        return None
    return min((wanted_ns - now_ns) / 1e9, RETRY_AFTER_MAX)


def _server_ns(date: str | None, wall_ns: int, seconds: float) -> int:
    """`Date` less the round trip; the host's clock at the request where there is no usable `Date`."""
    at_ns = _http_date(date)
    return wall_ns if at_ns is None else at_ns - int(seconds * 1e9)


@lru_cache(DATES_CACHED)
def _http_date(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError):
        return None
