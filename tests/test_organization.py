"""Stores that share a credential: how they are written, and what they ask EPCC for together."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from exporter.api import REFUSED_SECONDS, Api, ApiError, Budget
from exporter.config import SHARED_KEYS, Secret, StoreConfig
from exporter.epcc import Epcc
from exporter.manners import Manners
from exporter.organization import Organization
from exporter.tokens import Tokens
from tests.test_config import EXAMPLE, URL, problems, read
from tests.world import FakeSession, VirtualClock, run

# --- in the configuration


def test_the_example_names_what_the_stores_of_an_organization_share_and_no_other() -> None:
    defaults = EXAMPLE.read_text().partition("\ndefaults:\n")[2]
    assert set(re.findall(r"^  # ([a-z_]+): ", defaults, re.MULTILINE)) == SHARED_KEYS.keys()


ORGANIZATION = """\
stores:
  - {name: north, store_id: n}
  - {name: south, store_id: s, org_id: other-org}
  - {name: alone, client_id: own-client, client_secret: own-S3CRET}
  - {name: moved, store_id: m, api_url: "http://elsewhere", client_secret: S3CRET-m}
defaults:
  api_url: http://host
  client_id: my-client
  client_secret_file: secret
  org_id: org
"""


def test_the_stores_of_an_organization_have_their_credential_from_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("S3CRET-VALUE")
    north, south, _, moved = read(tmp_path, ORGANIZATION).stores
    credential = ("http://host", Secret("my-client"), "S3CRET-VALUE")
    for made, org_id, store_id in ((north, "org", "n"), (south, "other-org", "s")):
        assert (made.api_url, made.client_id, made.secret()) == credential
        assert (made.org_id, made.store_id) == (org_id, store_id)
    assert (moved.api_url, moved.org_id, moved.secret()) == ("http://elsewhere", "org", "S3CRET-m")
    assert moved.client_secret_file is None


def test_a_store_with_a_client_of_its_own_takes_neither_secret_nor_organization_from_the_defaults(
    tmp_path: Path,
) -> None:
    (tmp_path / "secret").write_text("S3CRET-VALUE")
    alone = read(tmp_path, ORGANIZATION).stores[2]
    assert (alone.api_url, alone.secret(), alone.org_id) == ("http://host", "own-S3CRET", None)
    assert alone.client_secret_file is None
    found = problems(tmp_path, ORGANIZATION.replace(", client_secret: own-S3CRET", ""))
    assert found == ["config.yaml:4: stores[2]: neither client_secret nor client_secret_file, wanted one of them"]


def test_problems_of_what_is_shared_stand_once_and_at_their_place(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("S3CRET-VALUE")
    found = problems(tmp_path, ORGANIZATION.replace("http://host", "ftp://host") + "  client_secret: S3CRET\n")
    assert found == [
        "config.yaml:6: defaults: both client_secret and client_secret_file, wanted one of them",
        f"config.yaml:7: defaults.api_url: 'ftp://host': not an http or https URL, wanted the API's base URL, like {URL}",
    ]


# --- at EPCC

STORES = ("north", "south", "west")


class Shared:
    """An Api for each store of an organization, all with the same credential."""

    def __init__(self, **settings: Any) -> None:
        self.organization = Organization("org", STORES)
        self.clock = VirtualClock()
        self.tokens = Tokens(self.clock)
        self.observed: list[tuple[str, str, str]] = []
        self.budgets: dict[str, Budget] = {}
        self.apis = {name: self.api(name, **settings) for name in STORES}

    def api(self, name: str, **settings: Any) -> Api:
        fields: dict[str, Any] = {
            "name": name, "api_url": "http://epcc.test", "client_id": Secret("org"),
            "client_secret": Secret("org-secret"), "org_id": "org", "store_id": name, **settings,
        }  # fmt: skip
        config = StoreConfig(**fields)
        session = cast("aiohttp.ClientSession", FakeSession(cast("Epcc", self.organization), self.clock))
        budget = self.budgets[name] = Budget(config.requests_per_second, self.clock)

        def observe(endpoint: str, code: str, seconds: float) -> None:
            self.observed.append((name, endpoint, code))

        return Api(config, session, self.clock, observe, budget, tokens=self.tokens.of(config))

    async def get(self, name: str) -> bytes:
        return (await self.apis[name].get("logs", "/integrations/logs", {})).body

    async def all(self, times: int = 1) -> list[str]:
        """How the requests of all stores at once end: "" or the reason of the failure."""

        async def ended(name: str) -> str:
            try:
                await self.get(name)
            except ApiError as error:
                return error.reason
            return ""

        return await asyncio.gather(*(ended(name) for name in STORES for _ in range(times)))

    @property
    def given(self) -> int:
        """Requests for a token that EPCC has seen."""
        return self.organization.office.requests["token"]


def test_stores_of_an_organization_share_one_token_and_each_reads_its_own_logs() -> None:
    async def go() -> None:
        shared = Shared()
        assert await shared.all(5) == [""] * 15
        assert shared.given == 1
        assert [store.requests["logs"] for store in shared.organization.stores.values()] == [5, 5, 5]
        assert [name for name, endpoint, _ in shared.observed if endpoint == "token"] == ["north"]

    run(go())


def test_a_token_that_was_refused_is_renewed_once_for_all_stores() -> None:
    async def go() -> None:
        shared = Shared()
        await shared.all()
        shared.organization.revoke_tokens()
        assert await shared.all(5) == [""] * 15
        assert shared.given == 2
        await asyncio.sleep(3600)
        assert await shared.all(5) == [""] * 15
        assert shared.given == 3

    run(go())


def test_the_token_is_paid_for_by_the_store_that_asks_and_by_no_other() -> None:
    async def go() -> None:
        shared = Shared(requests_per_second=4.0)
        await shared.all()
        # A burst of four: the one that asked has made two requests, and the others one.
        assert [shared.budgets[name]._level for name in STORES] == [2.0, 3.0, 3.0]

    run(go())


def test_a_store_that_must_wait_for_its_budget_keeps_the_others_from_nothing() -> None:
    async def go() -> None:
        shared = Shared(requests_per_second=1.0)
        shared.budgets["north"].pause(8)
        slow = asyncio.create_task(shared.get("north"))
        await asyncio.sleep(0.1)
        await shared.get("south")
        assert shared.clock.monotonic() < 2
        await slow
        assert shared.clock.monotonic() < 9  # what it had taken for a token was given back
        assert shared.given == 1

    run(go())


def test_nobody_pays_for_a_token_that_another_is_asking_for() -> None:
    async def go() -> None:
        shared = Shared(requests_per_second=4.0)
        shared.organization.office.manners = Manners(latency_seconds=(5.0, 5.0))
        shared.budgets["north"].pause(4.9)  # so late that nothing has come back by itself when the token is there
        late = asyncio.create_task(shared.get("north"))
        await asyncio.sleep(0)
        await shared.get("south")
        await late
        assert [shared.budgets[name]._level for name in ("north", "south")] == [3.0, 3.0]
        assert shared.clock.monotonic() == 5
        assert shared.given == 1

    run(go())


def test_a_secret_that_cannot_be_read_costs_no_request(tmp_path: Path) -> None:
    async def go() -> None:
        shared = Shared(client_secret=None, client_secret_file=tmp_path / "absent")
        assert await shared.all() == ["auth"] * 3
        assert [budget._level for budget in shared.budgets.values()] == [10.0] * 3
        assert shared.observed == []

    run(go())


def test_a_long_pause_of_one_store_is_not_told_to_the_others() -> None:
    async def go() -> None:
        shared = Shared()
        shared.budgets["north"].pause(300)
        assert await shared.all() == ["rate_limited", "", ""]

    run(go())


def test_all_who_wait_share_a_failure_and_nobody_waits_for_a_time_out_after_the_other() -> None:
    async def go() -> None:
        shared = Shared(request_timeout=10.0)
        shared.organization.office.manners = Manners(down="hang")
        assert await shared.all() == ["timeout"] * 3
        assert shared.clock.monotonic() == 10
        assert shared.given == 1
        shared.organization.office.manners = Manners()
        assert await shared.all() == [""] * 3

    run(go())


def test_a_request_that_is_not_wanted_any_more_does_not_end_what_others_wait_for() -> None:
    async def go() -> None:
        shared = Shared()
        shared.organization.office.manners = Manners(latency_seconds=(1.0, 1.0))
        first = asyncio.create_task(shared.get("north"))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(shared.get("south"))
        await asyncio.sleep(0.1)
        first.cancel()
        await second
        assert shared.given == 1

    run(go())


def test_a_store_that_no_token_opens_renews_it_once_a_minute_and_the_others_go_on() -> None:
    async def go() -> None:
        shared = Shared()
        shared.organization.stores["west"].manners = Manners(down="401")
        for _ in range(10):
            assert await shared.all() == ["", "", "auth"]
            await asyncio.sleep(REFUSED_SECONDS / 10)
        assert shared.given == 2
        assert await shared.all() == ["", "", "auth"]
        assert shared.given == 3
        shared.organization.stores["west"].manners = Manners()
        assert await shared.all() == ["", "", ""]

    run(go())


def test_a_rotated_secret_is_read_at_the_next_renewal_for_all(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("org-secret")

    async def go() -> None:
        shared = Shared(client_secret=None, client_secret_file=secret)
        await shared.all()
        shared.organization.rotate_secret("new-secret")
        secret.write_text("new-secret\n")
        await asyncio.sleep(3600)
        assert await shared.all() == ["", "", ""]
        assert shared.given == 2

    run(go())


@pytest.mark.parametrize(
    "other",
    [{"client_id": Secret("b")}, {"client_secret": Secret("b")}, {"org_id": "b"}, {"org_id": None},
     {"api_url": "http://b"}, {"client_secret": None, "client_secret_file": Path("b")}],
)  # fmt: skip
def test_another_credential_has_another_token(other: dict[str, Any]) -> None:
    def config(**settings: Any) -> StoreConfig:
        fields: dict[str, Any] = {"name": "a", "api_url": "http://a", "client_id": Secret("a"), **settings}
        return StoreConfig(**{"client_secret": Secret("a"), "org_id": "a", **fields})

    tokens = Tokens(VirtualClock())
    one = tokens.of(config())
    assert tokens.of(config(name="b", store_id="b", api_url="http://a/", poll_interval=1.0)) is one
    assert tokens.of(config(**other)) is not one


@pytest.mark.parametrize("headers", [{"org_id": None}, {"store_id": None}, {"store_id": "east"}, {"org_id": "other"}])
def test_the_simulated_organization_opens_a_store_to_its_headers_alone(headers: dict[str, Any]) -> None:
    async def go() -> None:
        shared = Shared(**{"store_id": "north", **headers})
        with pytest.raises(ApiError, match="forbidden 403"):
            await shared.get("north")

    run(go())
