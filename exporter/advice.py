"""The settings that a probe's findings call for. Pure."""

from __future__ import annotations

from typing import Final

from exporter.findings import Findings, seconds_text

SKEW_SECONDS: Final = 30.0  # by which clocks may differ before anybody need care
LATENESS_MARGIN: Final = 2  # what was seen within seconds is the least that there is


def advice(found: Findings, *, lookback: float, page_limit: int, requests_per_second: float) -> list[str]:
    """Lines for the report; the settings are the store's present ones. None: nothing calls for a change."""
    lines = [*_lookback(found, lookback), *_requests(found, page_limit, requests_per_second)]
    skew = _value(found, "skew")
    if isinstance(skew, float) and abs(skew) > SKEW_SECONDS:
        lines.append(
            f"no setting, but this host's clock and EPCC's are {seconds_text(abs(skew))} apart: set the host's"
        )
    past = _value(found, "past_limit")
    if isinstance(past, str) and past.startswith("5"):
        lines.append(
            f"no setting helps: past the offset limit EPCC answers {past}, which the exporter takes for an outage"
        )
    if _value(found, "paging") == "ignored":
        lines.append("no setting helps: page[offset] is ignored, so only the newest page of each list can be counted")
    return lines


def _lookback(found: Findings, lookback: float) -> list[str]:
    late = _value(found, "lateness")
    if isinstance(late, float) and late * LATENESS_MARGIN > lookback:
        return [f"lookback: {seconds_text(_rounded(late * LATENESS_MARGIN))}  (a log came {seconds_text(late)} late)"]
    span, limit = _value(found, "span"), _value(found, "offset_limit")
    ordered = _value(found, "order") in ("newest_first", "oldest_first")
    if isinstance(span, float) and isinstance(limit, int) and ordered and span < LATENESS_MARGIN * lookback:
        shorter = max(1.0, span / (2 * LATENESS_MARGIN))
        return [
            f"lookback: {seconds_text(_rounded(shorter))}, or less  (the list can be read {seconds_text(span)} back: "
            f"with {seconds_text(lookback)} the integrations' own lists are read instead)"
        ]
    return []


def _requests(found: Findings, page_limit: int, requests_per_second: float) -> list[str]:
    lines = []
    length = _value(found, "page_limit")
    if isinstance(length, tuple) and length[0] == "refused" and length[1] < page_limit:
        lines.append(f"page_limit: {length[1]}  (longer pages are refused)")
    if _value(found, "rate_limited"):
        lines.append(f"requests_per_second: {requests_per_second / 2:g}, or less  (EPCC answered 429)")
    return lines


def _value(found: Findings, name: str) -> object:
    return found[name].value if name in found else None


def _rounded(seconds: float) -> float:
    """Up, to what people write."""
    for step in (1, 5, 15, 30, 60, 300, 900, 3600):
        if seconds <= 12 * step:
            return float(-(-seconds // step) * step)
    return float(min(-(-seconds // 3600) * 3600, 86400))
