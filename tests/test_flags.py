"""The command line: what each flag becomes, and the one line that says what is wrong with it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter import __version__, flags, logs
from exporter.flags import address, parse, telemetry_path
from exporter.sharding import Shard
from exporter.simulator import SCENARIOS


def wrong(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The error's line, without the program's name."""
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return str(err.splitlines()[0].partition(" error: ")[2])


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What is printed before an end with 0."""
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return str(out)


@pytest.mark.parametrize("argv", [[], ["run"]])
def test_without_a_command_it_runs_with_its_defaults(argv: list[str]) -> None:
    assert vars(parse(argv)) == {
        "command": "run",
        "config_file": Path("config.yaml"),
        "config_check": False,
        "auto_reload": False,
        "auto_reload_interval": 30.0,
        "once": False,
        "storage_path": Path("data"),
        "wait_for_lock": False,
        "shard": Shard(0, 1),
        "listen_addresses": [("", 10058)],
        "telemetry_path": "/metrics",
        "grafana_url": None,
        "web_config_file": None,
        "log_level": "info",
        "log_format": "logfmt",
    }


def test_every_flag_of_run_is_read() -> None:
    argv = ["--config.file=a.yaml", "--config.check", "--once", "--storage.path", "d", "--storage.wait-for-lock", "--shard=2/3", "--web.listen-address=:1",
            "--web.listen-address", "[::1]:2", "--web.telemetry-path=/m", "--web.config.file=w.yml", "--log.level=warn",
            "--log.format=json", "--config.enable-auto-reload", "--config.auto-reload-interval=1m", "--web.grafana-url=https://grafana.example.com/d/epcc?orgId=1"]  # fmt: skip
    assert vars(parse(argv)) == {
        "command": "run",
        "config_file": Path("a.yaml"),
        "config_check": True,
        "auto_reload": True,
        "auto_reload_interval": 60.0,
        "once": True,
        "storage_path": Path("d"),
        "wait_for_lock": True,
        "shard": Shard(2, 3),
        "listen_addresses": [("", 1), ("::1", 2)],
        "telemetry_path": "/m",
        "grafana_url": "https://grafana.example.com/d/epcc?orgId=1",
        "web_config_file": Path("w.yml"),
        "log_level": "warn",
        "log_format": "json",
    }


def test_the_demo_listens_on_loopback_and_keeps_nothing() -> None:
    demo = parse(["demo"])
    assert (demo.listen_addresses, demo.storage_path, demo.scenario, demo.seed) == (
        [("127.0.0.1", 10058)],
        None,
        "shop",
        1,
    )
    argv = ["--scenario=busy", "--seed=7", "--web.listen-address=:0", "--storage.path=d", "--log.level=debug"]
    demo = parse(["demo", *argv])
    assert (demo.scenario, demo.seed, demo.listen_addresses, demo.log_level) == ("busy", 7, [("", 0)], "debug")
    assert demo.storage_path == Path("d")


def test_the_simulator_has_its_own_flags_and_those_of_the_log() -> None:
    simulate = parse(["simulate", "--web.listen-address=127.0.0.1:0", "--scenario=quiet", "--log.format=json"])
    assert (simulate.command, simulate.scenario, simulate.log_format) == ("simulate", "quiet", "json")


def test_the_probe_asks_every_store_and_watches_a_quarter_of_a_minute() -> None:
    probe = vars(parse(["probe"]))
    assert probe == {"command": "probe", "config_file": Path("config.yaml"), "stores": None, "watch_seconds": 15.0,
                     "log_level": "info", "log_format": "logfmt"}  # fmt: skip
    probe = vars(parse(["probe", "--store=a", "--store", "b", "--watch=1h", "--config.file=c.yaml"]))
    assert (probe["stores"], probe["watch_seconds"], probe["config_file"]) == (["a", "b"], 3600.0, Path("c.yaml"))
    assert parse(["probe", "--watch=0s"]).watch_seconds == 0


def test_defaults_do_not_leak_from_one_parse_to_the_next() -> None:
    parse(["--web.listen-address=:1"])
    parse([]).listen_addresses.append(("", 2))
    assert parse([]).listen_addresses == [("", 10058)]


@pytest.mark.parametrize("level", logs.LEVELS)
def test_every_level_of_the_log_is_a_flags_value(level: str) -> None:
    assert parse([f"--log.level={level}"]).log_level == level


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--config.fil=x"], "unrecognized arguments: --config.fil=x, did you mean --config.file?"),
        (["--web.listen-adress", ":1"], "unrecognized arguments: --web.listen-adress :1, did you mean --web.listen-address?"),
        (["--storage.pat=x"], "unrecognized arguments: --storage.pat=x, did you mean --storage.path?"),
        (["-config.file=x"], "unrecognized arguments: -config.file=x, did you mean --config.file?"),
        (["--once=yes"], "argument --once: ignored explicit argument 'yes'"),
        (["run", "extra"], "unrecognized arguments: extra"),
        (["extra"], "unknown command 'extra'; there are run, demo, simulate, reshard, probe, backfill"),
        (["--zzz"], "unrecognized arguments: --zzz"),
        (["--log.level=debug", "demo"], "unrecognized arguments: demo, a command comes first"),
        (["demo", "--once"], "unrecognized arguments: --once"),
        (["demo", "--config.file=x"], "unrecognized arguments: --config.file=x"),
        (["simulate", "--sed=1"], "unrecognized arguments: --sed=1, did you mean --seed?"),
        (["--config.file"], "argument --config.file: expected one argument"),
        (["demo", "--seed=x"], "argument --seed: invalid int value: 'x'"),
        (["rum"], "unknown command 'rum', did you mean run?; there are run, demo, simulate, reshard, probe, backfill"),
        (["prove"], "unknown command 'prove', did you mean probe?; there are run, demo, simulate, reshard, probe, backfill"),
        (["backfil"], "unknown command 'backfil', did you mean backfill?; there are run, demo, simulate, reshard, probe, backfill"),
        ([""], "unknown command ''; there are run, demo, simulate, reshard, probe, backfill"),
        (["reshard"], "the following arguments are required: --storage.path"),
        (["--shard=3/3"], "argument --shard: '3/3': there is no shard 3 of 3, they are counted from 0"),
        (["probe", "--watch=10"], "argument --watch: '10', wanted a duration from 0s to 1h, like 15s or 10m"),
        (["probe", "--watch=61m"], "argument --watch: '61m', wanted a duration from 0s to 1h, like 15s or 10m"),
        (["probe", "--watch="], "argument --watch: '', wanted a duration from 0s to 1h, like 15s or 10m"),
        (["probe", "--storage.path=x"], "unrecognized arguments: --storage.path=x, did you mean --store?"),
        (["--web.listen-address=x"], "argument --web.listen-address: 'x', wanted HOST:PORT or :PORT, and IPv6 like [::1]:10058"),
        (["--web.telemetry-path=/"], "argument --web.telemetry-path: '/', wanted a path like /metrics, and none that other pages have"),
    ],
)  # fmt: skip
def test_wrong_usage_is_a_line_that_names_the_flag(
    capsys: pytest.CaptureFixture[str], argv: list[str], line: str
) -> None:
    assert wrong(capsys, *argv) == line


@pytest.mark.parametrize("flag", ["--log.level", "--log.format", "--scenario"])
def test_a_choice_that_is_none_is_refused_with_the_choices(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    line = wrong(capsys, "demo", f"{flag}=loud")
    assert line.startswith(f"argument {flag}: invalid choice: 'loud' (choose from ")
    choices = {"--log.level": logs.LEVELS, "--log.format": logs.FORMATS, "--scenario": SCENARIOS}[flag]
    assert all(choice in line for choice in choices)


def test_an_abbreviation_is_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--conf", "--on", "--web.listen", "--ver"):
        assert wrong(capsys, flag).startswith(f"unrecognized arguments: {flag}")


@pytest.mark.parametrize("command", [[], ["run"], ["demo"], ["simulate"], ["probe"], ["backfill"]])
def test_the_version_is_printed_by_every_command(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    expected = rf"epcc-exporter, version {re.escape(__version__)} \(python \d+\.\d+\.\d+\S*\)\n"
    assert re.fullmatch(expected, shown(capsys, *command, "--version"))


def test_help_lists_every_command_and_every_flag_with_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = shown(capsys, "--help")
    assert all(f"  {command} " in text for command in ("run", "demo", "simulate", "probe", "backfill"))
    defaults = {"--config.file": "config.yaml", "--storage.path": "data", "--web.listen-address": ":10058",
                "--web.telemetry-path": "/metrics", "--log.level": "info", "--log.format": "logfmt"}  # fmt: skip
    for flag, default in defaults.items():
        assert re.search(rf"^  {re.escape(flag)} .*\n?.*\(default {re.escape(default)}", text, re.MULTILINE), flag
    for flag in ("--config.check", "--once", "--web.config.file", "--version"):
        assert re.search(rf"^  {re.escape(flag)}\s", text, re.MULTILINE), flag


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_the_help_of_the_other_commands_names_their_defaults(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = " ".join(shown(capsys, command, "--help").split())
    for default in ("127.0.0.1:100", "shop", "1)", "info", "logfmt"):
        assert f"(default {default}" in text, default


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":10058", ("", 10058)),
        (":0", ("", 0)),
        (":65535", ("", 65535)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("localhost:80", ("localhost", 80)),
        ("my-host.example_1.com:80", ("my-host.example_1.com", 80)),
        ("[::1]:10058", ("::1", 10058)),
        ("[::]:80", ("::", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "10058", ":", "host:", ":65536", ":0000065536", ":-1", ":+1", ":1.5", ":٣", ": 1", "::1:80", "[::1]",
     "[::1:80", "::1]:80", "[]:80", "[host]:80", "[127.0.0.1]:80", "a b:80", " :80", "http://host:80", "host/x:80", "*:80",
     "user@host:80", "-host:80", "host:80\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"wanted HOST:PORT or :PORT"):
        address(text)


@pytest.mark.parametrize("text", ["/metrics", "/metrics/", "/a/b-c_d.e~f", "/jobsite", "/apis", "/-x", "/..."])
def test_a_path_of_its_own_is_taken_for_the_metrics(text: str) -> None:
    assert telemetry_path(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "/", "metrics", "//", "//m", "/m//x", "/./m", "/a/../-/healthy", "/..", "/-", "/-/ready", "/-/metrics", "/api", "/api/v1/status",
     "/jobs", "/jobs/x", "/m x", "/m?x", "/m#x", "/m%2e", "/{m}", "/é", "/m\n", "http://host/metrics"],
)  # fmt: skip
def test_a_path_that_others_have_or_no_request_finds_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="wanted a path like /metrics"):
        telemetry_path(text)


def test_every_command_that_is_offered_has_a_parser() -> None:
    needed = {"reshard": ["--storage.path=a"]}
    parsed = [parse([command, *needed.get(command, [])]).command for command in flags.COMMANDS]
    assert parsed == list(flags.COMMANDS)


def test_every_flag_of_reshard_is_read() -> None:
    made = parse(["reshard", "--storage.path=a", "--storage.path", "b", "--from=c", "--from=d", "--dry-run"])
    assert (made.storage_paths, made.sources, made.dry_run) == ([Path("a"), Path("b")], [Path("c"), Path("d")], True)
    assert parse(["reshard", "--storage.path=a"]).sources == []


def test_python_m_exporter_is_the_same_program() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "exporter", "prove"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert (
        ran.stderr
        == "epcc-exporter: error: unknown command 'prove', did you mean probe?; there are run, demo, simulate, reshard, probe, backfill\n"
    )


def test_a_backfill_begins_a_month_before_the_exporter_and_ends_where_that_began() -> None:
    plain = parse(["backfill"])
    assert (plain.since, plain.until_ns, plain.step_seconds, plain.labels) == (30 * 86_400.0, None, 30, None)
    given = parse(["backfill", "--since=2026-11-24T08:00:00Z", "--until=2026-11-25T08:00:00Z", "--step=1m",
                   "--label=job=epcc", "--label", "instance=a=b:1", "--store=acme"])  # fmt: skip
    assert (given.since, given.until_ns) == (1_795_507_200 * 10**9, 1_795_593_600 * 10**9)
    assert (given.step_seconds, given.labels, given.stores) == (60, [("job", "epcc"), ("instance", "a=b:1")], ["acme"])


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [("--since=0s", "a duration up to 10y"), ("--since=30", "a duration up to 10y"), ("--since=11y", "a duration"),
     ("--since=yesterday", "or a time"), ("--until=30d", "wanted a time"), ("--step=5m", "from 1s to 4m"),
     ("--step=500ms", "whole seconds"), ("--step=1500ms", "whole seconds"), ("--label=job", "NAME=VALUE"),
     ("--label=store=x", "has already"), ("--label=le=1", "has already"), ("--label=__x=1", "NAME=VALUE"),
     ("--label=a-b=1", "NAME=VALUE"), ("--label=a=", "NAME=VALUE"), ("--label=a=b\nc", "NAME=VALUE")],
)  # fmt: skip
def test_what_a_backfill_cannot_be_asked_for_is_refused(
    capsys: pytest.CaptureFixture[str], flag: str, wanted: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["backfill", flag])
    assert wanted in capsys.readouterr().err
