"""A client of the simulated EPCC without a socket, for the tests of the simulated EPCC itself."""

from __future__ import annotations

import json
from typing import Any

from exporter.epcc import Epcc, log
from exporter.manners import Answer, Manners
from exporter.records import read_token
from exporter.shop import SECOND, Integration

START = 1_700_000_000 * SECOND
NOW = START + 1000 * SECOND
HOUR_NS = 3600 * SECOND
SHIPPING = Integration("shipping", "Order shipping")
ERP = Integration("erp", "ERP sync")
LOGS = "/v2/integrations/logs"


class Client:
    """Asks as an exporter would, on a clock that stands still unless it is moved."""

    def __init__(self, epcc: Epcc, now_ns: int = NOW) -> None:
        self.epcc = epcc
        self.now_ns = now_ns
        self.token = ""

    def log_in(self, grant: str = "client_credentials", secret: str | None = None) -> Answer:
        given = self.epcc.client_secret if secret is None else secret
        form = {"grant_type": grant, "client_id": "demo", "client_secret": given}
        answer = self.epcc.answer("POST", "/oauth/access_token", {}, {}, form, self.now_ns)
        if answer.status == 200:
            self.token = read_token(answer.body).access_token
        return answer

    def ask(self, path: str, offset: int | None = None, limit: int | None = None) -> Answer:
        query = {"page[offset]": offset, "page[limit]": limit}
        asked = {name: str(value) for name, value in query.items() if value is not None}
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.epcc.answer("GET", path, asked, headers, {}, self.now_ns)

    def page(self, offset: int | None = None, limit: int | None = None, path: str = LOGS) -> dict[str, Any]:
        answer = self.ask(path, offset, limit)
        assert answer.status == 200, answer
        page = json.loads(answer.body)
        assert isinstance(page, dict)
        return page

    def ids(self, offset: int | None = None, limit: int | None = None, path: str = LOGS) -> list[str]:
        return [record["id"] for record in self.page(offset, limit, path)["data"]]


def client(manners: Manners | None = None, number: int = 0, seed: int = 0) -> Client:
    """A store with `number` logs, one a second: "0" is the oldest."""
    epcc = Epcc(manners, seed=seed)
    epcc.add_integration(SHIPPING)
    epcc.add(*(log(str(i), START + i * SECOND) for i in range(number)))
    asks = Client(epcc)
    if manners is None or (manners.down is None and not manners.faults):
        assert asks.log_in().status == 200
    return asks


def spoil(asks: Client, manners: Manners) -> Client:
    asks.epcc.manners = manners
    return asks


def down(fault: str, **manners: Any) -> Client:
    return spoil(client(number=60), Manners(down=fault, **manners))
