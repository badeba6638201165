"""What a backfill tells at its end: range, numbers, what could not be reached and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

from exporter.advice import SKEW_SECONDS
from exporter.findings import seconds_text
from exporter.gather import Gathered
from exporter.history import Grid
from exporter.metrics import Labels
from exporter.recount import Account, Span

SHOWN_MAX: Final = 20  # integrations named one by one
LIVE_LABELS: Final = ("instance", "job")
BLOCK_HOURS: Final = 744  # a month: promtool reads its whole input once for each block


@dataclass(frozen=True, slots=True)
class StoreRecap:
    name: str
    span: Span
    note: str  # how its end was found
    gathered: Gathered
    account: Account
    grid: Grid
    timed: int
    untimed: int
    rejected: Mapping[str, int]
    until_given: bool = False  # whether the end is the user's, and no clock's


@dataclass(frozen=True, slots=True)
class Written:
    stores: tuple[StoreRecap, ...]
    samples: int
    series: int
    size_bytes: int


def utc(ns: int) -> str:
    """To the second."""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(written: Written, output: PurePath, labels: Labels) -> str:
    lines = [line for store in written.stores for line in _store(store)]
    lines.append(f"{output}: {written.series:,} series, {written.samples:,} samples, {written.size_bytes:,} bytes")
    if missing := [name for name in LIVE_LABELS if name not in dict(labels)]:
        lines.append(
            f"  note: without --label {' and --label '.join(f'{name}=…' for name in missing)} these are other series "
            "than those that Prometheus scrapes"
        )
    lines.append(
        f"next: promtool tsdb create-blocks-from openmetrics --max-block-duration={BLOCK_HOURS}h {output} blocks"
    )
    return "\n".join(lines) + "\n"


def _store(store: StoreRecap) -> Iterator[str]:
    account, span, grid = store.account, store.span, store.grid
    counted = sum(account.counted.values())
    yield f"store {store.name}"
    firsts = [stretch.first for stretch in account.stretches.values()]
    lasts = [stretch.last for stretch in account.stretches.values()]
    shown = f"{utc(grid.ns(min(firsts)))} to {utc(grid.ns(max(lasts)))}" if firsts else "nothing"
    yield f"  range: {shown}; asked for: {utc(span.since_ns)} to {utc(span.until_ns)}"
    yield f"  end: {store.note}"
    yield from _clock(store)
    yield f"  logs: {store.timed + store.untimed:,} read, {counted:,} counted, of {len(account.counted):,} integrations"
    for number, what in (
        (account.live, "are the live exporter's"),
        (account.older, "are older than the range, or than what was read completely"),
        (account.newer, "are younger than the range"),
        (account.unwanted, "are of integrations that the configuration leaves out"),
        (account.unknown, "are of integrations of which nothing is known to be complete"),
        (store.untimed, "have no readable created_at, and no place in time: not counted"),
        (account.ahead, "are dated ahead of the reading"),
        (account.moved, "are dated after the end and belong before it: counted at the end"),
    ):
        if number:
            yield f"    {number:,} {what}"
    for reason, number in sorted(store.rejected.items()):
        yield f"    {number:,} records cannot be counted: {reason}"
    if account.folded:
        yield f"  folded into other, past max_series: {len(account.folded):,} integrations and status codes"
    yield from _unreached(store)
    yield from _short(account)


def _clock(store: StoreRecap) -> Iterator[str]:
    """Logs bear EPCC's times, and the end that of this host."""
    ahead_ns = store.gathered.host_ahead_ns
    if abs(ahead_ns) <= SKEW_SECONDS * 1e9:
        return
    apart = seconds_text(abs(ahead_ns) / 1e9)
    told = f"  WRONG clock: this host's is {apart} {'ahead of' if ahead_ns > 0 else 'behind'} EPCC's"
    if store.until_given:
        yield f"{told}; set it"
    elif ahead_ns > 0:
        yield (
            f"{told}, and the end was told by it: set it, and make the file again with "
            f"--until={utc(store.span.until_ns - ahead_ns)}"
        )
    else:
        yield f"{told}, and the end was told by it: set it. What is dated later stands at the end, or is left out"


def _unreached(store: StoreRecap) -> Iterator[str]:
    unreached, account, grid = store.gathered.unreached, store.account, store.grid
    if not unreached:
        yield "  gaps: none; everything that EPCC lists in the range was read"
        return
    yield f"  gaps: {len(unreached):,} integrations were not read completely"
    for integration_id, why in [*unreached.items()][:SHOWN_MAX]:
        stretch = account.stretches.get(integration_id)
        known = "of it nothing is shown"
        if stretch is not None:
            known = f"shown from {utc(grid.ns(stretch.first))} to {utc(grid.ns(stretch.last))}, unknown otherwise"
        yield f"    {integration_id}: {why}; {known}"
    if len(unreached) > SHOWN_MAX:
        yield f"    and {len(unreached) - SHOWN_MAX:,} more"


def _short(account: Account) -> Iterator[str]:
    for integration_id, number in [*sorted(account.short.items())][:SHOWN_MAX]:
        yield (
            f"  WRONG at the seam: {integration_id} has {number:,} attempts more than the live exporter's baseline; "
            "increase() over the seam counts the baseline again"
        )
