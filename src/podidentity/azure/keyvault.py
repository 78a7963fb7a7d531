"""Key Vault: read secrets, keys and certificates, and which versions of them there are."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
import yarl

from podidentity.aio.wording import connection_error
from podidentity.azure.answers import excerpt, retry_after
from podidentity.azure.errors import AuthenticationFailed, AzureStatusError, AzureUnavailable, KeyVaultError, Throttled
from podidentity.azure.http import new_session, read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable

API_VERSION: Final = "7.4"
MAX_PAGES: Final = 100
"""Pages of a version list that are read at most; a page holds 25 versions."""

_T = TypeVar("_T")
ObjectKind = Literal["secret", "key", "cert"]
_COLLECTIONS: Final[Mapping[ObjectKind, str]] = {"secret": "secrets", "key": "keys", "cert": "certificates"}


@dataclass(frozen=True, slots=True)
class SecretBundle:
    """A secret. ``version`` is the last part of ``id``; ``kid`` is set when a certificate is behind it."""

    value: str = field(repr=False)
    id: str
    version: str
    content_type: str = ""
    kid: str = ""


@dataclass(frozen=True, slots=True)
class KeyBundle:
    """The public half of a key as a JSON Web Key: the texts ``kty``, ``crv``, ``n``, ``e``, ``x``, ``y``."""

    jwk: Mapping[str, str]
    version: str


@dataclass(frozen=True, slots=True)
class CertificateBundle:
    """A certificate: base64 of its DER, without its chain."""

    der: str
    version: str


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object; ``created`` in epoch seconds, 0 when the vault does not say."""

    version: str
    enabled: bool
    created: int


class _Bundle(msgspec.Struct, frozen=True):
    value: str | None = None
    id: str | None = None
    content_type: str | None = msgspec.field(default=None, name="contentType")
    kid: str | None = None


class _Key(msgspec.Struct, frozen=True):
    key: dict[str, object] | None = None


class _Certificate(msgspec.Struct, frozen=True):
    cer: str | None = None
    id: str | None = None


class _Attributes(msgspec.Struct, frozen=True):
    enabled: bool = True
    created: int = 0


class _Item(msgspec.Struct, frozen=True):
    id: str | None = None
    kid: str | None = None
    attributes: _Attributes = _Attributes()


class _Page(msgspec.Struct, frozen=True):
    value: Sequence[_Item] = ()
    next_link: str | None = msgspec.field(default=None, name="nextLink")


class _Inner(msgspec.Struct, frozen=True):
    code: str | None = None


