"""What proves a service principal: read from its Secret, kept for a minute, and noticed when it changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from podidentity.aio.clock import Clock
from podidentity.api.constants import TYPE_SERVICE_PRINCIPAL
from podidentity.config.redact import SecretText
from podidentity.kube.errors import KubeError, KubeUnavailable, NotFound
from podidentity.nmi.tokens.source import TokenRefused, TokenRequest

if TYPE_CHECKING:
    from podidentity.azure.certificate import ClientCertificate

    Proof = SecretText | ClientCertificate

KEEP_SECONDS: Final = 60.0
_MOST_KEPT: Final = 512
_PASSWORD_KEYS: Final = ("clientSecret", "client-secret", "client_secret", "password")
_FILE_KEYS: Final = ("certificate", "tls.crt")


class Secrets(Protocol):
    """Reads Secrets; raises KubeError."""

    async def read(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """Return the Secret's data, decoded."""
        ...


class ProofObserver(Protocol):
    """Told what an operator should know of the Secrets in use; ``secret`` is ``namespace/name``."""

    def secret_problem(self, secret: str, reason: str) -> None:
        """Take note of a Secret that cannot be used."""
        ...

    def secret_usable(self, secret: str, not_after: float | None) -> None:
        """Take note of a Secret that can be used, and of its certificate's end (epoch seconds)."""
        ...


@dataclass(slots=True)
class _Kept:
    digest: bytes
    proof: Proof
    read_at: float


class Proofs:
    """The proofs of the Secrets in use. ``changed`` is told the Secret whose content is another, or is gone.

    A Secret is read when it is asked for and was not within the last minute; ``run`` looks each minute at those that
    ``in_use`` names, so that a rotation is taken up without waiting for a refusal.
    """

    def __init__(self, secrets: Secrets, observer: ProofObserver, *, clock: Clock) -> None:
        self._secrets = secrets
        self._observer = observer
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._opening = asyncio.Lock()

    async def proof(self, request: TokenRequest, *, newer_than: float = -1.0) -> tuple[Proof, float]:
        """Return the proof and when (monotonic) it was read: after ``newer_than``, if given, else in the last minute.

        Raises TokenRefused.
        """
        key = (request.secret, request.type)
        kept = self._kept.get(key)
        now = self._clock.monotonic()
        if kept is not None and now - kept.read_at < KEEP_SECONDS and kept.read_at > newer_than:
            return kept.proof, kept.read_at
        try:
            kept = await self._read(key)
        except TokenRefused as refused:
            self._kept.pop(key, None)
            if refused.status != 503:  # noqa: PLR2004 - HTTP's Service Unavailable: says nothing of the Secret
                self._observer.secret_problem(request.secret, refused.description)
            raise
        return kept.proof, kept.read_at

    async def changed(self, secret: str) -> bool:
        """Whether a Secret that was read before is another one now, or gone; False when that cannot be told."""
        kept = next((one for (name, _), one in self._kept.items() if name == secret), None)
        if kept is None:
            return False
        try:
            data = await self._data(secret)
        except TokenRefused as refused:
            gone = refused.status != 503  # noqa: PLR2004 - as above
            if gone:
                self._observer.secret_problem(secret, refused.description)
            return gone
        if _digest(data) == kept.digest:
            kept.read_at = self._clock.monotonic()
            return False
        return True

    def forget(self, secret: str) -> None:
        """Read this Secret anew when it is next asked for."""
        for key in [key for key in self._kept if key[0] == secret]:
            del self._kept[key]

    async def _read(self, key: tuple[str, int]) -> _Kept:
        secret, kind = key
        data = await self._data(secret)
        read_at = self._clock.monotonic()
        digest = _digest(data)
        before = self._kept.get(key)
        if before is not None and before.digest == digest:
            before.read_at = read_at
            return before
        proof: Proof
        if kind == TYPE_SERVICE_PRINCIPAL:
            proof, end = password_of(secret, data), None
        else:
            proof = await self._certificate(secret, data)
            end = proof.not_after.timestamp()
            if end <= self._clock.wall():
                raise TokenRefused(403, f"Secret {secret}: its certificate expired on {proof.not_after:%Y-%m-%d}")
        self._observer.secret_usable(secret, end)
        kept = self._kept[key] = _Kept(digest, proof, read_at)
        self._kept.move_to_end(key)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _certificate(self, secret: str, data: Mapping[str, bytes]) -> ClientCertificate:
        """Open the certificate, one at a time: that takes a process of its own."""
        from podidentity.azure.certificate import CertificateError, load_certificate  # noqa: PLC0415 - heavy, rarely used

        content, password = file_of(secret, data)
        try:
            async with self._opening:
                return await load_certificate(content, password)
        except CertificateError as error:
            raise TokenRefused(403, f"Secret {secret}: its certificate {error}") from error

    async def _data(self, secret: str) -> Mapping[str, bytes]:
        namespace, _, name = secret.partition("/")
        try:
            return await self._secrets.read(namespace, name)
        except NotFound as error:
            raise TokenRefused(403, f"Secret {secret} of the identity does not exist") from error
        except KubeUnavailable as error:
            raise TokenRefused(503, "the Kubernetes API cannot be asked for the Secret", retry_after=1.0) from error
        except KubeError as error:
            raise TokenRefused(403, f"Secret {secret} of the identity cannot be read: nmi {error}") from error


def password_of(secret: str, data: Mapping[str, bytes]) -> SecretText:
    """Return the client secret: of the one key there is, or of the one among several that has a known name."""
    names = list(data) if len(data) == 1 else [name for name in _PASSWORD_KEYS if name in data]
    if len(names) != 1:
        raise _ambiguous(secret, _PASSWORD_KEYS)
    try:
        text = data[names[0]].decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise TokenRefused(403, f"Secret {secret}: {names[0]} is not text") from error
    if not text:
        raise TokenRefused(403, f"Secret {secret}: {names[0]} is empty")
    return SecretText(text)


def file_of(secret: str, data: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """Return a certificate's file and its password: of ``certificate`` and ``password``, or of ``tls.crt`` and key."""
    names = list(data) if len(data) == 1 else [name for name in _FILE_KEYS if name in data]
    if len(names) != 1:
        raise _ambiguous(secret, _FILE_KEYS)
    name = names[0]
    content = data[name]
    if name == "tls.crt":
        content = content + b"\n" + data.get("tls.key", b"")
    return content, data.get("password", b"").strip(b"\r\n")


def _ambiguous(secret: str, keys: tuple[str, ...]) -> TokenRefused:
    return TokenRefused(403, f"Secret {secret} must have one key, or exactly one of {', '.join(keys)}")


def _digest(data: Mapping[str, bytes]) -> bytes:
    found = hashlib.sha256()
    for name in sorted(data):
        found.update(f"{name}\n{len(data[name])}\n".encode())
        found.update(data[name])
    return found.digest()
