"""Keys and certificates for tests, in the files people put into Secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a new RSA key."""
    return rsa.generate_private_key(65537, bits)


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """Return a new EC key, on P-256 unless told."""
    return ec.generate_private_key(curve or ec.SECP256R1())


@dataclass
class Pair:
    """A key with its certificate, and perhaps the certificate of whoever signed it."""

    key: Key
    leaf: x509.Certificate
    issuer: x509.Certificate | None = None

    @property
    def public(self) -> str:
        """The certificate in PEM, as it is registered at Entra ID."""
        return self.leaf.public_bytes(Encoding.PEM).decode()

    def pkcs12(self, password: bytes = b"", *, rounds: int = 0) -> bytes:
        """The PKCS#12 file; ``rounds`` is how much work its encryption takes, the usual if 0."""
        encryption: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
        if rounds:
            builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(rounds)
            encryption = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).build(password)
        others = [self.issuer] if self.issuer else None
        return pkcs12.serialize_key_and_certificates(b"sp", self.key, self.leaf, others, encryption)

    def private(self, password: bytes = b"") -> bytes:
        """The key in PEM."""
        encryption: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def pem(self, password: bytes = b"") -> bytes:
        """Issuer, certificate and key in one PEM file, in an order that helps nobody."""
        above = self.issuer.public_bytes(Encoding.PEM) if self.issuer else b""
        return above + self.public.encode() + self.private(password)


def pair(key: Key, *, days: float = 365, signed_by: Pair | None = None, name: str = "sp") -> Pair:
    """Return the key with a certificate that ends in ``days``."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by.leaf.subject if signed_by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1000))
        .not_valid_after(now + timedelta(days=days))
    )
    leaf = builder.sign(signed_by.key if signed_by else key, hashes.SHA256())
    return Pair(key, leaf, signed_by.leaf if signed_by else None)
