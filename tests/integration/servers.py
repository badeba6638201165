"""Real Prometheus servers, started and stopped by a test: where they are, how they are configured, when they are ready.

`python3 tests/run` puts them below `.cache/servers`, one folder per name, with the version that it found. Unlike
everything else in the tests they have a clock of their own, so what is expected of one is waited for, with a deadline.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp

SERVERS: Final = Path(__file__).parents[2] / ".cache" / "servers"
INSTALL: Final = "python3 tests/run installs it"
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
PROMTOOL_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.05
LOG_LINES_SHOWN: Final = 30
# Port 0 is the kernel's choice; this is how the server tells which one it was.
LISTENING: Final = re.compile(r'msg="Listening on".* address=127\.0\.0\.1:(\d+)')


class ServerError(Exception):
    """A server that did not start, answer or agree; with the end of its log."""


def names() -> list[str]:
    """The servers that are installed; at least `oldest`, so that a test without one fails and is not left out."""
    return sorted(note.parent.name for note in SERVERS.glob("*/version")) or ["oldest"]


def version(name: str) -> str:
    note = SERVERS / name / "version"
    return note.read_text().strip() if note.exists() else f"not installed ({INSTALL})"


def program(name: str, of: str) -> str:
    path = SERVERS / of / name
    if not path.exists():
        raise ServerError(f"there is no {path}: {INSTALL}")
    return str(path)


def promtool(of: str, *arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """`promtool ARGUMENTS`, of the server with this name. Exit code and output are the caller's to judge."""
    return subprocess.run(
        [program("promtool", of), *map(str, arguments)],
        input=stdin, capture_output=True, text=True, check=False, timeout=PROMTOOL_SECONDS,
    )  # fmt: skip


class Server:
    """One server's process and its HTTP API, with all that it writes below `folder`. Start it at most once."""

    kind = ""  # for errors

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.url = ""
        self._folder = folder
        self._log = folder / f"{self.kind.lower()}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    async def _launch(self, executable: str, *arguments: str) -> None:
        """Ready when it returns."""
        assert self._process is None, "already started"
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                program(executable, self.name), *arguments, cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(READY_SECONDS))
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_ready():  # noqa: ASYNC110  another process, it sets no event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            await self.stop()
            raise self._error("not ready in time") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Its storage stays, for promtool. Harmless where it never started or has ended."""
        if self._session is not None:
            await self._session.close()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise self._error("did not stop in time") from None

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._session is not None
        if self._process.returncode is not None:
            raise self._error(f"ended with {self._process.returncode}")
        listening = LISTENING.search(self._log.read_text(errors="replace"))
        if listening is None:
            return False
        self.url = f"http://127.0.0.1:{listening[1]}"
        async with self._session.get(f"{self.url}/-/ready") as response:
            return response.status == 200

    def _error(self, problem: str) -> ServerError:
        end = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return ServerError("\n".join([f"{self.name} {self.kind} ({version(self.name)}): {problem}", *end]))


class Prometheus(Server):
    """With an empty storage of its own below `folder`; scrapes each second."""

    kind = "Prometheus"

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.storage = folder / "data"
        self.settings: dict[str, object] = {}  # of its configuration, beside the jobs; read by `start`

    async def start(self, targets: Mapping[str, int], *flags: str, **job: object) -> None:
        """Ready when it returns. `targets`: a job's name → the port on 127.0.0.1; `job`: more keys of each job."""
        await self.start_with(self._config(targets, job), *flags)

    async def start_with(self, config: Path, *flags: str) -> None:
        """With a configuration that is there already."""
        await self._launch(
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={self.storage}",
            "--web.listen-address=127.0.0.1:0",
            *flags,
        )

    async def query(self, expression: str) -> dict[str, float]:
        """An instant query: each series as `name{label="value",…}`, without `job` and `instance`, → its value now."""
        assert self._session is not None, "not started"
        async with self._session.get(f"{self.url}/api/v1/query", params={"query": expression}) as response:
            answer = await response.json()
        if answer["status"] != "success":
            raise self._error(f"{expression}: {answer['error']}")
        result = answer["data"]["result"]
        if answer["data"]["resultType"] == "scalar":
            return {"": float(result[1])}
        return {series(sample["metric"]): float(sample["value"][1]) for sample in result}

    async def until(
        self, expression: str, wanted: Callable[[dict[str, float]], object], seconds: float = READY_SECONDS
    ) -> dict[str, float]:
        """The first answer that is wanted."""
        answer: dict[str, float] = {}
        try:
            async with asyncio.timeout(seconds):
                while not wanted(answer := await self.query(expression)):  # noqa: ASYNC110  another process
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise self._error(f"{expression} was still {answer} after {seconds:g} s") from None
        return answer

    async def get(self, path: str, **parameters: str | Sequence[str]) -> Any:
        """`data` of any other answer of its HTTP API, like `/api/v1/targets`."""
        assert self._session is not None, "not started"
        async with self._session.get(self.url + path, params=parameters) as response:
            answer = await response.json()
        if answer["status"] != "success":
            raise self._error(f"{path}: {answer['error']}")
        return answer["data"]

    def promtool(self, *arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return promtool(self.name, *arguments, stdin=stdin)

    def _config(self, targets: Mapping[str, int], job: Mapping[str, object]) -> Path:
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}], **job}
            for name, port in targets.items()
        ]
        intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = {"global": intervals, "scrape_configs": jobs, **self.settings}
        path = self._folder / "prometheus.yml"
        path.write_text(json.dumps(config, indent=1))  # JSON is YAML
        return path


def series(labels: Mapping[str, str]) -> str:
    """As Prometheus writes it, without what says where it was scraped."""
    inner = ",".join(
        f'{name}="{value}"' for name, value in sorted(labels.items()) if name not in ("__name__", "job", "instance")
    )
    return labels.get("__name__", "") + (f"{{{inner}}}" if inner else "")
