"""The README does not lie: its tables are held against the code."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Metric

from exporter import flags
from exporter.metrics import FAMILIES, GAP_CAUSES, ORDERS, POLL_FAILURE_REASONS, OwnMetrics
from exporter.records import REASONS, REJECT_REASONS
from tests.promql import own_labels
from tests.simulation.scenario import PROFILES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROW = re.compile(r"^\| `(epcc_[a-z_]+)(?:\{([a-z_,]+)\})?` \| (counter|gauge|histogram) \| ?(.*?) ?\|$", re.MULTILINE)


def documented() -> dict[str, tuple[str, set[str], str]]:
    return {
        name: (kind, set(filter(None, labels.split(","))), text) for name, labels, kind, text in ROW.findall(README)
    }


def own_families() -> list[Metric]:
    own = OwnMetrics()
    own.add_store("acme")
    return [family for family in own.registry.collect() if family.name.startswith("epcc_")]


def test_every_metric_is_documented_with_its_type_and_labels_and_no_other() -> None:
    expected = {}
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        expected[name] = (family.kind, set(family.labels) - {"le"})
    for metric in own_families():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        collector = OwnMetrics().registry._names_to_collectors[metric.name]
        expected[name] = (metric.type, set(own_labels(collector)) - {"store", "version", "python_version"})
    assert {name: (kind, labels) for name, (kind, labels, _) in documented().items()} == expected


def test_every_delivery_metric_has_a_query_that_names_it() -> None:
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        assert re.search(rf"`[^`]*{name}[^`]*`", documented()[name][2]), name


def test_closed_sets_are_documented_whole() -> None:
    for closed in (REASONS, REJECT_REASONS, POLL_FAILURE_REASONS, GAP_CAUSES, ORDERS):
        assert f"`{' '.join(closed)}`" in README, closed


def test_every_command_and_flag_is_documented_and_no_other() -> None:
    commands = set(re.findall(r"^\| `epcc-exporter (?:\[)?([a-z]+)\]?` \|", README, re.MULTILINE))
    assert commands == set(flags.COMMANDS)
    table = README.partition("| flag of `run` |")[2].partition("\n\n")[0]
    parser = flags._parsers()["run"]
    known = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    assert set(re.findall(r"`(--[a-z.-]+)`", table)) == known


def test_the_sample_at_the_top_is_made_of_metrics_that_exist() -> None:
    sample = README.partition("```\n")[2].partition("```")[0]
    names = set(re.findall(r"^(epcc_[a-z_]+)", sample, re.MULTILINE))
    assert len(sample.splitlines()) == 10
    assert names <= documented().keys()


def test_every_file_that_the_readme_sends_a_reader_to_exists() -> None:
    named = set(re.findall(r"`((?:exporter|tests|deploy)/[a-z_./]+|[a-zA-Z.]+\.(?:ya?ml|md))`", README))
    absent = {name for name in named if not (ROOT / name).exists()} - {"config.yaml"}
    assert absent == set()


def test_the_test_command_is_what_ci_runs() -> None:
    assert "python3 tests/run\n" in README
    assert "exec python3 tests/run" in (ROOT / ".ci" / "run").read_text()


def test_every_test_that_the_documents_name_is_there() -> None:
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    for document in ("README.md", "tests/faults.md"):
        named = set(re.findall(r"`(test_\w+)`", (ROOT / document).read_text()))
        assert len(named) > 20
        assert named <= there, document


def test_every_profile_that_the_faults_name_is_there_and_every_fault_has_a_row() -> None:
    text = (ROOT / "tests" / "faults.md").read_text()
    named = {each for row in re.findall(r"profiles? ((?:`\w+`(?:, )?)+)", text) for each in re.findall(r"`(\w+)`", row)}
    assert named <= PROFILES.keys()
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == list(range(1, 46))


def test_every_row_of_the_threat_table_names_tests_that_exist() -> None:
    rows = README.partition("| threat |")[2].partition("\n\n")[0].splitlines()[2:]
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(rows) > 12
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.split("|")[3])
        assert named, row
        assert [name for name in named if f"def {name}(" not in written] == []
