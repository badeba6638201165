"""Whatever the tallies hold and whatever things are called, a scraper reads back what was meant, in every format."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import Exposition, Format
from exporter.metrics import FAMILIES, OwnMetrics, Shown
from exporter.records import REASONS, Integration
from exporter.tally import DELIVERY_BOUNDS, PROCESSING_BOUNDS, Histogram, Tally

EXAMPLES = settings().max_examples  # of the profile that conftest loads
OWN = OwnMetrics()
P = "epcc_integration_"
FORMATS: tuple[Format, ...] = ("text", "openmetrics")

Key = tuple[str, str]  # store, integration
Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]

# --- tallies

texts = st.text(
    st.sampled_from('"\\\n\r\t{}=, #é✓\u2028\x85\x00') | st.characters(exclude_categories=["Cs"]), max_size=12
)
numbers = st.integers(0, 2**60) | st.integers(0, 3)
instants = st.none() | st.integers(0, 2**62)


def histograms(bounds: tuple[float, ...]) -> st.SearchStrategy[Histogram]:
    counts = st.lists(st.integers(0, 2**50), min_size=len(bounds) + 1, max_size=len(bounds) + 1)
    return st.builds(Histogram, st.just(bounds), counts, numbers)


@st.composite
def views(draw: st.DrawFn) -> Shown:
    codes = draw(st.dictionaries(st.sampled_from(["100", "200", "404", "599", "none", "other"]), numbers))
    tally = Tally(
        attempts=draw(numbers), failures={reason: draw(numbers) for reason in REASONS}, responses=codes,
        retries=draw(numbers), processing=draw(histograms(PROCESSING_BOUNDS)), jobs=draw(numbers),
        delivered_first=draw(numbers), delivered_retry=draw(numbers), delivery=draw(histograms(DELIVERY_BOUNDS)),
        consecutive_failures=draw(numbers), jobs_failing=draw(numbers), last_attempt_ns=draw(instants),
        last_success_ns=draw(instants), last_failure_ns=draw(instants), announced=draw(st.booleans()),
        announced_codes=sorted(code for code in codes if draw(st.booleans())),
    )  # fmt: skip
    listed = draw(st.none() | st.builds(Integration, st.just("id"), texts, texts, st.booleans()))
    return Shown(tally, listed, draw(numbers))


pages = st.dictionaries(st.tuples(texts, texts), views(), min_size=1, max_size=3)

# --- what a scraper must read


def meant(key: Key, shown: Shown) -> Samples:
    """The samples of an integration, as the README's table has them."""
    own = {"store": key[0], "integration_id": key[1]}
    return {(P + name, frozenset({**own, **labels}.items())): float(value) for name, labels, value in _meant(shown)}


def _meant(shown: Shown) -> Iterator[tuple[str, dict[str, str], float]]:
    tally, listed = shown.tally, shown.integration
    known = tally.announced  # a counter shows its zero first
    yield "attempts_total", {}, tally.attempts * known
    yield "retries_total", {}, tally.retries * known
    yield "jobs_total", {}, tally.jobs * known
    yield "jobs_delivered_total", {"attempt": "first"}, tally.delivered_first * known
    yield "jobs_delivered_total", {"attempt": "retry"}, tally.delivered_retry * known
    for reason in REASONS:
        yield "attempt_failures_total", {"reason": reason}, tally.failures[reason] * known
    for code, count in tally.responses.items():
        yield "responses_total", {"status_code": code}, count * (known and code in tally.announced_codes)
    for name, histogram in (("processing_seconds", tally.processing), ("job_delivery_seconds", tally.delivery)):
        yield f"{name}_sum", {}, histogram.sum_us * known / 1_000_000
        yield f"{name}_count", {}, sum(histogram.counts) * known
        for bound, below in zip((*histogram.bounds, "+Inf"), accumulate(histogram.counts), strict=True):
            yield f"{name}_bucket", {"le": str(bound)}, below * known
    yield "jobs_failing", {}, tally.jobs_failing
    yield "jobs_unlogged", {}, shown.jobs_unlogged
    yield "consecutive_failures", {}, tally.consecutive_failures
    for kind, at_ns in (
        ("attempt", tally.last_attempt_ns), ("success", tally.last_success_ns), ("failure", tally.last_failure_ns)
    ):  # fmt: skip
        if at_ns is not None:
            yield f"last_{kind}_timestamp_seconds", {}, at_ns / 1e9
    if listed is not None:
        yield "info", {"integration_name": listed.name, "integration_type": listed.integration_type}, 1
        yield "enabled", {}, listed.enabled


def read(text: str, form: Format) -> tuple[Samples, dict[str, tuple[str, str]]]:
    """The delivery samples, and type and help by family."""
    samples: Samples = {}
    families = {}
    for family in (parse_text if form == "text" else parse_openmetrics)(text):
        if not family.name.startswith(P):
            continue
        families[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, "a sample twice"
            samples[key] = sample.value
    return samples, families


async def scraped(views: dict[Key, Shown], *, steps: bool) -> dict[tuple[Format, bool], bytes]:
    """The pages. With `steps` each view is published after the one before it has been scraped."""
    exposed = Exposition(OWN)
    for (store, integration), shown in views.items():
        exposed.publish(store, {integration: shown})
        if steps:
            for form in FORMATS:
                await exposed.rendered(form, gzip=True)
    return {
        (form, packed): (await exposed.rendered(form, gzip=packed)).body for form in FORMATS for packed in (False, True)
    }


@given(views=pages, steps=st.booleans())
def test_what_is_shown_reads_back_as_the_same_samples_types_and_helps(views: dict[Key, Shown], steps: bool) -> None:
    wanted: Samples = {}
    for key, shown in views.items():
        wanted.update(meant(key, shown))
    kinds = {family.name: (family.kind, family.help) for family in FAMILIES}
    bodies = asyncio.run(scraped(views, steps=steps))
    for (form, packed), body in bodies.items():
        text = (gzip.decompress(body) if packed else body).decode()
        samples, families = read(text, form)
        assert samples == wanted
        assert families == {name: kinds[name] for name in families}
        assert len({name for name, _ in samples}) >= len(families) == len({*families})
        assert text.endswith("\n# EOF\n") == (form == "openmetrics")
        assert text.count("# EOF\n") == (form == "openmetrics")


@settings(max_examples=EXAMPLES // 4)
@given(before=pages, after=pages)
def test_what_has_changed_or_left_shows_nothing_of_what_it_was(
    before: dict[Key, Shown], after: dict[Key, Shown]
) -> None:
    async def change() -> bytes:
        exposed = Exposition(OWN)
        for (store, integration), shown in before.items():
            exposed.publish(store, {integration: shown})
        await exposed.rendered("openmetrics", gzip=True)
        for key in {**before, **after}:
            exposed.publish(key[0], {key[1]: after.get(key)})
        return (await exposed.rendered("openmetrics", gzip=True)).body

    wanted: Samples = {}
    for key, shown in after.items():
        wanted.update(meant(key, shown))
    assert read(gzip.decompress(asyncio.run(change())).decode(), "openmetrics")[0] == wanted
