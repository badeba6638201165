"""promtool on the rules: they load, and their tests in deploy/prometheus/tests pass, on each Prometheus there is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import rules
from tests.integration import servers

pytestmark = pytest.mark.integration

CONFIG = rules.FOLDER / "prometheus.yml"


def runs_on(path: Path, name: str) -> bool:
    """2.42 cannot read a native histogram in a test, though it has them."""
    return not path.name.endswith(".newest.test.yml") or servers.version(name).startswith("version 3.")


@pytest.mark.parametrize("name", servers.names())
def test_promtool_finds_nothing_to_say_about_configuration_and_rules(name: str) -> None:
    said = servers.promtool(name, "check", "config", "--lint-fatal", CONFIG)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "3 rule files found" in said.stdout
    assert said.stderr == ""
    said = servers.promtool(name, "check", "config", "--lint-fatal", rules.FOLDER / "scrape-shards.yml")
    assert (said.returncode, said.stderr) == (0, ""), said.stdout
    said = servers.promtool(name, "check", "rules", "--lint-fatal", *rules.RULE_FILES)
    assert (said.returncode, said.stderr) == (0, ""), said.stdout
    assert sum(int(line.split()[1]) for line in said.stdout.splitlines() if "rules found" in line) == len(rules.read())


PAIRS = [(name, path) for name in servers.names() for path in rules.TEST_FILES if runs_on(path, name)]


@pytest.mark.parametrize(("name", "path"), PAIRS, ids=lambda each: getattr(each, "name", each))
def test_alerts_fire_when_they_should_and_not_when_they_should_not(name: str, path: Path) -> None:
    said = servers.promtool(name, "test", "rules", path)
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_rule_that_is_broken_fails_its_tests(tmp_path: Path) -> None:
    name = servers.names()[0]
    folder = Path(shutil.copytree(rules.FOLDER, tmp_path / "prometheus"))
    broken = folder / "integrations.rules.yml"
    text = broken.read_text()
    assert ">= 5\n" in text
    broken.write_text(text.replace(">= 5\n", ">= 50\n", 1))
    said = servers.promtool(name, "test", "rules", folder / "tests" / "integration_down.test.yml")
    assert said.returncode == 1
    assert "EpccIntegrationDown" in said.stdout + said.stderr
