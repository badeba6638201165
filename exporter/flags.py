"""The command line: commands, flags in Prometheus's style, and what is wrong with them."""

from __future__ import annotations

import argparse
import difflib
import ipaddress
import platform
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from exporter import __version__, logs, reload, sharding, simulator
from exporter.configfile import parse_duration
from exporter.metrics import FAMILIES
from exporter.sharding import Shard
from exporter.values import read_time

COMMANDS: Final = {
    "run": "the exporter (the default)",
    "demo": "a simulated store in the same process and the exporter on it: no account, no file",
    "simulate": "the simulated EPCC alone, over HTTP",
    "reshard": "moves the stores' states to the folders of the shards that they fall to",
    "probe": "asks each store what nobody documents, and prints a report without secrets, fit for a public issue",
    "backfill": "writes the logs that EPCC still holds as OpenMetrics with their own times, for promtool",
}
ADDRESSES: Final = [("", 10058)]
RESERVED_PATHS: Final = ("/-/", "/api/", "/jobs/", "/page/")
WATCH_SECONDS_MAX: Final = 3600.0
SINCE_SECONDS_MAX: Final = 10 * 365 * 86_400.0
STEP_SECONDS: Final = (1, 240)
OWN_LABELS: Final = frozenset({"store", "integration_id", *(name for family in FAMILIES for name in family.labels)})
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+/?")


class _Parser(argparse.ArgumentParser):
    """argparse, with a hint for a misspelt flag."""

    def error(self, message: str) -> NoReturn:
        hint = ""
        if message.startswith("unrecognized arguments: "):
            wrong = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
            close = difflib.get_close_matches(wrong, list(self._option_string_actions), n=1)
            hint = f", did you mean {close[0]}?" if close else ", a command comes first" if wrong in COMMANDS else ""
        self.exit(2, f"{self.prog}: error: {message}{hint}\nSee {self.prog} --help.\n")


def address(text: str) -> tuple[str, int]:
    """`:10058` (all addresses), `127.0.0.1:0`, `[::1]:10058` → (host, port); host "" is all of them."""
    host, colon, port = text.rpartition(":")
    good = bool(colon) and re.fullmatch(r"[0-9]{1,5}", port) is not None and int(port) <= 65535
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = good and _is_ipv6(host)
    else:
        good = good and (host == "" or _HOST.fullmatch(host) is not None)
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted HOST:PORT or :PORT, and IPv6 like [::1]:10058")
    return host, int(port)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def shard(text: str) -> Shard:
    """`I/N` or `auto/N`."""
    try:
        return sharding.parse(text, socket.gethostname())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def watch(text: str) -> float:
    """Seconds of a duration as Prometheus writes it."""
    seconds = parse_duration(text)
    if seconds is None or seconds > WATCH_SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted a duration from 0s to 1h, like 15s or 10m")
    return seconds


def moment(text: str) -> float | int:
    """A duration, in seconds (float), or a time, in ns since 1970 (int)."""
    seconds = parse_duration(text)
    if seconds is not None and 0 < seconds <= SINCE_SECONDS_MAX:
        return seconds
    at_ns = read_time(text)
    if at_ns is None:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted a duration up to 10y, like 30d, or a time, "
                                         "like 2026-11-24T08:00:00Z")  # fmt: skip
    return at_ns


def time_ns(text: str) -> int:
    at_ns = read_time(text)
    if at_ns is None:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted a time, like 2026-11-24T08:00:00Z")
    return at_ns


def step(text: str) -> int:
    """Whole seconds."""
    seconds = parse_duration(text)
    if seconds is None or not STEP_SECONDS[0] <= seconds <= STEP_SECONDS[1] or seconds != int(seconds):
        raise argparse.ArgumentTypeError(f"{text!r}, wanted whole seconds from 1s to 4m: Prometheus takes a series "
                                         "without a sample within 5m for gone")  # fmt: skip
    return int(seconds)


def label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    good = bool(equals) and _LABEL.fullmatch(name) is not None and not name.startswith("__") and name not in OWN_LABELS
    if not good or not value.isprintable() or not value:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted NAME=VALUE, and no name that a series of ours has already")
    return name, value


