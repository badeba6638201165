"""How hypothesis searches: the same examples in every run, and nothing of them written down.

`--hypothesis-profile=search` draws other examples, and many more, each time; `mutants` does not look for the smallest
example that fails, because `tests/mutate` asks only whether there is one.
"""

from __future__ import annotations

from hypothesis import Phase, settings

QUICK = [Phase.explicit, Phase.generate, Phase.shrink]  # the explanations cost more than the search
settings.register_profile("ci", derandomize=True, database=None, deadline=None, max_examples=100, phases=QUICK)
settings.register_profile("search", derandomize=False, database=None, deadline=None, max_examples=5_000)
settings.register_profile("mutants", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("ci")
