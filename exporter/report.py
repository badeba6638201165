"""The probe's report: what was found in words, fit for a public issue. Pure; findings hold no text of the store's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from exporter.findings import OBSERVED, Finding, Findings, seconds_text

PREAMBLE: Final = (
    "No secret, id, name, address or text of a receiver is in this report: it can be pasted into a public issue."
)
NOTHING: Final = "none: what was seen calls for no change"
_LABEL: Final = 26  # characters

Words = Callable[[Any], str]


def _pair(value: Any) -> str:
    word, number = value
    return f"{word}, {number}" if word != "honoured" else f"honoured: {number}"


def _seconds(value: Any) -> str:
    return seconds_text(float(value))


def _next(value: Any) -> str:
    return "present" if value else "absent"


def _stable(value: Any) -> str:
    return {"stable": "the same", "ties_move": "equal times change places", "unstable": "other records"}[str(value)]


def _envelope(value: Any) -> str:
    shapes = {"2026": "links", "2025": "meta, results", "both": "links, meta, results", "neither": "data alone"}
    return f"{value} ({shapes[str(value)]})"


# Finding, what it is called, its value in words; None: the note says it all.
SECTIONS: Final[Sequence[tuple[str, Sequence[tuple[str, str, Words | None]]]]] = (
    ("Access", (
        ("api", "API", str),
        ("token_seconds", "token lifetime", _seconds),
        ("integrations", "integrations", str),
        ("codes", "answers other than 200", None),
    )),
    ("List of all logs", (
        ("order", "order", str),
        ("stable", "from answer to answer", _stable),
        ("envelope", "envelope", _envelope),
        ("total", "total", str),
        ("next_on_last_page", "next on the last page", _next),
        ("page_limit", "page[limit]=100", _pair),
        ("over_limit", "page[limit] above 100", _pair),
        ("default_limit", "without page[limit]", str),
        ("paging", "page[offset]", str),
        ("length", "records listed", str),
        ("offset_limit", "offset limit", str),
        ("past_limit", "past the offset limit", str),
    )),
    ("Other lists", (
        ("integration_logs", "logs of an integration", str),
        ("job_logs", "logs of a job", str),
        ("jobs", "jobs of an integration", str),
    )),
    ("Records", (
        ("fields", "fields not there", None),
        ("types", "types that differ", None),
        ("time_format", "created_at", None),
        ("ties", "equal created_at", str),
        ("span", "time that was read", None),
        ("numbers", "magnitudes", None),
    )),
    ("Lateness", (
        ("newest_age", "age of the newest log", _seconds),
        ("lateness", "latest log seen", _seconds),
        ("arrival", "until a log is seen", _seconds),
    )),
    ("Headers", (
        ("date", "Date", str),
        ("skew", "clock skew", _seconds),
        ("rate_headers", "rate limits", None),
        ("rate_limited", "requests refused for rate", str),
        ("encoding", "compression", None),
    )),
)  # fmt: skip


def opening(version: str, python: str, stores: int) -> str:
    return f"epcc-exporter probe {version} (python {python}), {stores} store{'' if stores == 1 else 's'}\n{PREAMBLE}\n"


def of_store(findings: Findings, place: str, spent: str, failure: str, advice: Sequence[str]) -> str:
    """The report on one store; `place` tells it from others, for its name may be a customer's."""
    lines = ["", f"{place}: {spent}"]
    if failure:
        lines.append(f"EPCC could not be asked: {failure}")
    for title, rows in SECTIONS:
        shown = [(label, found, words) for name, label, words in rows if (found := findings.get(name)) is not None]
        if shown:
            lines += ["", title, *(f"  {label:<{_LABEL}}{said(found, words)}" for label, found, words in shown)]
    if not failure:
        lines += ["", "Suggested settings", *(f"  {line}" for line in advice or (NOTHING,))]
    return "\n".join(lines) + "\n"


def said(finding: Finding, words: Words | None) -> str:
    """What was found, and how sure it is."""
    if finding.value is None or words is None:
        return f"{finding.note} ({finding.sure})" if finding.sure == OBSERVED else f"{finding.sure}: {finding.note}"
    return f"{words(finding.value)} ({finding.sure})" + (f": {finding.note}" if finding.note else "")