def auto_reload_interval(text: str) -> float:
    """Seconds of a duration as Prometheus writes it."""
    seconds = parse_duration(text)
    if seconds is None or not reload.INTERVAL_MIN <= seconds <= reload.INTERVAL_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}, wanted a duration from 1s to 1h, like 30s")
    return seconds


def telemetry_path(text: str) -> str:
    """A path of our own pages for the metrics."""
    if not _PATH.fullmatch(text) or f"{text}/".startswith(RESERVED_PATHS):
        raise argparse.ArgumentTypeError(f"{text!r}, wanted a path like /metrics, and none that other pages have")
    return text


def _logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log.level", dest="log_level", choices=sorted(logs.LEVELS, key=lambda n: logs.LEVELS[n]),
                        default="info", help="lines below it are not written (default info)")  # fmt: skip
    parser.add_argument("--log.format", dest="log_format", choices=logs.FORMATS, default="logfmt",
                        help="format of a line (default logfmt)")  # fmt: skip


def _parsers() -> dict[str, _Parser]:
    version = f"epcc-exporter, version {__version__} (python {platform.python_version()})"
    listed = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    made = {}
    for name, text in COMMANDS.items():
        parser = made[name] = _Parser(
            prog="epcc-exporter" if name == "run" else f"epcc-exporter {name}",
            usage="epcc-exporter [run] [FLAGS]" if name == "run" else f"epcc-exporter {name} [FLAGS]",
            description=f"commands:\n{listed}" if name == "run" else text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--version", action="version", version=version, help="print the version and exit")
        _logging(parser)
    _run_flags(made["run"])
    _demo_flags(made["demo"])
    simulator.add_arguments(made["simulate"])
    _reshard_flags(made["reshard"])
    _probe_flags(made["probe"])
    _backfill_flags(made["backfill"])
    return made


def _run_flags(run: argparse.ArgumentParser) -> None:
    run.add_argument("--config.file", dest="config_file", type=Path, default=Path("config.yaml"), metavar="FILE",
                     help="the configuration (default config.yaml)")  # fmt: skip
    run.add_argument("--config.check", dest="config_check", action="store_true",
                     help="check the configuration and exit: 0 good, 2 not")  # fmt: skip
    run.add_argument("--config.enable-auto-reload", dest="auto_reload", action="store_true",
                     help="reload when the content of the configuration's files has changed")  # fmt: skip
    run.add_argument("--config.auto-reload-interval", dest="auto_reload_interval", type=auto_reload_interval,
                     default=reload.INTERVAL_SECONDS, metavar="DURATION",
                     help="how often to look for that, 1s to 1h (default 30s)")  # fmt: skip
    run.add_argument("--once", action="store_true",
                     help="poll each store once, print what a scrape would get, leave no state")  # fmt: skip
    run.add_argument("--storage.path", dest="storage_path", type=Path, default=Path("data"), metavar="FOLDER",
                     help="folder of the durable state (default data)")  # fmt: skip
    run.add_argument("--storage.wait-for-lock", dest="wait_for_lock", action="store_true",
                     help="stand by while another process holds the state, and take over when it ends")  # fmt: skip
    run.add_argument("--shard", type=shard, default=Shard(), metavar="I/N",
                     help="the stores that fall to shard I (from 0) of N alone; auto/N: I is the number at the end of "
                          f"the host's name (default 0/1: all; N at most {sharding.SHARDS_MAX})")  # fmt: skip
    _web_flags(run, ":10058 on every address")
    run.add_argument("--web.config.file", dest="web_config_file", type=Path, default=None, metavar="FILE",
                     help="TLS and authentication, in exporter-toolkit's format")  # fmt: skip


def _reshard_flags(reshard: argparse.ArgumentParser) -> None:
    reshard.add_argument("--storage.path", dest="storage_paths", type=Path, action="append", required=True,
                         metavar="FOLDER", help="of shard 0, then of shard 1, and so on: as often as there are shards "
                                                "from now on")  # fmt: skip
    reshard.add_argument("--from", dest="sources", type=Path, action="append", default=[], metavar="FOLDER",
                         help="of a shard that is no more; may be repeated")  # fmt: skip
    reshard.add_argument("--dry-run", dest="dry_run", action="store_true", help="say what would move, and move nothing")


def _probe_flags(probe: argparse.ArgumentParser) -> None:
    probe.add_argument("--config.file", dest="config_file", type=Path, default=Path("config.yaml"), metavar="FILE",
                       help="the configuration (default config.yaml)")  # fmt: skip
    probe.add_argument("--store", dest="stores", action="append", default=None, metavar="NAME",
                       help="this store alone; may be repeated (default: each in the configuration)")  # fmt: skip
    probe.add_argument("--watch", dest="watch_seconds", type=watch, default=15.0, metavar="DURATION",
                       help="for how long to look out for late logs, 0s to 1h (default 15s)")  # fmt: skip


def _backfill_flags(backfill: argparse.ArgumentParser) -> None:
    add = backfill.add_argument
    add("--config.file", dest="config_file", type=Path, default=Path("config.yaml"), metavar="FILE",
        help="the configuration (default config.yaml)")  # fmt: skip
    add("--storage.path", dest="storage_path", type=Path, default=Path("data"), metavar="FOLDER",
        help="the exporter's state, which says where its counting began; it is only read (default data)")  # fmt: skip
    add("--output", type=Path, default=Path("history.om"), metavar="FILE",
        help="where to write; replaced when all is written (default history.om)")  # fmt: skip
    add("--since", type=moment, default=30 * 86_400.0, metavar="WHEN",
        help="where to begin: a duration before the end, or a time, 2026-11-24T08:00:00Z (default 30d)")  # fmt: skip
    add("--until", dest="until_ns", type=time_ns, default=None, metavar="TIME",
        help="where to end (default: where the exporter's own counting began, log by log)")  # fmt: skip
    add("--step", dest="step_seconds", type=step, default=30, metavar="DURATION",
        help="distance of samples, 1s to 4m (default 30s)")  # fmt: skip
    add("--store", dest="stores", action="append", default=None, metavar="NAME",
        help="this store alone; may be repeated (default: each in the configuration)")  # fmt: skip
    add("--label", dest="labels", type=label, action="append", default=None, metavar="NAME=VALUE",
        help="as scraping gives it, job=… and instance=…; may be repeated")  # fmt: skip


def _web_flags(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--web.listen-address", dest="listen_addresses", type=address, action="append", default=None,
                        metavar="HOST:PORT", help=f"where to listen; may be repeated (default {default})")  # fmt: skip
    parser.add_argument("--web.telemetry-path", dest="telemetry_path", type=telemetry_path, default="/metrics",
                        metavar="PATH", help="path of the metrics (default /metrics)")  # fmt: skip
    parser.add_argument("--web.grafana-url", dest="grafana_url", type=grafana_url, default=None, metavar="URL",
                        help="dashboard that the status page links to (default none)")  # fmt: skip


def grafana_url(text: str) -> str:
    """Where a link of the status page leads."""
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username is not None
        or not text.isprintable()
    ):
        raise argparse.ArgumentTypeError(f"{text!r}, wanted an address like https://grafana.example.com/d/epcc")
    return text


