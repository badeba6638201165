"""A right reading of `Accept` and `Accept-Encoding`: which format and encoding a client wants most, of those we have.

What Prometheus 2.42 sends: `application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;
q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1`; 3.x adds `escaping=allow-utf-8`. With native histograms switched on,
`application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited` comes first. What cannot be
understood counts as absent: a scrape is answered with text 0.0.4 rather than refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exporter.exposition import Format

CONTENT_TYPES: Final[dict[Format, str]] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "protobuf": "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a format answers to. Of the values of a parameter that a client may name, the first is what we write; one
    that `needed` names must be named: of `io.prometheus.client.MetricFamily` there are undelimited forms too."""

    form: Format
    name: str
    parameters: dict[str, tuple[str, ...]]
    needed: bool = False


# Of formats that are wanted alike, the first: a wildcard alone asks for the one that everybody reads.
_ANSWERS: Final = (
    _Answer("text", "text/plain", {"version": ("0.0.4",)}),
    _Answer("openmetrics", "application/openmetrics-text", {"version": ("1.0.0", "0.0.1")}),
    _Answer("protobuf", "application/vnd.google.protobuf",
            {"proto": ("io.prometheus.client.MetricFamily",), "encoding": ("delimited",)}, needed=True),
)  # fmt: skip
_HEADER_MAX: Final = 4096  # characters read of a header; Prometheus 3 sends about 500


@dataclass(frozen=True, slots=True)
class _Wish:
    name: str
    parameters: dict[str, str]
    q: float


def wanted_format(accept: str) -> Format:
    """The format that a client prefers; of equals, what was named more exactly, then first; text where nothing fits."""
    wishes = list(enumerate(_wishes(accept)))
    best: tuple[float, int, int] | None = None
    chosen: Format = "text"
    for answer in _ANSWERS:
        # RFC 9110: what is said of a format by name outweighs what is said of it by a wildcard.
        fitting = [(_exactness(wish, answer), wish.q, -place) for place, wish in wishes]
        exactness, q, place = max(fitting, default=(0, 0.0, 0))
        rank = (q, exactness, place)
        if exactness and q and (best is None or rank > best):
            best, chosen = rank, answer.form
    return chosen


def _exactness(wish: _Wish, answer: _Answer) -> int:
    """How closely a wish names a format; 0: it names another."""
    if wish.name != answer.name:
        # Whoever wants protobuf says so: a wildcard stands for something to read.
        return 0 if answer.needed else {"*/*": 1, f"{answer.name.partition('/')[0]}/*": 2}.get(wish.name, 0)
    exactness = 3
    for parameter, values in answer.parameters.items():
        value = wish.parameters.get(parameter)
        if value is None and not answer.needed:
            continue
        if value not in values:
            return 0
        exactness = max(exactness, 5 if value == values[0] else 4)
    return exactness


def wants_gzip(accept_encoding: str) -> bool:
    """Whether gzip is welcome: named, or by a wildcard, and not refused by q=0."""
    weights = {wish.name: wish.q for wish in _wishes(accept_encoding)}
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return weight > 0 and weight >= weights.get("identity", 0.0)


def _wishes(header: str) -> list[_Wish]:
    wishes = []
    for part in header[:_HEADER_MAX].split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        values = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        q = _weight(values.pop("q", "1"))
        if name and q is not None:
            wishes.append(_Wish(name.lower(), values, q))
    return wishes


def _weight(text: str) -> float | None:
    try:
        q = float(text)
    except ValueError:
        return None
    return q if 0.0 <= q <= 1.0 else None
