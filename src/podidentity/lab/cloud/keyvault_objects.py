"""Key Vault's keys and certificates: made or imported, read by version, listed."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs12

from podidentity.lab.cloud.model import KeyVersion, SecretVersion, Vault, VaultCertificate, VaultKey
from podidentity.lab.cloud.wire import Call, Reply
from podidentity.lab.cloud.world import World

PEM = "application/x-pem-file"
PKCS12 = "application/x-pkcs12"
_CURVES: Mapping[str, Callable[[], ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class BadObjectError(ValueError):
    """What was sent cannot become a key or a certificate; the text says why."""


class _CreateKey(msgspec.Struct, frozen=True, kw_only=True):
    kty: str
    crv: str = "P-256"
    key_size: int = 2048


class _SecretProperties(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    content_type: str = PKCS12


class _Policy(msgspec.Struct, frozen=True, kw_only=True):
    secret_props: _SecretProperties = _SecretProperties()


class _ImportCertificate(msgspec.Struct, frozen=True, kw_only=True):
    value: str
    pwd: str = ""
    policy: _Policy = _Policy()


@dataclass(frozen=True, slots=True)
class Imported:
    """A certificate and its key: the public halves, and the secret that holds both."""

    der: bytes
    public: PublicKey
    value: str
    content_type: str


def jwk_of(public: PublicKey, *, hardware: bool = False) -> dict[str, str]:
    """A public key as a JSON Web Key (pure)."""
    suffix = "-HSM" if hardware else ""
    if isinstance(public, rsa.RSAPublicKey):
        found = public.public_numbers()
        return {"kty": f"RSA{suffix}", "n": _text(found.n), "e": _text(found.e)}
    point = public.public_numbers()
    width = (public.curve.key_size + 7) // 8
    return {
        "kty": f"EC{suffix}",
        "crv": _NAMES[public.curve.name],
        "x": _text(point.x, width),
        "y": _text(point.y, width),
    }


def read_certificate(body: bytes) -> Imported:
    """The certificate of an import's body: PKCS#12 in base64, or PEM. BadObjectError says what is wrong with it."""
    try:
        given = msgspec.json.decode(body, type=_ImportCertificate)
        content_type = given.policy.secret_props.content_type
        if content_type == PEM:
            key = load_pem_private_key(given.value.encode(), None)
            certificate, value = x509.load_pem_x509_certificate(given.value.encode()), given.value
        else:
            held = pkcs12.load_pkcs12(base64.b64decode(given.value), given.pwd.encode() or None)
            if held.cert is None or held.key is None:
                raise BadObjectError("the PKCS#12 holds no certificate with its key")
            key, certificate, value = held.key, held.cert.certificate, given.value
    except (ValueError, TypeError, binascii.Error, msgspec.DecodeError) as error:
        raise BadObjectError(str(error) or "neither PKCS#12 nor PEM") from error
    public = key.public_key()
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise BadObjectError("the key is neither RSA nor EC")
    return Imported(certificate.public_bytes(Encoding.DER), public, value, content_type)


