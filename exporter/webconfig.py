"""`--web.config.file`: exporter-toolkit's keys, to what the server needs, every problem at once.

The keys are those of exporter-toolkit's docs/web-configuration.md. Where that lets a file pass that asks for protection
and gets none (an empty tls_server_config, a list without users), it is refused here.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from exporter import passwords
from exporter.configfile import Read, Reader, compose, kind_of, number, parse_duration, shown
from exporter.tlsconfig import PATH, boolean, read_tls
from exporter.watched import Watched, why_unread
from exporter.webtls import ServerContext, Tls

USERS_MAX: Final = 1_000
USER_MAX: Final = 255  # characters
HEADER_MAX: Final = 4_096  # characters: what clients read of all headers together is often 8 KiB
INTERVAL_MAX_SECONDS: Final = 86_400.0
BURST_MAX: Final = 1_000_000
STRING: Final = "tag:yaml.org,2002:str"
KEYS: Final = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
# exporter-toolkit's closed set, with the values that it allows; none: any.
HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A bucket of `burst` requests, refilled by one each `interval_seconds`."""

    interval_seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """As it is, it is that of an exporter without the file: no TLS, no users, nothing added."""

    tls: Tls | None = None
    context: ServerContext | None = None  # made of `tls`
    users: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)  # name → bcrypt hash
    headers: Mapping[str, str] = field(default_factory=dict)
    rate_limit: RateLimit | None = None

    @property
    def asks_for(self) -> frozenset[str]:
        """What a client has to bring, in words."""
        wanted = {"TLS": self.tls is not None, "a password": bool(self.users)}
        if self.tls is not None:
            wanted["a client certificate"] = self.tls.client_auth_type is ssl.CERT_REQUIRED
            wanted["a name in client_allowed_sans"] = self.tls.client_allowed_sans is not None
        return frozenset(what for what, is_wanted in wanted.items() if is_wanted)

    @property
    def knows_who_asks(self) -> bool:
        """Whether nobody is answered without a password or a verified certificate."""
        return not self.asks_for.isdisjoint({"a password", "a client certificate"})

    def summary(self) -> dict[str, object]:
        """For a log line and for `--config.check`."""
        tls, told = self.tls, dict[str, object](tls="off")
        if tls is not None:
            versions = dict.fromkeys((tls.min_version.name, tls.max_version.name))
            told["tls"] = " to ".join(versions).replace("TLSv1_", "1.")
            told["client_certificates"] = {
                ssl.CERT_NONE: "none", ssl.CERT_OPTIONAL: "verified if given", ssl.CERT_REQUIRED: "required",
            }[tls.client_auth_type]  # fmt: skip
        return {**told, "http2": "false", "users": len(self.users)}  # HTTP/1.1 is what is spoken, whatever is asked for


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at the file has shown; `config` is None where there are problems."""

    config: WebConfig | None
    problems: tuple[str, ...]
    files: Watched  # all that it rests on: the file, certificates, keys


def read(path: Path) -> Reading:
    """Raises nothing: what cannot be read is a problem."""
    files, reader = Watched(), Reader(str(path), path.parent, {})
    try:
        content = files.read(path)
    except (OSError, ValueError) as error:
        return Reading(None, (f"{path}: cannot be read ({why_unread(error)})",), files)
    config = WebConfig()
    if any(line.strip() and not line.lstrip().startswith(b"#") for line in content.splitlines()):
        root = compose(content, reader, f"one with the keys {', '.join(KEYS)}")
        if root is not None:
            _refuse_tags(root, reader)
            config = _config(root, reader, files)
    if reader.problems:
        return Reading(None, tuple(each for _, each in sorted(reader.problems, key=lambda each: each[0])), files)
    return Reading(config, (), files)


def _refuse_tags(root: yaml.Node, reader: Reader) -> None:
    """`!env` and `!file` belong to the exporter's own file: other readers of this one would take them for nothing."""
    stack, seen = [root], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            stack.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(node.value)
        elif node.tag.startswith("!"):
            reader.problem(node.start_mark.line + 1, "", "a tag, wanted the value itself: this file knows no tags")
            node.tag = STRING


def _config(root: yaml.Node, reader: Reader, files: Watched) -> WebConfig:
    top = reader.mapping(root, "", KEYS)
    config: dict[str, Any] = {}
    if PATH in top:
        config["tls"], config["context"] = read_tls(*top[PATH], reader, files) or (None, None)
    if "http_server_config" in top:
        config["headers"] = _headers(top["http_server_config"][0], reader)
    if "basic_auth_users" in top:
        config["users"] = _users(*top["basic_auth_users"], reader)
    if "rate_limit" in top:
        config["rate_limit"] = _rate_limit(*top["rate_limit"], reader)
    return WebConfig(**config)


