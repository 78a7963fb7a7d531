"""RS256 tokens as Entra ID issues them to applications, and their check as ARM and Key Vault do it."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

_KEY_BITS = 2048
_MEMO = 4096
_PARTS = 3
Fault = Literal["malformed", "signature", "issuer", "audience", "expired", "not_yet"]


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The claims of an application's token (version 1.0). Times are whole seconds since the epoch."""

    aud: str
    iss: str
    iat: int
    nbf: int
    exp: int
    appid: str
    appidacr: str
    idp: str
    idtyp: str = "app"
    oid: str
    sub: str
    tid: str
    uti: str
    ver: str
    xms_mirid: str = ""


class _Header(msgspec.Struct, frozen=True):
    alg: str = ""
    kid: str = ""


class TokenError(Exception):
    """A bearer token was refused; `fault` says why, `found` what stood there."""

    def __init__(self, fault: Fault, found: str = "") -> None:
        super().__init__(f"token refused: {fault} {found}".rstrip())
        self.fault = fault
        self.found = found


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a token is for.

    `resource_id` ("" for a service principal) becomes `xms_mirid`; `proof` is "1" for a
    secret and "2" for a certificate or a managed identity.
    """

    client_id: str
    object_id: str
    resource_id: str = ""
    proof: str = "2"


def b64(data: bytes) -> str:
    """base64url without padding, as in JOSE."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes of unpadded base64url; ValueError for anything else."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def new_key() -> str:
    """A fresh signing key as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    encoding, container = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, container, serialization.NoEncryption()).decode()


class Issuer:
    """Signs and checks the tokens of one tenant. Verified signatures are remembered, a bounded number of them."""

    def __init__(self, tenant_id: str, signing_key: str) -> None:
        key = serialization.load_pem_private_key(signing_key.encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise TypeError("the signing key must be RSA")
        self.tenant_id = tenant_id
        self.issuer = f"https://sts.windows.net/{tenant_id}/"
        self._key = key
        numbers = key.public_key().public_numbers()
        self._n = b64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))
        self._e = b64(numbers.e.to_bytes(3, "big"))
        self.kid = b64(hashlib.sha256(self._n.encode()).digest()[:20])
        self._header = b64(msgspec.json.encode({"typ": "JWT", "alg": "RS256", "x5t": self.kid, "kid": self.kid}))
        self._verified: dict[str, Claims] = {}

    def jwks(self) -> dict[str, object]:
        """The public key set."""
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "x5t": self.kid, "n": self._n, "e": self._e}
        return {"keys": [key | {"issuer": self.issuer}]}

    def mint(self, subject: Subject, audience: str, *, now: float, lifetime: int, token_id: str) -> str:
        """A signed token; `lifetime` in seconds, may be negative for one that has expired."""
        claims = Claims(
            aud=audience,
            iss=self.issuer,
            iat=int(now),
            nbf=int(now),
            exp=int(now) + lifetime,
            appid=subject.client_id,
            appidacr=subject.proof,
            idp=self.issuer,
            oid=subject.object_id,
            sub=subject.object_id,
            tid=self.tenant_id,
            uti=token_id,
            ver="1.0",
            xms_mirid=subject.resource_id,
        )
        signed = f"{self._header}.{b64(msgspec.json.encode(claims))}"
        return f"{signed}.{b64(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"

    def check(self, token: str, audiences: frozenset[str], *, now: float) -> Claims:
        """The claims of a token that is ours, for one of the audiences and valid now; TokenError otherwise."""
        claims = self._verified.get(token) or self._verify(token)
        if claims.iss != self.issuer:
            raise TokenError("issuer", claims.iss)
        if claims.aud not in audiences:
            raise TokenError("audience", claims.aud)
        if claims.exp <= now:
            raise TokenError("expired", str(claims.exp))
        if claims.nbf > now:
            raise TokenError("not_yet", str(claims.nbf))
        return claims

    def _verify(self, token: str) -> Claims:
        parts = token.split(".")
        if len(parts) != _PARTS:
            raise TokenError("malformed")
        try:
            header = msgspec.json.decode(unb64(parts[0]), type=_Header)
            signature = unb64(parts[2])
            claims = msgspec.json.decode(unb64(parts[1]), type=Claims)
        except (ValueError, msgspec.DecodeError) as error:
            raise TokenError("malformed") from error
        if header.alg != "RS256" or header.kid != self.kid:
            raise TokenError("signature")
        try:
            signed = f"{parts[0]}.{parts[1]}".encode()
            self._key.public_key().verify(signature, signed, padding.PKCS1v15(), SHA256())
        except InvalidSignature as error:
            raise TokenError("signature") from error
        if len(self._verified) >= _MEMO:
            self._verified.clear()
        self._verified[token] = claims
        return claims
