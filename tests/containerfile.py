"""A Containerfile read and carried out without an engine: its stages are folders, its RUN lines run below them by chroot.

Of the format only what deploy/docker/Containerfile uses is known, and whatever else is refused: a step that is skipped
in silence would be a step that nobody has tried.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

STEP_SECONDS: Final = 600.0
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
METADATA: Final = frozenset({"EXPOSE", "LABEL"})  # of the image, not of its files
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")


class ContainerfileError(Exception):
    """A step that is not known, or that failed."""


@dataclass(frozen=True)
class Step:
    line: int
    instruction: str
    text: str


@dataclass
class Stage:
    """What its steps have made of it so far: a folder, and what an engine would keep beside the files."""

    name: str
    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    user: str = "0:0"
    volumes: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Where a path of the stage is on this machine. Relative ones are below its working folder."""
        return self.folder / os.path.normpath(f"{self.workdir}/{path}" if not path.startswith("/") else path).lstrip(
            "/"
        )


def read(text: str) -> list[Step]:
    """Its steps, with continued lines joined and comments between them left out."""
    steps, joined, begun = [], "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        begun = begun if joined else number
        joined += line.removesuffix("\\")
        if not line.endswith("\\"):
            instruction, _, rest = joined.strip().partition(" ")
            steps.append(Step(begun, instruction, " ".join(rest.split()) if instruction != "RUN" else rest.strip()))
            joined = ""
    if joined:
        raise ContainerfileError(f"line {begun}: goes on after the end")
    return steps


def context(root: Path) -> list[Path]:
    """What `.dockerignore` leaves of the files of `root`, relative to it. The last pattern that matches decides."""
    lines = (root / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    def left(path: Path) -> bool:
        kept = True
        for pattern in patterns:
            wanted = pattern.removeprefix("!").removeprefix("**/")
            parts = path.parts if "**/" in pattern else path.parts[:1]
            if any(fnmatch.fnmatchcase(part, wanted) for part in parts):
                kept = pattern.startswith("!")
        return kept

    tops = [each for each in sorted(root.iterdir()) if left(Path(each.name))]
    files = [path for top in tops for path in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [path.relative_to(root) for path in files if path.is_file() and left(path.relative_to(root))]


class Builder:
    """Carries out the steps. `bases`: an image's name → the folder that stands for it, which is never changed."""

    def __init__(
        self, root: Path, work: Path, bases: Mapping[str, Path], more: Mapping[str, str], mounts: Sequence[str]
    ) -> None:
        """`more`: environment of RUN alone, as an engine's build arguments; `mounts`: host paths seen by RUN."""
        self._root, self._work, self._bases, self._more, self._mounts = root, work, bases, more, mounts
        self._arguments: dict[str, str] = {}
        self.stages: dict[str, Stage] = {}

    def build(self, text: str) -> Stage:
        """The last stage."""
        stage: Stage | None = None
        for step in read(text):
            if step.instruction == "FROM":
                stage = self._from(step)
            elif step.instruction == "ARG":
                name, _, default = step.text.partition("=")
                self._arguments.setdefault(name, default)
            elif stage is None:
                raise ContainerfileError(f"line {step.line}: {step.instruction} before FROM")
            else:
                self._carry_out(stage, step)
        if stage is None:
            raise ContainerfileError("no FROM")
        return stage

    def _from(self, step: Step) -> Stage:
        said = re.fullmatch(r"(\S+) AS (\w+)", self._filled(step))
        if said is None:
            raise ContainerfileError(f"line {step.line}: wanted FROM IMAGE AS NAME")
        stage = self.stages[said[2]] = Stage(said[2], self._work / said[2])
        if said[1] == "scratch":
            stage.folder.mkdir()
        else:
            subprocess.run(["cp", "--archive", "--reflink=auto", self._bases[said[1]], stage.folder], check=True)
        return stage

    def _filled(self, step: Step) -> str:
        return _VARIABLE.sub(lambda found: self._arguments[found[1]], step.text)

    def _carry_out(self, stage: Stage, step: Step) -> None:  # noqa: C901  a case an instruction
        match step.instruction:
            case "RUN":
                self._run(stage, step)
            case "COPY":
                self._copy(stage, step)
            case "ENV":
                stage.environment |= dict(pair.split("=", 1) for pair in step.text.split())
            case "WORKDIR":
                stage.workdir = step.text
                stage.inside("").mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = step.text
            case "VOLUME":
                stage.volumes += json.loads(step.text)
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(step.text.partition("CMD ")[2])
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(step.text)
            case "CMD":
                stage.command = json.loads(step.text)
            case other if other not in METADATA:
                raise ContainerfileError(f"line {step.line}: {other} is not known here")

    def _copy(self, stage: Stage, step: Step) -> None:
        *sources, target = step.text.split()
        if any(each.startswith("--") and not each.startswith("--from=") for each in sources):
            raise ContainerfileError(f"line {step.line}: a flag of COPY that is not known here")
        to = stage.inside(target)
        if sources[0].startswith("--from="):
            other = self.stages[sources.pop(0).removeprefix("--from=")]
            for source in sources:
                _copied(other.inside(source), to / Path(source).name if target.endswith("/") else to)
            return
        listed = context(self._root)
        for source in sources:
            files = [path for path in listed if path.is_relative_to(source)]
            if not files:
                raise ContainerfileError(f"line {step.line}: {source} is not in what .dockerignore leaves")
            for path in files:
                inner = path.relative_to(source) if (self._root / source).is_dir() else Path(path.name)
                _copied(self._root / path, to / inner)

    def _run(self, stage: Stage, step: Step) -> None:
        binds = "".join(f"mount --rbind {each} {stage.folder}{each} && " for each in self._mounts)
        for each in self._mounts:
            target = stage.folder / each.lstrip("/")
            if Path(each).is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
        variables = [f"{name}={value}" for name, value in {**self._more, **stage.environment}.items()]
        inner = f"cd {stage.workdir} && {step.text}"
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
             f'{binds} mount -t proc proc {stage.folder}/proc && exec chroot {stage.folder} env -i "$@"', "sh",
             *variables, "/bin/sh", "-c", inner],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=STEP_SECONDS,
        )  # fmt: skip
        if done.returncode != 0:
            raise ContainerfileError(f"line {step.line}: RUN ended with {done.returncode}:\n{done.stdout}")


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
