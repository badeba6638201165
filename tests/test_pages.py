"""The pages for people, asked for without a socket: headers, caching, who sees answers, where a job id leads."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from exporter import logs
from exporter.board import Boards
from exporter.epcc import log
from exporter.manners import Manners
from exporter.pages import FILES, FOLDER, HEADERS, STATUS_SECONDS, Pages
from exporter.shop import Integration
from tests.world import MakeWorld, World, at, simple, virtual

EVIL = "<script>alert(1)</script>\u202e"


class Browser:
    """Asks the pages of one world's store. `allowed`: whether answers may be shown."""

    def __init__(self, world: World, *, allowed: bool = True, metrics: str = "/metrics") -> None:
        self.world = world
        self.allowed = allowed
        boards = Boards(lambda: {"acme": world.followed}, world.clock, version="1.2.3", metrics=metrics, grafana=None)
        pages = Pages(boards, lambda: {"acme": world.followed}, self._owners, world.clock)
        self.app = web.Application()
        pages.add_to(self.app.router, lambda _: self.allowed)

    async def _owners(self, store: str, job_id: str, integration_ids: Any) -> list[str]:
        assert self.world.store is not None
        return self.world.store.job_owners(store, job_id, integration_ids)

    async def get(self, path: str, **headers: str) -> web.Response:
        request = make_mocked_request("GET", path, headers=headers, app=self.app)
        found = await self.app.router.resolve(request)
        found.add_app(self.app)
        request._match_info = found
        response = await found.handler(request)
        assert isinstance(response, web.Response)
        return response

    async def text(self, path: str, **headers: str) -> str:
        response = await self.get(path, **headers)
        assert isinstance(response.body, bytes)
        return response.body.decode()

    async def status(self) -> Any:
        return json.loads(await self.text("/api/v1/status"))


@virtual
async def test_no_page_lets_the_browser_load_or_run_anything_from_elsewhere(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    browser = Browser(w)
    for path in ("/", "/api/v1/status", "/jobs", "/jobs/acme/shipping/job-l-5", "/jobs/nope/a/b"):
        response = await browser.get(path)
        assert {name: response.headers[name] for name in HEADERS} == HEADERS, path
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_the_files_hold_no_inline_script_or_style_and_name_no_other_host() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"index.html", *FILES}
    for path in FOLDER.iterdir():
        text = path.read_text()
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text
        assert "innerHTML" not in text
    page = (FOLDER / "index.html").read_text()
    for inline in ("<style", " style=", " onclick", "<script>"):
        assert inline not in page


def test_the_static_files_are_part_of_the_package() -> None:
    assert Path(FOLDER).parent.name == "exporter"


@virtual
async def test_static_files_are_kept_by_the_browser_until_they_change(world: MakeWorld) -> None:
    browser = Browser(world(simple()))
    for name, content_type in FILES.items():
        response = await browser.get(f"/page/{name}")
        assert response.headers["Content-Type"] == content_type
        packed = await browser.get(f"/page/{name}", **{"Accept-Encoding": "gzip"})
        assert isinstance(packed.body, bytes)
        assert gzip.decompress(packed.body) == response.body
        again = await browser.get(f"/page/{name}", **{"If-None-Match": response.headers["ETag"]})
        assert (again.status, again.body) == (304, None)
    with pytest.raises(web.HTTPNotFound):
        await browser.get("/page/index.html")


