"""YAML to frozen types, every problem at once.

The text is read as nodes, not as values, because nodes know their line: each problem is
`FILE:LINE: path: what was found, what is wanted`. A value under a secret key, or one that came from `!env` or `!file`,
is never printed. Nothing is clamped: a value outside its limits is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from exporter import logs
from exporter.configfile import (
    FILE_BYTES_MAX,
    Read,
    Reader,
    choice,
    compose,
    duration,
    kind_of,
    number,
    shown,
    text_of,
)

STORES_MAX: Final = 1_000


class Secret:
    """A text that shows itself to nobody who does not ask for it by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("<secret>", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialized")


class ConfigError(Exception):
    """Every problem of a configuration, each a line that names the place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """One store, with the defaults filled in. Durations in seconds."""

    name: str
    api_url: str
    client_id: Secret
    client_secret: Secret | None = None
    client_secret_file: Path | None = None
    org_id: str | None = None
    store_id: str | None = None
    poll_interval: float = 30.0
    lookback: float = 900.0
    request_timeout: float = 10.0
    requests_per_second: float = 10.0
    page_limit: int = 100
    history: str = "skip"
    reconcile_interval: float = 900.0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def secret(self) -> str:
        """The client secret; a file is read anew each time: it may have been rotated. Raises OSError, ValueError."""
        if self.client_secret_file is None:
            return self.client_secret.reveal() if self.client_secret is not None else ""
        with self.client_secret_file.open("rb") as file:
            content = file.read(FILE_BYTES_MAX)
        try:
            text = content.decode().strip()
        except UnicodeDecodeError:
            raise ValueError("the secret's file is not text") from None
        if not text:
            raise ValueError("the secret's file is empty")
        logs.register_secret(text)
        return text


@dataclass(frozen=True, slots=True)
class Config:
    stores: tuple[StoreConfig, ...]


def _texts(reader: Reader, node: yaml.Node, path: str) -> Any:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return ()
    if not isinstance(node, yaml.SequenceNode):
        reader.problem(node.start_mark.line + 1, path, f"{kind_of(node)}, wanted a list of integration ids or names")
        return None
    read = text_of("an integration's id or name")
    return tuple(read(reader, item, f"{path}[{i}]") for i, item in enumerate(node.value))


def _integrations(reader: Reader, node: yaml.Node, path: str) -> Any:
    found = reader.mapping(node, path, ("include", "exclude"))
    return {key: _texts(reader, value, f"{path}.{key}") for key, (value, _) in found.items()}


def _file(reader: Reader, node: yaml.Node, path: str) -> Any:
    scalar = reader.scalar(node, path, "the path of a file")
    if scalar is None:
        return None
    if not scalar.text.strip() or "\0" in scalar.text:
        reader.problem(scalar.line, path, "empty, wanted the path of a file")
        return None
    where = reader.folder / scalar.text
    try:
        with where.open("rb") as file:
            empty = not file.read(FILE_BYTES_MAX).strip()
    except OSError as error:
        reader.problem(scalar.line, path, f"{scalar.shown} cannot be read ({error.strerror or type(error).__name__})")
        return None
    if empty:
        reader.problem(scalar.line, path, f"{scalar.shown} is empty, wanted the client secret in it")
        return None
    return where


def _wrong_name(text: str) -> str | None:
    return None if text.isprintable() and len(text) <= 100 else "too long, or not printable"


def _wrong_header(text: str) -> str | None:
    return None if text.isascii() and text.isprintable() and len(text) <= 200 else "not fit for a header"


def _wrong_url(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "not a URL"
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or not text.isprintable()
        or " " in text
    ):
        return "not an http or https URL"
    if parts.username is not None or parts.query or parts.fragment:
        return "a URL with more than a host in it"
    if re.search(r"/v2/?$", parts.path):
        return "a URL with /v2, which is added by the exporter"
    return None


REQUIRED: Final = {
    "name": "a name of 1 to 100 characters",
    "api_url": "the API's base URL, like https://euwest.api.elasticpath.com",
    "client_id": "the client id",
}

# Every key that may stand under `defaults` and in a store, with its limits; config.example.yaml documents them.
DEFAULT_KEYS: Final[Mapping[str, Read]] = {
    "poll_interval": duration(0.1, 3600),
    "lookback": duration(1, 86400),
    "request_timeout": duration(0.1, 120),
    "requests_per_second": number(0.1, 100),
    "page_limit": number(1, 100, whole=True),
    "history": choice("skip", "count"),
    "reconcile_interval": duration(1, 86400, zero=True),
    "integrations": _integrations,
}
STORE_KEYS: Final[Mapping[str, Read]] = {
    "name": text_of(REQUIRED["name"], _wrong_name),
    "api_url": text_of(REQUIRED["api_url"], _wrong_url),
    "client_id": text_of(REQUIRED["client_id"], _wrong_header, secret=True),
    "client_secret": text_of("the client secret", secret=True),
    "client_secret_file": _file,
    "org_id": text_of("an organization's id", _wrong_header),
    "store_id": text_of("a store's id", _wrong_header),
}


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Raises ConfigError with every problem of the file."""
    reader = Reader(str(path), path.parent, environ)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read ({error.strerror or type(error).__name__})"]) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}: larger than {FILE_BYTES_MAX} bytes"])
    root = compose(content, reader)
    stores = _stores(root, reader) if root is not None else []
    if reader.problems:
        raise ConfigError(text for _, text in sorted(reader.problems, key=lambda problem: problem[0]))
    return Config(tuple(stores))


