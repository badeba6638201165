"""The report can be pasted into a public issue, and what it suggests rests on what was found."""

from __future__ import annotations

import json

import pytest

from exporter import report
from exporter.config import Secret
from exporter.findings import SURE
from exporter.manners import Manners
from exporter.observed import RATE_VALUE
from exporter.records import MISSABLE_FIELDS
from exporter.shape import FIELDS, is_name
from tests.probing import PLANTED, Lettered, planted, probe, store, text_of
from tests.world import shop_of


def test_nothing_that_identifies_a_store_or_was_said_by_a_receiver_is_in_the_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    epcc = planted()
    caplog.set_level("DEBUG")
    probed = probe(epcc, session=Lettered, client_id=Secret(PLANTED["client id"]),
                   client_secret=Secret(PLANTED["client secret"]))  # fmt: skip
    assert not probed.failure
    texts = [text_of(probed), json.dumps({name: repr(f) for name, f in probed.findings.items()})]
    assert [name for name, secret in PLANTED.items() for text in texts if secret.lower() in text.lower()] == []
    assert [token for token in epcc._tokens for text in texts if token in text] == []
    logged = " ".join(f"{record.getMessage()} {getattr(record, 'fields', {})}" for record in caplog.records)
    silent = set(PLANTED) - {"store's name"}
    assert [name for name in silent if PLANTED[name].lower() in logged.lower()] == []
    assert "fields unknown to the exporter: event_type; 100 records" not in texts[0]
    assert "fields unknown to the exporter: event_type;" in texts[0]


def test_no_id_of_a_believable_shop_is_in_the_report() -> None:
    epcc = shop_of(Manners(envelope="both"))
    text = text_of(probe(epcc))
    logs = [entry[2] for entry in epcc._lists._every._settled()]
    words = {word for each in logs for word in (each.id, each.job_id, each.body, each.error_detail) if len(word) > 3}
    words |= {word for i in epcc.integrations.values() for word in (i.id, i.name, i.url, i.secret_key)}
    assert len(words) > 300
    assert [word for word in words if word in text] == []


def test_what_may_be_shown_of_a_stores_own_words_can_hold_nothing_else() -> None:
    for good in ("event_type", "aws_sqs", "webhook", "stomp", "id"):
        assert is_name(good)
    for bad in ("", "ada@example.com", "71679ff8", "A", "a b", "sk_live_51H8", "x" * 31, "a__b", "_a", "a\n"):
        assert not is_name(bad)
    for bad in ("71679ff8-36c1", "1; id=abc-1", "abc", "1" * 13):
        assert not RATE_VALUE.fullmatch(bad)


def test_the_fields_that_are_described_are_those_that_are_read() -> None:
    assert set(MISSABLE_FIELDS) <= FIELDS.keys()


def test_the_report_names_every_finding_and_how_sure_it_is() -> None:
    probed = probe(store())
    text = text_of(probed)
    rows = {name for _, row in report.SECTIONS for name, _, _ in row}
    assert rows == probed.findings.keys()
    lines = [line for line in text.splitlines() if line.startswith("  ")][:-1]
    assert len(lines) == len(rows)
    assert all(any(sure in line for sure in SURE) for line in lines)
    assert text.endswith("Suggested settings\n  none: what was seen calls for no change\n")
    assert max(map(len, text.splitlines())) <= 200
