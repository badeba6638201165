"""`--web.config.file` with the real ones: promtool's judgement of it, Prometheus as the scraper, the exporter's process."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme
import yaml

from exporter.epcc import Epcc
from exporter.shop import Integration
from exporter.webconfig import read
from tests.certificates import client, replace, write_ca, write_pair
from tests.guarded import basic
from tests.integration import servers
from tests.integration.process import ROOT, Exporter, Process, started, until

pytestmark = pytest.mark.integration

EXAMPLE = ROOT / "deploy" / "prometheus" / "scrape-tls.yml"
HASHED = bcrypt.hashpw(b"secret", bcrypt.gensalt(6, b"2a")).decode()
PAIR = "tls_server_config:\n  cert_file: server.pem\n  key_file: server-key.pem\n"
CLIENTS = f"{PAIR}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
USERS = f"basic_auth_users:\n  prometheus: {HASHED}\n"
NEWER = ("rate_limit", "client_allowed_sans")  # keys that an older promtool does not know

# What both say of a file, ours and promtool's.
GOOD = [
    "",
    "{}\n",
    PAIR,
    CLIENTS,
    USERS,
    CLIENTS + USERS,
    CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
    f"{PAIR}  client_auth_type: NoClientCert\n",
    f"{PAIR}  min_version: TLS12\n  max_version: TLS13\n  prefer_server_cipher_suites: false\n  curve_preferences: [X25519]\n"
    "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256]\n",
    "http_server_config:\n  http2: false\n  headers:\n    Strict-Transport-Security: max-age=9\n    X-Content-Type-Options: nosniff\n"
    "    X-Frame-Options: sameorigin\n    X-XSS-Protection: 1\n    Content-Security-Policy: default-src 'self'\n",
    f"{CLIENTS}  client_allowed_sans: [prometheus.example]\n",
    f"{USERS}rate_limit: {{interval: 1m30s, burst: 20}}\n",
    "rate_limit: {interval: 0, burst: 0}\n",
]
BAD = [
    "basic_auth_users: {prometheus: hunter2}\n",
    f"basic_auth_users: {{prometheus: {HASHED[:50]}}}\n",
    "basic_auth_user: {}\n",
    f"{USERS}  prometheus: {HASHED}\n",
    PAIR.replace("server.pem", "gone.pem"),
    PAIR.replace("server-key.pem", "gone.pem"),
    PAIR.replace("server-key.pem", "other-key.pem"),
    PAIR.replace("server-key.pem", "ca.pem"),
    "tls_server_config:\n  cert_file: server.pem\n",
    CLIENTS.replace("RequireAndVerifyClientCert", "RequireAndVerify"),
    f"{PAIR}  client_ca_file: ca.pem\n",
    CLIENTS.replace("ca.pem", "gone.pem"),
    f"{PAIR}  min_version: TLS9\n",
    f"{PAIR}  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n",
    f"{PAIR}  curve_preferences: [P256]\n",
    "http_server_config: {headers: {Server: x}}\n",
    "http_server_config: {headers: {x-frame-options: deny}}\n",
    "http_server_config: {headers: {X-Frame-Options: allow}}\n",
    "http_server_config: {http2: maybe}\n",
    "rate_limit: {interval: often}\n",
    "a: [\n",
]  # fmt: skip


class Folder:
    """A CA, the server's certificate, a scraper's, and the web configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "web-config.yml"
        self.ca = trustme.CA()
        path.mkdir(exist_ok=True)
        write_pair(path, self.ca)
        write_pair(path, self.ca, stem="other")
        write_pair(path, self.ca, "prometheus.example", stem="prometheus")
        write_ca(path / "ca.pem", self.ca)
        write_ca(path / "epcc-exporter-ca.pem", self.ca)
        (path / "epcc-exporter-password").write_text("secret")

    def client(self, *, certificate: bool = True) -> ssl.SSLContext:
        return client(self.ca, pair=self.path / "prometheus" if certificate else None)

    def scraping(self) -> dict[str, object]:
        """What deploy/prometheus tells to write, with the files that it names from here."""
        there = Path(shutil.copy(EXAMPLE, self.path))
        for name in servers.names():
            said = servers.promtool(name, "check", "config", there)
            assert said.returncode == 0, said.stdout + said.stderr
        (job,) = yaml.safe_load(re.sub(r"(_file: )", rf"\1{self.path}/", there.read_text()))["scrape_configs"]
        return {key: value for key, value in job.items() if key not in ("job_name", "static_configs")}

    @property
    def flag(self) -> str:
        return f"--web.config.file={self.file}"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "web")


