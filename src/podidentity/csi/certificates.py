"""Keys and certificates as PEM: what Key Vault stores, in the shapes programs read. Pure.

Imported only where a class asks for such an object: cryptography's certificate code takes a tenth of a second.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, pkcs12

from podidentity.csi.errors import MountError

_CURVES: Final[Mapping[str, Callable[[], ec.EllipticCurve]]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
_RSA: Final = frozenset({"RSA", "RSA-HSM"})
_EC: Final = frozenset({"EC", "EC-HSM"})


@dataclass(frozen=True, slots=True)
class PemBundle:
    """A private key and its certificates, both as PEM; ``ordered`` is False for a chain that has gaps."""

    key: bytes = field(repr=False)
    certificates: bytes
    ordered: bool = True


def public_key_pem(jwk: Mapping[str, str]) -> bytes:
    """A Key Vault key's public half as ``PUBLIC KEY`` (SubjectPublicKeyInfo). Raises MountError."""
    kind = jwk.get("kty", "")
    try:
        if kind in _RSA:
            public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey = rsa.RSAPublicNumbers(
                _number(jwk, "e"), _number(jwk, "n")
            ).public_key()
        elif kind in _EC:
            curve = _CURVES.get(jwk.get("crv", ""))
            if curve is None:
                raise MountError(f"curve {jwk.get('crv', '')[:80]} is not supported")
            public = ec.EllipticCurvePublicNumbers(_number(jwk, "x"), _number(jwk, "y"), curve()).public_key()
        else:
            raise MountError(f"key type '{kind[:80]}' currently not supported")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MountError(f"the key is not a valid {kind} key") from error
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate_pem(der: str) -> bytes:
    """A certificate, base64 of its DER, as PEM. Raises MountError."""
    try:
        found = x509.load_der_x509_certificate(base64.b64decode(der, validate=True))
    except (ValueError, binascii.Error) as error:
        raise MountError("the certificate is not base64 of a certificate in DER") from error
    return found.public_bytes(Encoding.PEM)


def pem_of_pkcs12(value: str, *, order: bool) -> PemBundle:
    """A PKCS#12 (base64, without password) as PEM: the private key, then the certificates.

    ``order``: from leaf to root where the chain is whole, as stored where it is not. Raises MountError.
    """
    try:
        data = base64.b64decode("".join(value.split()), validate=True)
        loaded = _load(data)
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm) as error:
        raise MountError("the certificate is not base64 of a PKCS#12 without password") from error
    key = b"" if loaded.key is None else loaded.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    held = ([loaded.cert] if loaded.cert else []) + loaded.additional_certs
    certificates = [one.certificate for one in held]
    if not key and not certificates:
        raise MountError("the PKCS#12 holds neither a key nor a certificate")
    ordered = chain(certificates, leaf=loaded.cert.certificate if loaded.cert else None) if order else None
    used = certificates if ordered is None else ordered
    text = b"".join(one.public_bytes(Encoding.PEM) for one in used)
    return PemBundle(key, text, ordered=not order or ordered is not None)


def split_pem(text: str) -> PemBundle:
    """The private keys and the certificates of a PEM text, each as they stand there. Raises MountError."""
    blocks: dict[bool, list[str]] = {True: [], False: []}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("-----BEGIN "):
            lines = []
        lines.append(line)
        if line.startswith("-----END "):
            blocks["PRIVATE KEY" in line].append("\n".join(lines) + "\n")
    if not blocks[True] and not blocks[False]:
        raise MountError("the certificate holds no PEM block")
    return PemBundle("".join(blocks[True]).encode(), "".join(blocks[False]).encode())


def chain(
    certificates: Sequence[x509.Certificate], leaf: x509.Certificate | None = None
) -> list[x509.Certificate] | None:
    """The certificates from leaf to root, each once; None when they are not one whole chain.

    ``leaf`` is the one that belongs to the private key; without one it is the one that issued no other. Raises
    MountError when there is none, or when certificates issued each other in a circle.
    """
    left = _unique(certificates)
    if not left:
        return []
    here = leaf or _leaf(left)
    ordered = [here]
    while issuer := next((one for one in left if one != here and _issued(one, here)), None):
        if issuer in ordered:
            raise MountError("constructing chain resulted in cycle")
        ordered.append(issuer)
        here = issuer
    return ordered if len(ordered) == len(left) else None


def _load(data: bytes) -> pkcs12.PKCS12KeyAndCertificates:
    """An absent password and an empty one are different things in PKCS#12; Key Vault has used both."""
    try:
        return pkcs12.load_pkcs12(data, None)
    except ValueError:
        return pkcs12.load_pkcs12(data, b"")


def _unique(certificates: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    return list(dict.fromkeys(certificates))


def _leaf(certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    for one in certificates:
        if not any(other != one and _issued(one, other) for other in certificates):
            return one
    raise MountError("no leaf found")


def _issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    """By key identifiers where both have them, by names otherwise."""
    own, wanted = _subject_key(issuer), _authority_key(subject)
    if own is not None and wanted is not None:
        return own == wanted
    return issuer.subject == subject.issuer


def _subject_key(one: x509.Certificate) -> bytes | None:
    try:
        return one.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None


def _authority_key(one: x509.Certificate) -> bytes | None:
    try:
        return one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None


def _number(jwk: Mapping[str, str], name: str) -> int:
    text = jwk.get(name, "")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if not data:
        raise ValueError(f"{name} is missing")
    return int.from_bytes(data, "big")
