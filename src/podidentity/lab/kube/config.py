"""What an embedded API server is started with, and throwaway keys for the ones nobody else has."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
import random
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from podidentity.lab.kube.store import HISTORY
from podidentity.lab.kube.users import User


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files; ``client_ca`` signs the client certificates that are believed."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """The server's TLS context; raises OSError or ssl.SSLError when a file cannot be used."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        if self.client_ca:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


@dataclass(frozen=True, slots=True)
class Kubelets:
    """How the server calls kubelets. ``address`` maps a Node object to host and port; None: from its status."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    address: Callable[[Mapping[str, Any]], tuple[str, int]] | None = None


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """``data_dir`` None keeps nothing; ``tls`` None makes a throwaway certificate; ``plain`` serves http instead.

    ``sa_key`` is an RSA key in PEM (None: a throwaway one). ``tokens`` are static bearer tokens. ``history`` is the
    number of changes a resource remembers; ``bookmark_interval`` and ``watch_timeout`` are seconds.
    """

    data_dir: Path | None = None
    tls: Tls | None = None
    plain: bool = False
    sa_key: bytes | None = None
    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 0),)
    unix: Path | None = None
    tokens: Mapping[str, User] = field(default_factory=dict)
    kubelets: Kubelets = field(default_factory=Kubelets)
    service_accounts: bool = False
    history: int = HISTORY
    bookmark_interval: float = 60.0
    watch_timeout: float = 3600.0
    now: Callable[[], float] = time.time
    rng: random.Random = field(default_factory=random.SystemRandom)


@functools.cache
def throwaway_signing_key() -> bytes:
    """An RSA key in PEM, one a process."""
    return _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@functools.cache
def throwaway_certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for loopback and its key, both PEM; the certificate is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "embedded-apiserver")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def throwaway_context() -> ssl.SSLContext:
    """A server context with :func:`throwaway_certificate`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(throwaway_certificate()))
        file.flush()
        context.load_cert_chain(file.name)
    return context
