"""Unit, image, manifests and compose file, each started with exactly the flags that it names, and judged by real checkers.

Paths of the machine they are for are replaced by those of the test's folder, and ports by free ones.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.epcc import Epcc
from exporter.shop import Integration
from tests import containerfile, kubernetes, rules
from tests.integration import container
from tests.integration.alertmanager import EXAMPLE_URL, Alertmanager
from tests.integration.process import SCRAPER, Exporter, Process, started, until
from tests.integration.servers import Prometheus

pytestmark = pytest.mark.integration

DEPLOY = rules.ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "epcc-exporter.service"
COMPOSE = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
EXPOSURE_MAX = 2.0  # of systemd-analyze security: 0 is shut, 10 is open
ANALYZE = ("systemd-analyze", "--no-pager")


def unit_text(program: Path) -> str:
    return UNIT.read_text().replace("/opt/epcc-exporter/bin/epcc-exporter", str(program))


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert shutil.which(ANALYZE[0]), "no systemd-analyze: `python3 tests/run` installs Debian's systemd where it may"
    return subprocess.run([*ANALYZE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


# --- systemd


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    (tmp_path / UNIT.name).write_text(unit_text(Path(sys.executable)))
    said = analyzed("verify", tmp_path / UNIT.name)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    (tmp_path / UNIT.name).write_text(unit_text(Path(sys.executable)).replace("ProtectHome=yes", "ProtectHouse=yes"))
    assert "ProtectHouse" in analyzed("verify", tmp_path / UNIT.name).stderr


def test_systemd_finds_the_unit_shut(tmp_path: Path) -> None:
    threshold = f"--threshold={round(EXPOSURE_MAX * 10)}"
    shut = analyzed("security", "--offline=true", threshold, UNIT)
    assert shut.returncode == 0, shut.stdout
    assert float(re.findall(r"exposure level for \S+: ([\d.]+)", shut.stdout)[0]) <= EXPOSURE_MAX
    (tmp_path / UNIT.name).write_text(
        re.sub(r"(?m)^(Protect|System|Capability|Private|Restrict).*\n", "", UNIT.read_text())
    )
    assert analyzed("security", "--offline=true", threshold, tmp_path / UNIT.name).returncode != 0


# --- what each starts


def of_systemd() -> list[str]:
    line = re.findall(r"(?m)^ExecStart=(.*)$", UNIT.read_text())[0]
    return shlex.split(line.replace("$ARGS", "").replace("${STATE_DIRECTORY}", "/var/lib/epcc-exporter"))[1:]


def of_the_image() -> list[str]:
    steps = containerfile.read(container.CONTAINERFILE.read_text())
    return list(yaml.safe_load(next(step.text for step in steps if step.instruction == "CMD")))


def of_kubernetes(name: str) -> list[str]:
    manifests = kubernetes.kustomized(name)
    assert manifests is not None, "neither kubectl nor kustomize: `python3 tests/run` installs Debian's where it may"
    (pods,) = (each["spec"] for each in manifests if each["kind"] == "StatefulSet")
    return list(pods["template"]["spec"]["containers"][0]["args"])


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Exporter]:
    epcc = Epcc()
    epcc.add_integration(Integration("shipping", "Order shipping"))
    async with Exporter(tmp_path / "exporter", epcc) as made:
        yield made


def here(arguments: list[str], exporter: Exporter) -> list[str]:
    """With the test's paths in the place of the machine's."""
    places = {"/etc/epcc-exporter/config.yaml": exporter.config, "/var/lib/epcc-exporter": exporter.folder}
    for place, path in places.items():
        arguments = [each.replace(place, str(path)) for each in arguments]
    assert all(
        str(exporter.folder) in each for each in arguments if "/" in each.partition("=")[2] and "shard" not in each
    )
    return arguments


async def listening(process: Process) -> str:
    async def found() -> Any:
        assert process.child.returncode is None, process.output
        return re.search(r"address=\"?(127\.0\.0\.1:\d+)|\"address\": ?\"(127\.0\.0\.1:\d+)", process.output)

    match = await until(found, "listening")
    return f"http://{match[1] or match[2]}"


@pytest.mark.parametrize("source", ["systemd", "image", "base", "sharded"])
async def test_the_exporter_starts_with_the_flags_that_are_named_and_is_ready(exporter: Exporter, source: str) -> None:
    arguments = {"systemd": of_systemd, "image": of_the_image}.get(source, lambda: of_kubernetes(source))()
    if source == "sharded":
        assert "--shard=auto/3" in arguments
        arguments = [each.replace("auto/3", "0/1") for each in arguments]  # this host's name ends in no ordinal
    command = (sys.executable, "-m", "exporter", *here(arguments, exporter), "--web.listen-address=127.0.0.1:0")
    async with started(*command) as process:
        exporter.url = await listening(process)
        await exporter.ready()
        assert (await exporter.get("/-/healthy"))[0] == 200
        assert 'epcc_up{store="acme"} 1.0' in (await exporter.get("/metrics", **SCRAPER))[1]
        assert await process.end() == 0


def test_the_probes_ask_for_pages_that_there_are() -> None:
    manifests = kubernetes.kustomized("base")
    assert manifests is not None
    (pods,) = (each["spec"]["template"]["spec"] for each in manifests if each["kind"] == "StatefulSet")
    (exporter,) = pods["containers"]
    assert [exporter[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")] == [
        "/-/healthy",
        "/-/ready",
    ]
    for manifest in [*manifests, *(kubernetes.kustomized("sharded") or [])]:
        assert list(kubernetes.problems(manifest, kubernetes.VERSIONS[-1])) == []


# --- all on one machine


@contextlib.asynccontextmanager
async def demo() -> AsyncIterator[str]:
    """As compose.yaml starts it; its address."""
    flags = [each for each in COMPOSE["services"]["exporter"]["command"][1:] if not each.startswith("--storage.path=")]
    assert flags == ["--web.listen-address=:10058"]
    async with started(sys.executable, "-m", "exporter", "demo", "--web.listen-address=127.0.0.1:0") as process:
        yield await listening(process)


def replaced(source: Path, target: Path, words: Mapping[str, str]) -> None:
    text = source.read_text()
    for word, by in words.items():
        assert word in text, word
        text = text.replace(word, by)
    target.write_text(text)


async def test_the_stack_of_compose_scrapes_the_demo_evaluates_its_rules_and_finds_its_alertmanager(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    folder = tmp_path / "etc"
    shutil.copytree(DEPLOY / "prometheus", folder)
    alertmanager = Alertmanager(prometheus.name, tmp_path)
    async with demo() as url, contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(alertmanager.stop)
        await alertmanager.start(EXAMPLE_URL, 1.0)  # with the flags that compose.yaml has; nobody is told
        words = {
            "localhost:10058": url.removeprefix("http://"), "localhost:9093": alertmanager.url.removeprefix("http://"),
            "scrape_interval: 15s": "scrape_interval: 1s", "evaluation_interval: 15s": "evaluation_interval: 1s",
        }  # fmt: skip
        replaced(DEPLOY / "prometheus" / "prometheus.yml", folder / "prometheus.yml", words)
        flags = COMPOSE["services"]["prometheus"]["command"]
        await prometheus.start_with(folder / "prometheus.yml", *(each for each in flags if "--enable-feature=" in each))
        up = await prometheus.until('up{job="epcc-exporter"}', lambda found: 1.0 in found.values())
        assert len(up) == 1
        named = "count(integration:epcc_integration_info:named)"
        assert await prometheus.until(named, lambda found: 6.0 in found.values())
        groups = (await prometheus.get("/api/v1/rules"))["groups"]
        assert {group["file"].rpartition("/")[2] for group in groups} == {path.name for path in rules.RULE_FILES}
        managers = (await prometheus.get("/api/v1/alertmanagers"))["activeAlertmanagers"]
        assert [each["url"] for each in managers] == [f"{alertmanager.url}/api/v2/alerts"]


def test_alertmanager_is_started_in_the_tests_as_compose_starts_it() -> None:
    flags = COMPOSE["services"]["alertmanager"]["command"]
    assert [each.partition("=")[0] for each in flags] == [
        "--config.file", "--storage.path", "--web.listen-address", "--cluster.listen-address",
    ]  # fmt: skip
    assert "--cluster.listen-address=" in flags
