"""Which questions the probe asks, in which order: what most depends on first, for the request limit may end it. Pure.

The questions are a generator, as those of a walk: it yields `Ask`, is sent what came of it, and returns what was
observed. It judges only what decides the next question; what the answers show of the store, `findings` says.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from exporter.edge import EdgeSearch
from exporter.observed import Ask, Edge, Failed, NotAsked, Observed, Steps, Told
from exporter.questions import OLDEST_FIRST, UNORDERED
from exporter.verdicts import order_of, paging_ignored

REQUESTS_MAX: Final = 40  # of one store, tokens and tries included
PAGE_LIMITS: Final = (100, 50, 25, 10)  # tried in turn while the store refuses them; 100 is documented
INTEGRATION_PAGES_MAX: Final = 4
EMPTY_MAX: Final = 3  # empty answers that make an empty list
READING_SECONDS: Final = 5.0  # between two readings of the newest logs
READINGS: Final = (1, 8)  # at least and at most, however long they are watched
HOPELESS: Final = frozenset({"auth", "connection", "tls", "timeout"})  # other questions would end alike


class Probe:
    def __init__(self, lookback_ns: int, watch_seconds: float) -> None:
        self._watch_seconds = watch_seconds
        self.seen = Observed(lookback_ns)

    def start(self) -> Steps[Observed]:
        seen = self.seen
        yield from self._head()
        if isinstance(seen.head, Failed) and seen.head.reason in HOPELESS:
            return seen
        yield from self._integrations()
        head = seen.head
        if isinstance(head, Told) and head.keys:
            yield from self._half(head)
            yield from self._far(head)
            yield from self._lengths(head)
            yield from self._other_lists(head)
            yield from self._watch(head)
        elif isinstance(head, Told):
            seen.edge = Edge("end", last=head)
            yield from self._other_lists(head)
        return seen

    # --- the first page, and how long pages are

    def _head(self) -> Steps[None]:
        seen = self.seen
        for limit in PAGE_LIMITS:
            seen.limit = limit
            for _ in range(EMPTY_MAX):
                seen.head = yield Ask("logs", 0, limit)
                if not isinstance(seen.head, Told) or seen.head.keys:
                    break
            if isinstance(seen.head, Failed) and seen.head.code in (400, 422):
                seen.limits_refused[limit] = seen.head.code
                continue
            break
        if isinstance(seen.head, Told):
            seen.pages.append((0, seen.head))

    def _lengths(self, head: Told) -> Steps[None]:
        seen = self.seen
        seen.default = yield Ask("logs", None, None)
        # A store that cuts or refuses a shorter page has answered this already.
        cut = seen.edge is not None and len(head.keys) < min(seen.edge.reach, PAGE_LIMITS[0])
        if not cut and not seen.limits_refused:
            seen.over_limit = 2 * PAGE_LIMITS[0]
            seen.over = yield Ask("logs", 0, seen.over_limit, patient=False)

    # --- the list as a whole

    def _half(self, head: Told) -> Steps[None]:
        seen = self.seen
        seen.half_at = max(1, len(head.keys) // 2)
        for _ in range(EMPTY_MAX):
            seen.half = yield Ask("logs", seen.half_at, seen.limit)
            if isinstance(seen.half, NotAsked) or (
                isinstance(seen.half, Told) and (seen.half.keys or len(head.keys) == 1)
            ):
                break
        if isinstance(seen.half, Told):
            seen.pages.append((seen.half_at, seen.half))

    def _far(self, head: Told) -> Steps[None]:
        seen = self.seen
        if not isinstance(seen.half, Told) or paging_ignored(head, seen.half):
            return
        search = EdgeSearch(head, seen.limit, head.shape.total)
        seen.edge = yield from search.start()
        seen.pages += search.read

    # --- the other lists

    def _integrations(self) -> Steps[None]:
        seen, known = self.seen, set[str]()
        for _ in range(INTEGRATION_PAGES_MAX):
            answer = yield Ask("integrations", len(known), seen.limit)
            seen.integrations_first = seen.integrations_first or answer
            if not isinstance(answer, Told):
                return
            new = [integration for integration in answer.integrations if integration.id not in known]
            seen.integrations += new
            known |= {integration.id for integration in new}
            if not new:
                seen.integrations_whole = True
                return

    def _other_lists(self, head: Told) -> Steps[None]:
        """Those of the integration that delivers most, and of one of its jobs."""
        seen = self.seen
        busy = Counter(attempt.integration_id for attempt in head.attempts if "integration" not in attempt.missing)
        if busy:
            integration_id = busy.most_common(1)[0][0]
        elif seen.integrations:
            integration_id = seen.integrations[0].id
        else:
            return
        seen.integration_logs = yield Ask("integration_logs", 0, seen.limit, (integration_id,))
        if isinstance(seen.integration_logs, Told):
            seen.integration_logs_own = {a.integration_id for a in seen.integration_logs.attempts} <= {integration_id}
        found = next((a for a in head.attempts if a.integration_id == integration_id and a.job_id is not None), None)
        if found is not None and found.job_id is not None:
            seen.job_logs = yield Ask("job_logs", None, None, (integration_id, found.job_id))
            seen.job_logs_known = isinstance(seen.job_logs, Told) and found.id in seen.job_logs.keys
        seen.jobs = yield Ask("jobs", None, None, (integration_id,))
        if isinstance(seen.jobs, Told) and len(seen.jobs.keys) > 2:
            seen.jobs_half = yield Ask("jobs", len(seen.jobs.keys) // 2, 2, (integration_id,))

    # --- how late logs are

    def _watch(self, head: Told) -> Steps[None]:
        """Reads the place where new logs show, again and again."""
        seen = self.seen
        seen.readings_at = self._newest_at(head)
        if seen.readings_at is None or not self._watch_seconds:
            return
        seen.known = {key for _, page in seen.pages for key in page.keys}
        if seen.readings_at == 0:
            seen.readings.append(head)
        number = min(max(round(self._watch_seconds / READING_SECONDS), READINGS[0]), READINGS[1])
        at = seen.readings_at
        for _ in range(number + (at > 0)):
            wait = self._watch_seconds / number if seen.readings else 0.0
            answer = seen.readings_answer = yield Ask("logs", at, seen.limit, after_seconds=wait)
            if isinstance(answer, NotAsked):
                return
            if isinstance(answer, Told):
                seen.readings.append(answer)
                # Towards the end of a list that grows there.
                at += len(answer.keys) // 2 if at > 0 and len(answer.keys) >= len(head.keys) else 0

    def _newest_at(self, head: Told) -> int | None:
        """Where new logs show: at the head, or, oldest-first, half a page before the end."""
        edge, verdict = self.seen.edge, order_of(self.seen).verdict
        ends = edge is not None and edge.how in ("end", "end_refused")
        if edge is None or (ends and edge.reach <= len(head.keys)):
            return 0
        if verdict == OLDEST_FIRST:
            return max(0, edge.reach - len(head.keys) // 2) if ends else None
        return None if verdict == UNORDERED else 0
