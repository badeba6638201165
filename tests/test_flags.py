"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import flags


def test_without_arguments_the_exporter_runs_with_its_documented_defaults() -> None:
    arguments = flags.parse([])
    assert (arguments.command, arguments.config_file, arguments.storage_path) == (
        "run",
        Path("config.yaml"),
        Path("data"),
    )
    assert (arguments.listen_addresses, arguments.telemetry_path) == ([("", 10058)], "/metrics")
    assert (arguments.log_level, arguments.log_format, arguments.once) == ("info", "logfmt", False)


def test_run_may_be_named_and_an_address_repeated() -> None:
    arguments = flags.parse(["run", "--web.listen-address=:1", "--web.listen-address", "[::1]:2"])
    assert arguments.listen_addresses == [("", 1), ("::1", 2)]


def test_the_demo_listens_on_the_loopback_alone() -> None:
    assert flags.parse(["demo"]).listen_addresses == [("127.0.0.1", 10058)]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [(":10058", ("", 10058)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9", ("::1", 9)), ("host:1", ("host", 1))],
)
def test_an_address_is_a_host_and_a_port(text: str, parsed: tuple[str, int]) -> None:
    assert flags.address(text) == parsed


@pytest.mark.parametrize(
    "flag",
    ["--web.listen-address=10058", "--web.listen-address=::1:10058", "--web.listen-address=:65536", "--web.listen-address=:",
     "--web.telemetry-path=/", "--web.telemetry-path=/-/metrics", "--web.telemetry-path=metrics", "--log.format=xml",
     "--once=yes", "--storage.pat=x", "extra"],
)  # fmt: skip
def test_a_wrong_flag_ends_with_2(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        flags.parse([flag])
    assert ended.value.code == 2
    assert flag.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "served"), [("", True), ("# nothing\n---\n{}\n", True), ("tls_server_config: {}\n", False)]
)
def test_a_web_config_is_passed_over_only_if_it_asks_for_nothing(tmp_path: Path, content: str, served: bool) -> None:
    path = tmp_path / "web.yml"
    path.write_text(content)
    assert (flags.web_config_problem(path) is None) is served
    assert flags.web_config_problem(None) is None
    assert "cannot be read" in (flags.web_config_problem(tmp_path / "absent.yml") or "")
