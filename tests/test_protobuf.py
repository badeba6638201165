"""The protobuf format, read back by Google's library."""

from __future__ import annotations

import gzip
import math
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exemplars import Exemplar, Exemplars
from exporter.exposition import Exposition
from exporter.metrics import FAMILIES, OwnMetrics, Shown
from exporter.native import ZERO_THRESHOLD, Native
from exporter.protobuf import Protobuf
from tests.metricfamily import families, labels
from tests.test_exposition import AWKWARD, shown

KINDS = {"counter": 0, "gauge": 1, "histogram": 4}
BORN = 1_700_000_000_123_456_789


async def page(views: dict[str, Shown | None], *, packed: bool = False) -> dict[str, Any]:
    exposed = Exposition(OwnMetrics())
    exposed.publish("acme", views)
    body = (await exposed.rendered("protobuf", gzip=packed)).body
    found = list(families(gzip.decompress(body) if packed else body))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def only(family: Any, **wanted: str) -> Any:
    (metric,) = [each for each in family.metric if wanted.items() <= labels(each).items()]
    return metric


async def test_every_family_has_the_samples_of_the_text_format() -> None:
    exposed = Exposition(OwnMetrics())
    exposed.publish("acme", {"int-1": shown(), AWKWARD: shown(attempts=2**60, announced=False)})
    text = (await exposed.rendered("text", gzip=False)).body.decode()
    wanted = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(text) if family.name.startswith("epcc_")
        for sample in family.samples
    }  # fmt: skip
    found = {}
    for family in families((await exposed.rendered("protobuf", gzip=False)).body):
        if not family.name.startswith("epcc_"):
            continue
        for metric in family.metric:
            own = sorted(labels(metric).items())
            if family.type == KINDS["histogram"]:
                found[(f"{family.name}_sum", *own)] = metric.histogram.sample_sum
                found[(f"{family.name}_count", *own)] = metric.histogram.sample_count
                for bucket in metric.histogram.bucket:
                    le = "+Inf" if bucket.upper_bound == math.inf else str(float(bucket.upper_bound))
                    found[(f"{family.name}_bucket", *sorted({**dict(own), "le": le}.items()))] = bucket.cumulative_count
            else:
                value = metric.counter.value if family.type == KINDS["counter"] else metric.gauge.value
                found[(family.name, *own)] = value
    assert found == wanted


async def test_a_family_has_the_name_help_and_type_of_the_table_of_metrics() -> None:
    found = await page({"int-1": shown(last_success_ns=BORN, last_failure_ns=BORN)})
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        assert (found[name].help, found[name].type) == (family.help, KINDS[family.kind])


async def test_a_page_can_be_packed() -> None:
    assert (await page({"int-1": shown()}, packed=True)).keys() == (await page({"int-1": shown()})).keys()


async def test_processing_times_have_native_buckets_beside_the_classic_ones() -> None:
    found = await page({"int-1": shown()})
    histogram = only(found["epcc_integration_processing_seconds"]).histogram
    assert (histogram.schema, histogram.zero_count, histogram.zero_threshold) == (3, 0, ZERO_THRESHOLD)
    assert sum(span.length for span in histogram.positive_span) == len(histogram.positive_delta)
    counts = [sum(histogram.positive_delta[: place + 1]) for place in range(len(histogram.positive_delta))]
    assert sum(counts) == histogram.sample_count == 6
    assert not only(found["epcc_integration_job_delivery_seconds"]).histogram.HasField("schema")


async def test_a_newborn_histogram_is_native_and_empty() -> None:
    found = await page({"int-1": shown(announced=False)})
    histogram = only(found["epcc_integration_processing_seconds"]).histogram
    assert (histogram.sample_count, histogram.zero_threshold) == (0, ZERO_THRESHOLD)
    assert histogram.HasField("schema")
    assert not histogram.positive_span


async def test_a_reduced_resolution_is_written_with_its_schema() -> None:
    view = shown()
    view.tally.processing.native = Native(-1, 2, {-3: 1, 4: 3})
    histogram = only((await page({"int-1": view}))["epcc_integration_processing_seconds"]).histogram
    assert (histogram.schema, histogram.zero_count) == (-1, 2)
    assert [(span.offset, span.length) for span in histogram.positive_span] == [(-3, 1), (6, 1)]
    assert list(histogram.positive_delta) == [1, 2]


