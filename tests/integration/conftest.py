"""What all tests against real servers share: a Prometheus of each installed version, stopped when its test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration import servers


@pytest.fixture(params=servers.names())
async def prometheus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[servers.Prometheus]:
    """Not started yet: the test starts it, with what it shall scrape."""
    server = servers.Prometheus(request.param, tmp_path)
    try:
        yield server
    finally:
        await server.stop()
