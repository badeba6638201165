"""A real Chromium on the exporter's pages, which must neither report an error nor ask for anything from elsewhere.

The browser is Debian's, found on PATH: the test command installs it. Chromium's own errands are switched off, so that
what the network sees is the pages' doing.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
HURRY = "setInterval(() => document.dispatchEvent(new Event('visibilitychange')), 250)"
DESK = (1280, 900)
PHONE = (390, 844)


def program() -> str:
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert found is not None, (
        "no Chromium: `python3 tests/run` installs Debian's where it may; elsewhere install it yourself"
    )
    return found


class Browser:
    """One context of a browser. `errors` and `elsewhere` fill while pages are looked at."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.errors: list[str] = []
        self.asked: list[str] = []  # every address that was asked for

    async def open(self, url: str) -> Page:
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)
        page.on("request", lambda request: self.asked.append(request.url))
        await page.goto(url)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium tells an answer above 399 as an error, though it shows it: the page's own troubles alone count.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)


@contextlib.asynccontextmanager
async def browsing(
    size: tuple[int, int] = DESK,
    scheme: Literal["dark", "light"] = "light",
    *,
    scripts: bool = True,
    origin: str | None = None,
    hurried: bool = True,
) -> AsyncIterator[Browser]:
    """`origin`: of everything that may be asked for; None: whatever it was, nobody looks. `hurried`: pages that refresh
    themselves do so at once, again and again, as when somebody comes back to them."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=program(), args=FLAGS)
        context = await chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, java_script_enabled=scripts
        )
        context.set_default_timeout(15_000)
        if hurried:
            await context.add_init_script(HURRY)
        browser = Browser(context)
        try:
            yield browser
            assert browser.errors == []
            if origin is not None:
                assert [url for url in browser.asked if not url.startswith(origin + "/")] == []
        finally:
            await chromium.close()


async def violations(page: Page) -> list[str]:
    """Of every rule that axe-core has, best practices too."""
    found: Any = (await Axe().run(page)).response
    assert found["passes"], "axe-core has judged nothing"
    return [
        f"{each['id']}: {node['target']}: {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]
