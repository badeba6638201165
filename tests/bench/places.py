"""Where the rivals come from: environments and programs of their own below .cache/bench, made when they are needed.

Versions are fixed, so that figures of two machines can be compared. What cannot be had is `Missing`, with the reason:
a table then says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORK = ROOT / ".cache" / "bench"
PACKAGES = {
    "airbyte": ("airbyte-cdk==7.39.1",),
    "dlt": ("dlt[duckdb,parquet]==1.31.0", "duckdb==2.0.0"),
    "py-spy": ("py-spy==0.4.3",),
}
FETCH_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Missing:
    """Why something cannot be had on this machine."""

    reason: str


def environment(name: str) -> Path | Missing:
    """The folder of programs of a virtual environment that has PACKAGES[name]."""
    packages = PACKAGES[name]
    folder = WORK / name
    made = folder / "made"  # written last: what it names is all there
    if made.exists() and made.read_text() == "\n".join(packages):
        return folder / "bin"
    # Not this interpreter, whose environment may be without pip, but the one that it was made from.
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    pip: list[str | Path] = [base, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    commands: tuple[list[str | Path], ...] = (
        [base, "-m", "venv", "--clear", "--without-pip", folder],
        [*pip, "install", "--quiet", *packages],
    )
    _say(f"fetching {', '.join(packages)}")
    for command in commands:
        if problem := _failure(command, ROOT):
            return Missing(problem)
    made.write_text("\n".join(packages))
    return folder / "bin"


def mtail() -> Path | Missing:
    """Debian's package, unpacked without touching the system; or the host's own."""
    if found := shutil.which("mtail"):
        return Path(found)
    program = WORK / "mtail" / "mtail"
    if program.exists():
        return program
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return Missing("no mtail on PATH, and no Debian to fetch it from")
    _say("fetching mtail")
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix="fetching-") as name:
        folder = Path(name)
        # Lists and packages of its own: those of the system may be old, or none, and stay as they are.
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        own = [f"-oDir::State::lists={folder / 'lists'}", f"-oDir::Cache={folder / 'cache'}"]
        apt: list[str | Path] = ["apt-get", "-qq", "-oAPT::Sandbox::User=root", *own]
        for step in (["update"], ["download", "mtail"]):
            if problem := _failure([*apt, *step], folder):
                return Missing(problem)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
        program.parent.mkdir(exist_ok=True)
        (folder / "root" / "usr" / "bin" / "mtail").rename(program)
    return program


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _failure(command: list[str | Path], folder: Path) -> str:
    """What went wrong, in a line; "" where nothing did."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=FETCH_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{Path(command[0]).name}: {type(error).__name__}"
    said = [line for line in done.stdout.splitlines() if line.strip()]
    return "" if done.returncode == 0 else f"{Path(command[0]).name}: {said[-1] if said else done.returncode}"
