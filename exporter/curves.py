"""Changes of series on disk, twelve bytes each: gathered integration by integration, read back family by family.

Counting goes through time once for all series of an integration, and the output wants one series after the other. What
lies between is too long for memory and compact enough for a file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import IO, Final, NamedTuple

from exporter.history import SeriesKey

HELD_MAX: Final = 1_000_000  # changes in memory, of all series of the integration that is being counted: 12 MB
BYTES_MAX: Final = 16 * 1024**3  # of the file; more changes than that are refused

_PLACES: Final = "I"  # from the first place of the grid on
_VALUES: Final = "d"


class TooMuchError(Exception):
    """A limit on the disk was reached."""


class CurveKey(NamedTuple):
    """A series: in the order in which the output has them."""

    family: int
    store: str
    integration_id: str
    suffix: str
    labels: tuple[tuple[str, str], ...]


class _Curve:
    __slots__ = ("places", "runs", "values")

    def __init__(self) -> None:
        self.places = array(_PLACES)
        self.values = array(_VALUES)
        self.runs: list[tuple[int, int]] = []  # offset in the file, number of changes


class Curves:
    """`base` is the place on the grid that the file counts from."""

    def __init__(self, file: IO[bytes], base: int) -> None:
        self._file = file
        self._base = base
        self._end = 0
        self._held = 0
        self._curves: dict[CurveKey, _Curve] = {}
        self._open: dict[SeriesKey, _Curve] = {}  # of the integration under way
        self._whose = ("", "")

    def begin(self, store: str, integration_id: str) -> None:
        """The integration whose changes come next."""
        self.flush()
        self._open = {}
        self._whose = (store, integration_id)

    def put(self, key: SeriesKey, place: int, value: float) -> None:
        """Places must not go back; a later value of the same place is the one that counts. Raises TooMuchError."""
        curve = self._open.get(key)
        if curve is None:
            curve = self._open[key] = _Curve()
            family, suffix, labels = key
            self._curves[CurveKey(family, *self._whose, suffix, labels)] = curve
        place -= self._base
        if curve.places and curve.places[-1] == place:
            curve.values[-1] = value
            return
        curve.places.append(place)
        curve.values.append(value)
        self._held += 1
        if self._held > HELD_MAX:
            self.flush()

    def flush(self) -> None:
        """All but the last change of each series, which may still be replaced."""
        for curve in self._open.values():
            number = len(curve.places) - 1
            if number < 1:
                continue
            curve.runs.append((self._end, number))
            for part in (curve.places[:number], curve.values[:number]):
                self._end += self._file.write(part.tobytes())
            del curve.places[:number], curve.values[:number]
        self._held = 0
        if self._end > BYTES_MAX:
            raise TooMuchError(
                f"more than {BYTES_MAX // 1024**3} GiB of changes: take a longer --step or a later --since"
            )

    def keys(self) -> list[CurveKey]:
        """In the order of the output, the order of labels within a series' family included."""
        order = {key: place for place, key in enumerate(self._curves)}
        return sorted(self._curves, key=lambda key: (key.family, key.store, key.integration_id, order[key]))

    def last(self, key: CurveKey) -> float:
        return self._curves[key].values[-1]

    def changes(self, key: CurveKey) -> Iterator[tuple[int, float]]:
        """(place on the grid, value), in the order of time."""
        curve = self._curves[key]
        for offset, number in curve.runs:
            places, values = array(_PLACES), array(_VALUES)
            self._file.seek(offset)
            places.frombytes(self._file.read(number * places.itemsize))
            values.frombytes(self._file.read(number * values.itemsize))
            yield from self._based(places, values)
        yield from self._based(curve.places, curve.values)

    def _based(self, places: array[int], values: array[float]) -> Iterator[tuple[int, float]]:
        base = self._base
        for place, value in zip(places, values, strict=True):
            yield base + place, value
