"""Those who read a list of logs: `python -m tests.bench.contestants NAME PORT LOGS`, in an environment that has what NAME
needs. Each prints the seconds from its first request until every log is where it keeps them, and its CPU seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PAGE = 100
PATH = "/v2/integrations/logs"
COUNTING = """
counter attempts by integration, code
/^(?P<integration>\\S+) (?P<code>\\d+) (?P<succeeded>\\S+) (?P<seconds>\\S+)$/ {
  attempts[$integration][$code]++
}
"""


class Watch:
    """From `start`, which comes after all imports, to `stop`."""

    began = 0.0
    before: tuple[float, ...] = ()

    @classmethod
    def start(cls) -> None:
        cls.began, cls.before = time.perf_counter(), tuple(os.times())

    @classmethod
    def read(cls) -> dict[str, float]:
        spent, after = time.perf_counter() - cls.began, os.times()
        return {"seconds": spent, "cpu_seconds": sum(after[:4]) - sum(cls.before[:4])}


def exporter(port: int, logs: int) -> None:
    """The exporter's own poll: every log counted once, durable in its state, and on its page."""
    from exporter.app import App, open_store
    from exporter.clock import Clock
    from exporter.config import Config, Secret, StoreConfig

    async def run(folder: Path) -> None:
        config = StoreConfig(
            "bench", f"http://127.0.0.1:{port}", Secret("bench"), client_secret=Secret("bench-secret"),
            requests_per_second=1e6, history="count", reconcile_interval=0.0,
        )  # fmt: skip
        clock = Clock()
        app = App(Config((config,)), open_store(folder, clock), clock, None, "/metrics")
        Watch.start()
        page, well = await app.once()
        attempts = [line for line in page.splitlines() if line.startswith("epcc_integration_attempts_total")]
        assert well
        assert sum(float(line.rpartition(" ")[2]) for line in attempts) == logs

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "data"))


def bare(port: int, logs: int) -> None:
    """aiohttp and `json.loads`, one page after the other, nothing kept."""
    import aiohttp

    async def run() -> int:
        found = 0
        Watch.start()
        async with aiohttp.ClientSession() as session:
            while True:
                query = {"page[limit]": str(PAGE), "page[offset]": str(found)}
                async with session.get(f"http://127.0.0.1:{port}{PATH}", params=query) as response:
                    page = json.loads(await response.read())["data"]
                if not page:
                    return found
                found += len(page)

    assert asyncio.run(run()) == logs


def airbyte(port: int, logs: int) -> None:
    """A stream of airbyte-cdk, read and thrown away."""
    from airbyte_cdk.models import SyncMode
    from airbyte_cdk.sources.streams.http import HttpStream

    class Logs(HttpStream):  # type: ignore[misc, unused-ignore]
        primary_key = "id"
        url_base = f"http://127.0.0.1:{port}/"

        def path(self, **_: Any) -> str:
            return PATH.lstrip("/")

        def request_params(self, next_page_token: Mapping[str, Any] | None = None, **_: Any) -> dict[str, Any]:
            return {"page[limit]": PAGE, "page[offset]": (next_page_token or {}).get("offset", 0)}

        def next_page_token(self, response: Any) -> dict[str, Any] | None:
            if not response.json()["data"]:
                return None
            asked = int(response.request.url.rpartition("=")[2])
            return {"offset": asked + PAGE}

        def parse_response(self, response: Any, **_: Any) -> Iterable[Any]:
            yield from response.json()["data"]

    Watch.start()
    assert sum(1 for _ in Logs().read_records(SyncMode.full_refresh)) == logs


def dlt(port: int, logs: int) -> None:
    """A pipeline of dlt into duckdb, merged by id: durable, and each log once."""
    import dlt as library
    from dlt.sources.helpers.rest_client import RESTClient
    from dlt.sources.helpers.rest_client.paginators import OffsetPaginator

    def pages() -> Iterable[Any]:
        client = RESTClient(f"http://127.0.0.1:{port}", data_selector="data", paginator=OffsetPaginator(
            limit=PAGE, offset_param="page[offset]", limit_param="page[limit]", total_path=None, stop_after_empty_page=True,
        ))  # fmt: skip
        yield from client.paginate(PATH)

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update({"DLT_DATA_DIR": folder, "RUNTIME__DLTHUB_TELEMETRY": "false"})
        pipeline = library.pipeline("bench", destination=library.destinations.duckdb(f"{folder}/logs.duckdb"),
                                    dataset_name="logs", pipelines_dir=folder)  # fmt: skip
        Watch.start()
        pipeline.run(library.resource(pages, name="log", primary_key="id", write_disposition="merge"))
        with pipeline.sql_client() as client, client.execute_query("SELECT count(*) FROM log") as found:
            assert found.fetchone()[0] == logs


def mtail(port: int, logs: int) -> None:
    """mtail on a file, which a poller writes: a line for each log, counted by integration and code, kept in memory."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "logs.mtail").write_text(COUNTING)
        lines = Path(folder) / "lines.log"
        lines.touch()
        command = [os.environ["MTAIL"], f"--progs={folder}", f"--logs={lines}", "--address=127.0.0.1", "--port=39037",
                   "--poll_log_interval=50ms", "--poll_interval=50ms", f"--log_dir={folder}"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
            try:
                while not _counted(39037):
                    _wait(program)
                Watch.start()
                _write_lines(port, lines)
                while sum(_counted(39037).values()) < logs:
                    _wait(program)
            finally:
                program.terminate()


def _wait(program: subprocess.Popen[bytes]) -> None:
    """A moment; raises where the program has ended instead."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        raise RuntimeError(f"mtail ended with {program.wait(0.01)}")


def _write_lines(port: int, path: Path) -> None:
    import aiohttp

    async def run() -> None:
        offset = 0
        with path.open("a") as out:
            async with aiohttp.ClientSession() as session:
                while True:
                    query = {"page[limit]": str(PAGE), "page[offset]": str(offset)}
                    async with session.get(f"http://127.0.0.1:{port}{PATH}", params=query) as response:
                        page = json.loads(await response.read())["data"]
                    if not page:
                        return
                    offset += len(page)
                    out.writelines(
                        f"{each['relationships']['integration']['data']['id']} {each['status_code']} {each['succeeded']}"
                        f" {each['processing_time']}\n"
                        for each in page
                    )
                    out.flush()

    asyncio.run(run())


def _counted(port: int) -> dict[str, float]:
    """Its counters by labels; with an empty label, where it has none yet; empty while it does not listen."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    return {"": 0.0} | {
        line.partition(" ")[0]: float(line.split()[-1]) for line in lines if line.startswith("attempts{")
    }


CONTESTANTS: dict[str, Callable[[int, int], None]] = {
    "exporter": exporter, "bare": bare, "airbyte": airbyte, "dlt": dlt, "mtail": mtail,
}  # fmt: skip


def main() -> None:
    name, port, logs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    CONTESTANTS[name](port, logs)
    sys.stdout.write(f"\n{json.dumps(Watch.read())}\n")


if __name__ == "__main__":
    main()
