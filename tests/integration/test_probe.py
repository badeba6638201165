"""The probe as a process: its exit codes, what goes to which stream, and what must not be in either."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from exporter.epcc import Epcc, log
from exporter.manners import Manners
from exporter.shop import Integration
from tests.integration.process import ROOT, Exporter, started, until
from tests.probing import PLANTED

pytestmark = pytest.mark.integration

PREAMBLE = "No secret, id, name, address or text of a receiver is in this report"


def epcc(manners: Manners | None = None) -> Epcc:
    made = Epcc(manners, client_id=PLANTED["client id"], client_secret=PLANTED["client secret"])
    made.add_integration(
        Integration(PLANTED["integration's id"], PLANTED["integration's name"],
                    url=f"https://{PLANTED['webhook address']}/", secret_key=PLANTED["webhook secret"])
    )  # fmt: skip
    now_ns = time.time_ns()
    made.add(*[
        log(PLANTED["log's id"] + str(i), now_ns - i * 20_000_000_000, integration_id=PLANTED["integration's id"],
            job_id=PLANTED["job's id"] + str(i), status_code=500, error_detail=PLANTED["error text"],
            override={"body": PLANTED["body"]})
        for i in range(300)
    ])  # fmt: skip
    return made


async def probed(*flags: str | Path, level: str = "info") -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exporter", "probe", *map(str, flags), f"--log.level={level}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(child.communicate(), 30)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode or 0, out.decode(), err.decode()


async def test_a_report_of_every_store_goes_to_standard_output_and_leaks_nothing(tmp_path: Path) -> None:
    async with Exporter(tmp_path, epcc(Manners(envelope="2025", order="oldest_first", offset_limit=150))) as exporter:
        more = exporter.config.read_text().removeprefix("stores:\n").replace("name: acme", "name: other")
        exporter.config.write_text(exporter.config.read_text() + more)
        code, out, err = await probed(f"--config.file={exporter.config}", "--watch=100ms", level="debug")
        secrets = [*exporter.epcc._tokens, str(exporter.port), "127.0.0.1", *PLANTED.values()]
    assert code == 0
    assert out.startswith("epcc-exporter probe ")
    assert PREAMBLE in out
    assert "\nStore 1 of 2: " in out
    assert "\nStore 2 of 2: " in out
    assert out.count("\n  order                     oldest_first (observed): ") == 2
    assert out.count("\n  envelope                  2025 (meta, results) (observed)\n") == 2
    assert out.count("\n  offset limit              150 (observed): it counts the offset alone\n") == 2
    assert (
        out.count("\n  compression               gzip or none (observed)\n")
        + out.count("compression               deflate")
        == 2
    )
    assert 'msg="asking a store" store=acme' in err
    assert "msg=asked store=other endpoint=logs code=200" in err
    assert [secret for secret in secrets if secret in out] == []
    assert [secret for secret in secrets[3:] if secret in err] == []
    assert os.listdir(tmp_path) == ["config.yaml"]  # no state, no lock


async def test_one_store_alone_can_be_asked(tmp_path: Path) -> None:
    async with Exporter(tmp_path, epcc()) as exporter:
        dead = f"  - name: dead\n    api_url: http://127.0.0.1:{exporter.port}/nowhere\n    client_id: x\n    client_secret: abcdef\n"
        exporter.config.write_text(exporter.config.read_text() + dead)
        flags = (f"--config.file={exporter.config}", "--watch=0s")
        code, out, _ = await probed(*flags, "--store=acme")
        assert (code, "Store 1 of 1: " in out) == (0, True)
        code, out, err = await probed(*flags)
        assert (code, "\nEPCC could not be asked: not_found (404)\n" in out) == (1, True)
        assert "store=dead" in err
        code, out, err = await probed(*flags, "--store=acne")
        assert (code, out) == (2, "")
        assert err == f"{exporter.config}: has no store 'acne'; there are acme, dead\n"


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        (Manners(down="401"), "auth (401)"),
        (Manners(down="403"), "forbidden (403)"),
        (Manners(down="reset"), "connection"),
    ],
)
async def test_a_store_that_cannot_be_asked_ends_with_1_and_a_line_why(
    tmp_path: Path, manners: Manners, why: str
) -> None:
    async with Exporter(tmp_path, epcc(manners)) as exporter:
        code, out, err = await probed(f"--config.file={exporter.config}")
    assert (code, f"\nEPCC could not be asked: {why}\n" in out) == (1, True)
    assert 'msg="EPCC could not be asked" store=acme problem=' in err
    assert "Traceback" not in err


async def test_a_bad_configuration_ends_with_2_and_asks_nothing(tmp_path: Path) -> None:
    async with Exporter(tmp_path, epcc()) as exporter:
        exporter.configure("    page_limt: 5\n")
        code, out, err = await probed(f"--config.file={exporter.config}")
        assert (code, out, len(exporter.epcc.seen)) == (2, "", 0)
    assert "page_limt: unknown key" in err


async def test_it_can_be_stopped_at_any_time(tmp_path: Path) -> None:
    async with (
        Exporter(tmp_path, epcc(Manners(down="hang"))) as exporter,
        started(sys.executable, "-m", "exporter", "probe", f"--config.file={exporter.config}") as process,
    ):

        async def asked() -> bool:
            return bool(exporter.epcc.seen)

        await until(asked, "the first request")
        assert await process.end(signal.SIGINT) == 1
        assert "stopped before the report was made" in process.output
        assert "Traceback" not in process.output
