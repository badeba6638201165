"""Single changes to the exporter that lose or double logs: each is a mistake that somebody could make, and must be seen.

A mutant is a change of text in one module, compiled and put in place of the functions that it changes, for as long as
it lasts; `python -m tests.simulation.mutants` prints how each of them shows. `profile` is the kind of scenario that plays what the mutant fears, and `seeds` how many of them must do.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.simulation.play import play
from tests.simulation.scenario import scenario


@dataclass(frozen=True)
class Mutant:
    fact: str  # what the changed code does wrong
    module: str
    changes: tuple[tuple[str, str], ...]
    profile: str
    seeds: int = 10

    def sight(self) -> tuple[int, str] | None:
        """The first seed that sees it, and what it shows; None: none of `seeds` does."""
        with self.at_work():
            for seed in range(self.seeds):
                if problems := problems_of(seed, self.profile):
                    return seed, problems[0]
        return None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        module = importlib.import_module(f"exporter.{self.module}")
        text = inspect.getsource(module)
        for old, new in self.changes:
            if text.count(old) != 1:
                raise LookupError(f"{self.fact}: {old!r} is {text.count(old)} times in {module.__name__}")
            text = text.replace(old, new)
        mutated = compile(text, inspect.getfile(module), "exec", dont_inherit=True)
        before = _swapped(module, mutated)
        if not before:
            raise LookupError(f"{self.fact}: no function has changed")
        try:
            yield
        finally:
            for function, code in before:
                function.__code__ = code


def problems_of(seed: int, profile: str) -> list[str]:
    """What is wrong with a run; an exporter that ends itself is wrong as well."""
    try:
        return play(scenario(seed, profile)).problems
    except Exception as error:
        return [f"it ends with {type(error).__name__}: {error}"]


def _swapped(module: types.ModuleType, mutated: types.CodeType) -> list[tuple[Any, types.CodeType]]:
    """Puts the changed functions' code in place; returns what was there."""
    before = []

    def visit(holder: Any, codes: types.CodeType) -> None:
        for code in codes.co_consts:
            if not isinstance(code, types.CodeType):
                continue
            found = vars(holder).get(code.co_name)
            if isinstance(found, type):
                visit(found, code)
                continue
            found = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
            if isinstance(found, types.FunctionType) and found.__code__ != code:
                before.append((found, found.__code__))
                found.__code__ = code

    visit(module, mutated)
    return before


