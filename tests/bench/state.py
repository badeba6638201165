"""What known state costs, in memory, on disk, and per poll: `.venv/bin/python -m tests.bench.state`.

Memory and disk: what a state with more ids, or more integrations, takes over a small one, in a process that has just
opened it. Polls: over HTTP, of a store of which so many ids are remembered, when nothing is new and when something is;
the cost must follow what is new.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter import statefile
from tests.bench.far import rows
from tests.bench.figures import MB, Spread, table
from tests.bench.scrape import Target
from tests.bench.standin import Standin, standin
from tests.bench.wired import LOGS_EACH, Far, Wired, build

IDS = 100_000
INTEGRATIONS = 10_000
FEW = 10  # integrations of a small state
KNOWN = (1_000, 10_000, 100_000)
NEWS = (0, 100, 1_000)  # logs that are new to a poll
POLLS = 9  # of each kind; the median is shown
LOOKBACK_SECONDS = 900.0
SPAN_SECONDS = 3 * LOOKBACK_SECONDS  # shows its order, and two thirds of it are remembered
MEANING = """\
What a process that has just opened its state holds beyond one with {few} integrations and {small} ids: resident memory when the
state was read, and after a page in text, plain and packed, was made once; the state file when it was closed.
An id comes with its job; an integration with its tally, {each} ids and its series.
"""
POLLS_MEANING = """\
Medians of {polls} polls, of the process without the server. CPU of all threads; requests without the list of integrations,
which is asked for once a minute. A poll that brings n logs reads the pages that they are on, and one that shows known ground.
"""


@dataclass(frozen=True, slots=True)
class Held:
    """What a state takes over a small one."""

    what: str
    opened: int  # bytes of resident memory
    shown: int  # ... after its page was made
    state: int  # bytes of file
    seconds: float  # to open and check it


@dataclass(frozen=True, slots=True)
class Polled:
    """Polls of one kind; each a value per poll."""

    known: int  # ids remembered
    news: int
    requests: Spread
    cpu_seconds: Spread
    seconds: Spread


def held(ids: int, integrations: int) -> list[Held]:
    small = FEW * LOGS_EACH
    cases = (
        ("", FEW, small), (f"{ids:,} ids", FEW, small + ids),
        (f"{integrations:,} integrations", FEW + integrations, small + integrations * LOGS_EACH),
    )  # fmt: skip
    found = []
    for what, number, logs in cases:
        with tempfile.TemporaryDirectory(prefix="epcc-exporter-bench-") as folder:
            build(Path(folder), number, logs)
            size = statefile.size_bytes(Path(folder))
            with Far(Target.made, Path(folder), number) as target:
                seconds, opened = target.ask("opened"), target.ask("grown")
                for packed in (False, True):
                    target.ask("page", "text", packed)
                found.append(Held(what, opened, target.ask("grown"), size, seconds))
    base = found[0]
    return [
        Held(each.what, each.opened - base.opened, each.shown - base.shown, each.state - base.state,
             each.seconds - base.seconds)
        for each in found[1:]
    ]  # fmt: skip


class Poller:
    """A store's poller, which polls when it is told to; called through `Far`."""

    def __init__(self, folder: Path, url: str) -> None:
        self._world = Wired(folder, api_url=url, lookback=LOOKBACK_SECONDS, poll_interval=3600.0,
                            requests_per_second=1e6)  # fmt: skip

    @classmethod
    async def made(cls, folder: Path, url: str) -> Poller:
        return cls(folder, url)

    async def close(self) -> None:
        await self._world.end()

    async def poll(self) -> tuple[float, float, int]:
        """CPU seconds, seconds, and logs counted so far."""
        cpu, began = time.process_time(), time.perf_counter()
        await self._world.poller.poll()
        spent = time.process_time() - cpu, time.perf_counter() - began
        if self._world.poller.failure is not None:
            raise RuntimeError(f"the poll failed: {self._world.poller.failure}")
        return *spent, self._world.poller.intake.marks.counted


def polled(known: int, news: Sequence[int] = NEWS, polls: int = POLLS) -> list[Polled]:
    """For each number of new logs, that many polls of a store with about so many ids remembered."""
    hidden = polls * sum(news)
    listed = round(known * SPAN_SECONDS / (2 * LOOKBACK_SECONDS))
    with (
        standin(listed + hidden, span_seconds=SPAN_SECONDS * (listed + hidden) / listed) as server,
        tempfile.TemporaryDirectory(prefix="epcc-exporter-bench-") as folder,
    ):
        server.hide(hidden)
        with Far(Poller.made, Path(folder), server.url) as far:
            counted = far.ask("poll")[2]
            assert counted == listed, (counted, listed)
            found = []
            for number in news:
                remembered = rows(Path(folder))["seen"]
                done = []
                for _ in range(polls):
                    hidden -= number
                    done.append(_poll(server, far, hidden))
                assert done[-1][3] == server.logs - hidden, "not every log was counted"
                requests, cpu, seconds, _ = (Spread(values) for values in zip(*done, strict=True))
                found.append(Polled(remembered, number, requests, cpu, seconds))
    return found


def _poll(server: Standin, far: Far, hidden: int) -> tuple[float, float, float, float]:
    server.hide(hidden)
    server.reset()
    cpu, seconds, counted = far.ask("poll")
    return server.seen().requests, cpu, seconds, counted


def shown_held(found: Sequence[Held]) -> str:
    lines = [
        (
            each.what,
            f"{each.opened / MB:.1f}",
            f"{each.shown / MB:.1f}",
            f"{each.state / MB:.1f}",
            f"{each.seconds:.2f}",
        )
        for each in found
    ]
    head = ("more", "memory MB, opened", "and shown", "state MB", "s to open")
    return table(head, lines) + MEANING.format(few=FEW, small=FEW * LOGS_EACH, each=LOGS_EACH)


def _ms(seconds: Spread) -> str:
    return Spread(tuple(value * 1e3 for value in seconds.values)).text(".1f")


def shown_polled(found: Sequence[Polled], polls: int = POLLS) -> str:
    lines = [
        (
            f"{each.known:,}", f"{each.news:,}", f"{each.requests.median:.0f}", _ms(each.cpu_seconds),
            f"{each.seconds.median * 1e3:.1f}",
        )
        for each in found
    ]  # fmt: skip
    head = ("ids remembered", "new logs", "requests", "CPU ms: median (least to most)", "ms")
    ratios = []
    for news in dict.fromkeys(each.news for each in found):
        same = [each.cpu_seconds.median for each in found if each.news == news]
        ratios.append(f"{same[-1] / same[0]:.2f} with {news:,} new")
    sizes = f"{found[0].known:,} to {found[-1].known:,}"
    return (
        table(head, lines, texts=0)
        + f"CPU from {sizes} ids remembered, by ratio: {', '.join(ratios)}\n"
        + POLLS_MEANING.format(polls=polls)
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.state", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=int, default=IDS, help="more, for memory and disk (default: %(default)s)")
    parser.add_argument("--integrations", type=int, default=INTEGRATIONS, help="likewise (default: %(default)s)")
    parser.add_argument(
        "--known", type=int, nargs="+", default=list(KNOWN), help="ids, for polls (default: %(default)s)"
    )
    parser.add_argument("--polls", type=int, default=POLLS, help="of each kind (default: %(default)s)")
    arguments = parser.parse_args()
    sys.stdout.write(f"{shown_held(held(arguments.ids, arguments.integrations))}\n")
    sys.stdout.flush()
    found = [each for known in arguments.known for each in polled(known, polls=arguments.polls)]
    sys.stdout.write(shown_polled(found, arguments.polls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