class VaultObjects:
    """Reads and writes the keys and certificates of all vaults."""

    def __init__(self, world: World) -> None:
        self._world = world

    def create_key(self, vault: Vault, name: str, body: bytes) -> Reply:
        """``az keyvault key create``; BadObjectError for a type or curve there is not."""
        try:
            given = msgspec.json.decode(body, type=_CreateKey)
            kind, _, hardware = given.kty.partition("-")
            if kind == "RSA":
                public: PublicKey = rsa.generate_private_key(65537, given.key_size).public_key()
            elif kind == "EC" and given.crv in _CURVES:
                public = ec.generate_private_key(_CURVES[given.crv]()).public_key()
            else:
                raise BadObjectError(f"kty {given.kty} with crv {given.crv} is not made here")
        except (ValueError, msgspec.DecodeError) as error:
            raise BadObjectError(str(error)) from error
        version = self._new_version()
        row = KeyVersion(version=version, jwk=jwk_of(public, hardware=bool(hardware)), created=self._world.now())
        key = self._with_key(vault, name, row)
        self._world.commit(self._world.keys.put(self._world.secret_key(vault.name, name), key))
        return Reply(200, self._key_body(key, row))

    def import_certificate(self, vault: Vault, name: str, given: Imported, secret: Callable[..., object]) -> Reply:
        """``az keyvault certificate import``: a certificate, its key and its secret, all of one version.

        ``secret(vault, name, version)`` adds the version of the secret behind it.
        """
        version, now = self._new_version(), self._world.now()
        kid = f"{_base(vault.name)}/keys/{name}/{version}"
        row = KeyVersion(version=version, jwk=jwk_of(given.public), created=now, der=given.der)
        key = self._with_key(vault, name, row)
        old = self._world.certificates.get(self._world.secret_key(vault.name, name))
        certificate = VaultCertificate(
            vault=vault.name, name=old.name if old else name, versions=(*(old.versions if old else ()), row)
        )
        where = self._world.secret_key(vault.name, name)
        secret(
            vault,
            name,
            SecretVersion(version=version, value=given.value, created=now, content_type=given.content_type, kid=kid),
        )
        self._world.commit(self._world.keys.put(where, key), self._world.certificates.put(where, certificate))
        return Reply(200, self._certificate_body(certificate, row))

    def get(self, kind: str, vault: Vault, name: str, version: str) -> Reply | None:
        """One version, the latest with an empty ``version``; None when there is none."""
        held = self._held(kind, vault, name)
        rows = [row for row in held.versions if version in {"", row.version}] if held else []
        if held is None or not rows:
            return None
        if isinstance(held, VaultKey):
            return Reply(200, self._key_body(held, rows[-1]))
        return Reply(200, self._certificate_body(held, rows[-1]))

    def versions(self, kind: str, vault: Vault, name: str, call: Call) -> Reply | None:
        """All versions, a page at a time as Key Vault does; None when there is no such object."""
        held = self._held(kind, vault, name)
        if held is None:
            return None
        word = "kid" if isinstance(held, VaultKey) else "id"
        items = [
            {word: f"{_base(held.vault)}/{kind}/{held.name}/{row.version}", "attributes": _attributes(row)}
            for row in held.versions
        ]
        return paged(items, call)

    def _held(self, kind: str, vault: Vault, name: str) -> VaultKey | VaultCertificate | None:
        where = self._world.secret_key(vault.name, name)
        return self._world.keys.get(where) if kind == "keys" else self._world.certificates.get(where)

    def _with_key(self, vault: Vault, name: str, row: KeyVersion) -> VaultKey:
        old = self._world.keys.get(self._world.secret_key(vault.name, name))
        return VaultKey(
            vault=vault.name, name=old.name if old else name, versions=(*(old.versions if old else ()), row)
        )

    def _new_version(self) -> str:
        return self._world.new_guid().replace("-", "")

    @staticmethod
    def _key_body(key: VaultKey, row: KeyVersion) -> dict[str, object]:
        kid = f"{_base(key.vault)}/keys/{key.name}/{row.version}"
        operations = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
        return {"key": {"kid": kid, "key_ops": operations, **row.jwk}, "attributes": _attributes(row), "tags": {}}

    @staticmethod
    def _certificate_body(certificate: VaultCertificate, row: KeyVersion) -> dict[str, object]:
        base = _base(certificate.vault)
        return {
            "id": f"{base}/certificates/{certificate.name}/{row.version}",
            "kid": f"{base}/keys/{certificate.name}/{row.version}",
            "sid": f"{base}/secrets/{certificate.name}/{row.version}",
            "cer": base64.b64encode(row.der).decode(),
            "contentType": PKCS12,
            "attributes": _attributes(row),
            "tags": {},
        }


def paged(items: Sequence[Mapping[str, object]], call: Call) -> Reply:
    """At most ``maxresults`` (25) items from ``$skiptoken`` on, and the address of the rest (pure)."""
    most = call.parameter("maxresults")
    size = min(int(most), 25) if most.isdecimal() and int(most) else 25
    token = call.parameter("$skiptoken")
    start = int(token) if token.isdecimal() else 0
    rest = start + size < len(items)
    version = call.parameter("api-version")
    link = f"{call.base}{call.path}?api-version={version}&$skiptoken={start + size}&maxresults={size}"
    return Reply(200, {"value": list(items[start : start + size]), "nextLink": link if rest else None})


def _attributes(row: KeyVersion) -> dict[str, object]:
    return {"enabled": row.enabled, "created": int(row.created), "updated": int(row.created)}


def _base(vault: str) -> str:
    return f"https://{vault}.vault.azure.net"


def _text(number: int, width: int = 0) -> str:
    data = number.to_bytes(width or (number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