def _headers(node: yaml.Node, reader: Reader) -> Mapping[str, str]:
    found = reader.mapping(node, "http_server_config", ("http2", "headers"))
    if "http2" in found:
        boolean(reader, found["http2"][0], "http_server_config.http2")
    if "headers" not in found:
        return {}
    path = "http_server_config.headers"
    headers = {}
    for name, (value, line) in reader.mapping(found["headers"][0], path, HEADERS).items():
        allowed = HEADERS[name]
        wanted = " or ".join(allowed) or "a header's value"
        scalar = reader.scalar(value, f"{path}.{name}", wanted)
        if scalar is None:
            continue
        if allowed and scalar.text not in allowed:
            reader.problem(line, f"{path}.{name}", f"{scalar.shown}, wanted {wanted}")
        elif not re.fullmatch(r"[\x20-\x7e]*", scalar.text) or len(scalar.text) > HEADER_MAX:
            wrong = f"not fit for a header, wanted at most {HEADER_MAX} printable ASCII characters"
            reader.problem(line, f"{path}.{name}", f"{scalar.shown}: {wrong}")
        elif text := scalar.text.strip():
            headers[name] = text  # a blank one is none
    return headers


def _users(node: yaml.Node, line: int, reader: Reader) -> Mapping[bytes, bytes]:
    path, wanted = "basic_auth_users", f"1 to {USERS_MAX} users, each with a bcrypt hash"
    if not isinstance(node, yaml.MappingNode) or not 1 <= len(node.value) <= USERS_MAX:
        found = f"{len(node.value)} users" if isinstance(node, yaml.MappingNode) else kind_of(node)
        reader.problem(line, path, f"{found}, wanted {wanted}; without the key nobody is asked for a password")
        return {}
    users: dict[bytes, bytes] = {}
    for key, value in node.value:
        at = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            reader.problem(at, path, f"{kind_of(key)} as a user's name, wanted {wanted}")
            continue
        # Behind a colon there may be the hash, or the password itself.
        name, colon, _ = key.value.partition(":")
        here = f"{path}.{name if name.isprintable() and len(name) <= USER_MAX else shown(name)}"
        if colon:
            reader.problem(at, f"{here}:…", "a colon in a user's name: is a space missing behind it?")
        elif not name or not name.isprintable() or len(name) > USER_MAX:
            reader.problem(at, here, f"not a user's name, wanted 1 to {USER_MAX} printable characters")
        elif name.encode() in users:
            reader.problem(at, here, "duplicate key")
        else:
            users[name.encode()] = _hash(value, here, name, reader)
    return users


def _hash(node: yaml.Node, path: str, user: str, reader: Reader) -> bytes:
    """Empty where there is a problem. The value is never shown: it may be the password itself."""
    wanted = f"a bcrypt hash of cost {passwords.COST_MIN} to {passwords.COST_MAX}, as htpasswd -nBC 10 prints it"
    scalar = reader.scalar(node, path, wanted, secret=True)
    if scalar is None:
        return b""
    hashed = scalar.text.encode()
    cost = passwords.cost_of(hashed)
    if cost is None:
        strayed = " with the user's name before it" if scalar.text.startswith(f"{user}:") else ""
        reader.problem(scalar.line, path, f"a value{strayed} that is no bcrypt hash, wanted {wanted}")
    elif not passwords.COST_MIN <= cost <= passwords.COST_MAX:
        reader.problem(scalar.line, path, f"a hash of cost {cost}, wanted {wanted}")
    return hashed


def _rate_limit(node: yaml.Node, line: int, reader: Reader) -> RateLimit | None:
    """None: an interval of 0, which is exporter-toolkit's word for none."""
    path = "rate_limit"
    found = reader.mapping(node, path, ("interval", "burst"))
    interval = _interval(found["interval"][0], reader) if "interval" in found else 0.0
    read_burst: Read = number(0, BURST_MAX, whole=True)
    burst = read_burst(reader, found["burst"][0], f"{path}.burst") if "burst" in found else 0
    if not interval or burst is None:
        return None
    if burst == 0:
        at = found["burst"][1] if "burst" in found else line
        reader.problem(at, f"{path}.burst", f"0 requests, wanted 1 to {BURST_MAX}: else all of them would be refused")
        return None
    return RateLimit(interval, burst)


def _interval(node: yaml.Node, reader: Reader) -> float | None:
    path, wanted = "rate_limit.interval", "a duration from 1ms to 1d, like 1s, or 0 for no limit"
    scalar = reader.scalar(node, path, wanted)
    if scalar is None:
        return None
    seconds = 0.0 if scalar.text == "0" else parse_duration(scalar.text)
    if seconds is None or seconds > INTERVAL_MAX_SECONDS:
        reader.problem(scalar.line, path, f"{scalar.shown}, wanted {wanted}")
        return None
    return seconds
