"""Builds and runs the image without an engine: `python -m tests.integration.container`, as root on Debian.

For a machine that has no container engine. Each step of deploy/docker/Containerfile runs in a root that debootstrap has
made, with Debian's own Python of the same version in the place of the base image; then the last stage runs as the engine
would run it: its numeric user, no capabilities, a read-only root, namespaces of its own. What this cannot show is the base
image itself, and that an engine's own parser agrees. About two minutes, of which one is debootstrap's; --base keeps that.
"""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.containerfile import Builder, Stage, read

ROOT: Final = Path(__file__).parents[2]
CONTAINERFILE: Final = ROOT / "deploy" / "docker" / "Containerfile"
# python:3.13-slim-trixie is Debian's trixie with its own Python, in /usr/local.
BASE: Final = "python:3.13-slim-trixie"
SUITE: Final = "trixie"
PACKAGES: Final = "ca-certificates,python3,python3-venv"
PYTHON: Final = "3.13"
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0  # what an engine waits between SIGTERM and SIGKILL
NEEDED: Final = {"debootstrap": "debootstrap", "iproute2": "ip", "util-linux": "unshare"}  # packages, each by a program
# How this machine reaches packages, for the RUN steps: an engine would be told by its own configuration.
HOST_FILES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.container", description=__doc__)
    parser.add_argument("--base", type=Path, default=None, help="a folder for the base, kept and used again")
    arguments = parser.parse_args()
    if missing := [package for package, program in NEEDED.items() if shutil.which(program) is None]:
        parser.error(f"Debian's {', '.join(missing)} must be installed: apt-get install {' '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="epcc-image-") as folder:
        work = Path(folder)
        base = arguments.base or work / "base"
        if not (base / "usr").exists():
            say(f"debootstrap {SUITE}")
            bootstrap(base)
        files = [each for each in HOST_FILES if Path(each).exists()]
        pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        builder = Builder(ROOT, work, {BASE: base}, pip, ["/dev", *files])
        say(f"the {len(read(CONTAINERFILE.read_text()))} steps of {CONTAINERFILE.relative_to(ROOT)}")
        stage = builder.build(CONTAINERFILE.read_text())
        checks(stage, builder.stages["sbom"])
    say("ok")
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"--- {text}\n")
    sys.stdout.flush()


def bootstrap(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    version = subprocess.run(
        ["chroot", folder, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    assert version == PYTHON, f"{SUITE} has Python {version}"
    (folder / "usr/local/bin/python3").symlink_to("/usr/bin/python3")


class Container:
    """The stage as an engine runs it, with `options` of the kind that compose.yaml has."""

    def __init__(self, stage: Stage, command: Sequence[str]) -> None:
        self._stage = stage
        user, group = stage.user.split(":")
        root = shlex.quote(str(stage.folder))
        volumes = "".join(f"mount -t tmpfs -o mode=0700,uid={user},gid={group} tmpfs {root}{each} && "
                          for each in stage.volumes)  # fmt: skip
        script = (
            f"ip link set lo up && mount --bind {root} {root} && mount -o remount,ro,bind {root} && {volumes}"
            f"mount -t tmpfs tmpfs {root}/tmp && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && "  # noqa: S108
            f'cd {root} && exec chroot . "$@"'
        )
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", script, "sh",
             *self._as_user(command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def _as_user(self, command: Sequence[str]) -> list[str]:
        user, group = self._stage.user.split(":")
        variables = [f"{name}={value}" for name, value in self._stage.environment.items()]
        become = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
                  "--bounding-set=-all", "--inh-caps=-all"]  # fmt: skip
        inner = f'cd {self._stage.workdir} && exec "$@"'
        return ["/usr/bin/env", "-i", *variables, *become, "/bin/sh", "-c", inner, "sh", *command]

    @functools.cached_property
    def pid(self) -> int:
        """Of its first process, once that is what the image starts and nothing of what brought it there."""
        end = time.monotonic() + READY_SECONDS
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        user = self._stage.user.split(":")[0]
        while True:
            for child in children.read_text().split():
                if f"\nUid:\t{user}\t" in Path(f"/proc/{child}/status").read_text():
                    return int(child)
            assert time.monotonic() < end, f"it did not start: {self._process.poll()}"

    def execute(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """`docker exec`."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--ipc", "--uts", "--root", "--wd"]
        return subprocess.run(
            [*enter, *self._as_user(command)], capture_output=True, text=True, check=False, timeout=30
        )

    def stop(self) -> tuple[int, str]:
        """`docker stop`: the exit code, and what it wrote."""
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.ended(STOP_SECONDS)

    def ended(self, seconds: float) -> tuple[int, str]:
        try:
            written, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        return self._process.returncode, written


def checks(stage: Stage, sbom: Stage) -> None:
    say("no configuration: ends with 2 and says why")
    code, written = Container(stage, [*stage.entrypoint, *stage.command]).ended(READY_SECONDS)
    assert code == 2, written
    assert "/etc/epcc-exporter/config.yaml" in written, written
    say("the demo, read-only, as its user; health, a scrape, SIGTERM")
    container = Container(stage, [*stage.entrypoint, "demo", "--web.listen-address=:10058"])
    try:
        healthy(container, stage.healthcheck)
        page = container.execute([*fetch("/metrics")]).stdout
        assert "epcc_integration_attempts_total{" in page, page[:2000]
        status = container.execute(["grep", "-E", "^(Uid|CapEff|CapBnd|NoNewPrivs):", "/proc/1/status"]).stdout.split()
        assert status[status.index("Uid:") + 1] == stage.user.split(":")[0], status
        assert status[status.index("CapEff:") + 1] == status[status.index("CapBnd:") + 1] == "0" * 16, status
        assert status[status.index("NoNewPrivs:") + 1] == "1", status
        assert container.execute(["touch", "/opt/epcc-exporter/x"]).returncode != 0, "the root can be written"
        absent = container.execute(["python3", "-c", "import pip"])
        assert "No module named 'pip'" in absent.stderr, absent
        version = container.execute(["epcc-exporter", "--version"]).stdout
    finally:
        code, written = container.stop()
    assert code == 0, written
    parts = (sbom.folder / "sbom.cdx.json").read_text()
    assert all(f'"name": "{name}"' in parts for name in ("epcc-exporter", "aiohttp", "msgspec")), parts[:2000]
    size = subprocess.run(["du", "-sm", stage.folder / "opt"], capture_output=True, text=True, check=True).stdout
    say(f"{version.strip()}, {size.split()[0]} MB on the base")


def healthy(container: Container, healthcheck: Sequence[str]) -> None:
    end = time.monotonic() + READY_SECONDS
    while (said := container.execute(healthcheck)).returncode != 0:
        assert time.monotonic() < end, said.stderr
    while 'epcc_up{store="demo"} 1' not in container.execute(fetch("/metrics")).stdout:
        assert time.monotonic() < end, "never polled"


def fetch(path: str) -> list[str]:
    return [
        "python3",
        "-c",
        f"from urllib.request import urlopen as o; print(o('http://127.0.0.1:10058{path}').read().decode())",
    ]


if __name__ == "__main__":
    sys.exit(main())
