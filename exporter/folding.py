"""What bounds a store's series: past the limit a new integration, or a new status code of a known one, is `other`.

An attempt is folded before anything of it is remembered, so that ids, jobs, streaks and tallies agree on whose it is.
It is counted all the same: sums over a store stay exact, and what is known already keeps its series. Attempts of a
folded integration come under its own id as soon as there is room for it; what was counted as `other` stays there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from exporter.records import Attempt
from exporter.tally import Tally

OTHER: Final = "other"
SERIES: Final = 47  # of one integration on the page, with the status codes that are never folded; a test counts them
UNFOLDED_CODES: Final = frozenset({"none", OTHER})


def series_of(tally: Tally) -> int:
    """How many series a tally takes on the page, at most."""
    return SERIES + len(tally.responses.keys() - UNFOLDED_CODES)


class Room:
    """`left`: how many series may be born beside these tallies."""

    def __init__(self, tallies: Mapping[str, Tally], left: int) -> None:
        self._tallies = tallies
        self._left = left
        self._codes: dict[str, set[str]] = {}  # of the integrations that were asked about
        self.folded: set[tuple[str, str]] = set()  # label, value

    def admits(self, integration_id: str) -> bool:
        """Whether an integration has its own series, or has them from now on."""
        if integration_id in self._codes:
            return True
        tally = self._tallies.get(integration_id)
        if tally is not None:
            self._codes[integration_id] = {*tally.responses, *UNFOLDED_CODES}
            return True
        if self._left < SERIES and integration_id != OTHER:
            self.folded.add(("integration_id", integration_id))
            return False
        self._left -= SERIES
        self._codes[integration_id] = set(UNFOLDED_CODES)
        return True

    def fold(self, attempts: Sequence[Attempt], excluded: frozenset[str]) -> Sequence[Attempt]:
        """As they are counted; those of integrations that are `excluded` count nowhere."""
        pairs = {(each.integration_id, each.status_code) for each in attempts}
        if all(integration_id in excluded or self._has(integration_id, code) for integration_id, code in pairs):
            return attempts
        return [each if each.integration_id in excluded else self._folded(each) for each in attempts]

    def _has(self, integration_id: str, code: str) -> bool:
        tally = self._tallies.get(integration_id)
        return tally is not None and (code in tally.responses or code in UNFOLDED_CODES)

    def _folded(self, attempt: Attempt) -> Attempt:
        if not self.admits(attempt.integration_id):
            self.admits(OTHER)
            attempt = replace(attempt, integration_id=OTHER)
        known, code = self._codes[attempt.integration_id], attempt.status_code
        if code in known:
            return attempt
        if self._left < 1:
            self.folded.add(("status_code", code))
            return replace(attempt, status_code=OTHER)
        known.add(code)
        self._left -= 1
        return attempt
