"""A family's lines in the two text formats, to the byte as `prometheus_client` would write them.

Both share their sample lines; OpenMetrics names a counter without `_total` in its header, ends with EOF, and has
exemplars. No `_created` lines: without a feature flag Prometheus takes each for one series more.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Final, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest as own_text
from prometheus_client.openmetrics.exposition import generate_latest as own_openmetrics
from prometheus_client.utils import floatToGoString

from exporter.exemplars import LABEL, Exemplar
from exporter.metrics import Family, Labels, Shown

_WHOLE_MAX: Final = 1_000_000  # whole numbers below it are written plain; the library turns to exponents later

Key = tuple[str, str]  # store, integration


class Lines:
    """One of the text formats."""

    def __init__(self, form: Literal["text", "openmetrics"]) -> None:
        self._openmetrics = form == "openmetrics"

    def labels(self, key: Key) -> Key:
        """What all lines of an integration have, escaped once."""
        return escaped(key[0]), escaped(key[1])

    def block(self, family: Family, labels: Key, shown: Shown) -> bytes:
        """The lines of one integration in one family."""
        store, integration_id = labels
        exemplars = family.exemplars(shown) if self._openmetrics and family.exemplars is not None else {}
        lines = []
        for suffix, extra, value in family.samples(shown):
            head, middle = _shape(family.name, suffix, extra) if family.closed else _shaped(family.name, suffix, extra)
            line = f'{head}{integration_id}{middle}{store}"}} {_number(value)}'
            if exemplars and extra in exemplars:
                line += _exemplar(exemplars[extra])
            lines.append(f"{line}\n")
        return "".join(lines).encode("utf-8", "replace")

    def family(self, family: Family, blocks: Collection[bytes]) -> list[bytes]:
        return [self.header(family), *blocks]

    def header(self, family: Family) -> bytes:
        """HELP and TYPE."""
        name = f"{family.name}_total" if family.kind == "counter" and not self._openmetrics else family.name
        text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
        if self._openmetrics:
            text = text.replace('"', '\\"')
        return f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n".encode()

    def own(self, registry: CollectorRegistry) -> bytes:
        """What the exporter says about itself, by the library; with the format's end."""
        return (own_openmetrics if self._openmetrics else own_text)(registry)


def timed(family: Family, suffix: str, extra: Labels, key: Key, more: Labels) -> str:
    """What stands before value and time in a line of a series that has labels beyond those on the page."""
    labels = sorted((*extra, *more, ("integration_id", key[1]), ("store", key[0])))
    inner = ",".join(f'{name}="{escaped(text)}"' for name, text in labels)
    return f"{family.name}{suffix}{{{inner}}} "


def whole_or_not(value: float) -> str:
    """A number that is read back as it is, and no longer than it has to be."""
    return str(int(value)) if value.is_integer() else repr(value)


def _shaped(name: str, suffix: str, extra: Labels) -> tuple[str, str]:
    """What stands before the integration's id, and between it and the store: labels are written in order."""
    before = "".join(f'{label}="{escaped(text)}",' for label, text in extra if label < "integration_id")
    after = "".join(f',{label}="{escaped(text)}"' for label, text in sorted(extra) if label > "integration_id")
    return f'{name}{suffix}{{{before}integration_id="', f'"{after},store="'


_shape = cache(_shaped)


def escaped(value: str) -> str:
    """A label's value."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if type(value) is int and 0 <= value < _WHOLE_MAX:
        return f"{value}.0"
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def _exemplar(exemplar: Exemplar) -> str:
    seconds, nanoseconds = divmod(exemplar.at_ns, 1_000_000_000)
    labels = f'{LABEL}="{escaped(exemplar.job_id)}"'
    return f" # {{{labels}}} {_number(exemplar.value)} {seconds}.{nanoseconds:09d}"
