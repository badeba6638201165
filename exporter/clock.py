"""Time, sleep and chance, as one argument: the only file that asks the host for them.

Tests and simulations hand in a clock of their own; nothing else in the package reads a clock, sleeps or draws a number.
"""

from __future__ import annotations

import asyncio
import random
import time


class Clock:
    """The host's. Waits are measured by `monotonic`: a jump of the wall clock neither hangs nor hurries them."""

    def monotonic(self) -> float:
        """Seconds; only differences mean anything."""
        return time.monotonic()

    def wall_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def chance(self) -> float:
        """A number in [0, 1), for jitter; nothing rests on it being hard to guess."""
        return random.random()  # noqa: S311
