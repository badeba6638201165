"""A simulation that cannot fail proves nothing: single mistakes in the exporter, each of which it must see."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, problems_of


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fact)
def test_the_simulation_sees_that(mutant: Mutant) -> None:
    seen = mutant.sight()
    assert seen is not None, f"none of {mutant.seeds} seeds of the profile {mutant.profile} sees it"
    assert problems_of(seen[0], mutant.profile) == [], "without the mutant the same seed must find nothing"


def test_a_mutant_whose_text_has_changed_is_an_error_and_not_a_mutant_that_does_nothing() -> None:
    with pytest.raises(LookupError), Mutant("gone", "walk", (("no such text", ""),), "calm").at_work():
        pass
    with (
        pytest.raises(LookupError),
        Mutant("only a comment", "walk", (("# --- before the walk", "# -"),), "calm").at_work(),
    ):
        pass
