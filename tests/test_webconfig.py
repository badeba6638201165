"""`--web.config.file` as text: what is read, and what is refused with which words."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import bcrypt
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from exporter.configfile import FILE_BYTES_MAX
from exporter.tlsconfig import _keys
from exporter.watched import Watched
from exporter.webconfig import HEADER_MAX, HEADERS, KEYS, USER_MAX, USERS_MAX, RateLimit, Reading, WebConfig, read
from exporter.webtls import CLIENT_AUTH, CURVES, SUITES, VERSIONS
from tests.certificates import replace, write_ca, write_pair

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"  # exporter-toolkit's example
PAIR = "  cert_file: server.pem\n  key_file: server-key.pem\n"
CLIENTS = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, ca = tmp_path_factory.mktemp("certificates"), trustme.CA()
    write_pair(folder, ca)
    write_pair(folder, ca, stem="other")
    write_ca(folder / "ca.pem", ca)
    key = load_pem_private_key((folder / "server-key.pem").read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    (folder / "encrypted-key.pem").write_bytes(encrypted)
    cut = (folder / "server-key.pem").read_text().splitlines()
    (folder / "cut-key.pem").write_text("\n".join([cut[0], "AAAA", cut[-1]]))
    return folder


def reading(folder: Path, content: str | bytes) -> Reading:
    file = folder / "web-config.yml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(file)


def config(folder: Path, content: str) -> WebConfig:
    found = reading(folder, content)
    assert found.problems == ()
    assert found.config is not None
    return found.config


def problems(folder: Path, content: str | bytes) -> list[str]:
    """Without the file's name, which each of them begins with."""
    found = reading(folder, content)
    assert found.config is None
    file = str(folder / "web-config.yml")
    assert all(problem.startswith(f"{file}:") for problem in found.problems)
    return [problem.removeprefix(f"{file}:") for problem in found.problems]


def indented(pem: str) -> str:
    return "".join(f"    {line}\n" for line in pem.splitlines())


@pytest.mark.parametrize("content", ["", "\n", "{}", "---\n{}\n...\n", "# tls_server_config:\n", "---\n", "null"])
def test_a_file_that_asks_for_nothing_gives_nothing(tmp_path: Path, content: str) -> None:
    assert config(tmp_path, content) == WebConfig()


def test_a_certificate_is_relative_to_the_file_and_comes_with_go_s_versions(made: Path) -> None:
    found = config(made, f"tls_server_config:\n{PAIR}")
    assert found.tls is not None
    assert found.context is not None
    assert (found.tls.cert, found.tls.key) == (made / "server.pem", made / "server-key.pem")
    assert (found.context.minimum_version, found.context.maximum_version) == (
        ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3,
    )  # fmt: skip
    assert found.context.verify_mode is ssl.CERT_NONE
    assert found.context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert found.context.options & ssl.OP_NO_RENEGOTIATION
    assert not found.knows_who_asks


