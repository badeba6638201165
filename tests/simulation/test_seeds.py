"""The seeds that every change is held against. More: `python -m tests.simulation --seeds 10000`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import __main__ as simulation
from tests.simulation.__main__ import outcome
from tests.simulation.scenario import PROFILES

SEEDS = 1_200
SHARE = 25  # seeds of one test: small enough for two workers to end together


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_every_attempt_counts_once_or_a_gap_says_why_not(first: int) -> None:
    failed = {}
    for seed in range(first, first + SHARE):
        _, played = outcome(seed)
        if played.problems:
            failed[f"python -m tests.simulation --replay {seed}"] = played.problems
    assert not failed


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_by_itself(profile: str) -> None:
    failed = {}
    for seed in range(5_000, 5_003):
        _, played = outcome(seed, profile)
        if played.problems:
            failed[f"python -m tests.simulation --profile {profile} --replay {seed}"] = played.problems
    assert not failed


def test_a_seed_gives_the_same_run_to_the_byte_whatever_python_makes_of_its_sets() -> None:
    script = (
        "from tests.simulation.play import play; from tests.simulation.scenario import scenario;"
        "print(*(play(scenario(seed)).trace for seed in range(20, 32)))"
    )
    root = Path(__file__).parents[2]
    runs = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1


def test_a_long_run_fails_that_never_came_by_a_state_which_makes_it_worth_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulation, "LONG", 2)
    calm = argparse.Namespace(jobs=1, profile=None, seconds=None)
    assert simulation.series(range(2), calm) == 1
    assert "NEVER REACHED: state moved aside" in capsys.readouterr().out
    monkeypatch.setattr(simulation, "SOMETIMES", ("exact",))
    assert simulation.series(range(2), calm) == 0
