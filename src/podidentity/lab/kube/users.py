"""Who asks: client certificates, bearer tokens, ServiceAccount tokens."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.objects import Obj, decode, dig, encode, go_value, meta
from podidentity.lab.kube.store import Store

ISSUER: Final = "https://kubernetes.default.svc"
AUTHENTICATED: Final = "system:authenticated"
MASTERS: Final = "system:masters"
_PADDING: Final = padding.PKCS1v15()
_REMEMBERED: Final = 4096
_INVALIDATED: Final = "service account token has been invalidated"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated caller."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    def info(self) -> Obj:
        """``userInfo`` as reviews show it."""
        info: Obj = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            info["uid"] = self.uid
        if self.extra:
            info["extra"] = {key: list(values) for key, values in self.extra.items()}
        return info


ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))


def unauthorized() -> StatusError:
    """401."""
    return StatusError(401, "Unauthorized")


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _unpart(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TokenSigner:
    """Signs and checks ServiceAccount tokens (RS256). ``key`` is an RSA private key in PEM."""

    def __init__(self, key: bytes, now: Callable[[], float] = time.time) -> None:
        loaded = serialization.load_pem_private_key(key, None)
        if not isinstance(loaded, RSAPrivateKey):
            raise TypeError("the ServiceAccount signing key is not an RSA key")
        self._key, self._public, self._now = loaded, loaded.public_key(), now
        der = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.key_id = _part(hashlib.sha256(der).digest())
        self._known: dict[str, Obj] = {}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT with these claims."""
        head = _part(encode({"alg": "RS256", "kid": self.key_id}))
        text = f"{head}.{_part(encode(claims))}"
        return f"{text}.{_part(self._key.sign(text.encode(), _PADDING, hashes.SHA256()))}"

    def claims(self, token: str) -> Obj | None:
        """The claims of a token this key signed and that is valid now; None for any other."""
        found = self._known.get(token)
        if found is None:
            found = self._check(token)
            if found is None:
                return None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[token] = found
        now = self._now()
        return found if found.get("nbf", 0) <= now < found.get("exp", 0) else None

    def _check(self, token: str) -> Obj | None:
        head, _, signature = token.rpartition(".")
        try:
            self._public.verify(_unpart(signature), head.encode(), _PADDING, hashes.SHA256())
            header, claims = (decode(_unpart(part)) for part in head.split("."))
        except (InvalidSignature, binascii.Error, ValueError):
            return None
        good = isinstance(header, dict) and isinstance(claims, dict) and header.get("alg") == "RS256"
        return claims if good and claims.get("iss") == ISSUER else None

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now()


def account_claims(
    namespace: str, account: Obj, *, audiences: list[str], seconds: int, now: float, bound: Mapping[str, Obj]
) -> Obj:
    """The claims of a token of ``account``; ``bound`` maps pod or secret to the object it dies with."""
    issued = int(now)
    private: Obj = {
        "namespace": namespace,
        "serviceaccount": {"name": account["metadata"]["name"], "uid": account["metadata"]["uid"]},
    }
    for kind, obj in bound.items():
        private[kind] = {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
    return {
        "aud": audiences,
        "exp": issued + seconds,
        "iat": issued,
        "iss": ISSUER,
        "jti": str(uuid.uuid4()),
        "kubernetes.io": private,
        "nbf": issued,
        "sub": f"system:serviceaccount:{namespace}:{account['metadata']['name']}",
    }


class Authenticator:
    """Certificate, then bearer token, then nobody. ``tokens`` are static ones, for administrators and tests."""

    def __init__(self, store: Store, signer: TokenSigner, tokens: Mapping[str, User]) -> None:
        self._store = store
        self._signer = signer
        self._tokens = tokens

    def who(self, certificate: Mapping[str, Any] | None, der: bytes, authorization: str) -> User:
        """The caller; raises 401 when it offers a credential that is not valid."""
        if certificate:
            return from_certificate(certificate, der)
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return ANONYMOUS
        user, _ = self.bearer(token.strip(), (ISSUER,))
        if user is None:
            raise unauthorized()
        return user

    def bearer(self, token: str, audiences: tuple[str, ...]) -> tuple[User | None, tuple[str, ...]]:
        """The user of a token and which of ``audiences`` it is meant for; None when it is not valid for any."""
        if user := self._tokens.get(token):
            return User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra), audiences
        claims = self._signer.claims(token)
        if claims is None:
            return None, ()
        meant = tuple(audience for audience in audiences if audience in (claims.get("aud") or ()))
        return (self._account(claims) if meant else None), meant

    def refusal(self, token: str, audiences: tuple[str, ...]) -> str:
        """Why :meth:`bearer` knows nobody by a token."""
        claims = self._signer.claims(token)
        why = ""
        if claims and not set(audiences) & set(claims.get("aud") or ()):
            held, asked = (" ".join(map(go_value, names)) for names in (claims.get("aud") or (), audiences))
            why = f"token audiences [{held}] is invalid for the target audiences [{asked}]"
        elif claims:
            private = claims.get("kubernetes.io") or {}
            account = private.get("serviceaccount") or {}
            lives = self._lives("serviceaccounts", str(private.get("namespace")), account)
            why = _INVALIDATED if lives else f'serviceaccounts "{account.get("name")}" not found'
        return f"[invalid bearer token, {why}]" if why else "invalid bearer token"

    def _account(self, claims: Obj) -> User | None:
        private = claims.get("kubernetes.io") or {}
        namespace, account = str(private.get("namespace")), private.get("serviceaccount") or {}
        if not self._lives("serviceaccounts", namespace, account):
            return None
        extra: dict[str, tuple[str, ...]] = {
            "authentication.kubernetes.io/credential-id": (f"JTI={claims.get('jti')}",),
        }
        for kind, plural in (("pod", "pods"), ("secret", "secrets"), ("node", "nodes")):
            if kind in private:
                if not self._lives(plural, "" if kind == "node" else namespace, private[kind]):
                    return None
                extra[f"authentication.kubernetes.io/{kind}-name"] = (private[kind]["name"],)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (private[kind]["uid"],)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        name = f"system:serviceaccount:{namespace}:{account['name']}"
        return User(name, groups, str(account["uid"]), extra)

    def _lives(self, resource: str, namespace: str, reference: Obj) -> bool:
        found = self._store.get(resource, namespace, str(reference.get("name")))
        return found is not None and dig(meta(found.obj()), "uid") == reference.get("uid")


def from_certificate(certificate: Mapping[str, Any], der: bytes) -> User:
    """Common name and organisations of a verified client certificate (as ``ssl.getpeercert`` gives it, and in DER)."""
    name, groups = "", []
    for relative in certificate.get("subject", ()):
        for key, value in relative:
            if key == "commonName":
                name = str(value)
            elif key == "organizationName":
                groups.append(str(value))
    extra = {"authentication.kubernetes.io/credential-id": (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)}
    return User(name, (*groups, AUTHENTICATED), extra=extra)