def test_all_that_tls_can_be_told_reaches_openssl(made: Path) -> None:
    found = config(
        made,
        f"tls_server_config:\n{PAIR}{CLIENTS}  client_allowed_sans: [a.example, 127.0.0.1]\n  min_version: TLS12\n"
        "  max_version: TLS12\n  prefer_server_cipher_suites: false\n  curve_preferences: [CurveP384]\n"
        "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n",
    )
    assert found.tls is not None
    assert found.context is not None
    assert found.context.maximum_version is ssl.TLSVersion.TLSv1_2
    assert found.context.verify_mode is ssl.CERT_REQUIRED
    assert len(found.context.get_ca_certs()) == 1
    assert not found.context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    older = [each["name"] for each in found.context.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert older == ["ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-CHACHA20-POLY1305"]
    assert found.tls.client_allowed_sans == frozenset({"a.example", "127.0.0.1"})
    assert found.knows_who_asks


@pytest.mark.parametrize("suite", SUITES)
def test_every_secure_suite_of_go_is_one_of_openssl(made: Path, suite: str) -> None:
    found = config(made, f"tls_server_config:\n{PAIR}  cipher_suites: [{suite}]\n")
    assert found.context is not None
    older = [each["name"] for each in found.context.get_ciphers() if each["protocol"] != "TLSv1.3"]
    if SUITES[suite] is None:
        assert found.context.minimum_version is ssl.TLSVersion.TLSv1_3
    else:
        assert (older, found.context.minimum_version) == ([SUITES[suite]], ssl.TLSVersion.TLSv1_2)


def test_verify_if_given_does_not_say_who_asks(made: Path) -> None:
    found = config(
        made,
        f"tls_server_config:\n{PAIR}{CLIENTS}".replace("RequireAndVerify", "Verify").replace(
            "ClientCert\n", "ClientCertIfGiven\n"
        ),
    )
    assert found.context is not None
    assert found.context.verify_mode is ssl.CERT_OPTIONAL
    assert not found.knows_who_asks


def test_certificate_key_and_ca_may_stand_in_the_file_and_leave_no_trace_on_the_disk(
    made: Path, tmp_path: Path
) -> None:
    pem = {name: indented((made / f"{name}.pem").read_text()) for name in ("server", "server-key", "ca")}
    found = config(
        tmp_path,
        f"tls_server_config:\n  cert: |\n{pem['server']}  key: |\n{pem['server-key']}  client_ca: |\n{pem['ca']}"
        "  client_auth_type: RequireAndVerifyClientCert\n",
    )
    assert found.context is not None
    assert "PRIVATE KEY" not in repr(found)
    assert [path.name for path in tmp_path.iterdir()] == ["web-config.yml"]


def test_without_files_in_memory_an_inline_key_is_refused_and_not_put_on_the_disk(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.memfd_create")
    key = indented((made / "server-key.pem").read_text())
    (found,) = problems(made, f"tls_server_config:\n  cert_file: server.pem\n  key: |\n{key}")
    assert found.startswith("3: tls_server_config.key: on this system nothing can stand in the file itself")


def test_users_headers_and_the_rate_are_read(tmp_path: Path) -> None:
    found = config(
        tmp_path,
        f"basic_auth_users:\n  alice: {HASH}\n  'bob the 2nd': '{HASH}'\nhttp_server_config:\n  http2: off\n  headers:\n"
        "    X-Frame-Options: deny\n    X-XSS-Protection: 0\n    Content-Security-Policy: ''\n"
        "rate_limit: {interval: 1m30s, burst: 20}\n",
    )
    assert found.users == {b"alice": HASH.encode(), b"bob the 2nd": HASH.encode()}
    assert found.headers == {"X-Frame-Options": "deny", "X-XSS-Protection": "0"}
    assert found.rate_limit == RateLimit(90, 20)
    assert found.knows_who_asks
    assert HASH not in repr(found)


@pytest.mark.parametrize("interval", ["0", "0s"])
def test_an_interval_of_0_is_no_limit(tmp_path: Path, interval: str) -> None:
    assert config(tmp_path, f"rate_limit: {{interval: {interval}, burst: 3}}\n").rate_limit is None
    assert config(tmp_path, f"rate_limit: {{interval: {interval}}}\n").rate_limit is None


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("", "1: tls_server_config.cert_file: missing, wanted the server's certificate in PEM"),
        ("  min_version: TLS13\n", "1: tls_server_config.key_file: missing, wanted the server's private key in PEM"),
        ("  cert_file: gone.pem\n", "2: tls_server_config.cert_file: 'gone.pem': cannot be read (No such file or directory)"),
        ("  cert_file: .\n", "2: tls_server_config.cert_file: '.': cannot be read (not a regular file)"),
        ("  cert_file: ''\n", "2: tls_server_config.cert_file: empty, wanted the path of a file with a certificate"),
        ('  cert_file: "a\\0b"\n', "2: tls_server_config.cert_file: 'a\\x00b': not a path, wanted the path of a file with a certificate"),
        ("  cert_file: server-key.pem\n", "2: tls_server_config.cert_file: 'server-key.pem': no certificate in PEM that can be read"),
        ("  cert_file: server.pem\n  key_file: server.pem\n", "3: tls_server_config.key_file: 'server.pem': no private key in PEM"),
        ("  cert_file: server.pem\n  key_file: other-key.pem\n", "3: tls_server_config.key_file: not the key of the certificate"),
        ("  cert_file: server.pem\n  key_file: encrypted-key.pem\n", "3: tls_server_config.key_file: the key is encrypted, wanted one without a passphrase"),
        (f"{PAIR}  cert: x\n", "4: tls_server_config.cert: both cert and cert_file, wanted one of them"),
        (f"{PAIR}  client_auth_type: RequireAnyClientCert\n", "4: tls_server_config.client_auth_type: RequireAnyClientCert is not supported: Python's ssl cannot ask for a certificate without verifying it; wanted NoClientCert or VerifyClientCertIfGiven or RequireAndVerifyClientCert"),
        (f"{PAIR}  client_auth_type: RequestClientCert\n", "4: tls_server_config.client_auth_type: RequestClientCert is not supported: Python's ssl cannot ask for a certificate without verifying it; wanted NoClientCert or VerifyClientCertIfGiven or RequireAndVerifyClientCert"),
        (f"{PAIR}  client_auth_type: RequireAndVerify\n", "4: tls_server_config.client_auth_type: 'RequireAndVerify', wanted NoClientCert or VerifyClientCertIfGiven or RequireAndVerifyClientCert, did you mean RequireAndVerifyClientCert?"),
        (f"{PAIR}  client_auth_type: RequireAndVerifyClientCert\n", "1: tls_server_config.client_ca_file: missing, wanted the clients' CA in PEM: else any public CA's certificate would do"),
        (f"{PAIR}  client_ca_file: ca.pem\n", "4: tls_server_config.client_ca_file: no client is asked for a certificate, wanted client_auth_type: RequireAndVerifyClientCert too"),
        (f"{PAIR}  client_allowed_sans: [a]\n", "4: tls_server_config.client_allowed_sans: a client may come without a certificate, wanted client_auth_type: RequireAndVerifyClientCert too"),
        (f"{PAIR}{CLIENTS}  client_allowed_sans: []\n", "6: tls_server_config.client_allowed_sans: 0 names, wanted a list of 1 to 1000 names"),
        (f"{PAIR}  min_version: TLS10\n", "4: tls_server_config.min_version: TLS10 is not supported: TLS 1.0 and 1.1 are broken (RFC 8996), and OpenSSL does not speak them at its usual security level; wanted TLS12 or TLS13"),
        (f"{PAIR}  min_version: 1.2\n", "4: tls_server_config.min_version: '1.2', wanted TLS12 or TLS13"),
        (f"{PAIR}  min_version: TLS13\n  max_version: TLS12\n", "5: tls_server_config.max_version: older than min_version, wanted the same or a newer one"),
        (f"{PAIR}  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", "5: tls_server_config.cipher_suites: suites of TLS 1.3 alone, and max_version is older"),
        (f"{PAIR}  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n", "4: tls_server_config.cipher_suites[0]: TLS_RSA_WITH_AES_128_CBC_SHA is not supported: without forward secrecy, and no longer among Go's secure suites; wanted one of Go's secure cipher suites, like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        (f"{PAIR}  curve_preferences: [X25519, CurveP256]\n", "4: tls_server_config.curve_preferences: 2 curves are not supported: Python's ssl can hold to one curve or leave them all to OpenSSL, and not to an order of several; wanted one"),
        (f"{PAIR}  curve_preferences: [P256]\n", "4: tls_server_config.curve_preferences[0]: 'P256', wanted CurveP256 or CurveP384 or CurveP521 or X25519, did you mean CurveP256?"),
        (f"{PAIR}  prefer_server_cipher_suites: maybe\n", "4: tls_server_config.prefer_server_cipher_suites: 'maybe', wanted true or false"),
        (f"{PAIR}  cert_fil: a\n", "4: tls_server_config.cert_fil: unknown key, did you mean 'cert_file'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tls_is_named_with_its_line(made: Path, section: str, problem: str) -> None:
    assert problem in problems(made, f"tls_server_config:\n{section}")


def test_a_key_that_openssl_cannot_read_is_refused(made: Path) -> None:
    (found,) = problems(made, "tls_server_config:\n  cert_file: server.pem\n  key_file: cut-key.pem\n")
    assert found.startswith("3: tls_server_config.key_file: cannot be used by OpenSSL (")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("basic_auth_user: {}\n", "1: basic_auth_user: unknown key, did you mean 'basic_auth_users'?"),
        ("basic_auth_users: {}\n", f"1: basic_auth_users: 0 users, wanted 1 to {USERS_MAX} users, each with a bcrypt hash; without the key nobody is asked for a password"),
        ("basic_auth_users:\n", f"1: basic_auth_users: nothing, wanted 1 to {USERS_MAX} users, each with a bcrypt hash; without the key nobody is asked for a password"),
        (f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n", "3: basic_auth_users.a: duplicate key"),
        (f"basic_auth_users:\n  '': {HASH}\n", f"2: basic_auth_users.: not a user's name, wanted 1 to {USER_MAX} printable characters"),
        (f"basic_auth_users:\n  [a]: {HASH}\n", f"2: basic_auth_users: a list as a user's name, wanted 1 to {USERS_MAX} users, each with a bcrypt hash"),
        (f"basic_auth_users:\n  a: {HASH.replace('$10$', '$16$')}\n", "2: basic_auth_users.a: a hash of cost 16, wanted a bcrypt hash of cost 4 to 15, as htpasswd -nBC 10 prints it"),
        (f"basic_auth_users:\n  a: a:{HASH}\n", "2: basic_auth_users.a: a value with the user's name before it that is no bcrypt hash, wanted a bcrypt hash of cost 4 to 15, as htpasswd -nBC 10 prints it"),
        ("http_server_config:\n  http2: 1\n", "2: http_server_config.http2: '1', wanted true or false"),
        ("http_server_config:\n  headers: {Server: x}\n", "2: http_server_config.headers.Server: unknown key; known keys: Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection"),
        ("http_server_config:\n  headers: {X-Frame-Options: allow}\n", "2: http_server_config.headers.X-Frame-Options: 'allow', wanted deny or sameorigin"),
        ("http_server_config:\n  headers: {X-Frame-Options: ''}\n", "2: http_server_config.headers.X-Frame-Options: '', wanted deny or sameorigin"),
        ('http_server_config:\n  headers: {X-XSS-Protection: "0\\r\\nSet-Cookie: a"}\n', f"2: http_server_config.headers.X-XSS-Protection: '0\\r\\nSet-Cookie: a': not fit for a header, wanted at most {HEADER_MAX} printable ASCII characters"),
        ("rate_limit: {interval: 1s}\n", "1: rate_limit.burst: 0 requests, wanted 1 to 1000000: else all of them would be refused"),
        ("rate_limit: {interval: 5, burst: 1}\n", "1: rate_limit.interval: '5', wanted a duration from 1ms to 1d, like 1s, or 0 for no limit"),
        ("rate_limit: {interval: 2d, burst: 1}\n", "1: rate_limit.interval: '2d', wanted a duration from 1ms to 1d, like 1s, or 0 for no limit"),
        ("rate_limit: {interval: 1s, burst: 1.5}\n", "1: rate_limit.burst: '1.5' is not a number, wanted a whole number from 0 to 1e+06"),
        ("rate_limit: {interval: !env X, burst: 1}\n", "1: a tag, wanted the value itself: this file knows no tags"),
        ("- a\n", "1: a list, wanted a mapping with keys basic_auth_users, http_server_config, rate_limit, tls_server_config"),
        ("{}\n---\n{}\n", "1: 2 documents, wanted one with the keys tls_server_config, http_server_config, basic_auth_users, rate_limit"),
        ("a: [\n", "2: not YAML: expected the node content, but found '<stream end>'"),
        (b"\xff\xfe", "1: not UTF-8"),
        (b"# \0\n{}", "1: not YAML: it holds a control character"),
    ],
)  # fmt: skip
def test_what_is_wrong_elsewhere_is_named_with_its_line(tmp_path: Path, content: str | bytes, problem: str) -> None:
    assert problem in problems(tmp_path, content)


def test_every_problem_is_told_at_once(made: Path) -> None:
    found = problems(
        made,
        "tls_server_config: {cert_file: gone.pem, key_file: server-key.pem, min_version: TLS9}\n"
        "basic_auth_users: {alice: x, bob: !env y}\n"
        "http_server_config: {http2: x, headers: {X-Frame-Options: x}}\n"
        "rate_limit: {interval: x, burst: x}\nmore: x\n",
    )
    assert [line.partition(":")[0] for line in found] == ["1", "1", "2", "2", "2", "3", "3", "4", "4", "5"]


@pytest.mark.parametrize(
    "content",
    [
        "basic_auth_users:\n  alice: PLANTED\n",
        "basic_auth_users:\n  alice:PLANTED\n",
        "basic_auth_users: {alice:PLANTED}\n",
        "basic_auth_users:\n  alice: [PLANTED]\n",
        "basic_auth_users:\n  alice: !env PLANTED\n",
        "basic_auth_users:\n  alice: !!binary PLANTED\n",
        "basic_auth_users:\n  alice: *PLANTED\n",
        "basic_auth_users: PLANTED\n",
        "tls_server_config:\n  cert_file: server.pem\n  key: PLANTED\n",
        "tls_server_config:\n  cert: PLANTED\n",
        "tls_server_config:\n  cert_file: server.pem\n  key: |\n    -----BEGIN PRIVATE KEY-----\n    PLANTED\n    -----END PRIVATE KEY-----\n",
    ],
)  # fmt: skip
def test_no_problem_shows_a_password_a_hash_or_a_key(made: Path, content: str) -> None:
    found = problems(made, content)
    assert found
    assert "PLANTED" not in "\n".join(found)


def test_a_file_that_is_absent_a_folder_or_too_large_is_a_problem(tmp_path: Path) -> None:
    gone = tmp_path / "gone.yml"
    assert read(gone).problems == (f"{gone}: cannot be read (No such file or directory)",)
    assert read(tmp_path).problems == (f"{tmp_path}: cannot be read (not a regular file)",)
    large = tmp_path / "large.yml"
    large.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    assert read(large).problems == (f"{large}: cannot be read (larger than {FILE_BYTES_MAX} bytes)",)


def test_the_limits_hold_on_both_sides(tmp_path: Path) -> None:
    def users(number: int) -> str:
        return "basic_auth_users:\n" + "".join(f"  u{i}: {HASH}\n" for i in range(number))

    assert len(config(tmp_path, users(USERS_MAX)).users) == USERS_MAX
    assert f"{USERS_MAX + 1} users, wanted" in problems(tmp_path, users(USERS_MAX + 1))[0]
    name = "u" * USER_MAX
    assert config(tmp_path, f"basic_auth_users:\n  {name}: {HASH}\n").users == {name.encode(): HASH.encode()}
    assert "not a user's name" in problems(tmp_path, f"basic_auth_users:\n  {name}u: {HASH}\n")[0]
    header = "http_server_config: {headers: {Content-Security-Policy: %s}}\n"
    assert len(config(tmp_path, header % ("a" * HEADER_MAX)).headers["Content-Security-Policy"]) == HEADER_MAX
    assert "not fit for a header" in problems(tmp_path, header % ("a" * (HEADER_MAX + 1)))[0]


def test_hashes_of_every_bcrypt_library_are_read(tmp_path: Path) -> None:
    for prefix in (b"2a", b"2b"):
        hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4, prefix)).decode()
        for written in (hashed, hashed.replace("$2b$", "$2y$")):
            assert config(tmp_path, f"basic_auth_users: {{a: {written}}}\n").users == {b"a": written.encode()}


def test_a_change_of_any_file_is_seen_and_so_is_one_that_comes_or_goes(made: Path, tmp_path: Path) -> None:
    for name in ("server.pem", "server-key.pem", "ca.pem"):
        replace(tmp_path / name, (made / name).read_bytes())
    names = ("web-config.yml", "server.pem", "server-key.pem", "ca.pem")
    for name in names:
        found = reading(tmp_path, f"tls_server_config:\n{PAIR}{CLIENTS}")
        assert found.problems == ()
        assert not found.files.changed()
        replace(tmp_path / name, (tmp_path / name).read_bytes())
        assert found.files.changed(), name
    (tmp_path / "ca.pem").unlink()
    found = read(tmp_path / "web-config.yml")
    assert len(found.problems) == 1
    assert not found.files.changed()
    replace(tmp_path / "ca.pem", (made / "ca.pem").read_bytes())
    assert found.files.changed()


def test_the_summary_says_how_the_pages_are_protected(made: Path) -> None:
    assert WebConfig().summary() == {"tls": "off", "http2": "false", "users": 0}
    found = config(made, f"tls_server_config:\n{PAIR}{CLIENTS}basic_auth_users: {{a: {HASH}}}\n")
    assert found.summary() == {"tls": "1.2 to 1.3", "client_certificates": "required", "http2": "false", "users": 1}


def test_the_readme_s_example_is_good_and_its_table_names_every_key_and_every_choice(made: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    section = readme.partition("\n## TLS and authentication\n")[2].partition("\n## ")[0]
    found = config(made, section.partition("```yaml\n")[2].partition("```")[0])
    assert found.summary() == {"tls": "1.2 to 1.3", "client_certificates": "required", "http2": "false", "users": 1}
    table = "".join(line for line in section.splitlines() if line.startswith("| "))
    for name in (*_keys(Watched()), *CLIENT_AUTH, *VERSIONS, *CURVES, *HEADERS, "http2", "interval", "burst"):
        assert re.search(rf"[` ]{name}[` ]", table), name
    assert all(key in section for key in KEYS)
