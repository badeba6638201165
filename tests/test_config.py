"""Configuration: every problem at once, each with its place, and no secret in any of them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import (
    DEFAULT_KEYS,
    STORE_KEYS,
    Config,
    ConfigError,
    Secret,
    StoreConfig,
    load,
)
from exporter.configfile import parse_duration, show_duration

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"
GOOD = """\
stores:
  - name: acme
    api_url: https://euwest.api.elasticpath.com
    client_id: my-client
    client_secret: S3CRET-VALUE
"""


def read(folder: Path, text: str, **environ: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text)
    return load(path, environ)


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(folder, text, **environ)
    return [problem.removeprefix(f"{folder}/") for problem in refused.value.problems]


def store(folder: Path, lines: str = "", **environ: str) -> StoreConfig:
    (only,) = read(folder, GOOD + lines, **environ).stores
    return only


def test_the_example_is_a_configuration() -> None:
    (acme,) = load(EXAMPLE, {"EPCC_CLIENT_ID": "id", "EPCC_CLIENT_SECRET": "S3CRET"}).stores
    assert (acme.name, acme.poll_interval, acme.lookback) == ("acme", 30.0, 900.0)
    assert acme.secret() == "S3CRET"


def test_the_example_names_every_key_and_no_other() -> None:
    named = set(re.findall(r"^ +(?:# )?(?:- )?([a-z_]+):", EXAMPLE.read_text(), re.MULTILINE))
    assert named == {*DEFAULT_KEYS, *STORE_KEYS, "include", "exclude"}


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    example = load(EXAMPLE, {"EPCC_CLIENT_ID": "id", "EPCC_CLIENT_SECRET": "S3CRET"}).stores[0]
    for field in dataclasses.fields(StoreConfig):
        if field.default is not dataclasses.MISSING and field.name not in STORE_KEYS:
            assert getattr(example, field.name) == field.default, field.name


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [("poll_interval", "100ms", "1h"), ("lookback", "1s", "1d"), ("request_timeout", "100ms", "2m"),
     ("requests_per_second", "0.1", "100"), ("page_limit", "1", "100"), ("reconcile_interval", "1s", "1d")],
)  # fmt: skip
def test_limits_hold_at_their_edges_and_are_in_the_example(tmp_path: Path, key: str, low: str, high: str) -> None:
    for value in (low, high):
        assert getattr(store(tmp_path, f"    {key}: {value}\n"), key) == (parse_duration(value) or float(value))
    documented = EXAMPLE.read_text().replace("24h", "1d")
    assert re.search(rf"{re.escape(low)} to {re.escape(high)}", documented), key


def test_a_stores_own_key_wins_over_the_default(tmp_path: Path) -> None:
    made = store(tmp_path, "    lookback: 5m\ndefaults:\n  lookback: 1h\n  page_limit: 7\n")
    assert (made.lookback, made.page_limit) == (300.0, 7)


def test_integrations_are_chosen_by_lists(tmp_path: Path) -> None:
    made = store(tmp_path, "    integrations: {include: [a, 'b c'], exclude: []}\n")
    assert (made.include, made.exclude) == (("a", "b c"), ())


def test_env_and_file_stand_for_any_value(tmp_path: Path) -> None:
    (tmp_path / "interval").write_text("45s\n")
    made = store(tmp_path, "    page_limit: !env LIMIT\n    poll_interval: !file interval\n", LIMIT="50")
    assert (made.page_limit, made.poll_interval) == (50, 45.0)


def test_the_secrets_file_is_read_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("first\n")
    made = read(tmp_path, GOOD.replace("client_secret: S3CRET-VALUE", "client_secret_file: secret")).stores[0]
    assert made.secret() == "first"
    (tmp_path / "secret").write_text("second\n")
    assert made.secret() == "second"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("    poll_intervall: 30s", "stores[0].poll_intervall: unknown key, did you mean 'poll_interval'?"),
        ("    poll_interval: 30", "stores[0].poll_interval: '30' is not a duration (write 30s?), wanted a duration from "
                                  "100ms to 1h, like 30s or 1h30m"),
        ("    poll_interval: 99ms", "stores[0].poll_interval: '99ms' is outside the limits, wanted a duration from 100ms to 1h"),
        ("    lookback: 25h", "stores[0].lookback: '25h' is outside the limits, wanted a duration from 1s to 1d"),
        ("    lookback: 1m1h", "stores[0].lookback: '1m1h' is not a duration, wanted a duration from 1s to 1d, like 30s or 1h30m"),
        ("    reconcile_interval: 500ms", "stores[0].reconcile_interval: '500ms' is outside the limits, wanted a duration "
                                          "from 1s to 1d, or 0s"),
        ("    requests_per_second: fast", "stores[0].requests_per_second: 'fast' is not a number, wanted a number from 0.1 to 100"),
        ("    requests_per_second: 101", "stores[0].requests_per_second: '101' is outside the limits, wanted a number from 0.1 to 100"),
        ("    page_limit: 10.5", "stores[0].page_limit: '10.5' is not a number, wanted a whole number from 1 to 100"),
        ("    page_limit: '10'", "stores[0].page_limit: '10' is not a number, wanted a whole number from 1 to 100"),
        ("    page_limit: [1]", "stores[0].page_limit: a list, wanted a whole number from 1 to 100"),
        ("    history: skipp", "stores[0].history: 'skipp', wanted skip or count, did you mean skip?"),
        ("    history:", "stores[0].history: '', wanted skip or count"),
        ("    name: other", "stores[0].name: duplicate key, first on line 2"),
        ("    integrations: [a]", "stores[0].integrations: a list, wanted a mapping with keys exclude, include"),
        ("    integrations: {only: [a]}", "stores[0].integrations.only: unknown key; known keys: exclude, include"),
        ("    org_id: !env NOPE", "stores[0].org_id: the environment variable 'NOPE' is not set"),
        ("    org_id: !enf NOPE", "stores[0].org_id: unknown tag '!enf', did you mean !env?"),
        ("    org_id: !file nope", "stores[0].org_id: the file 'nope' cannot be read (FileNotFoundError)"),
        ("    org_id: \"a\\nb\"", "stores[0].org_id: 'a\\nb': not fit for a header, wanted an organization's id"),
    ],
)  # fmt: skip
def test_a_problem_names_its_line_its_path_what_was_found_and_what_is_wanted(
    tmp_path: Path, line: str, problem: str
) -> None:
    assert problems(tmp_path, GOOD + line + "\n") == [f"config.yaml:6: {problem}"]


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("euwest.api.elasticpath.com", "not an http or https URL"),
        ("ftp://host", "not an http or https URL"),
        ("https://host/v2", "a URL with /v2, which is added by the exporter"),
        ("https://host/?a=b", "a URL with more than a host in it"),
        ("https://host:99999", "not a URL"),
    ],
)
def test_a_wrong_url_is_refused(tmp_path: Path, url: str, wrong: str) -> None:
    (problem,) = problems(tmp_path, GOOD.replace("https://euwest.api.elasticpath.com", url))
    assert problem.startswith(f"config.yaml:3: stores[0].api_url: {url!r}: {wrong}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["config.yaml:1: 0 documents, wanted one with the key stores"]),
        ("stores: []", ["config.yaml:1: stores: 0 stores, wanted a list of 1 to 1000 stores"]),
        ("stores: nope", ["config.yaml:1: stores: a single value, wanted a list of 1 to 1000 stores"]),
        ("defaults: {}", ["config.yaml:1: stores: missing, wanted a list of stores"]),
        ("- a", ["config.yaml:1: a list, wanted a mapping with keys defaults, stores",
                 "config.yaml:1: stores: missing, wanted a list of stores"]),
        ("stores:\n  - {name: a", ["config.yaml:2: not YAML: expected ',' or '}', but got '<stream end>'"]),
        ("a: &a [*a]\n", ["config.yaml:1: more than 10000 values"]),
        ("stores: *nope\n", ["config.yaml:1: not YAML: found undefined alias 'nope'"]),
        (GOOD + "---\n" + GOOD, ["config.yaml:1: 2 documents, wanted one with the key stores"]),
        ("stores:\n  - name: a\n", ["config.yaml:2: stores[0].api_url: missing, wanted the API's base URL, like https://euwest.api.elasticpath.com", "config.yaml:2: stores[0].client_id: missing, wanted the client id",
                                    "config.yaml:2: stores[0]: neither client_secret and client_secret_file, wanted one"]),
        ("stores: [5]", ["config.yaml:1: stores[0]: a single value, wanted a mapping with keys "
                         + ", ".join(sorted({*STORE_KEYS, *DEFAULT_KEYS}))]),
    ],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = problems(tmp_path, text)
    assert [line.split(" in ")[0] for line in found][: len(expected)] == expected or found == expected


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = GOOD + "    page_limit: 0\n    history: x\ndefaults:\n  lookback: 7\nextra: 1\n"
    assert [problem.split(":")[1] for problem in problems(tmp_path, text)] == ["6", "7", "9", "10"]


def test_two_stores_of_one_name_are_refused(tmp_path: Path) -> None:
    again = GOOD + GOOD.removeprefix("stores:\n")
    assert problems(tmp_path, again) == ["config.yaml:6: stores[1].name: 'acme' is the name of the store on line 2 too"]


@pytest.mark.parametrize("secret_file", ["absent", "empty"])
def test_a_missing_or_empty_secret_file_is_a_problem_at_the_start(tmp_path: Path, secret_file: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (problem,) = problems(tmp_path, GOOD.replace("client_secret: S3CRET-VALUE", f"client_secret_file: {secret_file}"))
    assert problem.startswith(f"config.yaml:5: stores[0].client_secret_file: '{secret_file}' ")


def test_a_missing_file_is_a_problem() -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read \(No such file or directory\)"):
        load(Path("/nonexistent/nowhere.yaml"), {})


def test_a_file_that_blows_up_through_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    assert problems(tmp_path, "\n".join(lines)) == ["config.yaml:1: more than 10000 values"]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("client_secret: S3CRET-VALUE", "client_secret: [S3CRET-VALUE]"),
        GOOD.replace("client_secret: S3CRET-VALUE", "client_secret: {S3CRET-VALUE: 1}"),
        GOOD.replace("my-client", '"S3CRET-VALUE\\n"'),
        GOOD + "    client_secret: S3CRET-VALUE\n",
        GOOD.replace("client_secret: S3CRET-VALUE", 'client_secret: "S3CRET-VALUE'),
        GOOD + "    page_limit: !env LEAK\n",
        GOOD + "    history: !file leak\n",
        GOOD.replace("https://", "https://user:S3CRET-VALUE@"),
    ],
)
def test_no_problem_shows_a_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "leak").write_text("S3CRET-VALUE")
    found = problems(tmp_path, text, LEAK="S3CRET-VALUE")
    assert found
    assert "S3CRET" not in "\n".join(found)


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    secret = Secret("S3CRET-VALUE")
    assert f"{secret} {secret!r} {secret:>20} {[secret]}".count("S3CRET") == 0
    assert (secret.reveal(), secret == Secret("S3CRET-VALUE")) == ("S3CRET-VALUE", True)


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
