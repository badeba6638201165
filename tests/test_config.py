"""Configuration: every problem at once, each with its place, and no secret in any of them."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import re
from pathlib import Path

import pytest
import yaml

from exporter import logs
from exporter.config import (
    CLIENT_ID_MASKED_MIN,
    DEFAULT_KEYS,
    SECRET_BYTES_MAX,
    SHARED_KEYS,
    STORE_KEYS,
    Config,
    ConfigError,
    Secret,
    StoreConfig,
    load,
    summary,
)
from exporter.configfile import parse_duration

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"
GOOD = """\
stores:
  - name: acme
    api_url: https://euwest.api.elasticpath.com
    client_id: my-client
    client_secret: S3CRET-VALUE
"""
ID, SECRET, URL = "my-client", "client_secret: S3CRET-VALUE", "https://euwest.api.elasticpath.com"


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


def test_the_example_names_every_key_and_no_other() -> None:
    named = set(re.findall(r"^ +(?:# )?(?:- )?([a-z_]+):", EXAMPLE.read_text(), re.MULTILINE))
    assert named == {*DEFAULT_KEYS, *STORE_KEYS, "include", "exclude"}


def comment_of(key: str) -> str:
    """What stands above a key under `defaults` in the example."""
    defaults = EXAMPLE.read_text().partition("\ndefaults:\n")[2]
    found = re.search(rf"((?:^  #.*\n)+)  {key}:", defaults, re.MULTILINE)
    assert found, key
    return " ".join(line.strip(" #") for line in found[1].splitlines())


def test_the_example_shows_every_default_and_its_value(tmp_path: Path) -> None:
    without_own = EXAMPLE.read_text().replace("\n    poll_interval: 30s\n", "\n")
    (example,) = read(tmp_path, without_own, EPCC_CLIENT_ID="id", EPCC_CLIENT_SECRET="S3CRET").stores
    assert (example.name, example.secret(), example.lookback) == ("acme", "S3CRET", 900.0)
    shown = yaml.compose(EXAMPLE.read_text(), yaml.SafeLoader)
    assert isinstance(shown, yaml.MappingNode)
    (defaults,) = (value for key, value in shown.value if key.value == "defaults")
    assert {key.value for key, _ in defaults.value} == DEFAULT_KEYS.keys()
    for field in dataclasses.fields(StoreConfig):
        if field.default is not dataclasses.MISSING and field.name not in STORE_KEYS:
            assert getattr(example, field.name) == field.default, field.name


@pytest.mark.parametrize(
    ("key", "edges", "documented"),
    [("poll_interval", "99ms 100ms 1h 3600001ms", "100ms to 1h."),
     ("lookback", "999ms 1s 24h 86400001ms", "1s to 24h."),
     ("request_timeout", "99ms 100ms 2m 120001ms", "100ms to 2m."),
     ("requests_per_second", "0.09 0.1 100 100.1", " 0.1 to 100."),
     ("page_limit", "0 1 100 101", " 1 to 100."), ("max_series", "99 100 1000000 1000001", " 100 to 1000000."),
     ("reconcile_interval", "999ms 1s 24h 86400001ms", "1s to 24h; 0s turns it off.")],
)  # fmt: skip
def test_limits_hold_and_are_what_the_example_says(tmp_path: Path, key: str, edges: str, documented: str) -> None:
    below, low, high, above = edges.split()
    for value in (low, high):
        assert getattr(store(tmp_path, f"    {key}: {value}\n"), key) == (parse_duration(value) or float(value))
    for value in (below, above):
        (problem,) = problems(tmp_path, f"{GOOD}    {key}: {value}\n")
        assert problem.startswith(f"config.yaml:6: stores[0].{key}: '{value}' is outside the limits, wanted ")
    assert documented in comment_of(key)
    if key == "reconcile_interval":
        assert store(tmp_path, f"    {key}: 0s\n").reconcile_interval == 0


def test_the_example_names_the_choices_of_history(tmp_path: Path) -> None:
    assert set(re.findall(r"(\w+): ", comment_of("history"))) == {"skip", "count"}
    assert [store(tmp_path, f"    history: {word}\n").history for word in ("skip", "count")] == ["skip", "count"]


def test_a_stores_own_key_wins_over_the_default(tmp_path: Path) -> None:
    made = store(tmp_path, "    lookback: 5m\ndefaults:\n  lookback: 1h\n  page_limit: 7\n")
    assert (made.lookback, made.page_limit) == (300.0, 7)


@pytest.mark.parametrize("key", sorted(DEFAULT_KEYS))
def test_any_default_may_be_set_per_store_and_for_all(tmp_path: Path, key: str) -> None:
    value = {
        "history": "count",
        "integrations": "{include: [a]}",
        "page_limit": "50",
        "requests_per_second": "0.5",
        "max_series": "100",
    }
    line = f"{key}: {value.get(key, '90s')}\n"
    own = store(tmp_path, f"    {line}")
    assert own == store(tmp_path, f"defaults:\n  {line}")
    assert own != store(tmp_path)


def test_integrations_are_chosen_by_lists_and_a_stores_own_replace_both(tmp_path: Path) -> None:
    made = store(tmp_path, "    integrations: {include: [a, 'b c'], exclude: []}\n")
    assert (made.include, made.exclude) == (("a", "b c"), ())
    made = store(tmp_path, "    integrations: {exclude: [b]}\ndefaults:\n  integrations: {include: [a]}\n")
    assert (made.include, made.exclude) == ((), ("b",))


def test_anchors_and_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    again = "  - {name: other, api_url: *url, client_id: a, client_secret: b}\n"
    first, second = read(tmp_path, GOOD.replace("https://", "&url https://") + again).stores
    assert first.api_url == second.api_url == "https://euwest.api.elasticpath.com"


def test_env_and_file_stand_for_any_value(tmp_path: Path) -> None:
    (tmp_path / "interval").write_text("45s\n")
    made = store(tmp_path, "    page_limit: !env LIMIT\n    poll_interval: !file interval\n", LIMIT="50")
    assert (made.page_limit, made.poll_interval) == (50, 45.0)


def test_the_secrets_file_is_read_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("first\n")
    made = read(tmp_path, GOOD.replace(SECRET, "client_secret_file: secret")).stores[0]
    assert made.secret() == "first"
    (tmp_path / "secret").write_text("second\n")
    assert made.secret() == "second"
    (tmp_path / "secret").unlink()
    with pytest.raises(FileNotFoundError, match=r"/secret'$"):
        made.secret()


@pytest.mark.parametrize(
    ("content", "wrong"),
    [(b"", "empty"), (b" \n", "empty"), (b"S3CRET\xff", "not text"), (b"S3CRET\nS3CRET", "more than one line, or not printable"),
     (b"S" * (SECRET_BYTES_MAX + 1), f"larger than {SECRET_BYTES_MAX} bytes")],
)  # fmt: skip
def test_a_secrets_file_that_went_bad_is_named_without_its_content(tmp_path: Path, content: bytes, wrong: str) -> None:
    where = tmp_path / "secret"
    where.write_text("first")
    text = GOOD.replace(SECRET, "client_secret_file: secret")
    made = read(tmp_path, text).stores[0]
    where.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(wrong)) as refused:
        made.secret()
    assert str(refused.value) == f"{where}: {wrong}"
    assert problems(tmp_path, text) == [
        f"config.yaml:5: stores[0].client_secret_file: 'secret' is {wrong}, wanted the client secret in it"
    ]


def test_a_secrets_file_that_is_a_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        (problem,) = problems(tmp_path, GOOD.replace(SECRET, f"client_secret_file: {name}"))
        assert problem.endswith(f"client_secret_file: '{name}' is not a regular file, wanted the client secret in it")


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "secret").write_text("S3CRET")
    (tmp_path / "name").write_text("acme")
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = GOOD.replace("name: acme", "name: !file name").replace("secret: S3CRET-VALUE", "secret_file: secret")
    made = read(tmp_path, text).stores[0]
    assert (made.name, made.secret()) == ("acme", "S3CRET")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("    poll_intervall: 30s", "stores[0].poll_intervall: unknown key, did you mean 'poll_interval'?"),
        ("    <<: {lookback: 5m}", "stores[0].<<: merge keys are not read, wanted each key where it belongs"),
        ("    poll_interval: 30", "stores[0].poll_interval: '30' is not a duration (write 30s?), wanted a duration from 100ms to 1h, like 30s or 1h30m"),
        ("    poll_interval: 99ms", "stores[0].poll_interval: '99ms' is outside the limits, wanted a duration from 100ms to 1h"),
        ("    lookback: 25h", "stores[0].lookback: '25h' is outside the limits, wanted a duration from 1s to 1d"),
        ("    lookback: 1m1h", "stores[0].lookback: '1m1h' is not a duration, wanted a duration from 1s to 1d, like 30s or 1h30m"),
        ("    reconcile_interval: 500ms", "stores[0].reconcile_interval: '500ms' is outside the limits, wanted a duration from 1s to 1d, or 0s"),
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
        ("    org_id: !file nope", "stores[0].org_id: the file 'nope' cannot be read (No such file or directory)"),
        ("    org_id: \"a\\nb\"", "stores[0].org_id: 'a\\nb': not fit for a header, wanted an organization's id"),
        ("    org_id: é", "stores[0].org_id: 'é': not fit for a header, wanted an organization's id"),
        ("    store_id: ' a'", "stores[0].store_id: ' a': not fit for a header, wanted a store's id"),
        ("    store_id: ''", "stores[0].store_id: empty, wanted a store's id"),
        ("    store_id: " + "a" * 201, "stores[0].store_id: '" + "a" * 60 + "…': longer than 200 characters, wanted a store's id"),
        ("    client_secret_file: x", "stores[0].client_secret_file: 'x' cannot be read (No such file or directory)"),
        ("    lookback: 5 m", "stores[0].lookback: '5 m' is not a duration, wanted a duration from 1s to 1d, like 30s or 1h30m"),
        ("    lookback: " + "5" * 70, "stores[0].lookback: '" + "5" * 60 + "…' is not a duration, wanted a duration from 1s to 1d, like 30s or 1h30m"),
        ("    integrations: {include: a}", "stores[0].integrations.include: a single value, wanted a list of integration ids or names"),
        ("    integrations: {include: [a, {b: c}]}", "stores[0].integrations.include[1]: a mapping, wanted an integration's id or name"),
        ("    integrations: {include: [''], exclude: []}", "stores[0].integrations.include[0]: empty, wanted an integration's id or name"),
        ("defaults: {name: x}", "defaults.name: unknown key; known keys: " + ", ".join(sorted({*DEFAULT_KEYS, *SHARED_KEYS}))),
        ("defaults: {lookbak: 5m}", "defaults.lookbak: unknown key, did you mean 'lookback'?"),
        ("default: {}", "default: unknown key, did you mean 'defaults'?"),
    ],
)  # fmt: skip
def test_a_problem_names_its_place_what_was_found_and_what_is_wanted(tmp_path: Path, line: str, problem: str) -> None:
    found = problems(tmp_path, GOOD + line + "\n")
    both = "config.yaml:2: stores[0]: both client_secret and client_secret_file, wanted one of them"
    assert [each for each in found if each != both] == [f"config.yaml:6: {problem}"]
    assert (both in found) == ("client_secret_file" in line)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("x" * 101, "'" + "x" * 60 + "…': longer than 100 characters"), ('"a\\nb"', r"'a\nb': not printable"),
     ('"\\e[2J"', r"'\x1b[2J': not printable"), ("~", "empty"), ("''", "empty"), ("!env NAME", "the value of NAME: not printable")],
)  # fmt: skip
def test_a_stores_name_is_a_short_printable_text(tmp_path: Path, name: str, wrong: str) -> None:
    found = problems(tmp_path, GOOD.replace("name: acme", f"name: {name}"), NAME="S3CRET\n")
    assert found == [f"config.yaml:2: stores[0].name: {wrong}, wanted a name of 1 to 100 characters"]


def test_whatever_is_printable_is_a_name(tmp_path: Path) -> None:
    for name in ("x" * 100, "EU west (2)", "магазин", "1"):
        assert read(tmp_path, GOOD.replace("acme", name)).stores[0].name == name


@pytest.mark.parametrize(
    ("wrong", "urls"),
    [
        ("not an http or https URL", ["euwest.api.elasticpath.com", "ftp://host", "https://", "https:host", "https://host:0", "https://ho st"]),
        ("a URL with /v2, which is added by the exporter", ["https://host/v2", "https://host/v2/", "http://host/V2/settings"]),
        ("not a URL", ["https://host:99999", "https://[::1"]),
    ],
)  # fmt: skip
def test_a_wrong_url_is_refused(tmp_path: Path, wrong: str, urls: list[str]) -> None:
    for url in urls:
        expected = f"config.yaml:3: stores[0].api_url: {url!r}: {wrong}, wanted the API's base URL, like {URL}"
        assert problems(tmp_path, GOOD.replace(URL, url)) == [expected]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (r"https://host\x", r"'https://host\\x': not an http or https URL"),
        ("https://host/?a=S3CRET", "'https://host/…': a URL with a query or a fragment"),
        ("https://host?", "'https://host…': a URL with a query or a fragment"),
        ("https://host#S3CRET", "'https://host…': a URL with a query or a fragment"),
        ("https://user:S3CRET@host", "a value: a URL with a user or a password"),
        ("https://S3CRET@host/v2", "a value: a URL with a user or a password"),
        ("https://user:S3CRET@host:port", "a value: not a URL"),
        ("https://host/S3CRET@x?", "a value: a URL with a query or a fragment"),
        ("''", "empty"),
        ("!env LEAK", "the value of LEAK: a URL with a query or a fragment"),
    ],
)
def test_what_may_be_secret_in_a_wrong_url_is_not_shown(tmp_path: Path, url: str, found: str) -> None:
    expected = f"config.yaml:3: stores[0].api_url: {found}, wanted the API's base URL, like {URL}"
    assert problems(tmp_path, GOOD.replace(URL, url), LEAK="https://host?S3CRET") == [expected]


def test_a_base_url_is_taken_as_it_stands(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:8080", "HTTPS://Host", "https://[::1]:80/", "https://proxy/eu", "https://hö.example"):
        assert read(tmp_path, GOOD.replace(URL, url)).stores[0].api_url == url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["config.yaml:1: 0 documents, wanted one with the key stores"]),
        ("stores: []", ["config.yaml:1: stores: 0 stores, wanted a list of 1 to 1000 stores"]),
        ("stores: nope", ["config.yaml:1: stores: a single value, wanted a list of 1 to 1000 stores"]),
        ("defaults: {}", ["config.yaml:1: stores: missing, wanted a list of stores"]),
        ("- a", ["config.yaml:1: a list, wanted a mapping with keys defaults, stores", "config.yaml:1: stores: missing, wanted a list of stores"]),
        ("stores:\n  - {name: a", ["config.yaml:2: not YAML: expected ',' or '}', but got '<stream end>'"]),
        ("a: &a [*a]\n", ["config.yaml:1: more than 10000 values"]),
        ("stores: *nope\n", ["config.yaml:1: not YAML: found undefined alias '…'"]),
        (GOOD + "---\n" + GOOD, ["config.yaml:1: 2 documents, wanted one with the key stores"]),
        ("stores:\n  - name: a\n", ["config.yaml:2: stores[0].api_url: missing, wanted the API's base URL, like https://euwest.api.elasticpath.com",
                                    "config.yaml:2: stores[0].client_id: missing, wanted the client id",
                                    "config.yaml:2: stores[0]: neither client_secret nor client_secret_file, wanted one of them"]),
        ("stores: [5]", ["config.yaml:1: stores[0]: a single value, wanted a mapping with keys " + ", ".join(sorted({*STORE_KEYS, *DEFAULT_KEYS}))]),
        (GOOD + "  -\n", ["config.yaml:6: stores[1]: nothing, wanted a store with name, api_url, client_id"]),
        ("stores:\n", ["config.yaml:1: stores: nothing, wanted a list of 1 to 1000 stores"]),
    ],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert problems(tmp_path, text) == expected


def test_all_problems_are_reported_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = GOOD + "    page_limit: 0\n    history: x\ndefaults:\n  lookback: 7\nextra: 1\n"
    assert [problem.split(":")[1] for problem in problems(tmp_path, text)] == ["6", "7", "9", "10"]


def test_two_stores_of_one_name_are_refused(tmp_path: Path) -> None:
    again = GOOD + GOOD.removeprefix("stores:\n")
    assert problems(tmp_path, again) == ["config.yaml:6: stores[1].name: 'acme' is the name of the store on line 2 too"]
    elsewhere = GOOD + "  - client_id: a\n    client_secret: b\n    api_url: http://host\n    name: acme\n"
    (problem,) = problems(tmp_path, elsewhere)
    assert problem.startswith("config.yaml:9: stores[1].name: ")


def test_a_missing_file_is_a_problem() -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read \(No such file or directory\)"):
        load(Path("/nonexistent/nowhere.yaml"), {})


def test_a_file_that_blows_up_through_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    assert problems(tmp_path, "\n".join(lines)) == ["config.yaml:1: more than 10000 values"]


LEAKS = [
    *(GOOD.replace(SECRET, f"client_secret{rest}") for rest in (
        ": [S3CRET-VALUE]", ": {S3CRET-VALUE: 1}", ': "S3CRET-VALUE', ': "S3CRET-VALUE\\n"', ": !env LINES",
        ": !file lines\n    page_limit: 0", "_file: !env LEAK", "_file: lines")),
    *(GOOD.replace(ID, value) for value in ('"S3CRET-VALUE\\n"', "[S3CRET-VALUE]")),
    *(f"{GOOD}    {line}\n" for line in (
        "client_secret: S3CRET-VALUE", "page_limit: !env LEAK", "history: !file leak", "org_id: !env LINES", "integrations: !env LEAK")),
    GOOD.replace("https://", "https://user:S3CRET-VALUE@"),
]  # fmt: skip


@pytest.mark.parametrize("text", LEAKS)
def test_no_problem_shows_a_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "leak").write_text("S3CRET-VALUE")
    (tmp_path / "lines").write_text("S3CRET-VALUE\nS3CRET-VALUE\n")
    found = problems(tmp_path, text, LEAK="S3CRET-VALUE", LINES="S3CRET-VALUE\n")
    assert found
    assert "S3CRET" not in "\n".join(found)


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    secret = Secret("S3CRET-VALUE")
    assert f"{secret} {secret!r} {secret:>20} {[secret]}".count("S3CRET") == 0
    assert (secret.reveal(), secret == Secret("S3CRET-VALUE")) == ("S3CRET-VALUE", True)
    assert secret != Secret("another")
    for serialize in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="a secret is not serialized"):
            serialize(secret)


def test_neither_a_configuration_nor_its_summary_shows_a_secret(tmp_path: Path) -> None:
    other = "  - {name: other, api_url: http://host, client_id: S3CRET, client_secret: S3CRET}\n"
    made = read(tmp_path, GOOD.replace(ID, "S3CRET-ID") + other)
    assert summary(made, Path("config.yaml")) == "config.yaml: ok, 2 stores: acme, other"
    assert "S3CRET" not in f"{made} {made!r}"
    assert f"{made!r}".count("client_id=<secret>, client_secret=<secret>") == 2


def test_what_was_read_as_a_secret_is_masked_in_the_log(tmp_path: Path) -> None:
    client_id = "planted-id-" + "x" * CLIENT_ID_MASKED_MIN
    text = GOOD.replace(ID, client_id).replace("S3CRET-VALUE", "planted-inline")
    read(tmp_path, text)
    (tmp_path / "secret").write_text("planted-file\n")
    read(tmp_path, GOOD.replace(SECRET, "client_secret_file: secret")).stores[0].secret()
    assert logs.masked(f"{client_id} planted-inline planted-file") == "<secret> <secret> <secret>"
    store(tmp_path)  # its id is short, and may be a word of other lines
    assert logs.masked("a store named my-client") == "a store named my-client"
