"""Certificate authorities and certificates, made anew for a test, and how a client of a guarded server speaks TLS."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import trustme


def write_pair(folder: Path, ca: trustme.CA, *names: str, stem: str = "server") -> None:
    """`STEM.pem` and `STEM-key.pem`, each replaced in one step, as tools that renew certificates do."""
    leaf = ca.issue_cert(*(names or ("127.0.0.1", "localhost")))
    replace(folder / f"{stem}.pem", b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    replace(folder / f"{stem}-key.pem", leaf.private_key_pem.bytes())


def write_ca(path: Path, ca: trustme.CA) -> None:
    replace(path, ca.cert_pem.bytes())


def replace(path: Path, content: bytes | str) -> None:
    """Another file under the same name: it has changed, even within one tick of the file system's clock."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(beside, path)


def client(ca: trustme.CA, *, pair: Path | None = None) -> ssl.SSLContext:
    """Trusts `ca`; `pair` is the certificate `PAIR.pem` with its key `PAIR-key.pem`."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if pair is not None:
        context.load_cert_chain(f"{pair}.pem", f"{pair}-key.pem")
    return context
