"""A simulated organization: one key for all its stores, among which the headers of a request choose.

Documented by Elastic Path are the headers `EP-Org-ID` and `EP-Store-ID`; what is answered where they are missing or
wrong is not, and taken here for a 403: the key is right, and what it should open is not said or not its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from exporter.epcc import Epcc, Request, Tokens
from exporter.manners import Answer, Manners, error_answer

TOKEN_PATH: Final = "/oauth/access_token"  # noqa: S105  a path


class Organization:
    """Stores by their ids; each is an `Epcc`, with manners and rate limit of its own, and they share the tokens."""

    def __init__(
        self,
        org_id: str,
        store_ids: tuple[str, ...],
        *,
        client_id: str = "org",
        client_secret: str = "org-secret",  # noqa: S107  of an organization that does not exist
        manners: Manners | None = None,
        seed: int = 0,
    ) -> None:
        self.org_id = org_id
        self.client_id = client_id
        tokens: Tokens = {}

        def made(number: int) -> Epcc:
            return Epcc(
                manners, seed=seed + number, client_id=client_id, client_secret=client_secret, tokens=tokens
            )  # fmt: skip

        self.office = made(0)  # gives the tokens; its `client_secret` is the one that counts
        self.stores = {store_id: made(number) for number, store_id in enumerate(store_ids, 1)}

    def rotate_secret(self, secret: str) -> None:
        """Tokens that are out stay good, as far as anybody knows; none is given for the old secret any more."""
        self.office.client_secret = secret

    def revoke_tokens(self) -> None:
        self.office.revoke_tokens()

    def answer(  # noqa: PLR0917  as `Epcc` has it
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str],
        form: Mapping[str, str], now_ns: int,
    ) -> Answer:  # fmt: skip
        if path == TOKEN_PATH:
            return self.office.answer(method, path, query, headers, form, now_ns)
        given = {name.lower(): value for name, value in headers.items()}
        store = self.stores.get(given.get("ep-store-id", ""))
        if store is None or given.get("ep-org-id") != self.org_id:
            refused = error_answer(403, self.office.manners, "no such store in this organization")
            self.office.seen.append(Request(now_ns, "other", path, dict(query), refused.status))
            return refused
        return store.answer(method, path, query, headers, form, now_ns)

    def truth(self, now_ns: int) -> dict[str, Any]:
        """Of each store, what a perfect observer has counted."""
        return {"now_ns": now_ns, "stores": {name: store.truth(now_ns) for name, store in self.stores.items()}}
