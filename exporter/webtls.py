"""TLS as exporter-toolkit's file names it, which is as Go does, to what OpenSSL through Python's ssl can do.

What it cannot do is refused by name, with the reason: nobody is served with less than the file asks for. The names are
those of Go's crypto/tls and of exporter-toolkit's docs/web-configuration.md.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporter.config import Secret

VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD: Final = "TLS 1.0 and 1.1 are broken (RFC 8996), and OpenSSL does not speak them at its usual security level"
VERSIONS_REFUSED: Final = {"TLS10": _OLD, "TLS11": _OLD}

CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = "Python's ssl cannot ask for a certificate without verifying it"
CLIENT_AUTH_REFUSED: Final = {
    "RequestClientCert": _UNVERIFIED,
    "RequireAnyClientCert": _UNVERIFIED,
    "RequireClientCert": _UNVERIFIED,  # exporter-toolkit's older name of the one above
}

# Up to TLS 1.2, by Go's name; those of TLS 1.3 are always on, with Go as with Python.
SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_AES_128_GCM_SHA256": None,
    "TLS_AES_256_GCM_SHA384": None,
    "TLS_CHACHA20_POLY1305_SHA256": None,
}
_NO_SECRECY: Final = "without forward secrecy, and no longer among Go's secure suites"
SUITES_REFUSED: Final = dict.fromkeys(
    (f"TLS_RSA_WITH_AES_{cipher}" for cipher in ("128_CBC_SHA", "256_CBC_SHA", "128_GCM_SHA256", "256_GCM_SHA384")),
    _NO_SECRECY,
)
CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}


class TlsError(Exception):
    """`key` of tls_server_config, and what is wrong with its value: never the value."""

    def __init__(self, key: str, wrong: str) -> None:
        self.key = key
        super().__init__(wrong)


class _EncryptedKeyError(Exception):
    """OpenSSL asks for a passphrase; without this it would ask on the terminal."""


class _NoFilesInMemoryError(Exception):
    """What stands inline has nowhere to go but a disk."""


@dataclass(frozen=True, slots=True)
class Tls:
    """tls_server_config. A certificate or a key is a file, or the PEM text itself."""

    cert: Path | str
    key: Path | Secret
    client_ca: str | None = None  # PEM
    client_auth_type: ssl.VerifyMode = ssl.CERT_NONE
    client_allowed_sans: frozenset[str] | None = None  # None: any
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    cipher_suites: tuple[str, ...] = ()  # Go's names; none: OpenSSL's choice
    prefer_server_cipher_suites: bool = True
    curve_preferences: str | None = None  # Go's name of one; None: OpenSSL's choice

    @property
    def trust(self) -> object:
        """What a client was let in by: where it differs, a connection made before has to go."""
        return self.client_auth_type, self.client_ca


class ServerContext(ssl.SSLContext):
    """A context, and whom it trusts."""

    trust: object = None


class ListeningContext(ssl.SSLContext):
    """What a listening socket holds on to: each new connection gets the context that is current then.

    asyncio makes a connection's TLS with `wrap_bio`. An `sni_callback` would renew the certificate alone, not the
    clients' CA, versions or suites, and `load_cert_chain` on a context in use never forgets a CA.
    """

    current: Callable[[], ServerContext | None]

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        context = self.current()
        if context is None:
            raise ssl.SSLError("no TLS is configured")  # never plain text instead
        return context.wrap_bio(*args, **kwargs)


def make_context(tls: Tls) -> ServerContext:
    """Raises TlsError."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.trust = tls.trust
    # HTTP/1.1 alone is spoken here: a client that offers HTTP/2 too is told so, and one that offers nothing is served.
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _set_versions_and_suites(context, tls)
    if tls.curve_preferences is not None:
        try:
            context.set_ecdh_curve(CURVES[tls.curve_preferences])
        except (ValueError, ssl.SSLError):
            raise TlsError("curve_preferences", f"{tls.curve_preferences} is unknown to this OpenSSL") from None
    _load_pair(context, tls)
    _trust_clients(context, tls)
    return context


