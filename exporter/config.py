"""YAML to frozen types, every problem at once.

The text is read as nodes, not as values, because nodes know their line: each problem is
`FILE:LINE: path: what was found, what is wanted`. A value under a secret key, or one that came from `!env` or `!file`,
is never printed. Nothing is clamped: a value outside its limits is a problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from exporter import logs, outbound
from exporter.configfile import (
    FILE_BYTES_MAX,
    Checksums,
    Read,
    Reader,
    choice,
    compose,
    duration,
    key_lines,
    kind_of,
    number,
    read_whole,
    shown,
    text_of,
)

STORES_MAX: Final = 1_000
NAME_MAX: Final = 100  # characters
HEADER_MAX: Final = 200
SECRET_BYTES_MAX: Final = 64 * 1024  # of a secret's file
# Log lines are searched for client ids too; a short one, as `demo` of the simulator, would blot out other words.
CLIENT_ID_MASKED_MIN: Final = 16


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
    """Every problem of a configuration, each a line that names the place; and the files that were read for it."""

    def __init__(self, problems: Iterable[str], files: Checksums | None = None) -> None:
        self.problems = tuple(problems)
        self.files = files if files is not None else Checksums()
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
    ca_pem: str | None = field(default=None, repr=False)  # of ca_file; None: the system's CAs
    proxy_url: Secret | None = None
    poll_interval: float = 30.0
    lookback: float = 900.0
    request_timeout: float = 10.0
    requests_per_second: float = 10.0
    page_limit: int = 100
    history: str = "skip"
    reconcile_interval: float = 900.0
    max_series: int = 20_000
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def secret(self) -> str:
        """The client secret; a file is read anew each time: it may have been rotated. Raises OSError, ValueError."""
        if self.client_secret_file is not None:
            try:
                text = _read_secret(self.client_secret_file)
            except ValueError as error:
                raise ValueError(f"{self.client_secret_file}: {error}") from None
        else:
            text = self.client_secret.reveal() if self.client_secret is not None else ""
        logs.register_secret(text)
        if len(self.client_id.reveal()) >= CLIENT_ID_MASKED_MIN:
            logs.register_secret(self.client_id.reveal())
        return text


@dataclass(frozen=True, slots=True)
class Config:
    stores: tuple[StoreConfig, ...]
    files: Checksums = field(default_factory=Checksums, compare=False, repr=False)  # that it was made of


def _read_secret(path: Path, read: Callable[[Path, int], bytes] = read_whole) -> str:
    """Raises OSError, and ValueError with what is wrong, in words without path or content."""
    content = read(path, SECRET_BYTES_MAX)
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("not text") from None
    if not text:
        raise ValueError("empty")
    if not text.isprintable():
        raise ValueError("more than one line, or not printable")
    return text


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
        _read_secret(where, reader.files.read)
    except OSError as error:
        reader.problem(scalar.line, path, f"{scalar.shown} cannot be read ({error.strerror or type(error).__name__})")
        return None
    except ValueError as error:
        reader.problem(scalar.line, path, f"{scalar.shown} is {error}, wanted the client secret in it")
        return None
    return where


def _url(reader: Reader, node: yaml.Node, path: str) -> Any:
    wanted = REQUIRED["api_url"]
    scalar = reader.scalar(node, path, wanted)
    if scalar is None:
        return None
    if scalar.null or not scalar.text.strip():
        reader.problem(scalar.line, path, f"empty, wanted {wanted}")
        return None
    if (wrong := _wrong_url(scalar.text)) is None:
        return scalar.text
    # It may hold a password before an @, and a token after a question mark.
    plain = re.split("[?#]", scalar.text)[0]
    found = scalar.shown
    if "@" in scalar.text:
        found = "a value"
    elif plain != scalar.text and found == shown(scalar.text):
        found = shown(f"{plain}…")
    reader.problem(scalar.line, path, f"{found}: {wrong}, wanted {wanted}")
    return None


def _wrong_url(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "not a URL"
    if parts.username is not None:
        return "a URL with a user or a password"
    if "?" in text or "#" in text:
        return "a URL with a query or a fragment"
    if (
        parts.scheme not in ("http", "https")
        or not _HOST.fullmatch(host)
        or port == 0
        or not _PATH.fullmatch(parts.path)
    ):
        return "not an http or https URL"
    if "v2" in parts.path.lower().split("/"):
        return "a URL with /v2, which is added by the exporter"
    return None


def _wrong_name(text: str) -> str | None:
    if len(text) > NAME_MAX:
        return f"longer than {NAME_MAX} characters"
    return None if text.isprintable() else "not printable"


def _wrong_header(text: str) -> str | None:
    if len(text) > HEADER_MAX:
        return f"longer than {HEADER_MAX} characters"
    return None if text.isascii() and text.isprintable() and text == text.strip() else "not fit for a header"


def _wrong_secret(text: str) -> str | None:
    """A newline that came along would be sent, and every token refused."""
    return None if text.isprintable() and text == text.strip() else "not printable, or with a space at an end"


# A host name, which may be international, or an IPv6 address.
_HOST: Final = re.compile(r"\w[\w.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?")
_PATH: Final = re.compile(r"(?:/[\w.~%!$&'()*+,;=:-]*)*", re.ASCII)

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
    "max_series": number(100, 1_000_000, whole=True),
    "integrations": _integrations,
}
STORE_KEYS: Final[Mapping[str, Read]] = {
    "name": text_of(REQUIRED["name"], _wrong_name),
    "api_url": _url,
    "client_id": text_of(REQUIRED["client_id"], _wrong_secret, secret=True),
    "client_secret": text_of("the client secret", _wrong_secret, secret=True),
    "client_secret_file": _file,
    "org_id": text_of("an organization's id", _wrong_header),
    "store_id": text_of("a store's id", _wrong_header),
    "ca_file": outbound.read_ca,
    "proxy_url": outbound.read_proxy,
}
# What many stores of an organization have in common: under `defaults` too. A credential is taken from there whole: a
# store with a `client_id` of its own has its own secret and organization, or none.
SHARED_KEYS: Final[Mapping[str, Read]] = {
    key: STORE_KEYS[key] for key in ("api_url", "client_id", "client_secret", "client_secret_file", "org_id")
}
_CREDENTIAL: Final = SHARED_KEYS.keys() - {"api_url"}
_SECRETS: Final = {"client_secret", "client_secret_file"}


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Raises ConfigError with every problem of the file."""
    reader = Reader(str(path), path.parent, environ)
    try:
        content = reader.files.read(path, FILE_BYTES_MAX)
    except OSError as error:
        wrong = f"{path}: cannot be read ({error.strerror or type(error).__name__})"
        raise ConfigError([wrong], reader.files) from None
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"], reader.files) from None
    root = compose(content, reader)
    stores = _stores(root, reader) if root is not None else []
    if reader.problems:
        raise ConfigError((text for _, text in sorted(reader.problems, key=lambda each: each[0])), reader.files)
    return Config(tuple(stores), reader.files)


