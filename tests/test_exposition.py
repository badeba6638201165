"""Families to bytes: to the byte as `prometheus_client` would write them, rendered only where something changed."""

from __future__ import annotations

import asyncio
import gzip
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Exemplar, Timestamp

from exporter.exemplars import Exemplar as JobExemplar
from exporter.exemplars import Exemplars
from exporter.exposition import FORMATS, IDLE_RENDERINGS, Exposition, Format
from exporter.lines import Lines
from exporter.metrics import FAMILIES, HELD_SERIES, Family, OwnMetrics, Shown
from exporter.records import Integration
from exporter.tally import Tally

OWN_PART = "# HELP process_virtual_memory_bytes"  # the first of the exporter's own numbers
AWKWARD = 'a "quoted" \\ back\nline é ✓'


def shown(**changes: Any) -> Shown:
    tally = Tally(
        attempts=12, responses={"200": 9, "503": 3}, retries=2, jobs=10, delivered_first=8, delivered_retry=1,
        consecutive_failures=1, jobs_failing=1, last_attempt_ns=1_700_000_000_123_456_789, last_success_ns=None,
        announced=True, announced_codes=["200", "503"],
    )  # fmt: skip
    tally.failures["http_5xx"] = 3
    for microseconds in (10_000, 50_000, 50_001, 9_999_999, 10_000_000, 45_000_000):
        tally.processing.observe(microseconds)
    tally.delivery.observe(0)
    for key, value in changes.items():
        setattr(tally, key, value)
    return Shown(tally, Integration("int-1", AWKWARD, "webhook", True), jobs_unlogged=2)


def page(views: dict[str, Shown | None], form: Format = "text") -> str:
    """The delivery part alone."""

    async def render() -> str:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", views)
        text = (await exposed.rendered(form, gzip=False)).body.decode()
        return text[: text.index(OWN_PART)]

    return asyncio.run(render())


class AsTheLibraryWould:
    """The same numbers through the library's own families and renderer."""

    def __init__(self, views: dict[str, Shown]) -> None:
        self.views = views

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            labels = ["store", "integration_id", *(name for name in family.labels if name != "le")]
            made: Any = {
                "counter": CounterMetricFamily,
                "gauge": GaugeMetricFamily,
                "histogram": HistogramMetricFamily,
            }[family.kind](family.name, family.help, labels=labels)
            for integration, view in self.views.items():
                samples = list(family.samples(view))
                if family.kind == "histogram":
                    buckets = [(dict(extra)["le"], value) for suffix, extra, value in samples if suffix == "_bucket"]
                    (total,) = [value for suffix, _, value in samples if suffix == "_sum"]
                    made.add_metric(["acme", integration], buckets, sum_value=total)
                else:
                    for _, extra, value in samples:
                        made.add_metric(["acme", integration, *dict(extra).values()], value)
                self._give_exemplars(made, family, integration, view)
            if made.samples:
                yield made

    def _give_exemplars(self, made: Metric, family: Family, integration: str, view: Shown) -> None:
        for labels, exemplar in (family.exemplars(view) if family.exemplars is not None else {}).items():
            (place,) = [
                at for at, each in enumerate(made.samples)
                if {**dict(labels), "integration_id": integration}.items() <= each.labels.items()
            ]  # fmt: skip
            at = Timestamp(*divmod(exemplar.at_ns, 1_000_000_000))
            made.samples[place] = made.samples[place]._replace(
                exemplar=Exemplar({"job_id": exemplar.job_id}, exemplar.value, at)
            )


@pytest.mark.parametrize("form", ["text", "openmetrics"])
def test_the_page_is_to_the_byte_what_the_library_would_write(form: Format) -> None:
    exemplars = Exemplars(
        {"http_5xx": JobExemplar(AWKWARD, 1.0, 1_700_000_000_000_000_001)},
        {0: JobExemplar("quick", 0.01, 1_700_000_000_123_456_789), 9: JobExemplar("slow", 45.0, 1)},
    )
    views = {
        "int-1": shown(),
        AWKWARD: shown(attempts=2**53, announced_codes=[]),
        "int-3": replace(shown(), exemplars=exemplars),
        "newborn": replace(shown(announced=False), exemplars=exemplars),
    }
    registry = CollectorRegistry()
    registry.register(AsTheLibraryWould(views))
    expected = (exposition if form == "text" else openmetrics).generate_latest(registry).decode()
    assert page(dict(views), form) == expected.removesuffix("# EOF\n")


@pytest.mark.parametrize(("form", "parse"), [("text", parse_text), ("openmetrics", parse_openmetrics)])
def test_the_whole_page_parses_and_ends_as_its_format_demands(form: Format, parse: Any) -> None:
    async def render() -> str:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", {"int-1": shown()})
        return (await exposed.rendered(form, gzip=False)).body.decode()

    text = asyncio.run(render())
    names = [family.name for family in parse(text)]
    assert len(names) == len(set(names))
    assert text.endswith("# EOF\n") == (form == "openmetrics")
    assert "_created" not in text