def _set_versions_and_suites(context: ssl.SSLContext, tls: Tls) -> None:
    if tls.min_version > tls.max_version:
        raise TlsError("max_version", "older than min_version, wanted the same or a newer one")
    context.minimum_version, context.maximum_version = tls.min_version, tls.max_version
    if not tls.cipher_suites:
        return
    wanted = [name for name in map(SUITES.get, tls.cipher_suites) if name is not None]
    if not wanted:
        # Suites of TLS 1.3 alone: no TLS 1.2 then, as with Go.
        if tls.max_version < ssl.TLSVersion.TLSv1_3:
            raise TlsError("cipher_suites", "suites of TLS 1.3 alone, and max_version is older")
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        context.set_ciphers(":".join(wanted))
        known = {cipher["name"] for cipher in context.get_ciphers()}
    except ssl.SSLError:
        known = set()
    for go_name in tls.cipher_suites:
        if SUITES[go_name] not in (*known, None):
            raise TlsError("cipher_suites", f"{go_name} is not in this OpenSSL")


def _load_pair(context: ssl.SSLContext, tls: Tls) -> None:
    cert_key = "cert_file" if isinstance(tls.cert, Path) else "cert"
    key_key = "key_file" if isinstance(tls.key, Path) else "key"
    inline_key = tls.key if isinstance(tls.key, Path) else tls.key.reveal()
    with ExitStack() as stack:
        try:
            cert, key = (stack.enter_context(_as_file(pem)) for pem in (tls.cert, inline_key))
        except _NoFilesInMemoryError:
            raise TlsError(
                "cert" if isinstance(tls.cert, str) else "key",
                "on this system nothing can stand in the file itself, for want of files in memory: Python's ssl reads "
                "certificates and keys from files, and no key is put on a disk here; wanted cert_file and key_file",
            ) from None
        try:
            context.load_cert_chain(cert, key, password=_no_passphrase)
        except _EncryptedKeyError:
            raise TlsError(key_key, "the key is encrypted, wanted one without a passphrase") from None
        except ssl.SSLError as error:
            # Its reason is a closed set of OpenSSL's; its text holds no content either, but a line of C.
            reason = (error.reason or "").replace("_", " ").lower()
            if "mismatch" in reason:
                raise TlsError(key_key, "not the key of the certificate") from None
            if "too small" in reason or "too weak" in reason:
                raise TlsError(cert_key, f"too weak for this OpenSSL ({reason})") from None
            raise TlsError(key_key, f"cannot be used by OpenSSL ({reason}), wanted a private key in PEM") from None
        except OSError as error:
            raise TlsError(cert_key, f"cannot be read with its key ({error.strerror})") from None


def _no_passphrase() -> str:
    raise _EncryptedKeyError


@contextmanager
def _as_file(pem: Path | str) -> Iterator[str]:
    """Python's ssl reads keys from files alone: what stands inline becomes one in memory, never on a disk."""
    if isinstance(pem, Path):
        yield str(pem)
        return
    if not hasattr(os, "memfd_create") or not Path("/proc/self/fd").is_dir():
        raise _NoFilesInMemoryError
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def wrong_certificates(pem: str) -> str | None:
    """What is wrong with a text that shall hold certificates in PEM."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        return "no certificate in PEM that can be read"
    return None


def wrong_key(pem: str) -> str | None:
    """What is wrong with a text that shall hold a private key in PEM, as far as it shows without its certificate."""
    return None if "PRIVATE KEY-----" in pem else "no private key in PEM"


def _trust_clients(context: ssl.SSLContext, tls: Tls) -> None:
    if tls.client_ca is not None:
        context.load_verify_locations(cadata=tls.client_ca)
        # What stands in the file is trusted, whether it signed itself or not: as with Go.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = tls.client_auth_type


def names_of(peer: Mapping[str, Any]) -> frozenset[str]:
    """The alternative names (DNS, e-mail, IP, URI) of a verified certificate, as `ssl.SSLSocket.getpeercert` tells it.

    IP addresses are written as Go writes them, so that an entry of client_allowed_sans means the same to both.
    """
    names = set()
    for kind, name in peer.get("subjectAltName", ()):
        if kind in ("DNS", "email", "URI"):
            names.add(name)
        elif kind == "IP Address":
            address = ipaddress.ip_address(name.strip())
            names.add(str(getattr(address, "ipv4_mapped", None) or address))
    return frozenset(names)
