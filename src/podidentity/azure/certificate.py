"""Certificates that prove a service principal: read from PKCS#12 or PEM, and the assertion they sign (RFC 7523).

Whoever may write a Secret chooses how much work its encryption takes, and the library does that work without letting
anything else run. So files are opened in a process of their own, which ends after a few seconds whatever is in them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

LIFE_SECONDS: Final = 600
MAX_FILE: Final = 256 * 1024
_WALL_SECONDS: Final = 20.0
_MEMORY: Final = 1 << 30
_RSA_BITS: Final = range(2048, 8193)
_CURVES: Final[dict[str, tuple[str, HashAlgorithm, int]]] = {
    "secp256r1": ("ES256", SHA256(), 32),
    "secp384r1": ("ES384", SHA384(), 48),
    "secp521r1": ("ES512", SHA512(), 66),
}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class CertificateError(Exception):
    """The file holds no key and certificate we can use; ``str`` is one line that says why."""


@dataclass(frozen=True, slots=True, repr=False)
class ClientCertificate:
    """A private key with its certificate, ``chain[0]``, and the certificates above it."""

    key: PrivateKey
    chain: tuple[x509.Certificate, ...]

    def __repr__(self) -> str:
        """Nothing of the key."""
        return f"ClientCertificate(not_after={self.not_after:%Y-%m-%d})"

    @property
    def not_after(self) -> datetime:
        """Its end, in UTC."""
        return self.chain[0].not_valid_after_utc

    def assertion(self, client_id: str, audience: str, *, now: float) -> str:
        """Sign that this is ``client_id``, for the token endpoint ``audience``; good for ten minutes from ``now``."""
        ders = [certificate.public_bytes(Encoding.DER) for certificate in self.chain]
        header = {
            "alg": self._algorithm(),
            "typ": "JWT",
            "x5t": _b64(hashlib.sha1(ders[0], usedforsecurity=False).digest()),
            "x5c": [base64.b64encode(der).decode() for der in ders],
        }
        start = int(now)
        claims = {
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": _b64(os.urandom(16)),
            "nbf": start - 60,
            "iat": start,
            "exp": start + LIFE_SECONDS,
        }
        signed = f"{_b64(msgspec.json.encode(header))}.{_b64(msgspec.json.encode(claims))}"
        return f"{signed}.{_b64(self._sign(signed.encode()))}"

    def _algorithm(self) -> str:
        return "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else _CURVES[self.key.curve.name][0]

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), SHA256())
        _, algorithm, size = _CURVES[self.key.curve.name]
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(algorithm)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class _Order(msgspec.Struct):
    """What the process that opens a file is given; bytes are base64."""

    data: bytes
    password: bytes
    cpu_seconds: int


async def load_certificate(data: bytes, password: bytes = b"", *, cpu_seconds: int = 5) -> ClientCertificate:
    """Open a PKCS#12 or PEM file that holds a key and its certificate. Raises CertificateError.

    ``cpu_seconds``: how much work that may take.
    """
    if len(data) > MAX_FILE:
        raise CertificateError(f"is larger than {MAX_FILE} bytes")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={},
    )
    try:
        async with asyncio.timeout(_WALL_SECONDS):
            out, err = await process.communicate(msgspec.json.encode(_Order(data, password, cpu_seconds)))
    except TimeoutError as late:
        raise CertificateError(f"took more than {_WALL_SECONDS:g} s to open") from late
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 1:
        raise CertificateError(err.decode("utf-8", "replace").strip()[:200] or "cannot be read")
    if process.returncode != 0:
        raise CertificateError(f"takes more than {cpu_seconds} s of work to open: encrypt it with fewer iterations")
    return _opened(out)


def _opened(pem: bytes) -> ClientCertificate:
    """Read what ``unlock`` wrote: it has been looked at already."""
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError("holds a key that is neither RSA nor EC")
    return ClientCertificate(key, tuple(x509.load_pem_x509_certificates(pem)))


def unlock(data: bytes, password: bytes) -> bytes:
    """Return key and certificates of a file as plain PEM, the key's own certificate first. Raises CertificateError."""
    try:
        key, certificates = _read_pem(data, password) if b"-----BEGIN" in data else _read_pkcs12(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(_reason(error, password)) from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError("holds a key that is neither RSA nor EC")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size not in _RSA_BITS:
        raise CertificateError(f"holds an RSA key of {key.key_size} bits, not of 2048 to 8192")
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in _CURVES:
        raise CertificateError(f"holds an EC key on {key.curve.name}, not on P-256, P-384 or P-521")
    own = [one for one in certificates if one.public_key() == key.public_key()]
    if not own:
        raise CertificateError("holds no certificate of its key")
    others = [one for one in certificates if one not in own]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem + b"".join(one.public_bytes(Encoding.PEM) for one in (own[0], *others))


def _read_pkcs12(data: bytes, password: bytes) -> tuple[object, Sequence[x509.Certificate]]:
    with suppress(binascii.Error, ValueError):
        # A file that was encoded once too often, as `kubectl create secret` invites to.
        data = base64.b64decode(data.strip(), validate=True)
    try:
        found = pkcs12.load_pkcs12(data, password or None)
    except ValueError:
        if password:
            raise
        found = pkcs12.load_pkcs12(data, b"")  # no password, and an empty one, are two things in PKCS#12
    leaf = [found.cert.certificate] if found.cert is not None else []
    return found.key, [*leaf, *(more.certificate for more in found.additional_certs)]


def _read_pem(data: bytes, password: bytes) -> tuple[object, Sequence[x509.Certificate]]:
    if b"CERTIFICATE-----" not in data:
        raise CertificateError("holds no certificate")
    if b"PRIVATE KEY-----" not in data:
        raise CertificateError("holds no private key")
    encrypted = b"ENCRYPTED" in data
    return load_pem_private_key(data, password if encrypted else None), x509.load_pem_x509_certificates(data)


def _reason(error: Exception, password: bytes) -> str:
    text = str(error)
    if "password" in text.lower() or "decrypt" in text.lower():
        return "cannot be opened with the password" if password else "needs a password"
    return "is neither a PKCS#12 nor a PEM file that can be read"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
        resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_seconds, order.cpu_seconds))
        sys.stdout.buffer.write(unlock(order.data, order.password))
    except (CertificateError, MemoryError) as error:
        sys.stderr.write(str(error) or "takes too much memory to open")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
