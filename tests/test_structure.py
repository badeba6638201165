"""The shape of the code, read from its source; nothing is imported. Each check is shown to find what it looks for.

The arrows: edges know the core, the core knows nobody; time and chance come from `clock`; who talks to the network, the
disk and YAML is a short list. Whoever adds a module or moves a job changes a table here, and says why there.
"""

from __future__ import annotations

import ast
import fnmatch
import functools
import graphlib
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_MAX = 400
FUNCTION_LINES_MAX = 60

CORE = {
    "values", "records", "native", "tally", "questions", "stitching", "walk", "ledger", "folding",
    "exemplars", "delays", "metrics",
}  # fmt: skip
# Pure too, on top of the core, which does not know them: what the probe asks, and what its answers show.
PROBE = {"shape", "observed", "edge", "verdicts", "probe", "findings", "contents", "advice", "report"}
# Pure too, on top of the core: a history from attempts.
HISTORY = {"reach", "history"}
# Pure too, but not of the core: what they do is told to them.
PURE = {"scrapers", "shop", "manners", "listings", "epcc", "organization"}
# Pure too, on top of the core: what is remembered for people, and the HTML and JSON that it becomes.
SEEN = {"recent", "lasthour", "status", "remedies", "markup", "frontpage", "jobpage", "searchpage"}
SIMULATED = {"shop", "manners", "listings", "epcc", "organization", "simulator"}
DRAWING = SIMULATED & PURE - {"organization"}
STATE = {"store", "rows", "jobs", "delivered", "statefile", "reconcile", "reshard", "seam", "spool"}
HOST = {
    "aiohttp", "asyncio", "fcntl", "logging", "os", "pathlib", "random", "secrets", "selectors", "signal", "socket",
    "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
# Nothing of these reads a clock or draws a number: `Random` is given its seed, which is the caller's.
HOST_IN_PURE = {
    "metrics": {"sys"},  # sys.version, for build_info
    **{name: {"random"} for name in DRAWING},
}
# A library's only users.
USERS = {
    "aiohttp": {
        "api",
        "app",
        "guard",
        "server",
        "listener",
        "outbound",
        "pages",
        "simulator",
        "prober",
        "backfill",
        "standby",
    },  # the prober and the backfill hand on a session that app has made
    "sqlite3": STATE | {"backfill", "__main__"},  # the last two know its errors alone
    "yaml": {"config", "configfile", "outbound", "tlsconfig", "webconfig"},
    "bcrypt": {"passwords"},
    "prometheus_client": {"metrics", "delays", "lines", "protobuf", "exposition"},
    "random": {"clock", *DRAWING},
    "time": {"clock"},
    "uuid": set(),
    "secrets": {"passwords"},  # the key of digests, which has to be hard to guess
    **{f"exporter.{name}": {*SIMULATED, "flags", "__main__"} for name in SIMULATED},
}
# Who sleeps without being told by a clock that is an argument.
SLEEPERS = {
    "clock": "it is the clock",
    "simulator": "plays a store's late answers on real sockets",
}
TOP_LEVEL = {
    "CHANGELOG.md", "LICENSE", "README.md", "config.example.yaml", "deploy", "exporter", "pyproject.toml", "tests",
}  # fmt: skip
# Lock files hold the hosts that they were resolved from.
LOCKS = {"uv.lock", "poetry.lock", "Pipfile.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
METRIC = re.compile(r"\bepcc_(integration|exporter|up\b)")
MACHINE = re.compile(
    r"(?<![\w.~-])/(home|root|work|Users)/|\b(pypi\.org/simple|files\.pythonhosted\.org|registry\.npmjs\.org|"
    r"registry\.yarnpkg\.com|(deb|security|snapshot|ftp)\.debian\.org|index[-_]url\b)"
)


@dataclass(frozen=True)
class Source:
    path: str
    text: str

    @property
    def module(self) -> str:
        return Path(self.path).stem

    @property
    def in_exporter(self) -> bool:
        """Of its Python: `exporter/page` is the browser's."""
        return self.path.startswith("exporter/") and self.is_python

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def is_python(self) -> bool:
        return self.path.endswith(".py") or self.text.startswith("#!/usr/bin/env python3")


Problems = Iterator[tuple[int, str]]
Check = Callable[[Source], Problems]


def files() -> list[Path]:
    """What is the project's: all but what `.gitignore` names, for there may be no git here."""
    ignored = [".git", *(line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line)]

    def below(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            names = {path.name, f"/{path.relative_to(ROOT)}"}  # `/x` is the top level's alone
            if any(fnmatch.filter(names, pattern) for pattern in ignored):
                continue
            if path.is_dir():
                yield from below(path)
            else:
                yield path

    return list(below(ROOT))


@functools.cache
def sources() -> list[Source]:
    found = []
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append(Source(path.relative_to(ROOT).as_posix(), content.decode()))
    return found


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Modules by their full name; of `from exporter import x`, `exporter.x`."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.path}:{node.lineno}: a relative import"
            if node.module == "exporter":
                yield from ((node.lineno, f"exporter.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def core_knows_nobody(source: Source) -> Problems:
    if not source.in_exporter or source.module not in CORE | PROBE | HISTORY | PURE | SEEN:
        return
    own = next(group for group in (CORE, PROBE, HISTORY, PURE, SEEN) if source.module in group)
    known = SIMULATED & PURE if own is PURE else CORE | own
    for line, name in imported(source):
        top, _, rest = name.partition(".")
        if top in HOST - HOST_IN_PURE.get(source.module, set()):
            yield line, f"pure, and imports {name}"
        if top == "exporter" and rest != "__version__" and rest not in known:
            yield line, f"pure, and imports {name}"


def libraries_have_few_users(source: Source) -> Problems:
    if not source.in_exporter:
        return
    for line, name in imported(source):
        for library, users in USERS.items():
            if (name == library or name.startswith(f"{library}.")) and source.module not in users:
                yield line, f"{name} is for {', '.join(sorted(users)) or 'nobody'}"


def only_the_clock_asks_the_host(source: Source) -> Problems:
    if not source.in_exporter:
        return
    # Those give others a turn, and take no time.
    turns = [n.func for n in ast.walk(source.tree) if isinstance(n, ast.Call) and ast.unparse(n) == "asyncio.sleep(0)"]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "time"):
            yield node.lineno, f"import {node.module} as a module, so that its use is seen"
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio" and "sleep" in {a.name for a in node.names}:
            yield node.lineno, "import asyncio as a module, so that its use is seen"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "random.Random" and not node.args:
            yield node.lineno, "random.Random without a seed"
        if not isinstance(node, ast.Attribute):
            continue
        name = ast.unparse(node)
        if name == "asyncio.sleep" and source.module not in SLEEPERS and node not in turns:
            yield node.lineno, "sleeps, and no clock was asked"
        if name.startswith("random.") and name != "random.Random" and source.module != "clock":
            yield node.lineno, f"draws from the host: {name}"
        if re.search(r"\b(date|datetime)\.(now|utcnow|today)$|loop(\(\))?\.time$", name):
            yield node.lineno, f"reads the host's clock: {name}"


def metrics_alone_names_metrics(source: Source) -> Problems:
    if not source.in_exporter or source.module == "metrics":
        return
    prose = {node.value for node in ast.walk(source.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Constant) or node in prose:
            continue
        if isinstance(node.value, str) and METRIC.search(node.value):
            yield node.lineno, "names a metric"


def begins_with_a_docstring(source: Source) -> Problems:
    if source.is_python and not (ast.get_docstring(source.tree) or "").strip():
        yield 1, "no docstring says what only this file knows"


def is_short(source: Source) -> Problems:
    lines = len(source.text.splitlines())
    if lines > LINES_MAX and (source.is_python or source.path.endswith((".js", ".css"))):
        yield lines, f"{lines} lines in a file, at most {LINES_MAX}"
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def is_finished(source: Source) -> Problems:
    if not source.is_python:
        for number, line in enumerate(source.text.splitlines(), 1):
            if source.path != "LICENSE" and UNFINISHED.search(line):
                yield number, "unfinished"
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and UNFINISHED.search(token.string):
            yield token.start[0], "unfinished"


def names_what_it_catches(source: Source) -> Problems:
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "catches whatever comes"


def never_blocks_to_wait(source: Source) -> Problems:
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            yield node.lineno, "sleeps on the wall clock"
        if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}:
            yield node.lineno, "sleeps on the wall clock"


def names_no_machine(source: Source) -> Problems:
    for number, line in enumerate(source.text.splitlines(), 1):
        if found := MACHINE.search(line):
            yield number, f"{found[0]}: a path of one machine, or a host of a registry"
    if Path(source.path).name in LOCKS:
        yield 1, "a lock file"


def belongs_here(source: Source) -> Problems:
    top = source.path.partition("/")[0]
    if not top.startswith(".") and top not in TOP_LEVEL:
        yield 1, f"{top} at the top level"


BAD: list[tuple[Check, str, str]] = [
    (core_knows_nobody, "exporter/walk.py", "import asyncio"),
    (core_knows_nobody, "exporter/ledger.py", "from os.path import join"),
    (core_knows_nobody, "exporter/tally.py", "def f():\n    import logging"),
    (core_knows_nobody, "exporter/records.py", "from exporter.api import Api"),
    (core_knows_nobody, "exporter/metrics.py", "from exporter import poller"),
    (core_knows_nobody, "exporter/shop.py", "import time"),
    (core_knows_nobody, "exporter/walk.py", "from exporter.edge import EdgeSearch"),
    (core_knows_nobody, "exporter/edge.py", "from exporter.api import Api"),
    (core_knows_nobody, "exporter/report.py", "import sys"),
    (core_knows_nobody, "exporter/status.py", "from exporter.poller import StorePoller"),
    (core_knows_nobody, "exporter/epcc.py", "from exporter.simulator import serve"),
    (libraries_have_few_users, "exporter/poller.py", "import sqlite3"),
    (libraries_have_few_users, "exporter/ledger.py", "from aiohttp import web"),
    (libraries_have_few_users, "exporter/server.py", "import prometheus_client.parser"),
    (libraries_have_few_users, "exporter/store.py", "from exporter.manners import Manners"),
    (libraries_have_few_users, "exporter/store.py", "from exporter import epcc"),
    (libraries_have_few_users, "exporter/rows.py", "from uuid import uuid4"),
    (only_the_clock_asks_the_host, "exporter/poller.py", "async def f():\n    await asyncio.sleep(1)"),
    (only_the_clock_asks_the_host, "exporter/poller.py", "from asyncio import gather, sleep"),
    (only_the_clock_asks_the_host, "exporter/fetch.py", "jitter = random.random()"),
    (only_the_clock_asks_the_host, "exporter/shop.py", "rng = random.Random()"),
    (only_the_clock_asks_the_host, "exporter/shop.py", "from random import choice"),
    (only_the_clock_asks_the_host, "exporter/server.py", "now = datetime.now(UTC)"),
    (only_the_clock_asks_the_host, "exporter/server.py", "now = datetime.datetime.utcnow()"),
    (only_the_clock_asks_the_host, "exporter/app.py", "now = asyncio.get_running_loop().time()"),
    (metrics_alone_names_metrics, "exporter/server.py", 'name = "epcc_up"'),
    (metrics_alone_names_metrics, "exporter/server.py", 'name = f"epcc_integration_{x}"'),
    (begins_with_a_docstring, "exporter/new.py", "import re"),
    (begins_with_a_docstring, "tests/new.py", '""" """'),
    (begins_with_a_docstring, "tests/new.py", ""),
    (is_short, "exporter/new.py", "x = 1\n" * (LINES_MAX + 1)),
    (is_short, "exporter/page/new.js", "x;\n" * (LINES_MAX + 1)),
    (is_short, "exporter/new.py", "class C:\n  async def f(self):\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    (is_finished, "exporter/new.py", "x = 1  # TODO later"),
    (is_finished, "deploy/new.yaml", "# FIXME"),
    (names_what_it_catches, "tests/new.py", "try:\n    f()\nexcept:\n    g()"),
    (never_blocks_to_wait, "tests/test_new.py", "time.sleep(1)"),
    (never_blocks_to_wait, "tests/test_new.py", "from time import monotonic, sleep"),
    (names_no_machine, "README.md", "cd ~/x; cat /" + "home/me/x"),
    (names_no_machine, "tests/new.py", 'PATH = "/' + 'work/x"'),
    (names_no_machine, "deploy/Dockerfile", "pip install --index" + "-url x"),
    (names_no_machine, "tests/package.json", "https://registry." + "npmjs.org/x"),
    (names_no_machine, "uv.lock", "version = 1"),
    (belongs_here, "scripts/release.sh", "x"),
    (belongs_here, "Makefile", "x"),
]
GOOD: list[tuple[Check, str, str]] = [
    (core_knows_nobody, "exporter/ledger.py", "from exporter import __version__, tally\nimport msgspec"),
    (core_knows_nobody, "tests/walk.py", "import asyncio"),
    (core_knows_nobody, "exporter/edge.py", "from exporter.records import Page"),
    (core_knows_nobody, "exporter/shop.py", "import random"),
    (libraries_have_few_users, "exporter/server.py", "from aiohttp import web"),
    (libraries_have_few_users, "exporter/flags.py", "from exporter import simulator"),
    (only_the_clock_asks_the_host, "exporter/poller.py", "def f(clock):\n    clock.sleep(clock.monotonic())"),
    (only_the_clock_asks_the_host, "exporter/shop.py", "rng = random.Random(seed)"),
    (only_the_clock_asks_the_host, "exporter/new.py", "async def f():\n    await asyncio.sleep(0)"),
    (metrics_alone_names_metrics, "exporter/server.py", '"""Counts `epcc_up`."""'),
    (is_short, "exporter/new.py", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
    (is_finished, "exporter/new.py", 'x = "TODO"'),
    (names_no_machine, "README.md", "https://example.com/home/ and ./work/x and /etc/epcc-exporter/"),
]
CHECKS = list(dict.fromkeys(check for check, _, _ in BAD))


def ids(case: object) -> str:
    return getattr(case, "__name__", "")


@pytest.mark.parametrize("check", CHECKS, ids=ids)
def test_every_file(check: Check) -> None:
    problems = [f"{source.path}:{line}: {what}" for source in sources() for line, what in check(source)]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(("check", "path", "text"), BAD, ids=ids)
def test_the_check_finds(check: Check, path: str, text: str) -> None:
    assert list(check(Source(path, text)))


@pytest.mark.parametrize(("check", "path", "text"), GOOD, ids=ids)
def test_the_check_lets_pass(check: Check, path: str, text: str) -> None:
    assert not list(check(Source(path, text)))


def test_what_is_read_is_the_project() -> None:
    paths = {source.path for source in sources()}
    assert {"exporter/walk.py", "tests/test_structure.py", "tests/run", ".ci/run", "README.md", "LICENSE"} <= paths
    assert not [path for path in paths if path.startswith((".venv", ".git/", ".cache"))]


def test_the_tables_name_modules_that_are_there_and_need_their_place() -> None:
    modules = {source.module: source for source in sources() if source.in_exporter}
    listed = {*CORE, *PROBE, *HISTORY, *PURE, *SEEN, *SIMULATED, *HOST_IN_PURE, *SLEEPERS}.union(*USERS.values())
    assert listed <= modules.keys()
    for library, users in USERS.items():
        if not library.startswith("exporter."):
            uses = {name for name in users if any(i.partition(".")[0] == library for _, i in imported(modules[name]))}
            assert users == uses, library
    assert {name for name in SLEEPERS if "asyncio.sleep" not in modules[name].text} == set()


def arrows(modules: list[Source]) -> dict[str, set[str]]:
    return {each.module: {name.removeprefix("exporter.") for _, name in imported(each)} for each in modules}


def test_no_two_modules_need_each_other() -> None:
    modules = [source for source in sources() if source.in_exporter and source.is_python]
    graphlib.TopologicalSorter(arrows(modules)).prepare()
    circle = [Source("exporter/a.py", "from exporter import b"), Source("exporter/b.py", "import exporter.a")]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(arrows(circle)).prepare()


def test_the_changelog_knows_this_version() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "exporter" / "__init__.py").read_text())
    assert version
    assert f"\n## [{version[1]}] - " in (ROOT / "CHANGELOG.md").read_text()
