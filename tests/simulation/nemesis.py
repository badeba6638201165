"""What strikes a simulated run from outside, and when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from exporter import statefile
from exporter.epcc import Epcc
from tests.simulation.faults import Disk, Reaper
from tests.simulation.scenario import Event
from tests.simulation.watch import Outcome, now


class Nemesis:
    """Plays a scenario's events. `stop` ends the exporter's present life."""

    def __init__(self, epcc: Epcc, disk: Disk, reaper: Reaper, outcome: Outcome, stop: Callable[[], None]) -> None:
        self._epcc = epcc
        self._disk = disk
        self._reaper = reaper
        self._outcome = outcome
        self._stop = stop
        self.damage: str | None = None  # to be done to the state between two lives

    async def strike(self, events: tuple[Event, ...], seconds: float, say: Callable[[str], None] | None) -> None:
        """Each at its time after now; returns after so many seconds."""
        began = now()
        begins = [(event.at, number, event, True) for number, event in enumerate(events)]
        ends = [
            (event.at + event.seconds, number, event, False) for number, event in enumerate(events) if event.seconds
        ]
        for at, _, event, begin in sorted(begins + ends, key=lambda each: each[:2]):
            await asyncio.sleep(max(0.0, began + at - now()))
            if begin:
                self._outcome.reached[f"event: {event.kind}"] += 1
                if say is not None:
                    say(f"{now():6.1f} s EVENT {event.kind} {event.argument} for {event.seconds:g} s")
                self._happen(event)
            else:
                self._cease(event)
        await asyncio.sleep(max(0.0, began + seconds - now()))

    def cease(self) -> None:
        """Nothing strikes any more."""
        self._epcc.manners = replace(self._epcc.manners, faults={}, down=None, latency_seconds=(0.0, 0.0))
        self._disk.mode = None
        self._reaper.disarm()

    def _happen(self, event: Event) -> None:
        match event.kind:
            case "kill":
                self._reaper.arm(event.argument)
            case "stop":
                self._stop()
            case "damage":
                self.damage = event.argument
                self._stop()
            case "disk":
                self._disk.mode, self._disk.probability = event.argument
            case _:
                self._to_the_store(event)

    def _to_the_store(self, event: Event) -> None:
        match event.kind:
            case "outage":
                self._epcc.manners = replace(self._epcc.manners, down=event.argument)
            case "order":
                self._epcc.manners = replace(self._epcc.manners, order=event.argument)
            case "delete" if event.argument in self._epcc.integrations:
                self._epcc.remove_integration(event.argument)
            case "revoke":
                self._epcc.revoke_tokens()

    def _cease(self, event: Event) -> None:
        if event.kind == "outage":
            self._epcc.manners = replace(self._epcc.manners, down=None)
        elif event.kind == "disk":
            self._disk.mode = None

    def spoil(self, folder: Path, chooser: random.Random) -> None:
        """Does the damage to the state file that an event asked for."""
        how, self.damage = self.damage, None
        path = folder / statefile.NAME
        for companion in folder.glob(f"{statefile.NAME}-*"):
            companion.unlink()
        body = path.read_bytes()
        at = chooser.randrange(100, max(101, len(body) - 100))
        spoilt = {
            "truncate": body[: len(body) // 2],
            "empty": b"",
            "overwrite": bytes(at) + body[at:],
            "flip": body[:at] + bytes(255 - byte for byte in body[at : at + 64]) + body[at + 64 :],
        }
        path.write_bytes(spoilt[str(how)])
