"""What is installed: wheel and source archive as built, in an environment that has nothing else of this project."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import aiohttp
import pytest

from exporter import __version__
from tests.integration.process import ROOT, started, until

pytestmark = pytest.mark.integration


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Below deploy/: what is for who installs the wheel. The others build images, run clusters, or make the dashboards anew.
SHARED = ("alertmanager/", "backfill.md", "grafana/dashboards/", "grafana/provisioning/", "prometheus/", "runbooks.md",
          "systemd/")  # fmt: skip


def files(*places: str) -> set[str]:
    """As git knows them and as they are new."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *places).splitlines()
    return {each for each in listed if (ROOT / each).exists()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder)
    return folder


def wheel_in(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_has_every_file_of_the_package_the_rules_and_dashboards_and_nothing_else(built: Path) -> None:
    wheel = wheel_in(built)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"epcc_exporter-{__version__}.dist-info/METADATA").decode()
    share = f"epcc_exporter-{__version__}.data/data/share/epcc-exporter/"
    shared = {name.removeprefix(share) for name in names if name.startswith(share)}
    assert {name for name in names if ".dist-info/" not in name and not name.startswith(share)} == files("exporter")
    assert "exporter/page/index.html" in names
    wanted = {each.removeprefix("deploy/") for each in files(*(f"deploy/{place}" for place in SHARED))}
    assert shared == {*wanted, "config.example.yaml"}
    assert {"prometheus/exporter.rules.yml", "grafana/dashboards/epcc-overview.json", "runbooks.md"} <= shared
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata


def test_the_source_archive_has_what_deploys_and_tests_it(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert files("exporter", "deploy", "tests") <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "config.example.yaml", "tests/run",
            "deploy/prometheus/recording.rules.yml", "deploy/grafana/dashboards/epcc-overview.json",
            "deploy/systemd/epcc-exporter.service", "deploy/docker/Containerfile"} <= names  # fmt: skip
    assert not [name for name in names if re.match(r"\.venv|\.cache|data/|config\.yaml$", name)]


def oldest() -> list[str]:
    """Of what the exporter needs, the oldest versions that it says it can do with. Newer Pythons have no wheels of them:
    the newest are installed there, as in every other environment."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if wanted["requires-python"] != f">={sys.version_info.major}.{sys.version_info.minor}":
        return []
    assert all(">=" in each for each in wanted["dependencies"])
    return [each.replace(">=", "==") for each in wanted["dependencies"]]


async def test_in_an_empty_environment_the_wheel_runs_the_demo_with_its_page(built: Path, tmp_path: Path) -> None:
    wheel = wheel_in(built)
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    run(
        "python3",
        "-m",
        "pip",
        "--python",
        environment / "bin" / "python",
        "install",
        "-q",
        wheel,
        *oldest(),
        cwd=tmp_path,
    )
    program = environment / "bin" / "epcc-exporter"
    assert (environment / "share/epcc-exporter/prometheus/exporter.rules.yml").is_file()
    assert run(program, "--version", cwd=tmp_path).startswith(f"epcc-exporter, version {__version__} ")
    async with (
        started(program, "demo", "--web.listen-address=127.0.0.1:0") as process,
        aiohttp.ClientSession() as session,
    ):

        async def address() -> re.Match[str] | None:
            assert process.child.returncode is None, process.output
            return re.search(r"address=(\S+)", process.output)

        url = f"http://{(await until(address, 'listening'))[1]}"
        for path, part in (
            ("/", "page/page.js"),
            ("/page/page.js", "refresh"),
            ("/metrics", "epcc_exporter_build_info"),
        ):
            async with session.get(url + path) as response:
                assert response.status == 200
                assert part in await response.text()
        assert await process.end() == 0
