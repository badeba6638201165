"""`/` for a browser without JavaScript: the essential, in a table, in the place that `page/index.html` leaves. Pure."""

from __future__ import annotations

from typing import Final

from exporter import markup, status

PLACE: Final = "<!-- without JavaScript -->"
INTEGRATIONS_MAX: Final = 100  # the worst; a browser that runs scripts shows them all


def rendered(template: str, now: status.Status) -> str:
    return template.replace(PLACE, "".join(_store(store, now) for store in now.stores))


def _store(store: status.Store, now: status.Status) -> str:
    told = {
        "starting": "The first poll is under way.",
        "polled": "The last poll ended well.",
        "failing": f"The last poll failed: {store.error}.",
    }[store.state]
    counted = (
        "No walk through the logs has been completed yet."
        if store.complete_through is None
        else f"Every log created before {markup.utc(int(store.complete_through * 1e9))} has been counted."
    )
    advice = f"<p><strong>{markup.text(store.advice)}</strong></p>" if store.advice else ""
    gaps = "".join(
        f"<p>Gap {markup.text(gap.cause)}: {gap.count} times, {gap.open} open. {markup.text(gap.advice)}</p>"
        for gap in store.gaps
    )
    rows = "".join(_integration(store.name, each, now) for each in store.integrations[:INTEGRATIONS_MAX])
    more = store.integrations_total - INTEGRATIONS_MAX
    rest = f"<p>And {more} more: see the metrics.</p>" if more > 0 else ""
    table = (
        '<table><thead><tr><th scope="col">Integration</th><th scope="col">State</th><th scope="col">Attempts</th>'
        f'<th scope="col">Failed</th><th scope="col">Last failure</th></tr></thead><tbody>{rows}</tbody></table>{rest}'
        if rows
        else ""
    )
    return (
        f"<section><h2><bdi>{markup.text(store.name)}</bdi></h2><p>{told} {counted}</p>{advice}{gaps}{table}</section>"
    )


def _integration(store: str, each: status.Integration, now: status.Status) -> str:
    failure = each.failure
    last = "" if each.last_failure is None else f"{status.age(now.now - each.last_failure)} ago"
    if failure is not None:
        last += f", {markup.text(failure.reason)}"
        if failure.job is not None:
            last += f' <a href="{markup.text(markup.job_path(store, each.id, failure.job))}">its job</a>'
    return (
        f"<tr><td><bdi>{markup.text(each.name)}</bdi></td><td>{markup.text(status.in_words(each, now.now))}</td>"
        f"<td>{each.attempts}</td><td>{each.failed}</td><td>{last}</td></tr>"
    )