def _stores(root: yaml.Node, reader: Reader) -> list[StoreConfig]:
    top = reader.mapping(root, "", ("stores", "defaults"))
    defaults, shared = _defaults(top, reader)
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
        path = f"stores[{i}]"
        values = _values(each, path, reader, {**STORE_KEYS, **DEFAULT_KEYS})
        if not isinstance(each, yaml.MappingNode):
            if kind_of(each) == "nothing":
                reader.problem(each.start_mark.line + 1, path, f"nothing, wanted a store with {', '.join(REQUIRED)}")
            continue
        lines = _present(each, path, reader, shared)
        name = values.get("name")
        if name is not None:
            if name in names:
                problem = f"{shown(name)} is the name of the store on line {names[name]} too"
                reader.problem(lines["name"], f"{path}.name", problem)
            names.setdefault(name, lines["name"])
        if not reader.problems:
            stores.append(_store({**_without_credential(defaults, lines.keys()), **values}))
    return stores


def _defaults(top: Mapping[str, tuple[yaml.Node, int]], reader: Reader) -> tuple[dict[str, Any], Set[str]]:
    """The values, and which of SHARED_KEYS are there, be they good or not."""
    if "defaults" not in top:
        return {}, frozenset()
    node, line = top["defaults"]
    there = key_lines(node).keys() & SHARED_KEYS.keys()
    if there >= _SECRETS:
        reader.problem(line, "defaults", "both client_secret and client_secret_file, wanted one of them")
    return _values(node, "defaults", reader, {**SHARED_KEYS, **DEFAULT_KEYS}), there


def _without_credential(defaults: Mapping[str, Any], own: Set[str]) -> dict[str, Any]:
    """What a store with these keys of its own takes from `defaults`."""
    left = _CREDENTIAL if "client_id" in own else _SECRETS if own & _SECRETS else frozenset[str]()
    return {key: value for key, value in defaults.items() if key not in left}


def _present(store: yaml.MappingNode, path: str, reader: Reader, shared: Set[str]) -> dict[str, int]:
    """The keys that a store has, with their lines; those that it lacks, and that are not `shared`, are problems."""
    line = store.start_mark.line + 1
    lines = key_lines(store)
    if "client_id" in lines:
        shared = shared - _CREDENTIAL
    for key, wanted in REQUIRED.items():
        if key not in lines and key not in shared:
            reader.problem(line, f"{path}.{key}", f"missing, wanted {wanted}")
    secrets = lines.keys() & _SECRETS
    if not secrets and not shared & _SECRETS:
        reader.problem(line, path, "neither client_secret nor client_secret_file, wanted one of them")
    elif len(secrets) == 2:
        reader.problem(line, path, "both client_secret and client_secret_file, wanted one of them")
    return lines


def _values(node: yaml.Node, path: str, reader: Reader, keys: Mapping[str, Read]) -> dict[str, Any]:
    found = reader.mapping(node, path, keys)
    values = {key: keys[key](reader, value, f"{path}.{key}") for key, (value, _) in found.items()}
    return {key: value for key, value in values.items() if value is not None}


def _store(values: dict[str, Any]) -> StoreConfig:
    integrations = values.pop("integrations", {})
    for key in ("client_id", "client_secret", "proxy_url"):
        if key in values:
            values[key] = Secret(values[key])
    if "ca_file" in values:
        values["ca_pem"] = values.pop("ca_file")
    store = StoreConfig(**values, **{key: integrations[key] for key in ("include", "exclude") if key in integrations})
    if store.client_secret is not None:
        store.secret()  # known to the log before anything can be said of it
    return store


def summary(config: Config, path: Path) -> str:
    """What `--config.check` says of a good file."""
    names = ", ".join(store.name for store in config.stores)
    return f"{path}: ok, {len(config.stores)} store{'s' if len(config.stores) != 1 else ''}: {names}"
