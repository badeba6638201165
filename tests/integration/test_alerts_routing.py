"""amtool on deploy/alertmanager: it loads, and every alert of the rules goes to whom its severity says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import rules
from tests.integration import servers
from tests.integration.alertmanager import CONFIG, amtool

pytestmark = pytest.mark.integration

RECEIVERS = {"critical": "page", "warning": "ticket", "info": "note"}
EXAMPLE = "#~ "  # begins the lines of the example in the configuration


def routed(name: str, config: Path, receiver: str, **labels: str) -> None:
    said = amtool(
        name, "config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receiver}",
        *(f"{key}={value}" for key, value in labels.items()),
    )  # fmt: skip
    assert said.returncode == 0, f"{labels}: {said.stdout}{said.stderr}"


@pytest.mark.parametrize("name", servers.names())
def test_amtool_finds_nothing_to_say_about_the_configuration(name: str) -> None:
    said = amtool(name, "check-config", CONFIG)
    assert (said.returncode, said.stderr) == (0, ""), said.stdout
    assert "3 receivers" in said.stdout


@pytest.mark.parametrize("name", servers.names())
def test_every_alert_goes_to_whom_its_severity_says(name: str) -> None:
    for severity in sorted({rule.labels["severity"] for rule in rules.alerts()}):
        routed(name, CONFIG, RECEIVERS[severity], severity=severity, alertname="Any", store="acme")
    routed(name, CONFIG, "ticket", alertname="SomebodyElses")
    refused = amtool(
        name, "config", "routes", "test", f"--config.file={CONFIG}", "--verify.receivers=note", "severity=critical"
    )
    assert refused.returncode != 0


@pytest.mark.parametrize("name", servers.names())
def test_the_example_of_an_integration_with_people_of_its_own_works(name: str, tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(CONFIG.read_text().replace(EXAMPLE, ""))
    assert amtool(name, "check-config", config).returncode == 0
    routed(name, config, "page-erp", severity="critical", store="acme", integration_name="ERP sync")
    routed(name, config, "page", severity="critical", store="acme", integration_name="Order shipping")
    routed(name, config, "ticket", severity="warning", store="acme", integration_name="ERP sync")
