"""YAML as nodes: what a file's mistakes are called, on which line, and what is never quoted of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import ConfigError, load
from exporter.configfile import FILE_BYTES_MAX, parse_duration, show_duration

GOOD = """\
stores:
  - name: acme
    api_url: https://host
    client_id: my-client
    client_secret: SECRET
"""


def problems(folder: Path, content: bytes | str, **environ: str) -> list[str]:
    path = folder / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as refused:
        load(path, environ)
    return [problem.removeprefix(f"{path}:") for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("!env S3cret", "stores[0].client_secret: the environment variable is not set"),
        ("!env EPCC_SECRET", "stores[0].client_secret: the environment variable 'EPCC_SECRET' is not set"),
        ("!file S3cret", "stores[0].client_secret: the file cannot be read (No such file or directory)"),
        ("!S3cret", "stores[0].client_secret: unknown tag; there are !env NAME and !file PATH"),
        ("!fil S3cret", "stores[0].client_secret: unknown tag, did you mean !file?"),
        ("*S3cret", "not YAML: found undefined alias '…'"),
        ("!S3cret!x y", "not YAML: found undefined tag handle '…'"),
        ("%S3cret", "not YAML: found character '%' that cannot start any token"),
    ],
)
def test_a_secret_that_looks_like_yaml_is_not_quoted(tmp_path: Path, secret: str, problem: str) -> None:
    assert problems(tmp_path, GOOD.replace("SECRET", secret)) == [f"5: {problem}"]


def test_a_secret_that_ran_into_its_key_is_not_quoted(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD + "    integrations: {client_secret:S3cret}\n")
    assert problem == "6: stores[0].integrations.client_secret:…: unknown key: is a space missing behind the colon?"


def test_a_number_from_elsewhere_is_not_quoted_in_the_hint(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, GOOD + "    lookback: !env PIN\n", PIN="271828")
    assert problem.startswith("6: stores[0].lookback: the value of PIN is not a duration (its unit is missing), wanted")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"    name: \x07", "6: not YAML: it holds a control character"),
        (b"    org_id: \xff", "6: not UTF-8"),
        (b'    "a\\nb": 1', r"6: stores[0].'a\nb': unknown key"),
        (b"    org_id: !!python/name:os.system x", "6: stores[0].org_id: unknown tag 'tag:yaml.org,2002:python/name:os.system'"),
        (b"    integrations: !env {include: []}", "6: a tag on a mapping, wanted none"),
        (b"    integrations: {include: !foo []}", "6: a tag on a list, wanted none"),
        (b"    !env lookback: 5m", "6: a tag on a key, wanted none"),
        ("    requests_per_second: \u0663".encode(), "6: stores[0].requests_per_second: '\u0663' is not a number"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_on_its_line(tmp_path: Path, line: bytes, problem: str) -> None:
    (found,) = problems(tmp_path, GOOD.encode() + line + b"\n")
    assert found.startswith(problem)
    assert found.isprintable()


def test_a_file_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """At the depth of the parser's own calls; what is deeper ends there too, after seconds."""
    assert problems(tmp_path, "[" * 500) == ["1: not YAML: cannot be parsed, or nested too deeply"]


def test_a_file_that_a_tag_names_is_regular_and_read_whole_or_not_at_all(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    (tmp_path / "bytes").write_bytes(b"\xff")
    for name, wrong in (("pipe", "not a regular file"), (".", "not a regular file"), ("bytes", "not UTF-8"),
                        ("large", f"larger than {FILE_BYTES_MAX} bytes")):  # fmt: skip
        found = problems(tmp_path, GOOD + f"    org_id: !file {name}\n")
        assert found == [f"6: stores[0].org_id: the file {name!r} cannot be read ({wrong})"]


@given(st.integers(0, 10**13))
def test_a_duration_that_is_shown_reads_back_exactly(milliseconds: int) -> None:
    assert parse_duration(show_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("15m", 900), ("1h30m", 5400), ("1d", 86400), ("0s", 0), ("1m500ms", 60.5),
     ("30", None), ("", None), ("0", None), ("1.5s", None), ("-1s", None), ("1s1m", None), ("s", None), (" 1s", None)],
)  # fmt: skip
def test_durations_are_written_as_prometheus_writes_them(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(1, 10**9))
def test_a_duration_that_is_shown_reads_back(milliseconds: int) -> None:
    assert parse_duration(show_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)
