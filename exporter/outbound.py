"""How a store's API is reached: whose certificates are believed, and through which proxy; the keys, and what they make.

There is no key that turns verification off: a CA in `ca_file` does for a server of one's own what turning it off is
used for, and does not let everybody else in. Proxies come from the configuration alone: one from the environment would
be a way for whatever sets variables to read along.
"""

from __future__ import annotations

import re
import ssl
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiohttp
import yaml

from exporter import logs
from exporter.configfile import FILE_BYTES_MAX, Reader

CONNECTIONS_MAX: Final = 9  # of one store: the pages fetched ahead, and one more
LINE_BYTES_MAX: Final = 8 * 1024  # an answer's first line, and each of its headers
HEADERS_MAX: Final = 100
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_PROXY: Final = "an http proxy's URL, like http://proxy.example:3128 or http://user:password@proxy.example:3128"


def read_ca(reader: Reader, node: yaml.Node, path: str) -> Any:
    """`ca_file`: the PEM text."""
    wanted = "the path of a file with the API's CA in PEM"
    scalar = reader.scalar(node, path, wanted)
    if scalar is None:
        return None
    if not scalar.text.strip() or "\0" in scalar.text:
        reader.problem(scalar.line, path, f"empty, wanted {wanted}")
        return None
    try:
        # What stands around PEM blocks is for people, and may be of any encoding.
        pem = reader.files.read(reader.folder / scalar.text, FILE_BYTES_MAX).decode("ascii", "ignore")
        trusting(pem)
    except ssl.SSLError:
        wrong = "has no certificate in PEM that can be read"
    except OSError as error:
        wrong = f"cannot be read ({error.strerror or type(error).__name__})"
    except ValueError as error:
        wrong = f"is {error}"
    else:
        return pem
    reader.problem(scalar.line, path, f"{scalar.shown} {wrong}, wanted {wanted}")
    return None


def read_proxy(reader: Reader, node: yaml.Node, path: str) -> Any:
    """`proxy_url`: its text. Nothing of a wrong one is shown: what is no URL may be the password."""
    scalar = reader.scalar(node, path, _PROXY, secret=True)
    if scalar is None:
        return None
    if (wrong := _wrong_proxy(scalar.text)) is not None:
        reader.problem(scalar.line, path, f"a value that is {wrong}, wanted {_PROXY}")
        return None
    register_proxy(scalar.text)
    return scalar.text


def _wrong_proxy(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "no URL"
    if not text.strip() or not text.isprintable() or " " in text:
        return "empty, or with a space in it"
    if parts.scheme != "http":
        return "no http URL (the way to an https one is not supported: what goes through it to EPCC is TLS already)"
    if not _HOST.fullmatch(host) or port == 0:
        return "without a host"
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        return "more than a proxy's address (are / ? # of a password written %2F %3F %23?)"
    return None


def register_proxy(url: str) -> None:
    """Its credentials leave no log line, as they stand and as they are meant."""
    parts = urlsplit(url)
    for text in (url, parts.password or "", unquote(parts.password or "")):
        logs.register_secret(text)


def trusting(pem: str | None) -> ssl.SSLContext:
    """Certificates and host names are verified, by these CAs alone; None: by the system's. Raises SSLError."""
    if pem is None:
        return ssl.create_default_context()
    if "-----BEGIN" not in pem:
        raise ssl.SSLError("no PEM")
    context = ssl.create_default_context(cadata=pem)
    # What stands in the file is trusted, whether it signed itself or not: as with Go.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def new_session(ca_pem: str | None = None, proxy_url: str | None = None) -> aiohttp.ClientSession:
    """One store's connections."""
    # Cookies and environment proxies are nobody's wish here; compressed answers are opened under our own limit.
    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, ssl=True if ca_pem is None else trusting(ca_pem)),
        trust_env=False,
        proxy=proxy_url,
        max_line_size=LINE_BYTES_MAX,
        max_field_size=LINE_BYTES_MAX,
        max_headers=HEADERS_MAX,
    )
