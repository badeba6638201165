"""Where the time of a log goes: py-spy looks at the exporter's process from outside while it takes logs in.

A sampler, because a tracing profiler would make small functions look dear; from outside, because a sampler inside sees
threads only where they give the interpreter's lock away. A sample belongs to the innermost function of the exporter,
with what libraries do for it below; without one, to the library. Samples of threads that wait are shown apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.contestants import EXPORTER, Contestant, own, run
from tests.bench.figures import table
from tests.bench.places import Missing, environment
from tests.bench.standin import Standin

RATE = 200  # samples a second: the process stands still while it is looked at
FUNCTIONS = 15
_FRAME = re.compile(r"^(?P<name>.+) \((?P<file>[^()]+?)(?::\d+)?\)$")
_IDLE = {"EpollSelector.select": "selectors.py", "_worker": "thread.py", "Condition.wait": "threading.py"}
_START, _COLLECTION = "start: imports", "garbage collection"


@dataclass(frozen=True, slots=True)
class Stack:
    """Samples that found a thread in the same place."""

    thread: str
    frames: tuple[str, ...]  # outermost first, native ones included
    number: int


@dataclass(frozen=True, slots=True)
class Profile:
    functions: Counter[str]  # samples at work, by function
    files: Counter[str]  # the same, by file of the exporter, or library
    threads: Counter[str]  # the same, by thread
    waiting: Counter[tuple[str, str]]  # by thread, and what for
    start: int  # samples of the start, which are in none of the others


async def profile(server: Standin, folder: Path) -> tuple[Profile, float] | Missing:
    """Of one run, and its logs a second, which looking has slowed down. Raises FailedError."""
    programs = environment("py-spy")
    if isinstance(programs, Missing):
        return programs
    found = folder / "stacks"
    looking: list[str | Path] = [programs / "py-spy", "record", "--native", "--threads", f"--rate={RATE}", "--format=raw",
               f"--output={found}", "--"]  # fmt: skip
    exporter = own()[EXPORTER]
    assert isinstance(exporter, Contestant)

    def commands(server: Standin, folder: Path) -> list[list[str | Path]]:
        return [[*looking, *command] for command in exporter.commands(server, folder)]

    looked_at = Contestant("profile", exporter.keeps, commands, exporter.counter, exporter.listening)
    done = await run(looked_at, server, folder)
    return judged(read(found.read_text())), server.logs / done.seconds


def read(text: str) -> list[Stack]:
    """py-spy's raw format: frames with semicolons between them, a space, and how often."""
    stacks = []
    for line in text.splitlines():
        frames, _, number = line.rpartition(" ")
        thread, *rest = frames.split(";")
        stacks.append(Stack(re.sub(r"^thread \(\w+\):? ?", "", thread) or "without a name", tuple(rest), int(number)))
    return stacks


def judged(stacks: Sequence[Stack]) -> Profile:
    profile = Profile(Counter(), Counter(), Counter(), Counter(), 0)
    start = 0
    for stack in stacks:
        if what := _waits(stack.frames):
            profile.waiting[stack.thread, what] += stack.number
            continue
        file, function = _place(stack.frames)
        if file == _START:
            start += stack.number
            continue
        profile.files[file] += stack.number
        profile.functions[f"{file} {function}".strip()] += stack.number
        profile.threads[stack.thread] += stack.number
    return Profile(profile.functions, profile.files, profile.threads, profile.waiting, start)


def _waits(frames: Sequence[str]) -> str | None:
    """What a thread waits for; None: it works."""
    python = [match for frame in frames if (match := _FRAME.match(frame)) and ".py" in match["file"]]
    tail = frames[-4:]
    if python and python[-1]["file"].endswith(_IDLE.get(python[-1]["name"], "\0")):
        return "something to do"
    if any("acquire_lock_timed" in frame for frame in tail):
        return "another thread"
    if any("cond_timedwait" in frame or "take_gil" in frame for frame in tail):
        return "the interpreter's lock"
    return None


def _place(frames: Sequence[str]) -> tuple[str, str]:
    """(file, function) that a sample belongs to; a library has no function."""
    if any("importlib._bootstrap" in frame for frame in frames):
        return _START, ""
    if any("gc_collect" in frame for frame in frames):
        return _COLLECTION, ""
    library = "native code"
    for frame in reversed(frames):
        match = _FRAME.match(frame)
        if match is None or not match["file"].endswith(".py"):
            continue
        name, file = match["name"], match["file"]
        if file.startswith("exporter/"):
            synced = any("fdatasync" in each or "fsync" in each for each in frames[-3:])
            return file, f"{name}: fdatasync" if synced else name
        if library == "native code":
            library = file.removesuffix(".py").partition("/")[0]
    return library, ""


def shown(profile: Profile, rate: float) -> str:
    """Two tables, shares of the time that threads were at work."""
    total = max(1, profile.files.total())

    def rows(counted: Counter[str], number: int | None = None) -> list[tuple[str, str]]:
        return [(name, f"{100 * samples / total:.1f} %") for name, samples in counted.most_common(number)]

    threads = ", ".join(f"{name} {100 * samples / total:.0f} %" for name, samples in profile.threads.most_common())
    waiting = "".join(
        f"  {thread} waits for {what}: {100 * samples / total:.1f} %\n"
        for (thread, what), samples in profile.waiting.most_common()
    )
    return (
        table(("file or library", "share"), rows(profile.files))
        + f"\n{table((f'function: the {FUNCTIONS} dearest', 'share'), rows(profile.functions, FUNCTIONS))}"
        + f"\n{total:,} samples of threads at work ({threads}), at {RATE} a second; {rate:,.0f} logs/s while looked at.\n"
        + f"Not in them: {profile.start:,} samples of the start, and in the same unit\n{waiting}"
    )
