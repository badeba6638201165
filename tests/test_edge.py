"""How far a list can be read: where it ends is told from where it is refused, whatever the refusal looks like."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import ENVELOPES, LIMIT_ANSWERS, Manners
from exporter.shop import Integration
from tests.probing import NUMBER, found, probe, store, text_of, wrong
from tests.world import FakeSession, at


@pytest.mark.parametrize("number", [1, 2, 3, 24, 25, 26, 99, 100, 101, 199, 200, 201, 400])
def test_the_length_of_a_list_is_told_exactly_and_its_end_is_no_limit(number: int) -> None:
    for envelope in ENVELOPES:
        for order in ("newest_first",) if envelope in ("both", "neither") else ("oldest_first",):
            values = found(store(number, Manners(envelope=envelope, order=order)))
            assert values["length"] == number
            assert "offset_limit" not in values
            assert values["paging"] == "honoured"
            assert values["envelope"] == envelope
            assert values["total"] == ("right" if envelope in ("2025", "both") else "absent")


PAST = {"empty": "empty page", "last_page": "last page again"}


@pytest.mark.parametrize("answer", LIMIT_ANSWERS)
@pytest.mark.parametrize("counts_page", [False, True])
@pytest.mark.parametrize("limit", [150, 300, 517])
def test_the_offset_limit_is_found_exactly_with_how_it_answers(answer: str, counts_page: bool, limit: int) -> None:
    for order in ("newest_first", "oldest_first"):
        manners = Manners(
            order=order, offset_limit=limit, offset_limit_answer=answer, offset_limit_counts_page=counts_page
        )
        probed = probe(store(manners=manners))
        values = {name: finding.value for name, finding in probed.findings.items()}
        assert (values["offset_limit"], values["past_limit"]) == (limit, PAST.get(answer, answer))
        assert ("together" in probed.findings["offset_limit"].note) is counts_page
        assert values["order"] == order
        assert ("takes for an outage" in text_of(probed)) is (answer == "500")


@pytest.mark.parametrize("answer", LIMIT_ANSWERS)
@pytest.mark.parametrize("counts_page", [False, True])
def test_the_documented_offset_limit_is_found_with_few_requests(answer: str, counts_page: bool) -> None:
    manners = Manners(offset_limit_answer=answer, offset_limit_counts_page=counts_page)
    epcc = Epcc(manners)
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(*[log(f"l{i}", at(-1 - i), job_id="j") for i in range(10_400)])
    probed = probe(epcc, watch=0.0)
    assert probed.findings["offset_limit"].value == 10_000
    assert probed.findings["order"].value == "newest_first"
    assert probed.requests <= 28


def test_a_list_that_can_be_read_to_its_end_has_no_offset_limit() -> None:
    epcc = Epcc(Manners(offset_limit=None))
    epcc.add_integration(Integration("shipping", "Order shipping"))
    epcc.add(*[log(f"l{i}", at(-1 - i), job_id="j") for i in range(10_700)])
    probed = probe(epcc, watch=0.0)
    assert probed.findings["length"].value == 10_700
    assert probed.findings["offset_limit"].value is None


def spoilt_once(number: int, fault: str) -> type[FakeSession]:
    """A session whose answer to one of the requests for a far page is a fault."""
    asked = iter(range(1, 100))

    class Spoilt(FakeSession):
        @asynccontextmanager
        async def request(self, method: str, url: str, **keywords: Any) -> Any:
            manners = self.epcc.manners
            far = url.endswith("/integrations/logs") and int((keywords["params"] or {}).get("page[offset]", 0)) > 50
            if far and next(asked) == number:
                self.epcc.manners = replace(manners, down=fault)
            async with super().request(method, url, **keywords) as response:
                self.epcc.manners = manners
                yield response

    return Spoilt


@pytest.mark.parametrize("fault", ["empty_page", "400", "404"])
@pytest.mark.parametrize("limit", [None, 300])
def test_one_wrong_answer_is_never_taken_for_an_end_or_a_limit(fault: str, limit: int | None) -> None:
    manners = Manners(offset_limit=limit)
    for number in range(1, 16):
        probed = probe(store(manners=manners), watch=0.0, session=spoilt_once(number, fault))
        assert list(wrong(probed.findings, manners, NUMBER)) == [], number