@virtual
async def test_the_status_is_made_once_a_second_at_most_however_many_ask(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls(1, every=0)
    browser = Browser(w)
    first = await browser.status()
    await w.clock.sleep(STATUS_SECONDS / 2)
    assert await browser.status() == first
    await w.clock.sleep(STATUS_SECONDS)
    assert (await browser.status())["now"] > first["now"]
    packed = await browser.get("/api/v1/status", **{"Accept-Encoding": "gzip"})
    assert isinstance(packed.body, bytes)
    assert json.loads(gzip.decompress(packed.body)) == await browser.status()


@virtual
async def test_without_scripts_the_first_page_says_the_essential_with_hostile_names_as_text(world: MakeWorld) -> None:
    epcc = simple()
    epcc.add_integration(Integration("int-1", EVIL))
    epcc.add(*[log(f"f{i}", at(-5 - i), integration_id="int-1", job_id="a/b", status_code=500) for i in range(5)])
    w = world(epcc)
    await w.polls()
    page = await Browser(w).text("/")
    assert "failing: 5 failures in a row, no success seen" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in page
    assert "<script>alert" not in page
    assert 'href="jobs/acme/int-1/a%2Fb"' in page
    assert "The last poll ended well." in page


@virtual
async def test_without_scripts_a_failing_store_says_what_to_do(world: MakeWorld) -> None:
    w = world(simple(-5, manners=Manners(down="403")))
    browser = Browser(w)
    assert "The first poll is under way" in await browser.text("/")
    await w.polls()
    page = await browser.text("/")
    assert "The last poll failed: forbidden." in page
    assert "grant client_credentials" in page


# --- jobs


@virtual
async def test_a_jobs_page_shows_its_attempts_and_the_receivers_answer(world: MakeWorld) -> None:
    w = world(simple(-5, status_code=503, error_detail="broken"))
    await w.polls()
    response = await Browser(w).get("/jobs/acme/shipping/job-l-5")
    assert isinstance(response.body, bytes)
    page = response.body.decode()
    assert response.status == 200
    assert "Dear ada.muster@example.com" in page
    assert "Order shipping" in page


@virtual
async def test_where_answers_may_not_be_shown_epcc_is_not_asked_and_nothing_of_them_is_said(world: MakeWorld) -> None:
    w = world(simple(-5, status_code=503, error_detail="broken"))
    await w.polls()
    asked = len(w.requests)
    browser = Browser(w, allowed=False)
    response = await browser.get("/jobs/acme/shipping/job-l-5")
    assert response.status == 403
    assert len(w.requests) == asked
    for path in ("/", "/api/v1/status", "/jobs/acme/shipping/job-l-5"):
        text = await browser.text(path)
        assert "ada.muster" not in text
        assert "broken" not in text
    assert not (await browser.status())["answers_shown"]
    browser.allowed = True
    assert (await browser.status())["stores"][0]["recent_failures"][0]["error"] == "broken"


@virtual
async def test_each_outcome_has_its_status(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    browser = Browser(w)
    assert (await browser.get("/jobs/acme/shipping/nope")).status == 404
    assert (await browser.get("/jobs/other/shipping/x")).status == 404
    assert (await browser.get("/jobs/acme/shipping/" + "x" * 201)).status == 404
    w.epcc.manners = Manners(down="429", retry_after_seconds=30)
    limited = await browser.get("/jobs/acme/shipping/job-l-5")
    assert (limited.status, limited.headers["Retry-After"]) == (503, "30")
    await w.clock.sleep(30)
    w.epcc.manners = Manners(down="500")
    assert (await browser.get("/jobs/acme/shipping/job-l-5")).status == 502


@virtual
async def test_a_secret_of_the_process_leaves_no_page_even_when_a_receiver_answers_it(world: MakeWorld) -> None:
    logs.register_secret("top-secret-token")
    said = {"body": "you sent top-secret-token to me"}
    w = world(simple(-5, status_code=503, error_detail="refused: top-secret-token", override=said))
    await w.polls()
    browser = Browser(w)
    page = await browser.text("/jobs/acme/shipping/job-l-5")
    assert "you sent &lt;secret&gt; to me" in page
    (store,) = (await browser.status())["stores"]
    assert [each["error"] for each in store["recent_failures"]] == ["refused: <secret>"]
    for text in (page, await browser.text("/"), await browser.text("/api/v1/status")):
        assert "top-secret-token" not in text


@virtual
async def test_a_job_id_alone_leads_to_its_page(world: MakeWorld) -> None:
    w = world(simple(-5))
    await w.polls()
    response = await Browser(w).get("/jobs?id=job-l-5")
    assert (response.status, response.headers["Location"]) == (303, "jobs/acme/shipping/job-l-5")


@virtual
async def test_a_job_id_of_several_integrations_or_of_none_is_a_choice(world: MakeWorld) -> None:
    epcc = simple(-5, job_id="same")
    epcc.add_integration(Integration("other/one", EVIL))
    epcc.add(log("o", at(-4), integration_id="other/one", job_id="same"))
    w = world(epcc)
    await w.polls()
    browser = Browser(w)
    several = await browser.text("/jobs?id=same")
    assert 'href="jobs/acme/shipping/same"' in several
    assert 'href="jobs/acme/other%2Fone/same"' in several
    unknown = await browser.text("/jobs?id=%3Cscript%3Ex")
    assert "does not remember this job" in unknown
    assert 'value="acme/other%2Fone"' in unknown
    assert "<script>" not in several + unknown
    chosen = await browser.get("/jobs?id=a%2Fb&in=acme%2Fother%252Fone")
    assert (chosen.status, chosen.headers["Location"]) == (303, "jobs/acme/other%2Fone/a%2Fb")
    assert (await browser.get("/jobs?id=" + "x" * 201)).status == 404


@virtual
async def test_a_redirect_leads_nowhere_else(world: MakeWorld) -> None:
    browser = Browser(world(simple()))
    for choice in ("//evil.example/x", "https://evil.example/x", "..%2F/x"):
        response = await browser.get(f"/jobs?id=a&in={choice}")
        assert response.headers.get("Location", "jobs/").startswith("jobs/")