@pytest.mark.parametrize("name", servers.names())
def test_promtool_says_of_a_file_what_the_exporter_says(folder: Folder, name: str) -> None:
    for content in (*GOOD, *BAD):
        folder.file.write_text(content)
        good = not read(folder.file).problems
        assert good is (content in GOOD), content
        said = servers.promtool(name, "check", "web-config", folder.file)
        unknown = any(f"field {key} not found" in said.stdout + said.stderr for key in NEWER)
        assert (said.returncode == 0) is (good and not unknown), f"{content}{said.stdout}{said.stderr}"


async def listening(process: Process) -> str:
    async def found() -> re.Match[str] | None:
        assert process.child.returncode is None, process.output
        return re.search(r"msg=listening address=(\S+)", process.output)

    return str((await until(found, "listening")).group(1))


async def status(url: str, tls: ssl.SSLContext, password: str | None) -> int:
    auth = {} if password is None else basic("prometheus", password)
    async with aiohttp.ClientSession() as session, session.get(url, ssl=tls, headers=auth) as response:
        return response.status


@pytest.fixture
async def scrapers(tmp_path: Path) -> AsyncIterator[list[servers.Prometheus]]:
    """One of each version. They need seconds for their first scrape, and here they need the same ones."""
    made = []
    for name in servers.names():
        (tmp_path / name).mkdir()
        made.append(servers.Prometheus(name, tmp_path / name))
    yield made
    await asyncio.gather(*(each.stop() for each in made))


async def test_prometheus_scrapes_over_tls_with_a_password_then_with_a_certificate_too_and_through_a_renewal(
    tmp_path: Path, folder: Folder, scrapers: list[servers.Prometheus]
) -> None:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    folder.file.write_text(PAIR + USERS)
    async with Exporter(tmp_path / "exporter", epcc) as exporter, exporter.running(folder.flag) as process:
        address = await listening(process)
        url = f"https://{address}/metrics"
        assert await status(url, folder.client(), None) == 401
        assert await status(url, folder.client(), "wrong") == 401
        assert process.output.count('msg="a client was refused" client=127.0.0.1 problem="wrong user or password"') == 1
        job = folder.scraping()
        assert job.keys() == {"scheme", "basic_auth", "tls_config"}
        targets = {"epcc": int(address.rpartition(":")[2])}
        await asyncio.gather(*(each.start(targets, **job) for each in scrapers))
        await asyncio.gather(*(each.until("epcc_integration_attempts_total", len) for each in scrapers))

        write_pair(folder.path, folder.ca)
        replace(folder.file, CLIENTS + USERS)
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await status(url, folder.client(certificate=False), "secret")
        assert await status(url, folder.client(), "secret") == 200
        assert await status(url, folder.client(), None) == 401
        changed = time.time()
        assert 'msg="the web configuration was read anew"' in process.output
        # Its connection from before is closed: it comes back with its certificate.
        again = f"timestamp(up == 1) > {changed + 1}"
        await asyncio.gather(*(each.until(again, len) for each in scrapers))


async def test_a_missing_or_bad_file_ends_with_2_and_all_problems_of_both_files(tmp_path: Path, folder: Folder) -> None:
    async with Exporter(tmp_path / "exporter", Epcc()) as exporter:
        exporter.configure("    page_limt: 5\n")
        folder.file.write_text("basic_auth_users: {a: PLANTED}\nrate_limit: {interval: x}\n")
        command = (sys.executable, "-m", "exporter", f"--config.file={exporter.config}", folder.flag)
        async with started(*command) as process:
            assert await process.ended() == 2
        assert [line.partition(": ")[0].rpartition("/")[2] for line in process.output.splitlines()] == [
            "config.yaml:10", "web-config.yml:1", "web-config.yml:2"
        ]  # fmt: skip
        assert "PLANTED" not in process.output
        exporter.configure()
        folder.file.unlink()
        async with started(*command) as process:
            assert await process.ended() == 2
        assert process.output == f"{folder.file}: cannot be read (No such file or directory)\n"


async def test_config_check_checks_the_web_configuration_too(tmp_path: Path, folder: Folder) -> None:
    folder.file.write_text(CLIENTS + USERS)
    async with Exporter(tmp_path / "exporter", Epcc()) as exporter:
        command = (sys.executable, "-m", "exporter", "--config.check", f"--config.file={exporter.config}", folder.flag)
        async with started(*command) as process:
            assert await process.ended() == 0
    assert process.output == (
        f"{exporter.config}: ok, 1 store: acme\n"
        f"{folder.file}: ok, tls 1.2 to 1.3, client certificates required, http2 false, users 1\n"
    )
