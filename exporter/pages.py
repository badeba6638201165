"""HTML: the plain state of things, and one job's attempts. Every text on them is escaped, and shown as text.

Control characters and marks that turn the direction of writing could make a text look like another: they are shown as
what they are, a replacement character each. No script, no style, nothing from elsewhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final
from urllib.parse import quote

from exporter import __version__
from exporter.answers import TEXT_MAX, Answer
from exporter.status import IntegrationStatus, StoreStatus

INTEGRATIONS_SHOWN_MAX: Final = 1_000  # on the plain page, per store; the rest is named as a number
_KEPT: Final = "\n\t"


def landing(stores: Sequence[StoreStatus], telemetry_path: str) -> str:
    return _page(
        "epcc-exporter",
        f"<p>Version {escape(__version__)}. Metrics for Prometheus are at "
        f'<a href="{escape(telemetry_path)}">{escape(telemetry_path)}</a>, this page as JSON at '
        '<a href="/api/v1/status">/api/v1/status</a>; '
        "health at <a href=/-/healthy>/-/healthy</a> and <a href=/-/ready>/-/ready</a>.</p>"
        + "".join(map(_store, stores)),
    )


def job(store: str, integration_id: str, job_id: str, answers: Sequence[Answer]) -> str:
    """The attempts of a job, oldest first, with the time between them."""
    title = f"Job {shown(job_id)}"
    where = f"<p>Store {shown(store)}, integration {shown(integration_id)}. <a href=/>All stores</a></p>"
    if not answers:
        why = "none was written yet, or EPCC keeps them no more, or the job is another integration's"
        return _page(title, f"{where}<p>EPCC has no log of this job: {why}.</p>")
    last = answers[-1].attempt
    ending = (
        "The last attempt succeeded." if last.succeeded else "The last attempt failed." if last.succeeded is False
        else "Whether the last attempt succeeded, its log does not say."
    )  # fmt: skip
    before: int | None = None
    rows = ""
    for answer in answers:
        rows += _attempt(answer, before)
        before = answer.attempt.created_ns
    return _page(
        title,
        f"{where}<p>{len(answers)} attempts. {ending}</p><table border=1 cellpadding=4><tr><th scope=col>Time (UTC)"
        "<th scope=col>After the one before<th scope=col>Attempt<th scope=col>Outcome<th scope=col>Status"
        f"<th scope=col>Took<th scope=col>Error<th scope=col>The receiver's answer</tr>{rows}</table>",
    )


def said(title: str, text: str) -> str:
    """A page that only says something."""
    return _page(escape(title), f"<p>{shown(text)}</p><p><a href=/>All stores</a></p>")


def shown(text: str) -> str:
    """Any text, escaped, and with nothing in it that changes how the text around it looks."""
    visible = "".join(
        each if each in _KEPT or unicodedata.category(each)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for each in text
    )
    return escape(visible)


def _page(title: str, content: str) -> str:
    return (
        f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<meta name=viewport content='width=device-width'><h1>{title}</h1>{content}</html>"
    )


def _attempt(answer: Answer, before_ns: int | None) -> str:
    attempt = answer.attempt
    outcome = {True: "succeeded", False: "FAILED", None: "not told"}[attempt.succeeded]
    if attempt.reason is not None:
        outcome += f" ({attempt.reason})"
    apart = (
        "" if before_ns is None or attempt.created_ns is None else f"{(attempt.created_ns - before_ns) / 1e9:,.1f} s"
    )
    took = "" if attempt.processing_us is None else f"{attempt.processing_us / 1e6:.3f} s"
    cut = (
        f"<p>(the first {TEXT_MAX:,} of {answer.body_length:,} characters)</p>" if answer.body_length > TEXT_MAX else ""
    )
    number = "" if attempt.number is None else str(attempt.number)
    return (
        f"<tr><td>{_time(attempt.created_ns)}<td>{apart}<td>{number}<td>{outcome}<td>{escape(attempt.status_code)}"
        f"<td>{took}<td><bdi>{shown(answer.error)}</bdi><td><pre><bdi>{shown(answer.body)}</bdi></pre>{cut}</tr>"
    )


def _store(store: StoreStatus) -> str:
    words = {
        "starting": "The first poll is under way.",
        "polled": "The last poll ended well.",
        "failing": f"The last poll failed: {store.last_error}.",
    }[store.state]
    worst_first = sorted(store.integrations, key=lambda each: (-each.consecutive_failures, each.name, each.id))
    rows = "".join(_integration(store.name, each) for each in worst_first[:INTEGRATIONS_SHOWN_MAX])
    more = len(store.integrations) - INTEGRATIONS_SHOWN_MAX
    rest = f"<p>And {more} integrations more: see the metrics.</p>" if more > 0 else ""
    table = (
        "<table border=1 cellpadding=4><tr><th>Integration<th>State<th>Attempts<th>Failed<th>Last attempt (UTC)</tr>"
        f"{rows}</table>{rest}"
        if rows
        else "<p>No integration is known yet.</p>"
    )
    polled = f" That was at {_time(store.last_poll_ns)} UTC." if store.last_poll_ns is not None else ""
    through = store.complete_through_ns
    counted = (
        "No walk through the logs has been completed yet."
        if through is None
        else f"Every log created before {_time(through)} UTC and visible by then has been counted."
    )
    told = "".join(f" A gap: {cause}, {number} so far." for cause, number in sorted((store.gaps or {}).items()))
    return f"<h2>Store {escape(store.name)}</h2><p>{escape(words)}{polled} {counted}{escape(told)}</p>{table}"


def _integration(store: str, each: IntegrationStatus) -> str:
    state = {
        "disabled": "disabled",
        "failing": f"FAILING: {each.consecutive_failures} failures in a row",
        "unseen": "no attempt seen yet",
        "succeeding": "the last attempt succeeded",
    }[each.state]
    if each.last_failed_job is not None:
        path = "/".join(quote(part, safe="") for part in ("jobs", store, each.id, each.last_failed_job))
        state += f'; <a href="/{path}">the last failed job</a>'
    return (
        f"<tr><td>{shown(each.name or each.id)}<td>{state}<td>{each.attempts}<td>{each.failed}"
        f"<td>{_time(each.last_attempt_ns)}</tr>"
    )


def _time(at_ns: int | None) -> str:
    if at_ns is None:
        return "never"
    return datetime.fromtimestamp(at_ns // 1_000_000_000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
