"""From flags to a running exporter: `epcc-exporter` and `python -m exporter`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from exporter import __version__, config, flags, logs, report, simulator
from exporter.advice import advice
from exporter.app import App, open_store, probe, session_of, stop_on_signals
from exporter.backfill import Backfill, BackfillError, Plan
from exporter.clock import Clock
from exporter.config import Config, ConfigError, Secret, StoreConfig
from exporter.findings import seconds_text
from exporter.guard import Guard
from exporter.metrics import OwnMetrics
from exporter.probe import REQUESTS_MAX
from exporter.progress import Progress
from exporter.reload import Reloader
from exporter.reshard import ReshardError, reshard
from exporter.sharding import MisplacedError, Shard, claim
from exporter.standby import Standby
from exporter.statefile import DamagedError, LockedError, NewerStateError
from exporter.store import StorageError, Store

OK: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
GC_THRESHOLDS: Final = (50_000, 20, 20)  # Python's own (700, 10, 10) look through a long catching-up again and again
UNSPECIFIED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where a browser finds what listens everywhere
DEMO_POLL_SECONDS: Final = 2.0
DEMO_LOOKBACK_SECONDS: Final = 60.0

_log = logging.getLogger("exporter")


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """The exit code: 0 stopped or done, 1 failed, 2 wrong usage or configuration."""
    arguments = flags.parse(argv)
    gc.set_threshold(*GC_THRESHOLDS)
    logs.setup(arguments.log_level, arguments.log_format, sys.stderr)
    try:
        return _COMMANDS[arguments.command](arguments)
    except (LockedError, NewerStateError, MisplacedError) as error:
        logs.log(_log, logging.ERROR, "cannot start", problem=error)
    except sqlite3.Error as error:
        logs.log(_log, logging.ERROR, "cannot start: the state cannot be opened", problem=type(error).__name__,
                 code=getattr(error, "sqlite_errorname", ""), path=getattr(arguments, "storage_path", ""))  # fmt: skip
    except (OSError, StorageError) as error:
        logs.log(_log, logging.ERROR, "cannot start", problem=error)
    except Exception:
        # A broken invariant: the restart goes on from what is durable.
        _log.exception("a broken invariant ended the process")
    return FAILED


def _run(arguments: argparse.Namespace) -> int:
    shard: Shard = arguments.shard

    def load() -> Config:
        return shard.share(config.load(arguments.config_file, os.environ))

    problems: list[str] = []
    try:
        whole = config.load(arguments.config_file, os.environ)
    except ConfigError as error:
        problems += error.problems
    try:
        guard = Guard(arguments.web_config_file, Clock())
    except ConfigError as error:
        problems += error.problems
    if problems:
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
        return WRONG_USAGE
    if arguments.config_check:
        sys.stdout.write(config.summary(whole, arguments.config_file) + "\n")
        if shard.total > 1:
            sys.stdout.write(shard.summary(store.name for store in whole.stores) + "\n")
        if arguments.web_config_file is not None:
            told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in guard.config.summary().items())
            sys.stdout.write(f"{arguments.web_config_file}: ok, {told}\n")
        return OK
    if arguments.once:
        return asyncio.run(_once(shard.share(whole), arguments))
    if arguments.wait_for_lock:
        return asyncio.run(_stand_by(shard.share(whole), arguments, load, guard))
    return asyncio.run(_serve(shard.share(whole), arguments, load, guard, shard=shard))


async def _stand_by(loaded: Config, arguments: argparse.Namespace, load: Callable[[], Config], guard: Guard) -> int:
    """Waits for the state if need be, and then serves, with the configuration as it is by then."""
    stop, clock, own = asyncio.Event(), Clock(), OwnMetrics()

    async def keep(config: Config) -> None:
        nonlocal loaded
        loaded = config

    reloader = Reloader(loaded, load, keep, guard, own, clock)
    stop_on_signals(stop, _started(reloader.reload))
    standby = Standby(
        lambda: open_store(arguments.storage_path, clock), reloader.reload, own,
        telemetry_path=arguments.telemetry_path, guard=guard, shard=arguments.shard,
    )  # fmt: skip
    opened = await standby.opened(arguments.listen_addresses, stop)
    if opened is None:
        logs.log(_log, logging.INFO, "stopped")
        return OK
    store, arguments.listen_addresses = opened
    await reloader.reload()
    return await _serve(loaded, arguments, load, guard, shard=arguments.shard, store=store, stop=stop, before=reloader)


def _started(work: Callable[[], Coroutine[Any, Any, object]]) -> Callable[[], None]:
    """For a signal, which waits for nothing; what it started is held until it has ended."""
    tasks: set[asyncio.Task[object]] = set()

    def start() -> None:
        task = asyncio.create_task(work())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return start


def _reshard(arguments: argparse.Namespace) -> int:
    try:
        moves = reshard(arguments.storage_paths, arguments.sources, dry_run=arguments.dry_run)
    except ReshardError as error:
        logs.log(_log, logging.ERROR, "no state was moved", problem=error)
        return FAILED
    except DamagedError as error:
        logs.log(_log, logging.ERROR, "not every state was moved", problem=error)
        return FAILED
    sys.stdout.writelines(f"{'would move ' if arguments.dry_run else ''}{move}\n" for move in moves)
    states = f"{len(moves)} state{'s' if len(moves) != 1 else ''}"
    shards = f"{len(arguments.storage_paths)} shard{'s' if len(arguments.storage_paths) != 1 else ''}"
    sys.stdout.write(f"{states} {'would move' if arguments.dry_run else 'moved'}, {shards}\n")
    return OK


async def _serve(
    loaded: Config,
    arguments: argparse.Namespace,
    load: Callable[[], Config] | None,
    guard: Guard,
    *,
    listening: Callable[[Sequence[tuple[str, int]]], None] = lambda bound: None,
    shard: Shard | None = None,
    store: Store | None = None,
    stop: asyncio.Event | None = None,
    before: Reloader | None = None,
) -> int:
    """`listening` is told what was bound. `store`: the state, where it is open already. `stop`: what a signal sets,
    where one may have come already. `before`: what read `loaded` while the process stood by."""
    stop = stop or asyncio.Event()
    clock = Clock()
    if store is None:
        store = await asyncio.to_thread(open_store, arguments.storage_path, clock)
    try:
        claim(store, shard or Shard(), arguments.storage_path)
        if shard is not None and shard.total > 1:
            logs.log(_log, logging.INFO, "this is a shard", shard=shard, stores=len(loaded.stores))
        app = App(
            loaded, store, clock, load, arguments.telemetry_path, guard=guard, shard=shard,
            grafana_url=arguments.grafana_url,
            auto_reload_seconds=arguments.auto_reload_interval if arguments.auto_reload else None, before=before,
        )  # fmt: skip
        stop_on_signals(stop, _started(app.reload))
        await app.run(arguments.listen_addresses, stop, listening)
    finally:
        store.close()
    logs.log(_log, logging.INFO, "stopped")
    return OK


async def _once(loaded: Config, arguments: argparse.Namespace) -> int:
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="epcc-exporter-") as folder:
        store = open_store(Path(folder) / "data", clock)
        try:
            app = App(loaded, store, clock, None, arguments.telemetry_path, shard=arguments.shard)
            page, well = await app.once()
        finally:
            store.close()
    sys.stdout.write(page)
    return OK if well else FAILED


def _probe(arguments: argparse.Namespace) -> int:
    stores = _chosen(arguments)
    return WRONG_USAGE if stores is None else asyncio.run(_probe_each(stores, arguments.watch_seconds))


def _chosen(arguments: argparse.Namespace) -> list[StoreConfig] | None:
    """The stores that `--store` names, or all; None: what is wrong was told."""
    try:
        loaded = config.load(arguments.config_file, os.environ)
    except ConfigError as error:
        sys.stderr.writelines(f"{problem}\n" for problem in error.problems)
        return None
    names = [store.name for store in loaded.stores]
    if unknown := [name for name in arguments.stores or () if name not in names]:
        sys.stderr.write(f"{arguments.config_file}: has no store {unknown[0]!r}; there are {', '.join(names)}\n")
        return None
    return [store for store in loaded.stores if arguments.stores is None or store.name in arguments.stores]


def _backfill(arguments: argparse.Namespace) -> int:
    stores = _chosen(arguments)
    if stores is None:
        return WRONG_USAGE
    if len(dict(arguments.labels or ())) < len(arguments.labels or ()):
        sys.stderr.write("epcc-exporter backfill: error: a --label is given twice\n")
        return WRONG_USAGE
    if arguments.output.is_dir():
        sys.stderr.write(f"epcc-exporter backfill: error: --output {arguments.output} is a folder, wanted a file\n")
        return WRONG_USAGE
    if not arguments.output.absolute().parent.is_dir():
        sys.stderr.write(f"epcc-exporter backfill: error: --output {arguments.output}: there is no such folder\n")
        return WRONG_USAGE
    plan = Plan(tuple(stores), arguments.output, arguments.storage_path, arguments.since, arguments.until_ns,
                arguments.step_seconds, tuple(arguments.labels or ()))  # fmt: skip

    async def work() -> str:
        stop, clock = asyncio.Event(), Clock()
        stop_on_signals(stop, lambda: None)
        return await Backfill(plan, clock, stop, session_of, Progress(clock)).run()

    try:
        summary = asyncio.run(work())
    except BackfillError as error:
        logs.log(_log, logging.ERROR, "nothing was written", problem=error)
        return FAILED
    sys.stdout.write(logs.masked(summary))
    return OK


async def _probe_each(stores: list[StoreConfig], watch_seconds: float) -> int:
    """Prints one report on all of them, told apart by their places: a store's name may be a customer's."""
    stop, clock, done = asyncio.Event(), Clock(), True
    stop_on_signals(stop, lambda: None)
    stopped = asyncio.create_task(stop.wait())
    text = report.opening(__version__, platform.python_version(), len(stores))
    for number, store in enumerate(stores, 1):
        logs.log(_log, logging.INFO, "asking a store", store=store.name, place=number, requests_max=REQUESTS_MAX)
        asking = asyncio.create_task(probe(store, clock, watch_seconds))
        await asyncio.wait([asking, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            asking.cancel()
            await asyncio.wait([asking])
            logs.log(_log, logging.WARNING, "stopped before the report was made")
            return FAILED
        probed = asking.result()
        if probed.failure:
            logs.log(_log, logging.ERROR, "EPCC could not be asked", store=store.name, problem=probed.failure)
        done = done and not probed.failure
        text += report.of_store(
            probed.findings,
            f"Store {number} of {len(stores)}",
            f"{probed.requests} of at most {REQUESTS_MAX} requests, {seconds_text(probed.seconds)}",
            probed.failure,
            advice(probed.findings, lookback=store.lookback, page_limit=store.page_limit,
                   requests_per_second=store.requests_per_second),
        )  # fmt: skip
    stopped.cancel()
    sys.stdout.write(logs.masked(text))
    return OK if done else FAILED


async def _simulate(arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    stop_on_signals(stop, lambda: None)
    await simulator.run(arguments, stop)
    return OK


async def _demo(arguments: argparse.Namespace) -> int:
    def tell(bound: Sequence[tuple[str, int]]) -> None:
        host, own_port = min(bound, key=lambda address: ":" in address[0])  # IPv4 where there is one
        where = f"http://{logs.address(UNSPECIFIED.get(host, host), own_port)}"
        sys.stdout.write(
            f"A simulated store is polled every {DEMO_POLL_SECONDS:g} seconds. Look at\n"
            f"  {where}/         its state in words\n"
            f"  {where}{arguments.telemetry_path}  what Prometheus reads\n"
            f"  http://127.0.0.1:{port}/simulator/truth  what the simulated store has sent, to compare\n"
            "Stop it with Ctrl-C.\n"
        )
        sys.stdout.flush()

    with ExitStack() as stack:
        folder = arguments.storage_path or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="epcc-exporter-demo-"))
        )
        epcc = simulator.make_demo(arguments.seed, arguments.scenario, Clock().wall_ns())
        runner, port = await simulator.serve("127.0.0.1", 0, epcc)
        try:
            arguments.storage_path = folder
            return await _serve(_demo_config(port), arguments, None, Guard(None, Clock()), listening=tell)
        finally:
            await runner.cleanup()


def _demo_config(port: int) -> Config:
    store = StoreConfig(
        name="demo",
        api_url=f"http://127.0.0.1:{port}",
        client_id=Secret("demo"),
        client_secret=Secret("demo-secret"),
        poll_interval=DEMO_POLL_SECONDS,
        lookback=DEMO_LOOKBACK_SECONDS,
        reconcile_interval=DEMO_LOOKBACK_SECONDS,
        requests_per_second=100.0,  # a simulated store has no shop to share its limit with
        history="count",
    )
    return Config((store,))


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "run": _run,
    "demo": lambda arguments: asyncio.run(_demo(arguments)),
    "simulate": lambda arguments: asyncio.run(_simulate(arguments)),
    "reshard": _reshard,
    "probe": _probe,
    "backfill": _backfill,
}

if __name__ == "__main__":
    main()
