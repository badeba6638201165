"""The pages as a person sees them: the real process, a simulated EPCC, a real browser."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import Integration
from tests.integration.browser import PHONE, browsing, violations
from tests.integration.process import Exporter, Process

pytestmark = pytest.mark.integration

expect.set_options(timeout=15_000)  # the page refreshes itself every 5 s
HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
TURNED = "safe\u202eexe.gpj"
LONG = 100_000


def ago_ns(seconds: float) -> int:
    return time.time_ns() - round(seconds * 1e9)


def failure(log_id: str, seconds: float, **fields: Any) -> Any:
    return log(log_id, ago_ns(seconds), **{"status_code": 503, "error_detail": "broken", **fields})


def shop(*names: str) -> Epcc:
    epcc = Epcc()
    for name in names:
        epcc.add_integration(Integration(name, name.capitalize()))
    return epcc


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Exporter]:
    async with Exporter(tmp_path, shop("shipping", "search", "erp")) as made:
        yield made


async def verdict(page: Page, text: str) -> None:
    await expect(page.locator("#verdict")).to_have_text(text)


async def narrow_enough(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


async def test_an_integration_that_breaks_turns_up_without_a_reload_and_nothing_flickers(exporter: Exporter) -> None:
    exporter.epcc.add(*[log(each, ago_ns(1), integration_id=each) for each in ("shipping", "search", "erp")])
    async with exporter.running(), browsing(origin=exporter.url, hurried=False) as browser:
        page = await browser.open(exporter.url)
        await verdict(page, "All 3 integrations are healthy")
        await page.locator("#search").fill("s")
        await page.evaluate("window.marked = [...document.querySelectorAll('#rows tr')]")
        exporter.epcc.add(*[failure(f"f{i}", 0, integration_id="search") for i in range(5)])
        await verdict(page, "1 of 3 integrations is failing")
        await expect(page).to_have_title("✕ 1 of 3 integrations is failing \N{EN DASH} epcc-exporter")
        await expect(page.locator("#rows tr").first).to_contain_text("failing")
        await expect(page.locator("#rows tr").first).to_contain_text("5 failures in a row")
        # What a person is at, a typed search and its cursor, stays, and so do the rows' elements.
        assert await page.locator("#search").input_value() == "s"
        assert await page.evaluate("document.activeElement.id") == "search"
        assert await page.evaluate("window.marked.every((row) => row.isConnected)")
        assert sum(url == f"{exporter.url}/" for url in browser.asked) == 1


async def test_from_the_page_to_what_the_receiver_answered_is_one_click_and_back_by_another(exporter: Exporter) -> None:
    async with exporter.running(), browsing(origin=exporter.url) as browser:
        page = await browser.open(exporter.url)
        await exporter.ready()
        exporter.epcc.add(*[failure(f"t{i}", 30 - 10 * i, job_id="the-job", attempt=i + 1) for i in range(3)])
        await page.get_by_role("link", name="See the job that failed last: Shipping").click()
        await expect(page.locator("h1")).to_have_text("Job the-job")
        await expect(page.locator("main")).to_contain_text("3 attempts, none succeeded")
        await expect(page.get_by_text("10 s later")).to_have_count(2)
        await expect(page.locator("pre:visible")).to_have_text("Dear ada.muster@example.com")
        assert await violations(page) == []
        await page.get_by_role("link", name="All integrations").click()
        await expect(page.locator("#failures li")).to_have_count(3)
        await page.locator("#failures a").first.click()
        await expect(page.locator("h1")).to_have_text("Job the-job")


async def test_the_keyboard_alone_leads_to_the_job(exporter: Exporter) -> None:
    async with exporter.running(), browsing(origin=exporter.url) as browser:
        page = await browser.open(exporter.url)
        await exporter.ready()
        exporter.epcc.add(failure("f", 0, job_id="the-job"))
        link = page.get_by_role("link", name="See the job that failed last: Shipping")
        await link.wait_for()
        reached = []
        for _ in range(40):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))
            if reached[-1].startswith("See the job"):
                break
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", reached
        await page.keyboard.press("Enter")
        await expect(page.locator("h1")).to_have_text("Job the-job")


async def test_a_job_id_that_is_typed_leads_to_its_page_and_an_unknown_one_says_what_to_do(exporter: Exporter) -> None:
    async with exporter.running(), browsing(origin=exporter.url) as browser:
        page = await browser.open(exporter.url)
        await exporter.ready()
        exporter.epcc.add(failure("f", 0, job_id="the-job", integration_id="erp"))
        await expect(page.locator("#failures li")).to_have_count(1)
        await page.get_by_label("Job id").fill("the-job")
        await page.get_by_role("button", name="Look up").click()
        await expect(page).to_have_url(f"{exporter.url}/jobs/acme/erp/the-job")
        await page.goto(f"{exporter.url}/jobs?id=nobodys")
        await expect(page.locator("main")).to_contain_text("does not remember this job")
        assert await violations(page) == []
        await page.get_by_label("Integration").select_option(label="acme: Erp")
        await page.get_by_role("button", name="Look up").click()
        await expect(page.locator("main")).to_contain_text("EPCC does not know this job")
        assert await violations(page) == []


async def test_hostile_texts_are_shown_as_text(tmp_path: Path) -> None:
    epcc = shop("shipping")
    epcc.add_integration(Integration("evil", HOSTILE + TURNED + "x" * 300))
    body = HOSTILE + TURNED + "x" * LONG
    async with Exporter(tmp_path, epcc) as exporter, exporter.running(), browsing(origin=exporter.url) as browser:
        page = await browser.open(exporter.url)
        await exporter.ready()
        hostile = {"integration_id": "evil", "job_id": f"job{HOSTILE}", "error_detail": HOSTILE + TURNED}
        epcc.add(failure("f", 0, **hostile, override={"body": body}))
        await expect(page.locator("#failures li")).to_contain_text(HOSTILE)
        await expect(page.locator("#rows")).to_contain_text(f"{HOSTILE}safe\\u202eexe.gpj")
        # However long a name is, the state's word stands in one line.
        assert await page.evaluate("[...document.querySelectorAll('.state b')].every((word) => word.offsetHeight < 30)")
        await page.locator("#failures a").first.click()
        await expect(page.locator("pre")).to_contain_text(f"{HOSTILE}safe\\u202eexe.gpj")
        await expect(page.locator("main")).to_contain_text("more characters")
        assert await page.evaluate("window.hacked") is None
        assert len(await page.content()) < LONG


async def test_a_thousand_integrations_load_light_and_are_searched_sorted_and_shown(tmp_path: Path) -> None:
    epcc = shop(*(f"integration-{i:04}" for i in range(1000)))
    async with Exporter(tmp_path, epcc) as exporter:
        exporter.configure(max_series="100000")
        async with exporter.running(), browsing(origin=exporter.url, hurried=False) as browser:
            await exporter.ready()
            epcc.add(*[log(f"l{i}", ago_ns(1), integration_id=f"integration-{i:04}") for i in range(1000)])
            epcc.add(*[failure(f"f{i}", 0, integration_id="integration-0777") for i in range(5)])
            await exporter.counted(1005)
            page = await browser.open(exporter.url)
            await verdict(page, "1 of 1,000 integrations is failing")
            await expect(page.locator("#rows tr")).to_have_count(100)
            await expect(page.locator("#rows tr").first).to_contain_text("Integration-0777")
            loaded = await page.evaluate(
                "performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)"
            )
            assert 20_000 < loaded < 100_000
            await page.get_by_label("Search").fill("0042")
            await expect(page.locator("#rows tr")).to_have_count(1)
            await page.get_by_label("Search").fill("no such integration")
            await expect(page.locator("#none")).to_have_text("None of 1,000 integrations fits.")
            await page.get_by_label("Search").fill("")
            await page.get_by_role("button", name="Integration", exact=True).click()
            await expect(page.locator("#rows tr").first).to_contain_text("Integration-0000")
            assert await page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
            await page.get_by_role("button", name="Show all").click()
            await expect(page.locator("#rows tr")).to_have_count(1000)
            await page.get_by_role("button", name="Failing 1").click()
            await expect(page.locator("#rows tr")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["healthy", "breaking", "empty", "refused"])
async def test_axe_finds_nothing_on_any_state_of_the_page(tmp_path: Path, what: str, scheme: Any) -> None:
    epcc = shop(*(("shipping", "search") if what != "empty" else ()))
    if what == "refused":
        epcc.manners = Manners(down="403")
    async with (
        Exporter(tmp_path, epcc) as exporter,
        exporter.running(),
        browsing(scheme=scheme, origin=exporter.url) as browser,
    ):
        await exporter.ready()
        if what == "healthy":
            epcc.add(log("l", ago_ns(1), integration_id="search"))
        if what == "breaking":
            epcc.add(*[failure(f"f{i}", 0) for i in range(5)], failure("g", 0, integration_id="search"))
        page = await browser.open(exporter.url)
        await verdict(page, {
            "healthy": "1 of 2 integrations are healthy, none fails",
            "breaking": "1 of 2 integrations is failing",
            "empty": "No integration yet",
            "refused": "Polls of store acme fail",
        }[what])  # fmt: skip
        told = {"empty": "EPCC lists no integration for this store", "refused": "grant client_credentials"}
        await expect(page.locator("#stores")).to_contain_text(told.get(what, "Polls succeed"))
        assert await violations(page) == []


async def test_on_a_phone_nothing_is_cut_off_and_axe_finds_nothing(exporter: Exporter) -> None:
    async with exporter.running(), browsing(PHONE, "dark", origin=exporter.url) as browser:
        await exporter.ready()
        error = 'Post "https://h.example/' + "x" * 300 + '": EOF'
        exporter.epcc.add(*[failure(f"f{'0' * 60}{i}", 0, status_code=None, error_detail=error) for i in range(5)])
        page = await browser.open(exporter.url)
        await verdict(page, "1 of 3 integrations is failing")
        assert await narrow_enough(page)
        assert await violations(page) == []
        await page.get_by_label("Sort by").select_option(label="Integration")
        await expect(page.locator("#rows tr").first).to_contain_text("Erp")
        await page.locator("#failures a").first.click()
        await expect(page.locator("h1")).to_contain_text("Job")
        assert await narrow_enough(page)
        assert await violations(page) == []


async def test_an_exporter_that_ends_is_told_and_one_that_comes_back_is_shown(exporter: Exporter) -> None:
    exporter.epcc.add(log("l", ago_ns(1)))
    async with exporter.running() as process, browsing() as browser:
        page = await browser.open(exporter.url)
        await verdict(page, "1 of 3 integrations are healthy, none fails")
        await process.end()
        trouble = page.get_by_role("alert")
        await expect(trouble).to_contain_text("The exporter does not answer")
        await expect(trouble).to_contain_text("What is shown is of")
        await expect(page.locator("#live")).to_have_text("Not up to date")
        assert await violations(page) == []
        async with again(exporter):
            await expect(trouble).to_be_hidden()
            await verdict(page, "1 of 3 integrations are healthy, none fails")


def again(exporter: Exporter) -> Any:
    """At the same address: of two flags that name one, both count, and the second is where the page asks."""
    address = exporter.url.removeprefix("http://")
    return exporter.running(f"--web.listen-address={address}")


async def test_a_store_that_starts_says_so(exporter: Exporter) -> None:
    exporter.epcc.manners = Manners(down="hang")
    async with exporter.running() as process, browsing(origin=exporter.url) as browser:
        page = await browser.open(exporter.url)
        await verdict(page, "Starting: the first poll is under way")
        await expect(page.locator("#stores")).to_contain_text("First poll under way")
        assert await violations(page) == []
        assert_running(process)


def assert_running(process: Process) -> None:
    assert process.child.returncode is None, process.output


async def test_without_scripts_the_essential_is_there(exporter: Exporter) -> None:
    async with exporter.running(), browsing(scripts=False, origin=exporter.url) as browser:
        await exporter.ready()
        exporter.epcc.add(*[failure(f"f{i}", 0) for i in range(5)])
        await exporter.counted(5)
        page = await browser.open(exporter.url)
        # Playwright's own matchers read no text in <noscript>, shown or not.
        assert "failing: 5 failures in a row, no success seen" in await page.locator("noscript section").inner_text()
        await page.locator("noscript a[href^='jobs/']").click()
        await expect(page.locator("pre:visible")).to_have_text("Dear ada.muster@example.com")


async def test_where_answers_may_not_be_shown_the_page_says_how_to_allow_it(exporter: Exporter) -> None:
    async with exporter.running("--web.listen-address=0.0.0.0:0"), browsing() as browser:
        await exporter.ready()
        exporter.epcc.add(failure("f", 0, job_id="the-job"))
        page = await browser.open(exporter.url)
        await page.get_by_role("link", name="See the job that failed last: Shipping").click()
        await expect(page.locator("main")).to_contain_text("Answers are not shown here")
        assert await violations(page) == []
        assert exporter.epcc.requests["job_logs"] == 0