class _Error(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None
    innererror: _Inner | None = None


class _Envelope(msgspec.Struct, frozen=True):
    error: _Error | None = None


class KeyVaultClient:
    """Reads objects. Proxies of the environment count, redirects are not followed, nothing is retried.

    ``timeout`` is seconds for a whole exchange.
    """

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        session: aiohttp.ClientSession | None = None,
        user_agent: str = "",
        wall: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._timeout = timeout
        self._session = session
        self._owned = session is None
        self._user_agent = user_agent
        self._wall = wall
        self._environ = os.environ if environ is None else environ

    async def secret(self, vault_url: str, name: str, version: str, token: str) -> SecretBundle:
        """Get the secret's version, the latest with an empty ``version``.

        Raises KeyVaultError and its siblings (AuthenticationFailed, Throttled), AzureUnavailable.
        """
        return parse_secret(await self._object(vault_url, "secret", name, version, token))

    async def key(self, vault_url: str, name: str, version: str, token: str) -> KeyBundle:
        """Get the public half of a key's version, as ``secret`` does."""
        return parse_key(await self._object(vault_url, "key", name, version, token))

    async def certificate(self, vault_url: str, name: str, version: str, token: str) -> CertificateBundle:
        """Get a certificate's version, as ``secret`` does."""
        return parse_certificate(await self._object(vault_url, "cert", name, version, token))

    async def versions(self, vault_url: str, kind: ObjectKind, name: str, token: str) -> tuple[ObjectVersion, ...]:
        """List an object's versions, in the vault's order. Raises as ``secret`` does."""
        base = vault_url.rstrip("/")
        url = f"{base}/{_COLLECTIONS[kind]}/{quote(name, safe='')}/versions?api-version={API_VERSION}"
        found: list[ObjectVersion] = []
        for _page in range(MAX_PAGES):
            page = _decode(await self._ask(url, token), _Page, "a list of versions")
            found += (_version_of(item) for item in page.value)
            if not page.next_link:
                return tuple(found)
            url = page.next_link
            if urlsplit(url)[:2] != urlsplit(base)[:2]:
                raise AzureUnavailable("Key Vault's list of versions goes on at another address; it is not followed")
        raise AzureUnavailable(f"Key Vault's list of versions has more than {MAX_PAGES} pages")

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._owned and self._session is not None:
            await self._session.close()
            self._session = None

    async def _object(self, vault_url: str, kind: ObjectKind, name: str, version: str, token: str) -> bytes:
        path = f"{_COLLECTIONS[kind]}/{quote(name, safe='')}/{quote(version, safe='')}"
        return await self._ask(f"{vault_url.rstrip('/')}/{path}?api-version={API_VERSION}", token)

    async def _ask(self, url: str, token: str) -> bytes:
        status, headers, body = await self._get(url, token)
        if status != 200:  # noqa: PLR2004 - HTTP OK
            raise parse_vault_error(status, headers, body, retry_after(headers, self._wall()))
        return body

    async def _get(self, url: str, token: str) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = new_session(environ=self._environ, proxies=True, timeout=self._timeout)
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self._user_agent:
            headers["User-Agent"] = self._user_agent
        host = urlsplit(url).netloc
        try:
            async with self._session.get(
                yarl.URL(url, encoded=True),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            ) as response:
                return response.status, response.headers, await read_bounded(response.content.iter_any())
        except TimeoutError as error:
            raise AzureUnavailable(f"{host} did not answer within {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = connection_error(error)[:200]
            raise AzureUnavailable(f"{host} cannot be reached: {text}") from error


def parse_secret(body: bytes) -> SecretBundle:
    """Read the body of a secret. Raises AzureUnavailable when it has no value or no id."""
    bundle = _decode(body, _Bundle, "a secret")
    if bundle.value is None:
        raise AzureUnavailable("secret value is nil")
    if not bundle.id:
        raise AzureUnavailable("secret id is nil")
    return SecretBundle(
        value=bundle.value,
        id=bundle.id,
        version=_last_part(bundle.id),
        content_type=bundle.content_type or "",
        kid=bundle.kid or "",
    )


def parse_key(body: bytes) -> KeyBundle:
    """Read the body of a key. Raises AzureUnavailable when it holds none or has no id."""
    key = _decode(body, _Key, "a key").key
    if key is None:
        raise AzureUnavailable("key value is nil")
    jwk = {name: value for name, value in key.items() if isinstance(value, str)}
    if not jwk.get("kid"):
        raise AzureUnavailable("key id is nil")
    return KeyBundle(jwk, _last_part(jwk["kid"]))


def parse_certificate(body: bytes) -> CertificateBundle:
    """Read the body of a certificate. Raises AzureUnavailable when it holds none or has no id."""
    bundle = _decode(body, _Certificate, "a certificate")
    if bundle.cer is None:
        raise AzureUnavailable("certificate value is nil")
    if not bundle.id:
        raise AzureUnavailable("certificate id is nil")
    return CertificateBundle(bundle.cer, _last_part(bundle.id))


def parse_vault_error(status: int, headers: Mapping[str, str], body: bytes, wait: float | None) -> AzureStatusError:
    """Return the exception an error answer stands for; any body is survived."""
    try:
        error = msgspec.json.decode(body, type=_Envelope).error or _Error()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = _Error()
    inner = error.innererror.code if error.innererror is not None else None
    kind = {401: AuthenticationFailed, 429: Throttled}.get(status, KeyVaultError)
    code = inner or error.code or f"HTTP {status}"
    message = " ".join((error.message or "").split()) or excerpt(body)
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP redirects
        message = "the vault answered with a redirect, which is not followed"
    return kind(status, code, message[:2000], retry_after=wait, headers=headers)


def _decode(body: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AzureUnavailable(f"Key Vault's answer is not {what}") from error


def _version_of(item: _Item) -> ObjectVersion:
    identifier = item.id or item.kid
    if not identifier:
        raise AzureUnavailable("Key Vault lists a version without an id")
    return ObjectVersion(_last_part(identifier), item.attributes.enabled, item.attributes.created)


def _last_part(identifier: str) -> str:
    return urlsplit(identifier).path.rstrip("/").rpartition("/")[2]