def _demo_flags(demo: argparse.ArgumentParser) -> None:
    _web_flags(demo, "127.0.0.1:10058")
    demo.set_defaults(auto_reload=False)  # there is no file
    demo.add_argument("--scenario", choices=sorted(simulator.SCENARIOS), default="shop",
                      help="what happens in the shop (default shop)")  # fmt: skip
    demo.add_argument("--seed", type=int, default=1, help="the same seed gives the same shop (default 1)")
    demo.add_argument("--storage.path", dest="storage_path", type=Path, default=None, metavar="FOLDER",
                      help="folder of the durable state (default: a temporary one)")  # fmt: skip


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags, with `command`. Exits with 2 where they are wrong, with 0 after --help and --version."""
    command, rest = "run", list(argv)
    if rest and not rest[0].startswith("-"):
        command = rest.pop(0)
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        sys.stderr.write(f"epcc-exporter: error: unknown command {command!r}{hint}; there are {', '.join(COMMANDS)}\n")
        sys.exit(2)
    arguments = _parsers()[command].parse_args(rest)
    arguments.command = command
    if command in ("run", "demo") and arguments.listen_addresses is None:
        arguments.listen_addresses = [("127.0.0.1", 10058)] if command == "demo" else list(ADDRESSES)
    return arguments