MUTANTS = (
    Mutant(
        "a walk stops at the first page with a known record",
        "stitching",
        (('return "floor" if run.reached_head else "disorder"', 'return "floor"'),
         ("return self._at_floor(descending) or self._known(got, descending)",
          'return self._at_floor(descending) or ("floor" if descending and len(got.unknown) < len(keys) else None)')),
        "slow",
    ),
    Mutant(
        "pages do not overlap, and nobody looks whether they fit together",
        "stitching",
        (("return max(1, distinct - min(ties, half))", "return max(1, distinct)"),
         ("if run.keys and not any(key in run.keys for key in keys):", "if False:")),
        "busy",
        20,
    ),
    Mutant(
        "a walk follows a list that grows for as long as it grows",
        "stitching",
        (("        if descending or self.jumbled or self.untimed or", "        if True or"),),
        "busy",
    ),
    Mutant(
        "pages overlap by one record, whatever number shares its time",
        "stitching",
        (("return max(1, distinct - min(ties, half))", "return max(1, distinct - 1)"),),
        "ties",
        40,
    ),
    Mutant(
        "a short page is taken for the end",
        "stitching",
        (('            return "capped"\n', '            return "capped"\n'
          '            if isinstance(answer, Got) and 0 < len(answer.page.keys) < self.goal.page_limit:\n'
          '                self._advance(answer, descending)\n                return "end"\n'),),
        "late",
    ),
    Mutant(
        "an empty page is taken for the end",
        "stitching",
        (("        run = self.run\n        if run.tail is None:\n            run.empties += 1",
          '        run = self.run\n        return "end"\n        if run.tail is None:\n            run.empties += 1'),),
        "limited",
    ),
    Mutant(
        "the offset limit is taken for the end",
        "stitching",
        (('return "capped"\n', 'return "end"\n'),),
        "limited",
    ),
    Mutant(
        "a total is believed",
        "stitching",
        (("        run.onward = True\n        if after:",
          "        run.onward = True\n        if page.total is not None and got.offset + len(keys) >= page.total:\n"
          '            return "end"\n        if after:'),),
        "cut",
    ),
    Mutant(
        "the server's clock is read at the end of the walk",
        "stitching",
        (("if self.clamp_ns is None:", "if True:"),),
        "slow",
    ),
    Mutant(
        "a date in the future moves the floor",
        "stitching",
        (("return times if self.clamp_ns is None else up_to(self.clamp_ns, times)", "return times"),),
        "dates",
    ),
    Mutant(
        "the order is never doubted",
        "stitching",
        (("if (descending and self.evidence.rises) or (descending is False and self.evidence.falls):", "if False:"),
         ('return "floor" if run.reached_head else "disorder"', 'return "floor"')),
        "flips",
        40,
    ),
    Mutant(
        "a walk that was left at known ground moves the floor",
        "walk",
        (('complete = how in THROUGH and self.proven', 'complete = how in ("floor", "end", "known")'),),
        "late",
    ),
    Mutant(
        "there is no lookback",
        "feeds",
        (("floor_ns = ended.newest_ns - self._lookback_ns", "floor_ns = ended.newest_ns"),),
        "late",
    ),
    Mutant(
        "ids are forgotten at the floor",
        "rows",
        (("    until_ns = marks.keep_ns\n", "    until_ns = marks.floor_ns or 0\n"),),
        "calm",
    ),
    Mutant(
        "ids of records without a time are forgotten",
        "rows",
        (('"DELETE FROM untimed WHERE store = ? AND absent >= 2 AND at_ns < ? RETURNING NULL, id"',
          '"DELETE FROM untimed WHERE store = ? AND at_ns < ? RETURNING NULL, id"'),),
        "untimed",
    ),
    Mutant(
        "whoever was new to the walk is counted, whatever the primary key says",
        "rows",
        (("if sum(inserted) == len(entries):", "if sum(inserted) >= 0:"),),
        "cut",
    ),
    Mutant(
        "ids are committed before the tallies",
        "store",
        (("        jobs = Jobs(connection, ref, held.jobs)\n",
          '        connection.execute("COMMIT")\n        connection.execute("BEGIN IMMEDIATE")\n        jobs = Jobs(connection, ref, held.jobs)\n'),),
        "killed",
        20,
    ),
    Mutant(
        "numbers are published before they are durable",
        "store",
        (('            connection.execute("BEGIN IMMEDIATE")\n',
          '            connection.in_transaction and connection.execute("COMMIT")\n            connection.execute("BEGIN IMMEDIATE")\n'),
         ('            result = work(connection)\n            connection.execute("COMMIT")\n',
          "            result = work(connection)\n")),
        "killed",
    ),
    Mutant(
        "memory is trusted after a commit that failed",
        "intake",
        (("            self._stale = True\n            raise", "            raise"),),
        "bad_disk",
    ),
    Mutant(
        "a series is born with its number",
        "ledger",
        (("Tally(born_ns=self.now_ns)", "Tally(born_ns=self.now_ns, announced=True)"),),
        "newborn",
        20,
    ),
    Mutant(
        "a series is announced before that is durable",
        "intake",
        (("        await self.commit(Batch(now_ns=now_ns, announce=keys))\n",
          "        for integration, code in keys:\n            self.tallies[integration].announced = True\n"
          "            self.tallies[integration].announced_codes.extend([code] if code else [])\n"
          "        self.show([integration for integration, _ in keys])\n"
          "        await self.commit(Batch(now_ns=now_ns, announce=keys))\n"),),
        "killed_newborn",
        20,
    ),
    Mutant(
        "a state that cannot be read is taken for none",
        "store",
        (("                statefile.note_lost(folder, now_ns)\n", ""),),
        "damaged",
    ),
)  # fmt: skip


def main() -> int:
    """A line for each: the seed that sees it, of how many, and how it shows."""
    unseen = 0
    for mutant in MUTANTS:
        seen = mutant.sight()
        unseen += seen is None
        shows = "NOT SEEN" if seen is None else f"seed {seen[0]}: {seen[1]}"
        print(f"{mutant.fact} ({mutant.profile}, {mutant.seeds} seeds)\n    {shows}", flush=True)  # noqa: T201
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