@settings(max_examples=40, deadline=None)
@given(name=st.text(st.characters(exclude_categories=["Cs"]), max_size=30), attempts=st.integers(0, 2**60))
def test_any_name_and_number_reads_back_as_it_was(name: str, attempts: int) -> None:
    view = shown(attempts=attempts)
    view = Shown(view.tally, Integration("int-1", name, "webhook", True))
    for form, parse in (("text", parse_text), ("openmetrics", parse_openmetrics)):
        text = page({"int-1": view}, form)  # type: ignore[arg-type]
        samples = {
            s.name: s for family in parse(text + ("# EOF\n" if form == "openmetrics" else "")) for s in family.samples
        }
        assert samples["epcc_integration_attempts_total"].value == float(attempts)
        assert samples["epcc_integration_info"].labels["integration_name"] == name


def test_a_newborn_integration_shows_its_counters_at_0_and_its_gauges_as_they_are() -> None:
    samples = [s for family in parse_text(page({"int-1": shown(announced=False)})) for s in family.samples]
    counters = [s for s in samples if s.name.endswith(("_total", "_bucket", "_sum", "_count"))]
    assert len(counters) > 30
    assert {s.value for s in counters} == {0.0}
    assert {s.name: s.value for s in samples}["epcc_integration_consecutive_failures"] == 1


def test_a_newborn_status_code_shows_0_beside_the_known_ones() -> None:
    text = page({"int-1": shown(announced_codes=["200"])})
    assert 'status_code="503",store="acme"} 0.0' in text
    assert 'status_code="200",store="acme"} 9.0' in text


@pytest.mark.parametrize(
    ("changes", "held"), [({}, 0), ({"announced_codes": []}, 2), ({"announced": False}, HELD_SERIES + 2)]
)
def test_held_series_are_counted(changes: dict[str, Any], held: int) -> None:
    async def count() -> int:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", {"int-1": shown(**changes)})
        return exposed.held("acme")

    assert asyncio.run(count()) == held


def test_held_series_is_the_number_of_an_integrations_counters_and_histograms() -> None:
    text = page({"int-1": shown(responses={}, announced_codes=[])})
    counters = [line for line in text.splitlines() if "_total{" in line or "_seconds_count{" in line]
    assert len(counters) == HELD_SERIES


def test_gzip_is_one_member_that_decodes_to_the_plain_page() -> None:
    async def render() -> tuple[bytes, bytes]:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", {f"int-{i}": shown(attempts=i) for i in range(100)})
        packed = (await exposed.rendered("text", gzip=True)).body
        again = (await exposed.rendered("text", gzip=True)).body
        assert gzip.decompress(again)
        return packed, (await exposed.rendered("text", gzip=False)).body

    packed, plain = asyncio.run(render())
    decoder = zlib.decompressobj(31)
    text = decoder.decompress(packed)
    assert (decoder.eof, decoder.unused_data) == (True, b"")
    assert text.split(OWN_PART.encode())[0] == plain.split(OWN_PART.encode())[0]


def test_between_changes_the_same_bytes_are_served() -> None:
    async def scrape() -> None:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", {"int-1": shown()})
        for form in FORMATS:
            for packed in (False, True):
                *first, _ = (await exposed.rendered(form, gzip=packed)).pieces
                *again, _ = (await exposed.rendered(form, gzip=packed)).pieces
                assert len(first) == len(again) > 0
                assert all(one is other for one, other in zip(first, again, strict=True))

    asyncio.run(scrape())


def test_a_format_that_nobody_asks_for_any_more_is_forgotten_and_comes_back_whole() -> None:
    async def scrape() -> None:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", {"int-1": shown(attempts=1)})
        await exposed.rendered("openmetrics", gzip=False)
        for _ in range(IDLE_RENDERINGS + 1):
            await exposed.rendered("text", gzip=False)
        assert set(exposed._sheets) == {"text"}
        exposed.publish("acme", {"int-2": shown(attempts=2)})
        assert attempts((await exposed.rendered("openmetrics", gzip=False)).body[: -len("# EOF\n")]) == {
            "int-1": 1,
            "int-2": 2,
        }

    asyncio.run(scrape())


def test_only_what_changed_is_rendered_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    real = Lines.block

    def noting(lines: Lines, family: Any, labels: tuple[str, str], view: Shown) -> bytes:
        rendered.append(labels[1])
        return real(lines, family, labels, view)

    monkeypatch.setattr(Lines, "block", noting)

    async def scrape() -> None:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", {f"int-{i}": shown() for i in range(50)})
        await exposed.rendered("text", gzip=False)
        rendered.clear()
        await exposed.rendered("text", gzip=False)
        assert rendered == []
        exposed.publish("acme", {"int-7": shown(attempts=13)})
        page = (await exposed.rendered("text", gzip=False)).body.decode()
        assert set(rendered) == {"int-7"}
        assert 'attempts_total{integration_id="int-7",store="acme"} 13.0' in page
        assert 'attempts_total{integration_id="int-8",store="acme"} 12.0' in page

    asyncio.run(scrape())


