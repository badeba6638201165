"""Texts of others in our HTML: escaped, and with what cannot be seen or turns a line around made visible. Pure.

`page/shared.js` does the same with what it shows (`visible`): whoever changes one changes the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import quote

# Control characters but line ends and tabs, zero-width ones, and those that change the direction of writing.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"
)


def text(value: str) -> str:
    """For HTML, between tags and in quoted attributes."""
    return escape(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", value))


@dataclass(frozen=True, slots=True)
class JobName:
    store: str
    integration_id: str
    integration_name: str
    job_id: str

    @property
    def path(self) -> str:
        return job_path(self.store, self.integration_id, self.job_id)


def job_path(store: str, integration_id: str, job_id: str) -> str:
    """Of the job's page, relative to `/`."""
    return "jobs/" + "/".join(quote(part, safe="") for part in (store, integration_id, job_id))


def utc(at_ns: int) -> str:
    """For people and, in ISO's form, for machines: to the second."""
    moment = datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC)
    return f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M:%S} UTC</time>'


def span(seconds: float) -> str:
    """A stretch of time in two units at most."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for large, small, names in ((86400, 3600, ("d", "h")), (3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {names[0]}" + (f" {rest} {names[1]}" if rest else "")
    return f"{whole} s"


def page(title: str, body: str, *, root: str, refresh_seconds: int | None = None) -> str:
    """A whole page. `root`: the way from it to `/`, relative, so that a proxy may put the exporter below a path."""
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds}">' if refresh_seconds is not None else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>{refresh}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="{root}page/icon.svg" type="image/svg+xml">'
        f'<link rel="stylesheet" href="{root}page/style.css"></head>\n<body>{body}</body></html>\n'
    )
