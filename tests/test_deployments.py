"""Image, manifests and compose file as they stand: what their own checkers and the project's other files say of them."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import containerfile, kubernetes, rules
from tests.containerfile import ContainerfileError

DOCKER = rules.ROOT / "deploy" / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
CONTAINERFILE = (DOCKER / "Containerfile").read_text()
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==\S+", re.MULTILINE)
OURS = {"epcc-exporter"}


def manifests() -> list[Any]:
    return [pytest.param(each, id=f"{path.parent.name}/{path.name}") for path, each in kubernetes.written()]


# --- Kubernetes


@pytest.mark.parametrize("version", kubernetes.VERSIONS)
@pytest.mark.parametrize("manifest", manifests())
def test_a_cluster_would_take_every_manifest_and_drop_nothing_of_it(manifest: dict[str, Any], version: str) -> None:
    assert list(kubernetes.problems(manifest, version)) == []


@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_a_key_that_no_cluster_knows_is_seen(version: str) -> None:
    for path, manifest in kubernetes.written():
        wrong = copy.deepcopy(manifest)
        wrong.setdefault("spec" if "spec" in wrong else "metadata", {})["replicass"] = 1
        assert list(kubernetes.problems(wrong, version)), path.name


def test_the_prometheus_rule_is_the_rules_word_by_word() -> None:
    assert kubernetes.RULE.read_text() == kubernetes.prometheus_rule(), "python -m tests.kubernetes writes it anew"
    groups = yaml.safe_load(kubernetes.RULE.read_text())["spec"]["groups"]
    assert groups == [group for path in rules.RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]


def test_secrets_are_named_and_never_written() -> None:
    for path in sorted(kubernetes.FOLDER.rglob("*.yaml")):
        assert "kind: Secret\n" not in path.read_text()
    config = yaml.load((kubernetes.FOLDER / "base" / "config.yaml").read_text().replace("!file ", ""), yaml.SafeLoader)
    assert all("client_secret" not in store for store in config["stores"])


def test_the_selector_of_each_manifest_finds_the_pods() -> None:
    by_kind = {manifest["kind"]: manifest for _, manifest in kubernetes.written()}
    labels = by_kind["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert by_kind["Service"]["spec"]["selector"] == labels
    assert by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert by_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert by_kind["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == labels


# --- the image


def test_every_step_of_the_containerfile_is_known() -> None:
    steps = containerfile.read(CONTAINERFILE)
    assert {step.instruction for step in steps} >= {"FROM", "RUN", "COPY", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert [step.text for step in steps if step.instruction == "USER"] == ["10058:10058"]
    with pytest.raises(ContainerfileError, match="goes on after the end"):
        containerfile.read("RUN a \\\n")


def test_what_comes_from_outside_is_pinned_by_hash_and_is_what_pyproject_asks_for() -> None:
    wanted = tomllib.loads((rules.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=]", each)[0] for each in wanted}
    for name, at_least in (("requirements.txt", names), ("requirements-build.txt", {"hatchling", "cyclonedx-bom"})):
        text = (DOCKER / name).read_text()
        pinned = PINNED.findall(text)
        assert at_least <= {*pinned}, name
        assert len(pinned) == len(re.findall(r"^[A-Za-z0-9].*==", text, re.MULTILINE))
        assert all(
            block.count("--hash=sha256:") >= 1 for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        )
    assert CONTAINERFILE.count("--require-hashes") == CONTAINERFILE.count("-r deploy/docker/requirements")


def test_the_context_of_the_image_has_the_exporter_and_nothing_secret() -> None:
    sent = {str(path) for path in containerfile.context(rules.ROOT)}
    assert {"exporter/__main__.py", "exporter/page/index.html", "pyproject.toml", "README.md", "LICENSE"} <= sent
    assert [each for each in sent if re.match(r"\.|tests/|data/|config\.yaml", each) or "__pycache__" in each] == []


# --- all on one machine


def mounts() -> Iterator[tuple[str, Path, str]]:
    for name, service in COMPOSE["services"].items():
        for each in service["volumes"]:
            source, target, *_ = each.split(":")
            if source.startswith("."):
                yield name, (DOCKER / source).resolve(), target


def test_compose_mounts_what_is_there_and_names_every_volume() -> None:
    for _, source, _ in mounts():
        assert source.is_dir()
    named = {each.split(":")[0] for service in COMPOSE["services"].values() for each in service["volumes"]}
    assert {name for name in named if not name.startswith(".")} == COMPOSE["volumes"].keys()
    assert (DOCKER / COMPOSE["services"]["exporter"]["build"]["context"] / "pyproject.toml").exists()


def test_compose_listens_on_this_machine_alone_and_pins_every_image() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert sorted(ports) == [f"127.0.0.1:{port}:{port}" for port in (10058, 3000, 9090, 9093)]
    assert all(
        re.search(r":v?\d+\.\d+\.\d+$", each["image"]) for each in COMPOSE["services"].values() if "image" in each
    )
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert name == "grafana" or service["read_only"]


def test_grafana_finds_its_data_source_and_its_dashboards() -> None:
    grafana, provisioning = COMPOSE["services"]["grafana"], rules.ROOT / "deploy" / "grafana" / "provisioning"
    inside = {target: source for name, source, target in mounts() if name == "grafana"}
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "epcc-exporter.yaml").read_text())["providers"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (inside[provider["options"]["path"]] / home.name).exists()
    assert str(home.parent) == provider["options"]["path"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    host, port = re.fullmatch(r"http://([a-z]+):(\d+)", source["url"]).groups()  # type: ignore[union-attr]
    assert f"{host}:127.0.0.1" in COMPOSE["services"]["exporter"]["extra_hosts"]
    assert f"--web.listen-address=:{port}" in COMPOSE["services"]["prometheus"]["command"]
    prometheus = yaml.safe_load((rules.FOLDER / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