def test_scrapes_that_come_together_share_a_rendering_and_a_leaver_leaves() -> None:
    async def scrape() -> None:
        exposed = Exposition(OwnMetrics())
        exposed.publish("acme", {"int-1": shown(), "int-2": shown()})
        first, second = await asyncio.gather(exposed.rendered("text", gzip=False), exposed.rendered("text", gzip=False))
        assert first is second
        exposed.publish("acme", {"int-1": None})
        assert b"int-1" not in (await exposed.rendered("text", gzip=False)).body
        exposed.drop_store("acme")
        assert b"epcc_integration" not in (await exposed.rendered("text", gzip=False)).body

    asyncio.run(scrape())


def attempts(text: bytes) -> dict[str, float]:
    found = [s for family in parse_text(text.decode()) for s in family.samples]
    return {s.labels["integration_id"]: s.value for s in found if s.name == "epcc_integration_attempts_total"}


async def test_what_is_published_during_a_rendering_is_shown_whole_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()
    real = Lines.block

    def slow(lines: Lines, family: Any, labels: tuple[str, str], view: Shown) -> bytes:
        began.set()
        assert go_on.wait(30)
        return real(lines, family, labels, view)

    monkeypatch.setattr(Lines, "block", slow)
    exposed = Exposition(OwnMetrics())
    old = exposed.publish("acme", {name: shown(attempts=1) for name in ("int-1", "int-2")})
    first = asyncio.create_task(exposed.rendered("text", gzip=False))
    assert await asyncio.to_thread(began.wait, 30)
    new = exposed.publish("acme", {"int-1": shown(attempts=2), "int-2": shown(attempts=2), "int-3": shown(attempts=2)})
    go_on.set()
    page = await first
    assert (page.version, attempts(page.body)) == (old, {"int-1": 1, "int-2": 1})
    page = await exposed.rendered("text", gzip=False)
    assert (page.version, attempts(page.body)) == (new, {"int-1": 2, "int-2": 2, "int-3": 2})


async def test_a_rendering_that_failed_forgets_nothing_of_what_was_to_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    exposed = Exposition(OwnMetrics())
    exposed.publish("acme", {"int-1": shown(attempts=1), "int-2": shown(attempts=1)})
    await exposed.rendered("text", gzip=False)

    def broken(*_: Any) -> bytes:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "block", broken)
        exposed.publish("acme", {"int-1": shown(attempts=2)})
        with pytest.raises(MemoryError):
            await exposed.rendered("text", gzip=False)
    exposed.publish("acme", {"int-2": shown(attempts=3)})
    assert attempts((await exposed.rendered("text", gzip=False)).body) == {"int-1": 2, "int-2": 3}


async def test_a_client_that_leaves_does_not_take_the_rendering_from_the_others() -> None:
    exposed = Exposition(OwnMetrics())
    exposed.publish("acme", {"int-1": shown()})
    leaver = asyncio.create_task(exposed.rendered("text", gzip=False))
    stayer = asyncio.create_task(exposed.rendered("text", gzip=False))
    await asyncio.wait([asyncio.create_task(asyncio.to_thread(lambda: None))])
    leaver.cancel()
    assert attempts((await stayer).body) == {"int-1": 12}


async def test_the_formats_and_encodings_show_the_same_whatever_was_asked_before_a_change() -> None:
    exposed = Exposition(OwnMetrics())
    for number in (1, 2, 3):
        exposed.publish("acme", {"int-1": shown(attempts=number)})
        for form, packed in (("openmetrics", True), ("text", True), ("text", False), ("openmetrics", False)):
            body = (await exposed.rendered(form, gzip=packed)).body  # type: ignore[arg-type]
            text = gzip.decompress(body) if packed else body
            assert attempts(text.removesuffix(b"# EOF\n")) == {"int-1": number}


async def test_held_series_follow_each_publication_and_are_counted_by_store() -> None:
    exposed = Exposition(OwnMetrics())
    assert exposed.held("acme") == 0
    exposed.publish("acme", {"int-1": shown(announced=False), "int-2": shown(announced_codes=["200"])})
    exposed.publish("other", {"int-1": shown(announced_codes=[])})
    assert (exposed.held("acme"), exposed.held("other")) == (HELD_SERIES + 3, 2)
    exposed.publish("acme", {"int-1": shown()})
    assert exposed.held("acme") == 1
    exposed.publish("acme", {"int-2": None, "never-was": None})
    assert (exposed.held("acme"), exposed.held("other")) == (0, 2)
    exposed.drop_store("other")
    assert exposed.held("other") == 0
