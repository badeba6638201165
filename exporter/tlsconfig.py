"""`tls_server_config` of the web configuration: its keys, and what has to go together.

Keys and their meaning are those of exporter-toolkit's docs/web-configuration.md; what OpenSSL makes of them, and what
is refused for want of a way, `webtls` knows.
"""

from __future__ import annotations

import difflib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from exporter.config import Secret
from exporter.configfile import Read, Reader, kind_of, shown, text_of
from exporter.watched import Watched, why_unread
from exporter.webtls import (
    CLIENT_AUTH,
    CLIENT_AUTH_REFUSED,
    CURVES,
    SUITES,
    SUITES_REFUSED,
    VERSIONS,
    VERSIONS_REFUSED,
    ServerContext,
    Tls,
    TlsError,
    make_context,
    wrong_certificates,
    wrong_key,
)

PATH: Final = "tls_server_config"
LIST_MAX: Final = 1_000
_A_SUITE: Final = "one of Go's secure cipher suites, like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
REQUIRED: Final = "client_auth_type: RequireAndVerifyClientCert"


def boolean(reader: Reader, node: yaml.Node, path: str) -> Any:
    wanted = "true or false"
    scalar = reader.scalar(node, path, wanted)
    if scalar is None:
        return None
    # The words of YAML 1.1, which exporter-toolkit reads.
    word = scalar.text.lower() if scalar.plain else ""
    if word not in ("true", "yes", "on", "false", "no", "off"):
        reader.problem(scalar.line, path, f"{scalar.shown}, wanted {wanted}")
        return None
    return word in ("true", "yes", "on")


def read_tls(node: yaml.Node, line: int, reader: Reader, files: Watched) -> tuple[Tls, ServerContext] | None:
    """The section, and the context made of it; None: a problem. `line` is its key's."""
    before = len(reader.problems)
    keys = _keys(files)
    found = reader.mapping(node, PATH, keys)
    lines = {key: at for key, (_, at) in found.items()}
    values = {key: keys[key](reader, value, f"{PATH}.{key}") for key, (value, _) in found.items()}

    def problem(key: str, wrong: str) -> None:
        reader.problem(lines.get(key, line), f"{PATH}.{key}", wrong)

    _mind_what_goes_together(values, problem)
    if len(reader.problems) > before:
        return None
    for key in ("cert", "key", "client_ca"):
        if f"{key}_file" in values:
            values[key] = values.pop(f"{key}_file")
    tls = Tls(**values)
    try:
        return tls, make_context(tls)
    except TlsError as error:
        problem(error.key, str(error))
        return None


def _mind_what_goes_together(values: Mapping[str, Any], problem: Callable[[str, str], None]) -> None:
    """`values` by the keys that are there, None for what has a problem of its own."""
    for key, wanted in (("cert", "the server's certificate in PEM"), ("key", "the server's private key in PEM")):
        if key not in values and f"{key}_file" not in values:
            problem(f"{key}_file", f"missing, wanted {wanted}")
    for key in ("cert", "key", "client_ca"):
        if key in values and f"{key}_file" in values:
            problem(key, f"both {key} and {key}_file, wanted one of them")
    asked = values.get("client_auth_type", ssl.CERT_NONE)
    if asked is None:
        return
    ca = next((key for key in ("client_ca_file", "client_ca") if key in values), None)
    if ca is not None and asked is ssl.CERT_NONE:
        problem(ca, f"no client is asked for a certificate, wanted {REQUIRED} too")
    if ca is None and asked is not ssl.CERT_NONE:
        problem("client_ca_file", "missing, wanted the clients' CA in PEM: else any public CA's certificate would do")
    if "client_allowed_sans" in values and asked is not ssl.CERT_REQUIRED:
        problem("client_allowed_sans", f"a client may come without a certificate, wanted {REQUIRED} too")


