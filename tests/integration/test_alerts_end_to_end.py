"""From a broken receiver to the page: simulated EPCC, real exporter, real Prometheus, real Alertmanager, a phone.

The rules are those of deploy/prometheus, with one change: `for`, `keep_firing_for` and the groups' intervals are divided
by FASTER, as are Alertmanager's waits. Expressions, windows and texts are as they are. Prometheus scrapes and evaluates
each second instead of every 15, and the exporter polls every 0.2 s instead of every 30.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from exporter.epcc import Epcc, log
from exporter.shop import Integration
from tests import rules
from tests.integration.alertmanager import Alertmanager, Phone, shorter
from tests.integration.process import Exporter
from tests.integration.servers import Prometheus

pytestmark = pytest.mark.integration

FASTER = 45
POLL, SCRAPE, EVALUATION = 0.2, 1.0, 1.0
SLACK_SECONDS = 20.0  # of a machine with other things to do; what is waited for in vain ends the test after 30
SHIPPING, ERP = Integration("shipping", "Order shipping"), Integration("erp", "ERP sync")


def faster_rules(folder: Path) -> list[str]:
    """The files of deploy/prometheus, with their durations divided. Returns the new files."""
    made = []
    for path in rules.RULE_FILES:
        content = yaml.safe_load(path.read_text())
        for group in content["groups"]:
            for each in (group, *group["rules"]):
                each.update(
                    {key: shorter(each[key], FASTER) for key in ("interval", "for", "keep_firing_for") if key in each}
                )
        made.append(str(folder / path.name))
        Path(made[-1]).write_text(json.dumps(content))  # JSON is YAML
    return made


def pending_seconds(alert: str) -> float:
    return min(rules.seconds(rule.body["for"]) for rule in rules.alerts() if rule.name == alert)


class Shop:
    """Two integrations whose logs are written by hand."""

    def __init__(self) -> None:
        self.epcc = Epcc()
        self._number = 0
        for integration in (SHIPPING, ERP):
            self.epcc.add_integration(integration)

    def tries(self, integration: Integration, code: int, jobs: int) -> None:
        """`jobs` of them, an attempt each."""
        for _ in range(jobs):
            self._number += 1
            self.epcc.add(log(f"log-{self._number}", time.time_ns(), integration_id=integration.id, status_code=code))


@pytest.fixture
async def alertmanager(prometheus: Prometheus, tmp_path: Path) -> AsyncIterator[Alertmanager]:
    """Of the same suite as Prometheus. Not started yet."""
    server = Alertmanager(prometheus.name, tmp_path)
    try:
        yield server
    finally:
        await server.stop()


def loaded(folder: Path, alertmanager: Alertmanager) -> dict[str, object]:
    """The rules, and whom they tell."""
    target = alertmanager.url.removeprefix("http://")
    return {
        "rule_files": faster_rules(folder),
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]},
    }


def paged(phone: Phone) -> set[str]:
    """Names of the alerts that paged, but for the one that a busy machine may add: its first scrape can take longer
    than the 4 s to which the 3 minutes of EpccExporterDown are shortened here."""
    return {alert["labels"]["alertname"] for alert in phone.told("page")} - {"EpccExporterDown"}


async def test_a_broken_receiver_wakes_somebody_with_the_reason_and_lets_them_sleep_again(
    tmp_path: Path, prometheus: Prometheus, alertmanager: Alertmanager
) -> None:
    shop, phone = Shop(), Phone()
    async with phone.listening(), Exporter(tmp_path / "exporter", shop.epcc) as exporter:
        await alertmanager.start(phone.url, FASTER)
        prometheus.settings = loaded(tmp_path, alertmanager)
        async with exporter.running() as process:
            await prometheus.start({"epcc-exporter": int(exporter.url.rpartition(":")[2])})
            for integration in (SHIPPING, ERP):
                shop.tries(integration, 200, 20)
            await prometheus.until("epcc_integration_attempts_total == 20", lambda answer: len(answer) == 2)

            broke_at = time.monotonic()
            shop.tries(SHIPPING, 503, 6)
            shop.tries(ERP, 401, 7)
            paged_at, page = await phone.rings(
                "page", "EpccIntegrationDown", "firing", integration_name="Order shipping"
            )
            assert page["labels"] | {"instance": "", "job": ""} == {
                "alertname": "EpccIntegrationDown", "severity": "critical", "store": "acme", "integration_id": "shipping",
                "integration_name": "Order shipping", "job": "", "instance": "",
            }  # fmt: skip
            assert re.fullmatch(
                r"Order shipping of store acme is down: its last 6 attempts failed, and the last success was \d[\w. ]* ago\. "
                r"Reason: http_5xx, the receiver answers 503\.",
                page["annotations"]["description"],
            )
            assert page["annotations"]["runbook_url"] == "deploy/runbooks.md#epccintegrationdown"
            _, other = await phone.rings("page", "EpccIntegrationDown", "firing", integration_name="ERP sync")
            assert "its last 7 attempts failed" in other["annotations"]["description"]
            assert "Reason: http_4xx, the receiver answers 401" in other["annotations"]["description"]
            waits = POLL + 2 * SCRAPE + EVALUATION + pending_seconds("EpccIntegrationDown") / FASTER
            assert pending_seconds("EpccIntegrationDown") / FASTER <= paged_at - broke_at <= waits + SLACK_SECONDS

            shop.tries(SHIPPING, 200, 1)
            _, ended = await phone.rings("page", "EpccIntegrationDown", "resolved", integration_name="Order shipping")
            assert ended["labels"]["store"] == "acme"
            assert paged(phone) == {"EpccIntegrationDown"}
            assert phone.told("ticket") == phone.told("note") == []
            await process.end()

        # The exporter is gone: that is the page now, for the store that it followed, and its integrations are silenced.
        _, page = await phone.rings("page", "EpccExporterDown", "firing", store="acme")
        assert "What happens to the integrations of store acme is not seen" in page["annotations"]["description"]
        muted = await alertmanager.until(
            lambda alert: alert["labels"]["alertname"] == "EpccIntegrationDown" and alert["status"]["inhibitedBy"]
        )
        assert (muted["status"]["state"], muted["labels"]["integration_name"]) == ("suppressed", "ERP sync")
        assert not [
            a for a in phone.told("page") if a["status"] == "resolved" and a["labels"].get("integration_id") == "erp"
        ]


async def test_refused_credentials_wake_somebody_with_the_reason_and_no_other_page(
    tmp_path: Path, prometheus: Prometheus, alertmanager: Alertmanager
) -> None:
    shop, phone = Shop(), Phone()
    async with phone.listening(), Exporter(tmp_path / "exporter", shop.epcc) as exporter:
        await alertmanager.start(phone.url, FASTER)
        prometheus.settings = loaded(tmp_path, alertmanager)
        async with exporter.running():
            await prometheus.start({"epcc-exporter": int(exporter.url.rpartition(":")[2])})
            await prometheus.until("epcc_up", lambda answer: list(answer.values()) == [1])
            shop.epcc.client_secret = "rotated"
            shop.epcc.revoke_tokens()
            _, page = await phone.rings("page", "EpccExporterAuthFailing", "firing", store="acme")
            assert page["annotations"]["description"].startswith(
                "EPCC refuses the exporter at store acme (auth: the client id"
            )
            assert page["labels"]["reason"] == "auth"
            assert paged(phone) == {"EpccExporterAuthFailing"}
