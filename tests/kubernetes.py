"""The manifests of deploy/kubernetes: read as they are or as kustomize puts them together, held against their schemas.

The rules of deploy/prometheus stand there a second time, as a PrometheusRule. `python -m tests.kubernetes` writes that
anew; a test fails while it is not the same.
"""

from __future__ import annotations

import functools
import importlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import yaml

from tests import rules

FOLDER: Final = rules.ROOT / "deploy" / "kubernetes"
RULE: Final = FOLDER / "base" / "prometheusrule.yaml"
VERSIONS: Final = ("1.29", kubernetes_validate.latest_version())  # ReadWriteOncePod is for everyone from 1.29 on
KUSTOMIZE_SECONDS: Final = 60.0
OPERATOR: Final = "cloudcoil.models.prometheus_operator.v1"  # made from the operator's CRDs
HEAD: Final = """\
# The rules of ../../prometheus, word by word; made by `python -m tests.kubernetes`, and not to be changed here.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: epcc-exporter
spec:
  groups:
"""

Manifest = dict[str, Any]


def prometheus_rule() -> str:
    """The rule files' text, with their comments, two places further in."""
    made = HEAD
    for path in rules.RULE_FILES:
        before, groups, text = path.read_text().partition("groups:\n")
        assert groups, path
        made += "".join(f"    {line}\n" if line else "\n" for line in [f"# {path.name}", *before.rstrip().splitlines()])
        made += "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())
    return made


def written() -> list[tuple[Path, Manifest]]:
    """Each document of each file; those for kustomize itself are left out."""
    return [
        (path, document)
        for path in sorted(FOLDER.rglob("*.yaml"))
        if path.name not in ("kustomization.yaml", "config.yaml")
        for document in yaml.safe_load_all(path.read_text())
    ]


@functools.cache
def kustomized(name: str) -> list[Manifest] | None:
    """What `kubectl apply -k deploy/kubernetes/NAME` would apply. None where there is neither kubectl nor kustomize."""
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize"]
    elif kustomize := shutil.which("kustomize"):
        command = [kustomize, "build"]
    else:
        return None
    said = subprocess.run(
        [*command, FOLDER / name], capture_output=True, text=True, check=False, timeout=KUSTOMIZE_SECONDS
    )
    assert (said.returncode, said.stderr) == (0, ""), said.stderr
    return list(yaml.safe_load_all(said.stdout))


def problems(manifest: Manifest, version: str) -> Iterator[str]:
    """What a cluster of this version would refuse, or drop without a word."""
    name = f"{manifest.get('kind')} {manifest.get('metadata', {}).get('name')}"
    if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
        model = getattr(importlib.import_module(OPERATOR), manifest["kind"])
        try:
            known = model.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
        except ValueError as error:
            yield f"{name}: {error}"
        else:
            yield from (f"{name}: {path} is not known" for path in lost(manifest, known))
        return
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{name}: {'.'.join(map(str, error.path))}: {error.message}"


def lost(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """Keys that are not in `known`: pydantic leaves out what the schema has not."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(known, dict) or key not in known:
                yield f"{path}.{key}"
            else:
                yield from lost(value, known[key], f"{path}.{key}")
    elif isinstance(given, list):
        for number, value in enumerate(given):
            yield from lost(value, known[number], f"{path}.{number}")


if __name__ == "__main__":
    RULE.write_text(prometheus_rule())
