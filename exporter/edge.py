"""How far a list can be read, found with few requests: where it ends, or at which offset it is refused. Pure.

Theory of operation: `answered` is the largest offset that brought records of its own, `beyond` the smallest that did
not. Galloping finds a `beyond`, guesses (a total, the documented limit, round numbers) and bisecting bring the two
together. What is then known of the records between them tells an end from a limit: a page of a hundred at offset 10,000
and nothing at 10,001 is no end, whatever the answer looks like. Where the last page comes again and again, the smallest
offset that shows it is the limit. A claim rests on two answers, for one may be a fault.
"""

from __future__ import annotations

from typing import Final

from exporter.observed import Ask, Edge, Failed, NotAsked, Steps, Told

DOCUMENTED: Final = 10_000  # EPCC's soft limit of page[offset]
OFFSET_MAX: Final = 100_000  # the farthest offset asked for
ASKS_MAX: Final = 18
FAILURES_MAX: Final = 2  # answers in a row that say nothing of the offset
SHORT_MAX: Final = 3  # short pages in a row: the end of a list that grows while we look
CONTRADICTIONS_MAX: Final = 2
FARTHER_PAGES: Final = 5  # a limit shows there as clearly as just past it, and a page that comes again shows only there
ROUND: Final = (1000, 100, 50)  # limits are chosen by people


