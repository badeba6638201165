"""How far a long command has come: a bar on a terminal, a log line now and then anywhere else. Standard error, both."""

from __future__ import annotations

import logging
import shutil
import sys
from typing import IO, Final

from exporter import logs
from exporter.clock import Clock

BAR_SECONDS: Final = 0.2  # from one drawing to the next
LINE_SECONDS: Final = 30.0
_CELLS: Final = 24

_log = logging.getLogger(__name__)


class Progress:
    """`share` is 0 to 1; None: nobody knows how much there is."""

    def __init__(self, clock: Clock, out: IO[str] = sys.stderr) -> None:
        self._clock = clock
        self._out = out
        self._drawing = out.isatty()
        self._told_at = clock.monotonic()
        self._drawn = False

    def tell(self, what: str, share: float | None, detail: str) -> None:
        now = self._clock.monotonic()
        if now - self._told_at < (BAR_SECONDS if self._drawing else LINE_SECONDS):
            return
        self._told_at = now
        if not self._drawing:
            done = {} if share is None else {"done": f"{share:.0%}"}
            logs.log(_log, logging.INFO, what, **done, so_far=detail)
            return
        full = round(_CELLS * min(1.0, max(0.0, share or 0.0)))
        bar = "" if share is None else f" [{'#' * full}{'.' * (_CELLS - full)}] {share:4.0%}"
        width = max(20, shutil.get_terminal_size().columns - 1)
        # The cursor goes back: a log line that comes in between is written over the bar, and not behind it.
        self._out.write(f"\r{f'{what}{bar}  {detail}'[:width]:<{width}}\r")
        self._out.flush()
        self._drawn = True

    def clear(self) -> None:
        """Before anything else is written to the terminal."""
        if self._drawn:
            self._out.write(f"\r{'':<{max(20, shutil.get_terminal_size().columns - 1)}}\r")
            self._out.flush()
            self._drawn = False
