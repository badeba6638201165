"""The simulated EPCC as a function: a request and the time in, an answer out. No socket and no clock.

Choices come from one seeded generator, in the order of the requests: the same seed and the same requests at the same
times give the same answers. The manners may be replaced between any two requests.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

from exporter.listings import FEEDS, Listing, Lists
from exporter.manners import (
    PAGE_FAULTS,
    SOCKET_FAULTS,
    Answer,
    Manners,
    Window,
    chance,
    envelope,
    error_answer,
    http_date,
    integration_record,
    json_answer,
    log_record,
    spoilt,
    too_many_answer,
)
from exporter.shop import SECOND, Integration, Log, Shop

PAGE_LENGTH: Final = 25  # where a request names none
REQUESTS_REMEMBERED: Final = 100_000

Tokens = dict[str, tuple[int, bool]]  # until when, and whether it may read integrations


def log(
    log_id: str,
    created_ns: int,
    *,
    integration_id: str = "shipping",
    job_id: str | None = None,
    attempt: int = 1,
    status_code: int | None = 200,
    succeeded: bool | None = None,
    error_detail: str = "",
    processing_time: float | None = 0.25,
    visible_ns: int | None = None,
    override: Mapping[str, Any] | None = None,
) -> Log:
    """A log by hand; what is not said follows from what is."""
    if succeeded is None:
        succeeded = status_code is not None and 200 <= status_code < 300
    return Log(
        id=log_id,
        integration_id=integration_id,
        job_id=f"job-{log_id}" if job_id is None else job_id,
        attempt=attempt,
        succeeded=succeeded,
        status_code=status_code,
        error_detail=error_detail,
        body="Dear ada.muster@example.com",
        processing_time=processing_time,
        created_ns=created_ns,
        visible_ns=created_ns if visible_ns is None else visible_ns,
        override=override,
    )


@dataclass(frozen=True, slots=True)
class Request:
    """One that was made, and how it was answered."""

    at_ns: int
    endpoint: str  # one of manners.ENDPOINTS
    path: str
    query: Mapping[str, str]
    status: int


class Epcc:
    def __init__(
        self,
        manners: Manners | None = None,
        *,
        seed: int = 0,
        shop: Shop | None = None,
        client_id: str = "demo",
        client_secret: str = "demo-secret",  # noqa: S107  of a store that does not exist
        tokens: Tokens | None = None,
    ) -> None:
        """`tokens`: shared with the other stores of an organization (`organization`); None: its own."""
        self.manners = Manners() if manners is None else manners
        self.client_id = client_id
        self.client_secret = client_secret
        self.requests: Counter[str] = Counter()  # by endpoint
        self.seen: deque[Request] = deque(maxlen=REQUESTS_REMEMBERED)
        self.integrations: dict[str, Integration] = {}
        self._lists = Lists(shop)
        self._random = random.Random(f"epcc {seed}")  # noqa: S311  a simulation, and it must repeat
        self._tokens: Tokens = {} if tokens is None else tokens
        self._last_second: deque[int] = deque()  # when requests were let through
        for integration in shop.integrations if shop is not None else ():
            self.add_integration(integration)

    # --- what happens in the store

    def add(self, *logs: Log, feeds: Sequence[str] = FEEDS) -> None:
        """Logs that show from their `visible_ns` on, in the lists named; a job is listed where its logs are."""
        self._lists.add(logs, self.manners, feeds)

    def add_integration(self, integration: Integration) -> None:
        """A new one, or a change of one that is there."""
        self.integrations[integration.id] = integration
        self._lists.welcome(integration.id)

    def remove_integration(self, integration_id: str, *, keep_logs: bool = False) -> None:
        """Its logs leave the lists, and none come after them; with `keep_logs` only the integration itself goes."""
        del self.integrations[integration_id]
        if not keep_logs:
            self._lists.remove(integration_id)

    def delete_logs(self, ids: Iterable[str] = (), *, older_than_ns: int | None = None) -> None:
        """Logs leave every list: those named, and those created before a time."""
        if named := frozenset(ids):
            self._lists.drop(lambda log: log.id in named)
        if older_than_ns is not None:
            self._lists.drop_before(older_than_ns)

    def revoke_tokens(self) -> None:
        self._tokens.clear()

    def advance(self, now_ns: int) -> None:
        """Everything that has happened by `now_ns`. Each request does this first."""
        self._lists.advance(now_ns, self.manners)

    def truth(self, now_ns: int | None = None) -> dict[str, Any]:
        """What a perfect observer has counted until now, of logs that have left the lists as well."""
        self.advance(self._lists.now_ns if now_ns is None else now_ns)
        truth = self._lists.truth(self.integrations)
        for integration_id, counted in truth.items():
            known = self.integrations.get(integration_id)
            counted["name"] = None if known is None else known.name
        return {"now_ns": self._lists.now_ns, "integrations": truth}

    # --- requests

    def answer(  # noqa: PLR0917  a request is these five, and the time is the sixth
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str],
        form: Mapping[str, str], now_ns: int,
    ) -> Answer:  # fmt: skip
        """`path` may be percent-encoded, and has no query."""
        self.advance(now_ns)
        asked = _Asked(method, _route(path), query, headers, form, now_ns)
        answer = self._answer(asked)
        self.requests[asked.route.endpoint] += 1
        self.seen.append(Request(now_ns, asked.route.endpoint, path, dict(query), answer.status))
        if self.manners.date_header:
            answer = replace(answer, headers={**answer.headers, "Date": http_date(now_ns, self.manners)})
        shortest, longest = self.manners.latency_seconds
        if longest > 0:
            answer = replace(answer, delay_seconds=self._random.uniform(shortest, longest))
        return answer

    def _answer(self, asked: _Asked) -> Answer:
        if self._over_rate(asked.now_ns):
            return too_many_answer(self.manners, asked.now_ns)
        endpoint = asked.route.endpoint
        fault = self._fault(endpoint)
        if fault is not None and (instead := spoilt(fault, self.manners, asked.now_ns)) is not None:
            return instead
        if endpoint == "other" or asked.method != ("POST" if endpoint == "token" else "GET"):
            answer = error_answer(404 if endpoint == "other" else 405, self.manners)
        elif endpoint == "token":
            answer = self._token(asked.form, asked.now_ns)
        else:
            answer = self._refusal(asked.headers, asked.now_ns) or self._resource(asked, fault)
        return answer if fault is None or fault not in SOCKET_FAULTS else replace(answer, fault=SOCKET_FAULTS[fault])

    def _over_rate(self, now_ns: int) -> bool:
        limit = self.manners.rate_limit_per_second
        if limit is None:
            return False
        while self._last_second and self._last_second[0] <= now_ns - SECOND:
            self._last_second.popleft()
        if len(self._last_second) >= limit:
            return True
        self._last_second.append(now_ns)
        return False

    def _fault(self, endpoint: str) -> str | None:
        if endpoint not in self.manners.fault_endpoints:
            return None
        if self.manners.down is not None:
            return self.manners.down
        if not self.manners.faults:
            return None
        draw = self._random.random()
        for fault, probability in self.manners.faults.items():
            draw -= probability
            if draw < 0:
                return fault
        return None

    def _token(self, form: Mapping[str, str], now_ns: int) -> Answer:
        grant = form.get("grant_type")
        if grant not in ("client_credentials", "implicit"):
            return error_answer(400, self.manners, "unsupported grant_type")
        right_secret = grant == "implicit" or form.get("client_secret") == self.client_secret
        if form.get("client_id") != self.client_id or not right_secret:
            return error_answer(401, self.manners, "client is unknown or its secret is wrong")
        token = f"{self._random.getrandbits(160):040x}"
        until_ns = now_ns + self.manners.token_lifetime_seconds * SECOND
        for ended in [known for known, value in self._tokens.items() if value[0] <= now_ns]:
            del self._tokens[ended]
        self._tokens[token] = (until_ns, grant == "client_credentials")
        fields = {
            "expires": until_ns // SECOND,
            "identifier": grant,
            "expires_in": self.manners.token_lifetime_seconds,
            "access_token": token,
            "token_type": "Bearer",
        }
        return json_answer(200, fields)

    def _refusal(self, headers: Mapping[str, str], now_ns: int) -> Answer | None:
        """Why this request may not read; None: it may."""
        given = next((value for name, value in headers.items() if name.lower() == "authorization"), "")
        until_ns, may_read = self._tokens.get(given.removeprefix("Bearer "), (0, False))
        if not given.startswith("Bearer ") or until_ns <= now_ns:
            return error_answer(401, self.manners)
        return None if may_read else error_answer(403, self.manners)

    def _resource(self, asked: _Asked, fault: str | None) -> Answer:
        manners, route = self.manners, asked.route
        if route.endpoint == "integrations":
            every = [integration_record(i, manners) for i in self.integrations.values()]
            return self._page(asked, fault, len(every), lambda at, to: every[at:to])
        if route.names and route.names[0] not in self.integrations:
            return error_answer(404, manners, "no such integration")
        if route.endpoint == "integration":
            return json_answer(200, {"data": integration_record(self.integrations[route.names[0]], manners)})
        if route.endpoint == "jobs":
            return self._jobs(asked, fault)
        listing = self._listing(route)
        if listing is None:
            return error_answer(404, manners, "no such job")
        if fault == "stale_page":
            listing = listing.as_of(asked.now_ns - round(manners.stale_seconds * SECOND))

        def records(at: int, to: int) -> list[Any]:
            return [log_record(log, manners) for log in listing.page(at, to - at, manners, self._random)]

        return self._page(asked, fault, len(listing), records)

    def _listing(self, route: _Route) -> Listing | None:
        if route.endpoint == "logs":
            return self._lists.all()
        if route.endpoint == "integration_logs":
            return self._lists.of_integration(route.names[0])
        integration_id, job_id = route.names
        unlogged = Listing() if job_id in self.manners.jobs_unlogged.get(integration_id, ()) else None
        listing = self._lists.of_job(integration_id, job_id)
        return unlogged if listing is None else listing

    def _jobs(self, asked: _Asked, fault: str | None) -> Answer:
        integration_id, order = asked.route.names[0], self.manners.order
        unlogged = self.manners.jobs_unlogged.get(integration_id, ())
        jobs = list(dict.fromkeys((*self._lists.jobs(integration_id), *unlogged)))
        if order.startswith("newest"):
            jobs.reverse()
        elif order == "unordered":
            jobs.sort(key=lambda job_id: chance("jumble", job_id))
        elif order == "shuffled":
            self._random.shuffle(jobs)

        def records(at: int, to: int) -> list[Any]:
            return [{"id": job_id, "type": "integration-job"} for job_id in jobs[at:to]]

        if not self.manners.jobs_paged:
            return json_answer(200, {"data": records(0, len(jobs))})
        return self._page(asked, fault, len(jobs), records)

    # --- pages

    def _page(self, asked: _Asked, fault: str | None, total: int, read: Callable[[int, int], list[Any]]) -> Answer:
        manners, query = self.manners, asked.query
        try:
            limit, offset = int(query.get("page[limit]", PAGE_LENGTH)), int(query.get("page[offset]", 0))
        except ValueError:
            return error_answer(400, manners, "page[limit] and page[offset] are whole numbers")
        if limit < 1 or offset < 0 or (limit > manners.page_length_max and manners.limit_over_max == "error"):
            return error_answer(400, manners, f"page[limit] is 1 to {manners.page_length_max}, page[offset] 0 or more")
        limit = min(limit, manners.page_length_max)
        offset = 0 if manners.paging_ignored else offset
        room = limit if manners.offset_limit_counts_page else 0
        past = manners.offset_limit is not None and offset + room > manners.offset_limit
        if past and manners.offset_limit_answer not in ("empty", "last_page"):
            return error_answer(int(manners.offset_limit_answer), manners, "page[offset] is past the limit")
        window = Window(asked.route.shown, offset, limit, total)
        if past and manners.offset_limit_answer == "last_page" and manners.offset_limit is not None:
            offset = max(0, manners.offset_limit - room)
        data = [] if past and manners.offset_limit_answer == "empty" else read(offset, offset + limit)
        if fault in PAGE_FAULTS:
            return json_answer(200, envelope(self._spoilt_page(data, fault), window, manners, self._random))
        return json_answer(200, envelope(data, window, manners, self._random))

    def _spoilt_page(self, data: list[Any], fault: str) -> list[Any] | None:
        if fault == "data_null":
            return None
        if fault == "empty_page":
            return []
        if fault == "short_page" and len(data) > 1:
            return data[: self._random.randrange(1, len(data))]
        if fault == "duplicate_in_page" and len(data) > 1:
            # The page stays as long as it was: who counts its records and not its ids skips the one pushed out.
            place = self._random.randrange(len(data) - 1)
            again = self._random.randrange(place + 1, len(data))
            return [*data[:again], data[place], *data[again:]][: len(data)]
        return data


@dataclass(frozen=True, slots=True)
class _Route:
    endpoint: str
    names: tuple[str, ...]  # the ids in the path
    shown: str  # as links have it: without /v2


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    route: _Route
    query: Mapping[str, str]
    headers: Mapping[str, str]
    form: Mapping[str, str]
    now_ns: int


# The first that fits; None stands for an id.
_ROUTES: Final[Mapping[str, tuple[str | None, ...]]] = {
    "token": ("oauth", "access_token"),
    "integrations": ("v2", "integrations"),
    "logs": ("v2", "integrations", "logs"),
    "integration": ("v2", "integrations", None),
    "integration_logs": ("v2", "integrations", None, "logs"),
    "jobs": ("v2", "integrations", None, "jobs"),
    "job_logs": ("v2", "integrations", None, "jobs", None, "logs"),
}


def _route(path: str) -> _Route:
    shown = path.removeprefix("/v2")
    parts = [unquote(part) for part in path.strip("/").split("/")]
    for endpoint, form in _ROUTES.items():
        if len(form) == len(parts) and all(want in (None, part) for want, part in zip(form, parts, strict=True)):
            names = tuple(part for want, part in zip(form, parts, strict=True) if want is None)
            return _Route(endpoint, names, shown)
    return _Route("other", (), shown)
