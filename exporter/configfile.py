"""A YAML file as nodes that know their line, and what becomes of each: values, or problems.

Every problem is `FILE:LINE: path: what was found, what is wanted`. What a value is for, `config` knows.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

FILE_BYTES_MAX: Final = 1 << 20
NODES_MAX: Final = 10_000  # with aliases counted each time they are used
SHOWN_MAX: Final = 60  # characters of a value in a problem
_TAG: Final = "tag:yaml.org,2002:"
# What a scalar may be without a tag of its own; it is read as text all the same.
_IMPLICIT: Final = {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")}
_UNITS: Final = {  # in milliseconds, so that a sum is exact
    "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000,
}  # fmt: skip
_DURATION: Final = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)


def parse_duration(text: str) -> float | None:
    """Seconds of a duration as Prometheus writes it, like 500ms or 1h30m; None: not one, as a bare number is not."""
    if text == "0":
        return None
    match = _DURATION.fullmatch(text) if text and len(text) <= 50 else None
    if match is None:
        return None
    parts = zip(match.groups(), ("y", "w", "d", "h", "m", "s", "ms"), strict=True)
    return sum(int(part) * _UNITS[unit] for part, unit in parts if part is not None) / 1000


def show_duration(seconds: float) -> str:
    """As Prometheus writes it."""
    left = round(seconds * 1000)
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        number, left = divmod(left, _UNITS[unit])
        parts.append(f"{number}{unit}" if number else "")
    return "".join(parts) or "0s"


def read_whole(path: Path, bytes_max: int) -> bytes:
    """Raises OSError, and ValueError with what is wrong, in words without path or content."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")  # a pipe would be waited for, and can be read only once
    with path.open("rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise ValueError(f"larger than {bytes_max} bytes")
    return content


class Checksums:
    """The files that a configuration was made of, known again by their content.

    Content, as Prometheus' own reload does it, and not times or inodes: whatever swaps a file (an editor, a Kubernetes
    volume's `..data` link) is seen, and what only touches it is not.
    """

    def __init__(self) -> None:
        self._sums: dict[Path, bytes | None] = {}

    def read(self, path: Path, bytes_max: int) -> bytes:
        """As `read_whole`; what was read is what is remembered, so nothing is missed in between."""
        self._sums[path] = None
        content = read_whole(path, bytes_max)
        self._sums[path] = hashlib.sha256(content).digest()
        return content

    def changed(self) -> bool:
        """Whether a file has another content now, has come or gone. Reads them all: not for the event loop."""
        return any(_checksum(path) != known for path, known in self._sums.items())


def _checksum(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(read_whole(path, FILE_BYTES_MAX)).digest()
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar's text. `shown` is what a problem may print of it."""

    text: str
    line: int
    plain: bool  # not quoted: `5` is a number, "5" is text
    shown: str
    null: bool = False
    given: bool = True  # it stands in the file itself: not from !env or !file


@dataclass(slots=True)
class Reader:
    """Nodes to values. Problems gather; a value with a problem is None and goes no further."""

    file: str
    folder: Path
    environ: Mapping[str, str]
    problems: list[tuple[int, str]] = field(default_factory=list)
    files: Checksums = field(default_factory=Checksums)

    def problem(self, line: int, path: str, text: str) -> None:
        where = f"{path}: " if path else ""
        self.problems.append((line, f"{self.file}:{line}: {where}{text}"))

    def scalar(self, node: yaml.Node, path: str, wanted: str, *, secret: bool = False) -> Scalar | None:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
            self.problem(line, path, f"{kind}, wanted {wanted}")
            return None
        text = node.value
        if node.tag == "!env":
            if text not in self.environ:
                # Under a secret key, what is no name may be the secret itself.
                name = f" {shown(text)}" if not secret or re.fullmatch(r"[A-Z_][A-Z0-9_]*", text, re.ASCII) else ""
                self.problem(line, path, f"the environment variable{name} is not set")
                return None
            return Scalar(self.environ[text], line, True, f"the value of {text}", given=False)
        if node.tag == "!file":
            return self._from_file(text, line, path, secret=secret)
        if node.tag not in _IMPLICIT:
            close = difflib.get_close_matches(node.tag, ["!env", "!file"], n=1)
            hint = f", did you mean {close[0]}?" if close else "; there are !env NAME and !file PATH"
            self.problem(line, path, f"unknown tag{'' if secret else f' {shown(node.tag)}'}{hint}")
            return None
        null = node.tag == f"{_TAG}null" and node.style is None
        return Scalar(text, line, node.style is None, "a value" if secret else shown(text), null)

    def _from_file(self, name: str, line: int, path: str, *, secret: bool) -> Scalar | None:
        try:
            content = self.files.read(self.folder / name, FILE_BYTES_MAX)
            return Scalar(content.decode().strip(), line, True, f"the content of {name}", given=False)
        except UnicodeDecodeError:
            wrong = "not UTF-8"
        except OSError as error:
            wrong = error.strerror or type(error).__name__
        except ValueError as error:
            wrong = str(error)
        self.problem(line, path, f"the file{'' if secret else f' {shown(name)}'} cannot be read ({wrong})")
        return None

    def mapping(self, node: yaml.Node, path: str, known: Iterable[str]) -> dict[str, tuple[yaml.Node, int]]:
        """The values by key, with the line of the key; unknown and duplicate keys are problems."""
        line = node.start_mark.line + 1
        known = sorted(known)
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return {}
        if not isinstance(node, yaml.MappingNode):
            self.problem(line, path, f"{kind_of(node)}, wanted a mapping with keys {', '.join(known)}")
            return {}
        found: dict[str, tuple[yaml.Node, int]] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            here = f"{path}.{key}" if path else str(key)
            if key == "<<" and key_node.tag == f"{_TAG}merge":
                self.problem(line, here, "merge keys are not read, wanted each key where it belongs")
            elif key is None:
                self.problem(line, path, f"{kind_of(key_node)} as a key, wanted one of {', '.join(known)}")
            elif key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f", did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"
                name, colon, _ = key.partition(":")
                if colon:
                    # In `{client_secret:x}` the secret is a part of the key.
                    key, hint = f"{name}:…", ": is a space missing behind the colon?"
                key = _cut(key) if key.isprintable() else shown(key)
                self.problem(line, f"{path}.{key}" if path else key, f"unknown key{hint}")
            elif key in found:
                self.problem(line, here, f"duplicate key, first on line {found[key][1]}")
            else:
                found[key] = (value, line)
        return found


Read = Callable[[Reader, yaml.Node, str], Any]


def text_of(wanted: str, check: Callable[[str], str | None] = lambda text: None, *, secret: bool = False) -> Read:
    """`check` says what is wrong with a text, or None."""

    def read(reader: Reader, node: yaml.Node, path: str) -> Any:
        scalar = reader.scalar(node, path, wanted, secret=secret)
        if scalar is None:
            return None
        if scalar.null or not scalar.text.strip():
            reader.problem(scalar.line, path, f"empty, wanted {wanted}")
            return None
        if (wrong := check(scalar.text)) is not None:
            found = "a value" if "@" in scalar.text else scalar.shown  # a URL may hold a password
            reader.problem(scalar.line, path, f"{found}: {wrong}, wanted {wanted}")
            return None
        return scalar.text

    return read


def duration(low: float, high: float, *, zero: bool = False) -> Read:
    wanted = f"a duration from {show_duration(low)} to {show_duration(high)}" + (", or 0s" if zero else "")

    def read(reader: Reader, node: yaml.Node, path: str) -> Any:
        scalar = reader.scalar(node, path, wanted)
        if scalar is None:
            return None
        seconds = parse_duration(scalar.text)
        if seconds is None:
            unit = f"write {scalar.text}s?" if scalar.given else "its unit is missing"
            hint = f" ({unit})" if scalar.text.isdigit() and len(scalar.text) < 10 else ""
            reader.problem(
                scalar.line, path, f"{scalar.shown} is not a duration{hint}, wanted {wanted}, like 30s or 1h30m"
            )
        elif not (low <= seconds <= high or (zero and seconds == 0)):
            reader.problem(scalar.line, path, f"{scalar.shown} is outside the limits, wanted {wanted}")
        else:
            return seconds
        return None

    return read


def number(low: float, high: float, *, whole: bool = False) -> Read:
    wanted = f"a {'whole ' if whole else ''}number from {low:g} to {high:g}"

    def read(reader: Reader, node: yaml.Node, path: str) -> Any:
        scalar = reader.scalar(node, path, wanted)
        if scalar is None:
            return None
        form = r"-?[0-9]{1,12}" if whole else r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?"
        if not scalar.plain or not re.fullmatch(form, scalar.text):
            reader.problem(scalar.line, path, f"{scalar.shown} is not a number, wanted {wanted}")
            return None
        number = int(scalar.text) if whole else float(scalar.text)
        if not low <= number <= high:
            reader.problem(scalar.line, path, f"{scalar.shown} is outside the limits, wanted {wanted}")
            return None
        return number

    return read


def choice(*choices: str) -> Read:
    wanted = " or ".join(choices)

    def read(reader: Reader, node: yaml.Node, path: str) -> Any:
        scalar = reader.scalar(node, path, wanted)
        if scalar is None or scalar.text in choices:
            return scalar.text if scalar is not None else None
        close = difflib.get_close_matches(scalar.text, choices, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        reader.problem(scalar.line, path, f"{scalar.shown}, wanted {wanted}{hint}")
        return None

    return read


def compose(content: bytes, reader: Reader, wanted: str = "one with the key stores") -> yaml.Node | None:
    try:
        text = content.decode("utf-8-sig")
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except UnicodeDecodeError as error:
        reader.problem(content.count(b"\n", 0, error.start) + 1, "", "not UTF-8")
        return None
    except yaml.reader.ReaderError as error:
        reader.problem(text.count("\n", 0, error.position) + 1, "", "not YAML: it holds a control character")
        return None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        # The library's text may quote the line, and with it a secret: only its own words are taken, and of those no
        # name, for a secret that begins with * or ! looks like one.
        words = getattr(error, "problem", None) if isinstance(error, yaml.MarkedYAMLError) else None
        words = re.sub(r"'[\w!-]{2,}'", "'…'", words or "cannot be parsed, or nested too deeply")
        reader.problem(mark.line + 1 if mark is not None else 1, "", f"not YAML: {words}")
        return None
    if len(documents) != 1:
        reader.problem(1, "", f"{len(documents)} documents, wanted {wanted}")
    elif _nodes(documents[0], NODES_MAX) < 0:
        reader.problem(1, "", f"more than {NODES_MAX} values")
    else:
        _mind_tags(documents[0], reader)
        return documents[0]
    return None


def _mind_tags(root: yaml.Node, reader: Reader) -> None:
    """Tags where they mean nothing: on lists, mappings and keys. Those of values are `Reader.scalar`'s."""
    stack, seen = [root], set()
    while stack:
        each = stack.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        keys = [key for key, _ in each.value] if isinstance(each, yaml.MappingNode) else []
        tagged: list[yaml.Node] = [key for key in keys if isinstance(key, yaml.ScalarNode) and key.tag not in _IMPLICIT]
        if isinstance(each, yaml.CollectionNode) and each.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            tagged.append(each)
        for node in tagged:
            what = "a key" if isinstance(node, yaml.ScalarNode) else kind_of(node)
            reader.problem(node.start_mark.line + 1, "", f"a tag on {what}, wanted none")
        if isinstance(each, yaml.SequenceNode):
            stack.extend(each.value)
        elif isinstance(each, yaml.MappingNode):
            stack.extend(part for pair in each.value for part in pair)


def _nodes(node: yaml.Node, left: int) -> int:
    """What is left of `left` when each use of each node was counted; negative: too many, or an alias to itself."""
    stack = [node]
    while stack and left >= 0:
        each = stack.pop()
        left -= 1
        if isinstance(each, yaml.SequenceNode):
            stack.extend(each.value)
        elif isinstance(each, yaml.MappingNode):
            stack.extend(part for pair in each.value for part in pair)
    return left


def key_lines(mapping: yaml.Node) -> dict[str, int]:
    """The keys of a mapping, with their lines."""
    lines: dict[str, int] = {}
    for key, _ in mapping.value if isinstance(mapping, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            lines.setdefault(key.value, key.start_mark.line + 1)
    return lines


def kind_of(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if node.tag == "tag:yaml.org,2002:null" else "a single value"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def shown(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"
