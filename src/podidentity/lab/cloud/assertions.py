"""Client assertions: what a certificate signs instead of sending a secret (RFC 7523)."""

import hashlib
from collections.abc import Collection

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from podidentity.lab.cloud.model import ServicePrincipal
from podidentity.lab.cloud.tokens import b64, unb64

_FEDERATED = "api://AzureADTokenExchange"
_PARTS = 3
_CURVES: dict[tuple[str, str], HashAlgorithm] = {
    ("secp256r1", "ES256"): SHA256(),
    ("secp384r1", "ES384"): SHA384(),
    ("secp521r1", "ES512"): SHA512(),
}


class ProofError(Exception):
    """The assertion proves nothing; `code` is the number after AADSTS."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Header(msgspec.Struct, frozen=True):
    alg: str = ""
    x5t: str = ""
    x5t_s256: str = msgspec.field(name="x5t#S256", default="")


class _Claims(msgspec.Struct, frozen=True):
    """Times may be floats: MSAL for Python writes them so."""

    aud: str | list[str] = ""
    iss: str = ""
    sub: str = ""
    exp: float = 0
    nbf: float = 0


def check_assertion(text: str, principal: ServicePrincipal, endpoints: Collection[str], *, now: float) -> None:
    """Accept an assertion signed by one of the principal's certificates for one of the endpoints.

    Raises ProofError: 50027 for what is no JWT, 70021 for a foreign token that no federated credential of the
    principal names, 700027 for a signature that does not fit, 700024 when it is not valid now, 700023 for another
    audience, 700021 for another issuer.
    """
    parts = text.split(".")
    try:
        header = msgspec.json.decode(unb64(parts[0]), type=_Header)
        claims = msgspec.json.decode(unb64(parts[1]), type=_Claims)
        signature = unb64(parts[2])
    except (ValueError, IndexError, msgspec.DecodeError) as error:
        raise ProofError(50027, "JWT token is invalid or malformed.") from error
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if _FEDERATED in audiences or len(parts) != _PARTS:
        raise ProofError(
            70021,
            "No matching federated identity record found for presented assertion. "
            f"Assertion Issuer: '{claims.iss}'. Assertion Subject: '{claims.sub}'. "
            f"Assertion Audience: '{','.join(audiences)}'.",
        )
    _check_signature(header, f"{parts[0]}.{parts[1]}".encode(), signature, principal)
    if not set(audiences) & set(endpoints):
        text = f"Client assertion audience claim does not match Realm issuer: '{','.join(audiences)}'."
        raise ProofError(700023, text)
    if claims.iss.casefold() != principal.client_id.casefold() or claims.sub.casefold() != claims.iss.casefold():
        raise ProofError(700021, "Client assertion application identifier doesn't match 'client_id' parameter.")
    if not claims.nbf <= now < claims.exp:
        raise ProofError(700024, "Client assertion is not within its valid time range.")


def _check_signature(header: _Header, signed: bytes, signature: bytes, principal: ServicePrincipal) -> None:
    for pem in principal.certificates:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        der, key = certificate.public_bytes(Encoding.DER), certificate.public_key()
        sha1 = b64(hashlib.sha1(der, usedforsecurity=False).digest())
        if header.x5t.rstrip("=") != sha1 and header.x5t_s256.rstrip("=") != b64(hashlib.sha256(der).digest()):
            continue
        if _signed(key, header.alg, signed, signature):
            return
    thumbprint = header.x5t or header.x5t_s256
    raise ProofError(
        700027,
        f"The certificate with identifier used to sign the client assertion is not registered on application. "
        f"[Reason - The key was not found., Thumbprint of key used by client: '{thumbprint}'].",
    )


def _signed(key: object, algorithm: str, signed: bytes, signature: bytes) -> bool:
    """Whether the key made this signature. EC keys are taken too, which the documentation of Entra ID leaves open."""
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm == "RS256":
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        elif isinstance(key, rsa.RSAPublicKey) and algorithm == "PS256":
            scheme = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
            key.verify(signature, signed, scheme, SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and (key.curve.name, algorithm) in _CURVES:
            half = len(signature) // 2
            r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_CURVES[key.curve.name, algorithm]))
        else:
            return False
    except InvalidSignature:
        return False
    return True