def _stores(root: yaml.Node, reader: Reader) -> list[StoreConfig]:
    top = reader.mapping(root, "", ("stores", "defaults"))
    defaults: dict[str, Any] = {}
    if "defaults" in top:
        defaults = _values(top["defaults"][0], "defaults", reader, DEFAULT_KEYS)
    if "stores" not in top:
        reader.problem(root.start_mark.line + 1, "stores", "missing, wanted a list of stores")
        return []
    node, line = top["stores"]
    if not isinstance(node, yaml.SequenceNode) or not 1 <= len(node.value) <= STORES_MAX:
        found = f"{len(node.value)} stores" if isinstance(node, yaml.SequenceNode) else kind_of(node)
        reader.problem(line, "stores", f"{found}, wanted a list of 1 to {STORES_MAX} stores")
        return []
    stores = []
    names: dict[str, int] = {}
    for i, each in enumerate(node.value):
        path, line = f"stores[{i}]", each.start_mark.line + 1
        values = _values(each, path, reader, {**STORE_KEYS, **DEFAULT_KEYS})
        present = {key.value for key, _ in each.value if isinstance(key, yaml.ScalarNode)} if isinstance(
            each, yaml.MappingNode) else set()  # fmt: skip
        for key in REQUIRED:
            if key not in present and isinstance(each, yaml.MappingNode):
                reader.problem(line, f"{path}.{key}", f"missing, wanted {REQUIRED[key]}")
        secrets = present & {"client_secret", "client_secret_file"}
        if len(secrets) != 1 and isinstance(each, yaml.MappingNode):
            reader.problem(
                line, path, f"{'both' if secrets else 'neither'} client_secret and client_secret_file, wanted one"
            )
        name = values.get("name")
        if name is not None and name in names:
            reader.problem(line, f"{path}.name", f"{shown(name)} is the name of the store on line {names[name]} too")
        names.setdefault(name or "", line)
        if not reader.problems:
            stores.append(_store({**defaults, **values}))
    return stores


def _values(node: yaml.Node, path: str, reader: Reader, keys: Mapping[str, Read]) -> dict[str, Any]:
    found = reader.mapping(node, path, keys)
    values = {key: keys[key](reader, value, f"{path}.{key}") for key, (value, _) in found.items()}
    return {key: value for key, value in values.items() if value is not None}


def _store(values: dict[str, Any]) -> StoreConfig:
    integrations = values.pop("integrations", {})
    for key in ("client_id", "client_secret"):
        if key in values:
            values[key] = Secret(values[key])
    if "client_secret" in values:
        logs.register_secret(values["client_secret"].reveal())
    return StoreConfig(**values, **{key: integrations[key] for key in ("include", "exclude") if key in integrations})


def summary(config: Config, path: Path) -> str:
    """What `--config.check` says of a good file."""
    names = ", ".join(store.name for store in config.stores)
    return f"{path}: ok, {len(config.stores)} store{'s' if len(config.stores) != 1 else ''}: {names}"
