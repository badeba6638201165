"""A real Alertmanager, its amtool, and a receiver of its webhooks.

The configuration is deploy/alertmanager/alertmanager.yml, with two changes, both here: the receivers' addresses are this
test's, and waits are shorter by a factor that the test states.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from tests import rules
from tests.integration import servers
from tests.integration.servers import ServerError

CONFIG: Final = rules.ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
EXAMPLE_URL: Final = "http://localhost:9095/"  # of the receivers in CONFIG
WAITS: Final = frozenset({"group_wait", "group_interval", "repeat_interval"})
AMTOOL_SECONDS: Final = 60.0


def amtool(of: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`amtool ARGUMENTS`, of the server with this name. Exit code and output are the caller's to judge."""
    return subprocess.run(
        [servers.program("amtool", of), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=AMTOOL_SECONDS,
    )  # fmt: skip


def shorter(duration: str, by: float) -> str:
    """`2m` → `2667ms` by 45. Whole milliseconds, at least one."""
    return f"{max(1, round(rules.seconds(duration) / by * 1000))}ms"


def quickened(config: dict[str, Any], by: float, url: str) -> dict[str, Any]:
    """The configuration with its waits divided, and its receivers at `url`."""

    def route(each: dict[str, Any]) -> dict[str, Any]:
        made = dict(each)
        for wait in WAITS & each.keys():
            made[wait] = shorter(each[wait], by)
        if "routes" in each:
            made["routes"] = [route(child) for child in each["routes"]]
        return made

    def receiver(each: dict[str, Any]) -> dict[str, Any]:
        hooks = [{**hook, "url": url + hook["url"].removeprefix(EXAMPLE_URL)} for hook in each["webhook_configs"]]
        assert all(hook["url"].startswith(EXAMPLE_URL) for hook in each["webhook_configs"])
        return {**each, "webhook_configs": hooks}

    return {**config, "route": route(config["route"]), "receivers": [*map(receiver, config["receivers"])]}


class Alertmanager(servers.Server):
    """Alone, without a cluster."""

    kind = "Alertmanager"

    async def start(self, url: str, by: float) -> None:
        path = self._folder / "alertmanager.yml"
        for template in (servers.SERVERS / self.name / "templates").glob("*.tmpl"):
            shutil.copy(template, self._folder)  # Debian's: see TEMPLATES in tests/run
        path.write_text(json.dumps(quickened(yaml.safe_load(CONFIG.read_text()), by, url)))  # JSON is YAML
        await self._launch(
            "alertmanager",
            f"--config.file={path}",
            f"--storage.path={self._folder / 'alertmanager'}",
            "--web.listen-address=127.0.0.1:0",
            "--cluster.listen-address=",
        )

    async def alerts(self) -> list[dict[str, Any]]:
        """As `/api/v2/alerts` gives them: those that are silenced or inhibited too."""
        assert self._session is not None, "not started"
        async with self._session.get(f"{self.url}/api/v2/alerts") as response:
            found: list[dict[str, Any]] = await response.json()
        return found

    async def until(self, wanted: Callable[[dict[str, Any]], object], seconds: float = servers.READY_SECONDS) -> Any:
        """The first alert that is wanted."""
        seen: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    seen = await self.alerts()
                    if found := [each for each in seen if wanted(each)]:
                        return found[0]
                    await asyncio.sleep(servers.POLL_SECONDS)
        except TimeoutError:
            raise self._error(f"no such alert after {seconds:g} s; there are {seen}") from None


class Phone:
    """Who is told: the receivers' addresses, and what came to each."""

    def __init__(self) -> None:
        self.url = ""
        self._told: list[tuple[float, str, dict[str, Any]]] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Phone]:
        application = web.Application()
        application.router.add_post("/{receiver}", self._ring)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _ring(self, request: web.Request) -> web.Response:
        payload = await request.json()
        self._told += [(time.monotonic(), request.match_info["receiver"], each) for each in payload["alerts"]]
        return web.Response()

    def told(self, receiver: str) -> list[dict[str, Any]]:
        """Each alert of each notification, in order."""
        return [alert for _, name, alert in self._told if name == receiver]

    async def rings(
        self, receiver: str, name: str, status: str, seconds: float = servers.READY_SECONDS, **labels: str
    ) -> tuple[float, dict[str, Any]]:
        """When (monotonic) it was first told of this alert, and the alert. `status`: `firing` or `resolved`."""
        wanted = {"alertname": name, **labels}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for at, to, alert in self._told:
                        if to == receiver and alert["status"] == status and wanted.items() <= alert["labels"].items():
                            return at, alert
                    await asyncio.sleep(servers.POLL_SECONDS)
        except TimeoutError:
            raise ServerError(
                f"{receiver} was not told within {seconds:g} s that {wanted} is {status}: {self._told}"
            ) from None
