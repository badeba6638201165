"""What is remembered of failures: few, the newest, and without the secrets of addresses."""

from __future__ import annotations

import pytest

from exporter.ledger import Entry
from exporter.recent import LATEST_MAX, RECENT_MAX, Recent, without_secrets
from tests.shelf import attempt


def entry(log_id: str, at_ns: int, **changes: object) -> Entry:
    failed = {"succeeded": False, "status_code": "503", "reason": "http_5xx", **changes}
    return Entry(attempt(log_id, at_ns, **failed), at_ns)


def test_the_newest_failures_are_kept_newest_first_and_successes_are_none() -> None:
    recent = Recent()
    recent.take([entry("b", 2), entry("c", 3, succeeded=True, reason=None), entry("a", 1)])
    assert [(each.job_id, each.at_ns) for each in recent.newest] == [("job-b", 2), ("job-a", 1)]
    recent.take([entry("late", 1), entry("d", 4)])
    assert [each.at_ns for each in recent.newest] == [4, 2, 1, 1]


def test_no_more_than_the_limit_is_kept_however_it_came() -> None:
    recent = Recent()
    recent.take([entry(f"a{i}", i) for i in range(RECENT_MAX * 3)])
    for i in range(RECENT_MAX * 3, RECENT_MAX * 4):
        recent.take([entry(f"a{i}", i)])
    assert [each.at_ns for each in recent.newest] == list(range(RECENT_MAX * 4 - 1, RECENT_MAX * 3 - 1, -1))


def test_an_integrations_newest_failure_stays_when_others_fail_more_often() -> None:
    recent = Recent()
    recent.take([entry("quiet", 1, integration_id="quiet")])
    recent.take([entry(f"a{i}", 2 + i, integration_id="loud") for i in range(RECENT_MAX)])
    assert {each.integration_id for each in recent.newest} == {"loud"}
    quiet, loud = recent.latest("quiet"), recent.latest("loud")
    assert quiet is not None
    assert loud is not None
    assert (quiet.job_id, loud.at_ns) == ("job-quiet", RECENT_MAX + 1)
    recent.take([entry("older", 1, integration_id="loud")])
    assert recent.latest("loud") == loud
    recent.forget("loud")
    assert (recent.latest("loud"), recent.newest) == (None, [])


def test_the_integrations_remembered_are_limited_and_known_ones_go_on() -> None:
    recent = Recent()
    recent.take([entry(f"a{i}", i, integration_id=f"int-{i}") for i in range(LATEST_MAX)])
    recent.take([entry("new", LATEST_MAX, integration_id="new"), entry("again", LATEST_MAX, integration_id="int-0")])
    again = recent.latest("int-0")
    assert recent.latest("new") is None
    assert again is not None
    assert again.job_id == "job-again"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            'Post "https://hooks.example.com/T0/B1/secret?token=x": dial tcp',
            'Post "https://hooks.example.com/…": dial tcp',
        ),
        ('Get "http://user:pass@10.0.0.1:8080/": EOF', 'Get "http://10.0.0.1:8080/…": EOF'),
        ("HTTPS://h.example?token=x", "HTTPS://h.example/…"),
        ("https://h.example#x https://h.example\\x", "https://h.example/… https://h.example/…"),
        ("https://user:p/w@h.example/x", "https://…"),
        ("https://h.example/x?to=ada@example.com", "https://h.example/…"),
        ("dial tcp: lookup h.example: no such host", "dial tcp: lookup h.example: no such host"),
        ("https://h.example", "https://h.example"),
    ],
)
def test_addresses_in_an_errors_text_end_behind_their_host(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    recent = Recent()
    recent.take([entry("a", 1, error_text=text)])
    assert recent.newest[0].error_text == shown