class EdgeSearch:
    """`head` is the page at offset 0; `total` what the envelope claims, a hint."""

    def __init__(self, head: Told, limit: int, total: int | None) -> None:
        self._head = head
        self.low, self.page = 0, head
        self.high: int | None = None
        self.kind = ""  # of `high`: refused, empty, repeated
        self.code: int | None = None  # of a refusal
        self.usual = len(head.keys)  # records on a page, as long as there are enough
        self.read: list[tuple[int, Told]] = []  # pages with records of their own
        self._limit = limit
        self._hint = total
        self._repeated: Told | None = None  # the page that every offset from some on brings
        self._moved = False  # that page was seen with new records in it
        self._shorts = 0
        self._contradictions = 0
        self._asked: set[int] = {0}
        self._why = ""

    def start(self) -> Steps[Edge]:
        failures = 0
        for _ in range(ASKS_MAX):
            offset = self._next()
            if offset is None:
                return (yield from self._concluded())
            self._asked.add(offset)
            answer = yield Ask("logs", offset, self._limit, patient=False)
            if isinstance(answer, NotAsked):
                return self._edge("not_asked", str(answer))
            if isinstance(answer, Failed) and not answer.refuses:
                failures += 1
                if failures == FAILURES_MAX:
                    return self._edge("unclear", str(answer))
                continue
            failures = 0
            self._note(offset, answer)
            if self._contradictions == CONTRADICTIONS_MAX:
                return self._edge("unclear", "the same offsets were answered in different ways")
        return self._edge("unclear", f"not within {ASKS_MAX} requests")

    # --- what was told

    def _note(self, offset: int, answer: Told | Failed) -> None:
        if isinstance(answer, Failed):
            self._beyond(offset, "refused", answer.code)
        elif not answer.keys:
            self._beyond(offset, "empty")
        elif self._repeats(offset, answer):
            self._beyond(offset, "repeated")
            if self._repeated is None:
                self._repeated = answer
                self._step_back()
        else:
            self._shorts = self._shorts + 1 if len(answer.keys) < self.usual else 0
            self.low, self.page = offset, answer
            self.usual = max(self.usual, len(answer.keys))
            self.read.append((offset, answer))
            if self.high is not None and self.low >= self.high:
                self._contradictions += 1
                self.high, self._repeated = None, None

    def _beyond(self, offset: int, kind: str, code: int | None = None) -> None:
        if self.high is None or offset < self.high:
            self.high, self.kind, self.code = offset, kind, code

    def _step_back(self) -> None:
        """Below the offsets that had brought the repeated page already, before it was known as one."""
        while self.low > 0 and self._is_repeated(self.page):
            self.read.pop()
            self._beyond(self.low, "repeated")
            self.low, self.page = self.read[-1] if self.read else (0, self._head)

    def _is_repeated(self, told: Told) -> bool:
        return self._repeated is not None and told.keys[:1] == self._repeated.keys[:1]

    def _repeats(self, offset: int, told: Told) -> bool:
        """Whether this is the page of a smaller offset. A list that grows moves, but not by half a page at once."""
        if self._is_repeated(told):
            return True
        shared = len(set(told.keys) & set(self.page.keys))
        wanted = max(0, self.low + len(self.page.keys) - offset)
        repeats = shared - wanted > len(told.keys) // 2
        self._moved = self._moved or (repeats and self._repeated is not None)
        return repeats

    # --- which offset next

    def _next(self) -> int | None:
        onward = self.low + len(self.page.keys)
        if self.high is None:
            return self._gallop(onward)
        if self.high - self.low <= 1:
            return None
        if self.kind != "repeated" and self._short and onward <= self.high:
            return None if onward == self.high or self._shorts >= SHORT_MAX else onward
        if self.kind == "empty" and onward == self.high:
            # Full, and nothing after it: an end at a page's border, or a limit that counts the page?
            return self.low + 1
        if self.kind == "empty" and onward < self.high <= self.low + 2 * self.usual:
            return onward
        return self._between(self.low, self.high)

    @property
    def _patient(self) -> bool:
        """Whether a 5xx is a fault, and not what a limit is answered with here."""
        return self.kind != "refused" or (self.code or 0) < 500

    @property
    def _short(self) -> bool:
        return len(self.page.keys) < self.usual

    def _gallop(self, onward: int) -> int | None:
        if self._short and self._shorts < SHORT_MAX:
            return onward
        if self._short:
            return None
        hint, self._hint = self._hint, None
        if hint is not None and onward < hint <= DOCUMENTED:
            return hint - 1
        landmarks = (
            DOCUMENTED - self._limit,
            DOCUMENTED,
            DOCUMENTED + FARTHER_PAGES * self.usual,
            4 * DOCUMENTED,
            OFFSET_MAX,
        )
        ladder = [at for k in range(8) if (at := self.usual * 4**k) < DOCUMENTED - self._limit]
        return next((at for at in (*ladder, *landmarks) if at > self.low), None)

    def _between(self, low: int, high: int) -> int:
        suspects = [DOCUMENTED, DOCUMENTED - self._limit, DOCUMENTED + 1, DOCUMENTED - self._limit + 1]
        if self._repeated is not None and self._repeated.keys[0] in self.page.keys:
            place = low + self.page.keys.index(self._repeated.keys[0])
            suspects = [place, place - 1]
        elif self._repeated is not None and (high in suspects or high % ROUND[0] == 0):
            suspects = [high - 1]
        if self.kind != "empty" or self.low + len(self.page.keys) > high:
            suspects += [low + 1] if low % ROUND[0] == 0 and low else []
            suspects += [high - self._limit] if high % ROUND[0] == 0 else []
            suspects += [low + 1] if (low + self._limit) % ROUND[0] == 0 and low else []
        for at in suspects:
            if low < at < high and at not in self._asked:
                return at
        middle = (low + high) // 2
        for step in ROUND:
            rounded = round(middle / step) * step
            if low < rounded < high and high - low > 2 * step:
                return rounded
        return middle

    # --- what it was

    def _concluded(self) -> Steps[Edge]:
        if self.high is None:
            return self._edge("end" if self._short else "open")
        if self._repeated is not None and self.kind == "repeated":
            self.low, self.page, self.high = self.high, self._repeated, self.high + 1
        onward = self.low + len(self.page.keys)
        again = yield Ask("logs", self.high, self._limit, patient=self._patient)
        if isinstance(again, NotAsked):
            return self._edge("not_asked", str(again))
        if self.kind != "repeated" and isinstance(again, Told) and again.keys and onward == self.high:
            grown = len(again.keys) < self.usual
            return self._edge("end") if grown else self._unclear("the same offset")
        if not self._same(again):
            return self._unclear("the same offset")
        if onward <= self.high and (
            self.kind == "empty" or (self.kind == "refused" and (self._short or onward == self.high))
        ):
            return self._edge("end" if self.kind == "empty" else "end_refused")
        return (yield from self._limit_found(self.high))

    def _limit_found(self, high: int) -> Steps[Edge]:
        if self._repeated is not None and self._repeated.keys[0] == self._head.keys[0]:
            return self._unclear("the first page's offset")
        # What is past a limit stays past it: a fault that came twice need not come a third time.
        beyond = yield Ask("logs", high + FARTHER_PAGES * self.usual, self._limit, patient=self._patient)
        if not isinstance(beyond, NotAsked) and not self._same(beyond):
            return self._unclear("a larger offset")
        edge = self._edge(self.kind)
        edge.counts_page = yield from self._counts_page(high)
        return edge

    def _unclear(self, what: str) -> Edge:
        return self._edge("unclear", f"{what} was answered in two ways")

    def _same(self, answer: Told | Failed) -> bool:
        """Whether this is what `high` was answered with before."""
        if isinstance(answer, Failed):
            return self.kind == "refused" and answer.refuses
        if self.kind == "repeated":
            return bool(answer.keys) and (self._moved or self._is_repeated(answer))
        return self.kind == "empty" and not answer.keys

    def _counts_page(self, beyond: int) -> Steps[bool | None]:
        """A shorter page where a long one is refused."""
        told = yield Ask("logs", beyond, 1, patient=False)
        if self._limit < 2 or isinstance(told, NotAsked):
            return None
        if isinstance(told, Failed):
            return False if told.refuses else None
        if self.kind == "empty" or not told.keys:
            return bool(told.keys)
        if self.kind == "refused":
            return True
        # Either what stands there, which is the repeated page's second record, or its first once more.
        return None if told.keys[0] not in self.page.keys[:2] else told.keys[0] != self.page.keys[0]

    def _edge(self, how: str, why: str = "") -> Edge:
        return Edge(
            how=how,
            answered=self.low,
            beyond=self.high,
            reach=self.low + len(self.page.keys),
            code=self.code if self.kind == "refused" else None,
            last=self.page,
            moved=self._moved,
            why=why,
        )
