"""The store against a dictionary: whatever is committed, fails, is announced, forgotten, reopened or dies, in any order,
both remember the same ids and show the same numbers.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.records import Attempt
from exporter.rows import Batch, Gap
from exporter.store import StorageError, Store
from tests.shelf import NOW, SECOND, attempt

Key = tuple[int | None, str]

# Few ids, integrations and times: what meets again is what may go wrong.
attempts = st.lists(
    st.builds(
        lambda number, second, name, code, known: attempt(
            f"log-{number}", NOW + second * SECOND if known else None, integration_id=name, status_code=code,
            succeeded=code == "200", reason=None if code == "200" else "http_5xx", job_id=f"job-{number % 3}",
        ),
        st.integers(0, 12), st.integers(0, 8), st.sampled_from(["a", "b"]), st.sampled_from(["200", "503"]), st.booleans(),
    ),
    max_size=6,
)  # fmt: skip


class _Failing:
    """A connection whose next COMMIT, or the statement before it, fails."""

    def __init__(self, real: Any, statement: str) -> None:
        self._real = real
        self._statement = statement

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        if sql.startswith(self._statement):
            raise OSError(28, "no space left")
        return self._real.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any) -> Any:
        return self._real.executemany(sql, parameters)

    def close(self) -> None:
        self._real.close()


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rest = contextlib.ExitStack()
        self.folder = Path(self.rest.enter_context(tempfile.TemporaryDirectory())) / "data"
        self.store = Store.open(self.folder, NOW)
        self.remembered: set[Key] = set()
        self.attempts: Counter[str] = Counter()
        self.codes: Counter[tuple[str, str]] = Counter()
        self.announced: set[str] = set()
        self.keep_ns: int | None = None
        self.gaps = 0

    @initialize()
    def begin(self) -> None:
        self.store.begin("acme", NOW)

    def teardown(self) -> None:
        self.store.close()
        self.rest.close()

    # --- what the dictionary makes of it

    def enter(self, batch: list[Attempt]) -> None:
        for each in batch:
            key = (each.created_ns, each.id)
            below = self.keep_ns is not None and each.created_ns is not None and each.created_ns < self.keep_ns
            if key in self.remembered or below:
                continue
            self.remembered.add(key)
            self.attempts[each.integration_id] += 1
            self.codes[each.integration_id, each.status_code] += 1

    # --- what happens

    @rule(batch=attempts)
    def commit(self, batch: list[Attempt]) -> None:
        self.store.commit("acme", Batch(now_ns=NOW, attempts=batch))
        self.enter(batch)

    @rule(batch=attempts, floor=st.integers(0, 8))
    def end_a_walk(self, batch: list[Attempt], floor: int) -> None:
        marks, _ = self.store.begin("acme", NOW)
        moved = marks.copied()
        moved.floor_ns = max(marks.floor_ns or 0, NOW + floor * SECOND)
        moved.keep_ns = moved.floor_ns - 2 * SECOND
        self.store.commit("acme", Batch(now_ns=NOW, attempts=batch, marks=moved, forget=True))
        self.enter(batch)
        self.keep_ns = moved.keep_ns
        self.remembered = {key for key in self.remembered if key[0] is None or key[0] >= moved.keep_ns}

    @rule(batch=attempts, statement=st.sampled_from(["COMMIT", "UPDATE store", "BEGIN"]))
    def fail(self, batch: list[Attempt], statement: str) -> None:
        self.store._connection = cast("Any", _Failing(self.store._ready(), statement))
        try:
            self.store.commit("acme", Batch(now_ns=NOW, attempts=batch))
        except StorageError:
            return
        raise AssertionError("a commit that failed was called good")

    @rule(name=st.sampled_from(["a", "b"]))
    def announce(self, name: str) -> None:
        self.store.commit("acme", Batch(now_ns=NOW, announce=[(name, None)]))
        if name in self.attempts:
            self.announced.add(name)

    @rule(second=st.integers(0, 8))
    def gap(self, second: int) -> None:
        self.store.commit("acme", Batch(now_ns=NOW, gaps=[Gap("late", NOW, NOW + second * SECOND)]))
        self.gaps += 1

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder, NOW)

    @rule(batch=attempts)
    def die_within_a_commit(self, batch: list[Attempt]) -> None:
        connection = self.store._ready()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM seen")
        connection.close()  # as the kernel does for a dead process
        self.store._connection = None
        self.store._lock.close()
        self.store = Store.open(self.folder, NOW)

    @precondition(lambda self: self.attempts["a"] > 0)
    @rule()
    def drop(self) -> None:
        """An integration leaves for good: its numbers go, what is remembered of its logs stays."""
        self.store.commit("acme", Batch(now_ns=NOW, drop=["a"]))
        del self.attempts["a"]
        self.codes = Counter({key: number for key, number in self.codes.items() if key[0] != "a"})
        self.announced.discard("a")

    # --- what must hold after each of them

    @invariant()
    def both_agree(self) -> None:
        assert self.store.moved_aside is None
        marks, tallies = self.store.begin("acme", NOW)
        assert {name: tally.attempts for name, tally in tallies.items()} == dict(self.attempts)
        shown = {(name, code): number for name, tally in tallies.items() for code, number in tally.responses.items()}
        assert {key: number for key, number in shown.items() if number} == dict(self.codes)
        assert {name for name, tally in tallies.items() if tally.announced} == self.announced
        assert marks.counted == sum(self.attempts.values())
        assert marks.keep_ns == self.keep_ns
        assert marks.gaps.get("late", 0) == self.gaps

    @invariant()
    def both_know_the_same_ids(self) -> None:
        every = [attempt(f"log-{number}", at) for number in range(13) for at in (None, NOW, NOW + 4 * SECOND)]
        for each in every:
            below = self.keep_ns is not None and each.created_ns is not None and each.created_ns < self.keep_ns
            new = (each.created_ns, each.id) not in self.remembered and not below
            assert (self.store.unknown("acme", [each]) == {each.id}) == new


TestTheStoreRemembersAndShowsWhatADictionaryWould = StoreMachine.TestCase
