"""The exporter's own process with its limit on requests lifted: `python -m tests.bench.exporting CONFIG FOLDER`.

What it reads of the configuration, counts, keeps and serves is the exporter's; only `requests_per_second`, which has a
store's limit in mind, would stop it at 9,900 logs a second, whatever it could do.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

from exporter import config, logs
from exporter.__main__ import GC_THRESHOLDS
from exporter.app import App, open_store, stop_on_signals
from exporter.clock import Clock
from exporter.config import Config

REQUESTS_PER_SECOND = 1e6


async def serve(loaded: Config, folder: Path) -> None:
    stop, clock = asyncio.Event(), Clock()
    store = await asyncio.to_thread(open_store, folder, clock)
    try:
        stop_on_signals(stop, lambda: None)
        await App(loaded, store, clock, None, "/metrics").run([("127.0.0.1", 0)], stop)
    finally:
        store.close()


def main() -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    logs.setup("info", "logfmt", sys.stderr)
    loaded = config.load(Path(sys.argv[1]), os.environ)
    stores = tuple(replace(store, requests_per_second=REQUESTS_PER_SECOND) for store in loaded.stores)
    logging.getLogger(__name__).debug("the limit on requests is lifted")
    asyncio.run(serve(Config(stores), Path(sys.argv[2])))


if __name__ == "__main__":
    main()