async def test_exemplars_carry_the_job_and_their_own_time() -> None:
    exemplars = Exemplars(
        {"http_5xx": Exemplar("job-é", 1.0, BORN)}, {0: Exemplar("quick", 0.01, BORN), 9: Exemplar("slow", 45.0, BORN)}
    )
    view = shown()
    found = await page({"int-1": Shown(view.tally, view.integration, 0, exemplars)})
    failure = only(found["epcc_integration_attempt_failures_total"], reason="http_5xx").counter.exemplar
    assert ([(pair.name, pair.value) for pair in failure.label], failure.value) == ([("job_id", "job-é")], 1.0)
    assert (failure.timestamp.seconds, failure.timestamp.nanos) == divmod(BORN, 1_000_000_000)
    buckets = only(found["epcc_integration_processing_seconds"]).histogram.bucket
    held = {bucket.upper_bound: bucket.exemplar.label[0].value for bucket in buckets if bucket.HasField("exemplar")}
    assert held == {0.05: "quick", math.inf: "slow"}
    assert not only(found["epcc_integration_attempt_failures_total"], reason="dns").counter.HasField("exemplar")


async def test_a_newborn_series_shows_no_exemplar() -> None:
    exemplars = Exemplars({"http_5xx": Exemplar("job", 1.0, BORN)}, {0: Exemplar("quick", 0.01, BORN)})
    view = shown(announced=False)
    found = await page({"int-1": Shown(view.tally, view.integration, 0, exemplars)})
    assert not any(
        metric.counter.HasField("exemplar") for metric in found["epcc_integration_attempt_failures_total"].metric
    )
    histogram = only(found["epcc_integration_processing_seconds"]).histogram
    assert not any(bucket.HasField("exemplar") for bucket in histogram.bucket)


async def test_a_counter_says_when_it_was_0_and_one_that_began_at_a_baseline_says_nothing() -> None:
    found = await page({"int-1": shown(born_ns=BORN, code_born_ns={"503": BORN + 1})})
    attempts = only(found["epcc_integration_attempts_total"]).counter
    assert (attempts.created_timestamp.seconds, attempts.created_timestamp.nanos) == divmod(BORN, 1_000_000_000)
    assert only(found["epcc_integration_processing_seconds"]).histogram.HasField("created_timestamp")
    responses = found["epcc_integration_responses_total"]
    assert only(responses, status_code="503").counter.created_timestamp.nanos == (BORN + 1) % 1_000_000_000
    assert not only(responses, status_code="200").counter.HasField("created_timestamp")
    baseline = await page({"int-1": shown()})
    assert not only(baseline["epcc_integration_attempts_total"]).counter.HasField("created_timestamp")
    assert not only(baseline["epcc_integration_processing_seconds"]).histogram.HasField("created_timestamp")


async def test_what_is_no_unicode_is_written_as_a_question_mark() -> None:
    found = await page({"int-\ud800": shown()})
    assert labels(found["epcc_integration_attempts_total"].metric[0])["integration_id"] == "int-?"


def test_a_histogram_of_the_exporters_own_reads_back() -> None:
    own = OwnMetrics()
    own.add_store("acme")
    own.poll_duration.labels("acme").observe(0.2)
    own.poll_duration.labels("acme").observe(1000.0)
    found = {family.name: family for family in families(Protobuf().own(own.registry))}
    histogram = only(found["epcc_exporter_poll_duration_seconds"], store="acme").histogram
    assert (histogram.sample_count, histogram.sample_sum) == (2, 1000.2)
    assert {bucket.upper_bound: bucket.cumulative_count for bucket in histogram.bucket}[0.25] == 1
    assert histogram.bucket[-1].cumulative_count == 2
    assert found["process_cpu_seconds_total"].type == KINDS["counter"]
    assert only(found["epcc_exporter_build_info"]).gauge.value == 1
