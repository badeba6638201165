"""TLS of a guarded server: certificates that change while it runs, versions, and clients that show their own."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest
import trustme

from exporter.webtls import names_of
from tests.certificates import client, write_ca, write_pair
from tests.guarded import (
    ALICE,
    CLIENTS,
    REFUSED,
    TLS,
    USERS,
    Site,
    a_site,  # noqa: F401  # pytest finds it
    problems_told,
)

# --- TLS


async def test_a_tls_port_speaks_tls_alone_and_http_1_1_whatever_http2_says(site: Site) -> None:
    await site.start(f"{TLS}http_server_config: {{http2: true}}\n")
    assert (await site.get("/metrics"))[0] == 200
    offers_both = client(site.ca)
    offers_both.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=offers_both)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()
    await writer.wait_closed()
    site.tls = None
    with pytest.raises(REFUSED):
        await site.get()


def version(least: ssl.TLSVersion, most: ssl.TLSVersion, ca: trustme.CA) -> ssl.SSLContext:
    context = client(ca)
    context.minimum_version, context.maximum_version = least, most
    return context


async def test_versions_are_held_and_a_change_holds_for_the_next_connection(site: Site) -> None:
    await site.start(TLS)
    old, new = (version(each, each, site.ca) for each in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
    for content, refused in (("", None), ("  min_version: TLS13\n", old), ("  max_version: TLS12\n", new), ("", None)):
        site.write(TLS + content)
        for context in (old, new):
            site.tls = context
            if context is refused:
                with pytest.raises(REFUSED):
                    await site.get()
            else:
                assert (await site.get())[0] == 200


async def test_a_curve_is_held(site: Site) -> None:
    await site.start(f"{TLS}  curve_preferences: [CurveP384]\n")
    for curve, served in (("secp384r1", True), ("prime256v1", False)):
        site.tls = client(site.ca)
        site.tls.set_ecdh_curve(curve)
        if served:
            assert (await site.get())[0] == 200
        else:
            with pytest.raises(REFUSED):
                await site.get()


async def serial(site: Site) -> int:
    _, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=site.tls)
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    await writer.wait_closed()
    return int(found, 16)


async def test_a_renewed_certificate_is_shown_to_the_next_connection_and_open_ones_go_on(site: Site) -> None:
    await site.start(TLS)
    async with aiohttp.ClientSession() as session:
        assert (await site.on(session))[0] == 200
        first = await serial(site)
        write_pair(site.folder, site.ca)
        assert await serial(site) != first
        ((connection, _),) = next(iter(session.connector._conns.values()))  # type: ignore[union-attr]
        assert (await site.on(session))[0] == 200
        ((same, _),) = next(iter(session.connector._conns.values()))  # type: ignore[union-attr]
        assert same is connection


async def test_half_a_renewal_leaves_the_old_certificate_until_the_other_half_is_there(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start(TLS)
    first = await serial(site)
    write_pair(site.folder, site.ca, stem="next")
    (site.folder / "next.pem").rename(site.folder / "server.pem")
    for _ in range(3):
        assert await serial(site) == first
    (problem,) = problems_told(caplog)
    assert problem == f"{site.file}:3: tls_server_config.key_file: not the key of the certificate"
    (site.folder / "next-key.pem").rename(site.folder / "server-key.pem")
    assert await serial(site) != first


# --- client certificates


async def test_a_client_needs_a_certificate_of_the_right_ca(site: Site) -> None:
    await site.start(CLIENTS)
    with pytest.raises(REFUSED):
        await site.get()
    other = trustme.CA()
    write_pair(site.folder, other, "scraper.example", stem="stranger")
    site.tls = site.scraper("stranger")
    with pytest.raises(REFUSED):
        await site.get()
    site.tls = site.scraper()
    assert (await site.get())[0] == 200


async def test_a_client_that_does_not_trust_the_server_is_not_served(site: Site) -> None:
    await site.start(TLS)
    site.tls = client(trustme.CA())
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await site.get()


async def test_the_clients_ca_may_be_an_intermediate_one_and_its_parent_is_not_trusted_then(site: Site) -> None:
    child = site.ca.create_child_ca()
    write_ca(site.folder / "ca.pem", child)
    await site.start(CLIENTS)
    write_pair(site.folder, child, "scraper.example", stem="below")
    site.tls = site.scraper("below")
    assert (await site.get())[0] == 200
    site.tls = site.scraper()  # of the parent
    with pytest.raises(REFUSED):
        await site.get()


async def test_verified_if_given_serves_those_without_and_refuses_those_of_another_ca(site: Site) -> None:
    await site.start(CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    assert (await site.get())[0] == 200
    write_pair(site.folder, trustme.CA(), "scraper.example", stem="stranger")
    site.tls = site.scraper("stranger")
    with pytest.raises(REFUSED):
        await site.get()


async def test_a_certificate_needs_an_allowed_name_where_names_are_given(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start(f"{CLIENTS}  client_allowed_sans: [scraper.example, '::1']\n")
    for names, status in (
        (["scraper.example"], 200), (["other.example", "scraper.example"], 200), (["::1"], 200),
        (["other.example"], 403), (["x.scraper.example"], 403), (["SCRAPER.example"], 200),
    ):  # fmt: skip
        write_pair(site.folder, site.ca, *names, stem="named")
        site.tls = site.scraper("named")
        found, text, headers = await site.get()
        assert found == status, names
        if status == 403:
            assert text == "forbidden: none of the client certificate's names is in client_allowed_sans\n"
            assert headers["Connection"] == "close"
    assert set(problems_told(caplog)) == {"none of the client certificate's names is in client_allowed_sans"}


def test_names_are_those_of_dns_mail_uri_and_ip_as_go_writes_them() -> None:
    peer = {"subjectAltName": (
        ("DNS", "a.example"), ("email", "b@example"), ("URI", "spiffe://c"), ("IP Address", "10.0.0.1"),
        ("IP Address", "0:0:0:0:0:0:0:1\n"), ("IP Address", "0:0:0:0:0:FFFF:A00:2"), ("DirName", "d"),
    )}  # fmt: skip
    assert names_of(peer) == {"a.example", "b@example", "spiffe://c", "10.0.0.1", "::1", "10.0.0.2"}
    assert names_of({}) == frozenset()


async def test_a_connection_that_was_let_in_by_a_ca_that_is_trusted_no_more_is_closed(site: Site) -> None:
    await site.start(CLIENTS)
    site.tls = site.scraper()
    async with aiohttp.ClientSession() as session:
        assert (await site.on(session))[0] == 200
        write_pair(site.folder, site.ca)  # another certificate changes nothing for it
        assert (await site.on(session))[0] == 200
        write_ca(site.folder / "ca.pem", trustme.CA())
        status, _, headers = await site.on(session)
        assert (status, headers["Connection"]) == (403, "close")
        with pytest.raises(REFUSED):
            await site.on(session)


async def test_a_connection_made_before_certificates_were_asked_for_is_closed(site: Site) -> None:
    await site.start(TLS)
    async with aiohttp.ClientSession() as session:
        assert (await site.on(session))[0] == 200
        site.write(CLIENTS)
        assert (await site.on(session))[0] == 403
        with pytest.raises(REFUSED):
            await site.on(session)


async def test_a_password_is_asked_for_beside_a_certificate(site: Site) -> None:
    await site.start(CLIENTS + USERS)
    site.tls = site.scraper()
    assert [(await site.get(**headers))[0] for headers in ({}, ALICE)] == [401, 200]