def _named(meanings: Mapping[str, Any], refused: Mapping[str, str], wanted: str = "") -> Read:
    """One of Go's names, to its meaning; those that cannot be had here are refused with the reason."""
    wanted = wanted or " or ".join(meanings)

    def read(reader: Reader, node: yaml.Node, path: str) -> Any:
        scalar = reader.scalar(node, path, wanted)
        if scalar is None or scalar.text in meanings:
            return None if scalar is None else meanings[scalar.text]
        if scalar.text in refused:
            reader.problem(
                scalar.line, path, f"{scalar.text} is not supported: {refused[scalar.text]}; wanted {wanted}"
            )
            return None
        close = difflib.get_close_matches(scalar.text, meanings, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        reader.problem(scalar.line, path, f"{scalar.shown}, wanted {wanted}{hint}")
        return None

    return read


def _list_of(what: str, each: Read) -> Read:
    def read(reader: Reader, node: yaml.Node, path: str) -> Any:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.SequenceNode) or not 1 <= len(node.value) <= LIST_MAX:
            found = f"{len(node.value)} {what}" if isinstance(node, yaml.SequenceNode) else kind_of(node)
            reader.problem(line, path, f"{found}, wanted a list of 1 to {LIST_MAX} {what}")
            return None
        read = tuple(each(reader, item, f"{path}[{i}]") for i, item in enumerate(node.value))
        return None if None in read else read

    return read


def _one_curve(reader: Reader, node: yaml.Node, path: str) -> Any:
    curves = _list_of("curves", _named({name: name for name in CURVES}, {}))(reader, node, path)
    if curves is not None and len(curves) > 1:
        wrong = "Python's ssl can hold to one curve or leave them all to OpenSSL, and not to an order of several"
        reader.problem(node.start_mark.line + 1, path, f"{len(curves)} curves are not supported: {wrong}; wanted one")
        return None
    return curves[0] if curves else None


def _pem_file(files: Watched, what: str, read_pem: Callable[[Path, str], tuple[Any, str | None]]) -> Read:
    """`read_pem` gets the path and its text, and gives the value and what is wrong with it, or None."""
    path_of = text_of(f"the path of a file with {what}", lambda text: "not a path" if "\0" in text else None)

    def read(reader: Reader, node: yaml.Node, path: str) -> Any:
        name = path_of(reader, node, path)
        if name is None:
            return None
        where = reader.folder / name
        try:
            # What stands around PEM blocks is for people, and may be of any encoding.
            pem = files.read(where).decode("ascii", "ignore")
        except (OSError, ValueError) as error:
            wrong: str | None = f"cannot be read ({why_unread(error)})"
        else:
            value, wrong = read_pem(where, pem)
        if wrong is not None:
            reader.problem(node.start_mark.line + 1, path, f"{shown(name)}: {wrong}")
            return None
        return value

    return read


def _sans(reader: Reader, node: yaml.Node, path: str) -> Any:
    names = _list_of("names", text_of("a DNS name, an IP or e-mail address, or a URI"))(reader, node, path)
    return None if names is None else frozenset(names)


def _secret_key(reader: Reader, node: yaml.Node, path: str) -> Any:
    key = text_of("a private key in PEM", wrong_key, secret=True)(reader, node, path)
    return None if key is None else Secret(key)


def _keys(files: Watched) -> Mapping[str, Read]:
    return {
        "cert_file": _pem_file(files, "a certificate", lambda path, pem: (path, wrong_certificates(pem))),
        "key_file": _pem_file(files, "a private key", lambda path, pem: (path, wrong_key(pem))),
        "client_ca_file": _pem_file(files, "the clients' CA", lambda path, pem: (pem, wrong_certificates(pem))),
        # A key may have strayed into the wrong place: none of these is shown.
        "cert": text_of("a certificate in PEM", wrong_certificates, secret=True),
        "key": _secret_key,
        "client_ca": text_of("the clients' CA in PEM", wrong_certificates, secret=True),
        "client_auth_type": _named(CLIENT_AUTH, CLIENT_AUTH_REFUSED),
        "client_allowed_sans": _sans,
        "min_version": _named(VERSIONS, VERSIONS_REFUSED),
        "max_version": _named(VERSIONS, VERSIONS_REFUSED),
        "cipher_suites": _list_of("cipher suites", _named({name: name for name in SUITES}, SUITES_REFUSED, _A_SUITE)),
        "prefer_server_cipher_suites": boolean,
        "curve_preferences": _one_curve,
    }
