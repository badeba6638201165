"""A guarded server, asked over real sockets: who is answered, and what a changed file does while it runs."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from exporter.clock import Clock
from exporter.config import ConfigError
from exporter.exposition import Exposition
from exporter.guard import Guard
from exporter.metrics import OwnMetrics
from exporter.passwords import BusyError
from exporter.server import Server
from tests.guarded import (
    ALICE,
    CLIENTS,
    REFUSED,
    TLS,
    USERS,
    Site,
    a_site,  # noqa: F401  # pytest finds it
    basic,
    problems_told,
)

PATHS = ("/metrics", "/", "/-/healthy", "/-/ready", "/api/v1/status", "/nope", "/jobs/acme/int/job", "/page/nope")


# --- passwords


async def test_without_a_file_everybody_is_answered(site: Site) -> None:
    await site.start(None)
    assert (await site.get())[0] == 200


async def test_no_page_is_shown_and_nothing_is_done_without_a_password(site: Site) -> None:
    await site.start(USERS)
    for path in PATHS:
        status, text, headers = await site.get(path)
        assert (status, text, headers.getall("WWW-Authenticate")) == (401, "unauthorized\n", ["Basic"]), path
    assert (await site.get("/-/reload", "POST"))[0] == 401
    assert site.reloads == 0
    assert [(await site.get(path, **ALICE))[0] for path in PATHS] == [200, 200, 200, 200, 200, 404, 404, 404]
    assert (await site.get("/-/reload", "POST", **ALICE))[0] == 200
    assert site.reloads == 1


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic ", "Bearer x", "Basic ???", "Basic YWxpY2U=", "Basic é",
     "Digest " + ALICE["Authorization"].removeprefix("Basic "),
     basic("alice", "wrong")["Authorization"], basic("bob", "secret")["Authorization"], basic("alice", "")["Authorization"],
     basic("", "secret")["Authorization"], basic("alice ", "secret")["Authorization"],
     "Basic " + base64.b64encode(b"\xff\xfe:\xff\x00").decode()],
)  # fmt: skip
async def test_any_other_authorization_is_401(site: Site, header: str) -> None:
    await site.start(USERS)
    status, _, headers = await site.get(Authorization=header)
    assert (status, headers["WWW-Authenticate"]) == (401, "Basic")


async def test_the_scheme_is_read_in_any_case_and_a_password_may_hold_a_colon_and_any_script(site: Site) -> None:
    hashed = bcrypt.hashpw("pässwörd: ключ".encode(), bcrypt.gensalt(4)).decode()
    await site.start(f"basic_auth_users:\n  жанна: {hashed}\n")
    header = basic("жанна", "pässwörd: ключ")["Authorization"]
    for scheme in ("Basic", "basic", "BASIC"):
        assert (await site.get(Authorization=header.replace("Basic", scheme)))[0] == 200


async def test_a_refused_client_is_told_of_once_without_what_it_sent(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start(USERS)
    for number in range(3):
        await site.get(**basic("PLANTED-user", f"PLANTED-{number}"))
    await site.get()  # no password: a browser's first request
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.getMessage() == "a client was refused"
    assert record.__dict__["fields"] == {"client": "127.0.0.1", "problem": "wrong user or password"}
    assert "PLANTED" not in repr([record.__dict__ for record in caplog.records])
    await site.get(**ALICE)
    await site.get(**basic("alice", "wrong"))
    assert problems_told(caplog) == ["wrong user or password"] * 2


async def test_who_would_wait_too_long_is_told_to_come_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.start(USERS)

    async def busy(*_: object) -> bool:
        raise BusyError

    monkeypatch.setattr(site.guard._passwords, "right", busy)
    status, _, headers = await site.get(**ALICE)
    assert (status, headers["Retry-After"]) == (503, "1")


# --- headers, rate


async def test_headers_are_on_every_answer_and_a_page_keeps_its_own(site: Site) -> None:
    await site.start(
        f"{USERS}http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=9\n"
        "    Content-Security-Policy: default-src *\n"
    )
    for path in PATHS:
        for authorization in ({}, ALICE):
            _, _, headers = await site.get(path, **authorization)
            assert headers["X-Frame-Options"] == "deny"
            assert headers["Strict-Transport-Security"] == "max-age=9"
            own = path in ("/", "/api/v1/status", "/jobs/acme/int/job") and authorization
            assert headers.getall("Content-Security-Policy")[0].startswith(
                "default-src 'none'" if own else "default-src *"
            )
            assert len(headers.getall("Content-Security-Policy")) == 1


async def test_the_rate_is_held_before_passwords_are_looked_at_and_refills(site: Site) -> None:
    await site.start(f"{USERS}rate_limit: {{interval: 10s, burst: 2}}\n")
    assert [(await site.get(**headers))[0] for headers in (ALICE, {}, ALICE, {})] == [200, 401, 429, 429]
    assert (await site.get(**ALICE))[2]["Retry-After"] == "1"
    site.clock.now = 10
    assert [(await site.get(**ALICE))[0] for _ in range(2)] == [200, 429]
    site.clock.now = 1000
    assert [(await site.get(**ALICE))[0] for _ in range(3)] == [200, 200, 429]
    site.write(f"{USERS}rate_limit: {{interval: 10s, burst: 3}}\n")
    assert [(await site.get(**ALICE))[0] for _ in range(4)] == [200, 200, 200, 429]


# --- the file changes


async def test_a_changed_file_holds_for_the_next_request_of_an_open_connection(site: Site) -> None:
    await site.start(USERS)
    async with aiohttp.ClientSession() as session:
        assert (await site.on(session, **ALICE))[0] == 200
        site.write(USERS.replace("alice", "bob"))
        assert (await site.on(session, **ALICE))[0] == 401
        assert (await site.on(session, **basic("bob", "secret")))[0] == 200


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "it no longer asks for a password, wanted a restart"),  # as while somebody writes it
        ("http_server_config: {http2: true}\n", "it no longer asks for a password, wanted a restart"),
        ("basic_auth_users: {}\n", "0 users, wanted"),
        ("basic_auth_users: {bob: x}\nrate_limt: 3\n", "did you mean 'rate_limit'?"),
        ("a: [", "not YAML"),
        (TLS + USERS, "it asks for TLS, wanted a restart"),
    ],
)
async def test_a_file_that_breaks_goes_or_opens_leaves_the_last_good_one_and_says_so_once(
    site: Site, broken: str | None, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start(USERS)
    if broken is None:
        site.file.unlink()
    else:
        site.write(broken)
    for _ in range(3):
        assert (await site.get())[0] == 401
        assert (await site.get(**ALICE))[0] == 200
        if broken is not None:
            site.write(broken)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == "the web configuration has changed and cannot be used: the last good one stays"
    assert why in record.__dict__["fields"]["problem"]
    site.write(USERS.replace("alice", "bob"))
    assert (await site.get(**basic("bob", "secret")))[0] == 200


@pytest.mark.parametrize(
    ("less", "lost"),
    [
        (USERS, "TLS, a client certificate, a name in client_allowed_sans"),
        (CLIENTS + "  client_allowed_sans: [scraper.example]\n", "a password"),
        (CLIENTS + USERS, "a name in client_allowed_sans"),
        (TLS + USERS, "a client certificate, a name in client_allowed_sans"),
    ],
)
async def test_nothing_that_a_client_has_to_bring_is_dropped_while_it_runs(
    site: Site, less: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start(f"{CLIENTS}  client_allowed_sans: [scraper.example]\n{USERS}")
    site.write(less)
    with pytest.raises(REFUSED):
        await site.get(**ALICE)
    site.tls = site.scraper()
    assert [(await site.get(**headers))[0] for headers in ({}, ALICE)] == [401, 200]
    assert problems_told(caplog) == [f"{site.file}: it no longer asks for {lost}, wanted a restart for that"]


def test_a_file_with_problems_is_no_guard_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text("basic_auth_users: {a: b}\nrate_limit: {interval: x}\n")
    with pytest.raises(ConfigError) as raised:
        Guard(file, Clock())
    assert len(raised.value.problems) == 2
    with pytest.raises(ConfigError, match="cannot be read"):
        Guard(tmp_path / "gone.yml", Clock())


# --- receivers' answers


@pytest.mark.parametrize(
    ("content", "hosts", "may"),
    [
        (None, ["127.0.0.1"], True),
        (None, ["127.0.0.1", "::1", "127.1.2.3", "::ffff:127.0.0.1"], True),
        (None, ["127.0.0.1", "10.0.0.1"], False),
        (None, ["0.0.0.0"], False),
        (None, ["::"], False),
        (None, ["localhost"], False),  # a name: where it leads is not known
        (None, [""], False),
        (None, [], False),
        (USERS, ["0.0.0.0"], True),
        (TLS, ["0.0.0.0"], False),
        (TLS, ["127.0.0.1"], True),
        (CLIENTS, ["0.0.0.0"], True),
        (CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"), ["0.0.0.0"], False),
        (CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven") + USERS, ["0.0.0.0"], True),
    ],
)
def test_receivers_answers_are_shown_to_those_who_are_known_or_on_this_machine(
    site: Site, content: str | None, hosts: list[str], may: bool
) -> None:
    if content is not None:
        site.file.write_text(content)
    made = Guard(site.file if content is not None else None, Clock())
    assert made.may_show_answers([(host, 10058) for host in hosts], "localhost:10058") is may


@pytest.mark.parametrize(
    ("asked_as", "may"),
    [("localhost", True), ("localhost:10058", True), ("127.0.0.1:10058", True), ("[::1]:10058", True), ("127.8.8.8", True),
     ("evil.example:10058", False), ("localhost.evil.example", False), ("10.0.0.1", False), ("", False), ("[::1", False)],
)  # fmt: skip
def test_on_this_machine_answers_are_shown_to_whoever_asks_for_this_machine(asked_as: str, *, may: bool) -> None:
    assert Guard(None, Clock()).may_show_answers([("127.0.0.1", 10058)], asked_as) is may


def test_behind_a_password_answers_are_shown_under_any_name(site: Site) -> None:
    site.file.write_text(USERS)
    assert Guard(site.file, Clock()).may_show_answers([("0.0.0.0", 10058)], "exporter.example")


async def test_a_page_from_elsewhere_whose_name_leads_here_is_told_nothing_of_answers(site: Site) -> None:
    await site.start("rate_limit: {}\n")
    told = {
        host: json.loads((await site.get("/api/v1/status", Host=host))[1])["answers_shown"]
        for host in ("localhost", "evil.example")
    }
    assert told == {"localhost": True, "evil.example": False}


async def test_the_server_knows_where_it_listens_and_what_the_file_says_now(site: Site) -> None:
    await site.start("rate_limit: {}\n")
    assert site.server.may_show_answers("localhost")
    everywhere = Server(
        exposition=Exposition(OwnMetrics()), telemetry_path="/metrics", unready=list, reload=site._reload,
        scraped=lambda *scrape: None, guard=site.guard,
    )  # fmt: skip
    assert not everywhere.may_show_answers("localhost")  # it listens nowhere yet
    await everywhere.start([("0.0.0.0", 0)])
    try:
        assert not everywhere.may_show_answers("localhost")
        site.write(USERS)
        assert everywhere.may_show_answers("localhost")
    finally:
        await everywhere.stop()
