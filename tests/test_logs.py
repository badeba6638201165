"""Log lines: two formats, one line each, no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from exporter import logs
from exporter.logs import VALUE_MAX, OncePerState

_log = logging.getLogger("exporter.test")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    yield stream
    root.handlers[:], root.level = before


def test_a_logfmt_line_begins_with_time_level_source_and_message(lines: io.StringIO) -> None:
    logs.setup("info", "logfmt", lines)
    logs.log(_log, logging.WARNING, "two words", store="acme", text='say "hi"\n', empty="", number=5)
    line = lines.getvalue()
    assert line.startswith("time=20")
    assert " level=WARN source=test_logs.py:" in line
    assert line.endswith(' msg="two words" store=acme text="say \\"hi\\"\\n" empty="" number=5\n')
    assert line.count("\n") == 1


def test_a_json_line_is_one_object_with_the_same_fields(lines: io.StringIO) -> None:
    logs.setup("info", "json", lines)
    logs.log(_log, logging.INFO, "two\nlines", store="acmé")
    (line,) = lines.getvalue().splitlines()
    fields = json.loads(line)
    assert list(fields) == ["time", "level", "source", "msg", "store"]
    assert (fields["msg"], fields["store"]) == ("two\nlines", "acmé")


def test_lines_below_the_level_are_not_written(lines: io.StringIO) -> None:
    logs.setup("error", "logfmt", lines)
    logs.log(_log, logging.WARNING, "no")
    assert lines.getvalue() == ""


@pytest.mark.parametrize("form", logs.FORMATS)
def test_a_registered_secret_leaves_no_line_not_even_in_an_exception(lines: io.StringIO, form: str) -> None:
    logs.register_secret("PLANTED-in-a-line")
    logs.setup("debug", form, lines)
    logs.log(_log, logging.INFO, "it is PLANTED-in-a-line", field="xPLANTED-in-a-linex")
    try:
        raise ValueError("PLANTED-in-a-line")
    except ValueError:
        _log.exception("failed")
    text = lines.getvalue()
    assert "PLANTED" not in text
    assert "<secret>" in text
    assert "ValueError" in text
    assert "test_logs.py:" in text


def test_a_long_value_is_cut_and_marked(lines: io.StringIO) -> None:
    logs.setup("info", "logfmt", lines)
    logs.log(_log, logging.INFO, "x" * 10_000)
    assert len(lines.getvalue()) < VALUE_MAX + 200
    assert "…" in lines.getvalue()


def test_each_change_of_state_is_told_once() -> None:
    states = OncePerState()
    told = [states.changed("key", state) for state in (1, 1, 2, 2, 1)]
    assert told == [True, False, True, False, True]
    assert states.changed("other", 1)
