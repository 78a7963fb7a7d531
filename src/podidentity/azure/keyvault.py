"""Key Vault: read one secret."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
import yarl

from podidentity.azure.answers import excerpt, retry_after
from podidentity.azure.errors import AuthenticationFailed, AzureStatusError, AzureUnavailable, KeyVaultError, Throttled
from podidentity.azure.http import new_session, read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

API_VERSION: Final = "7.4"


@dataclass(frozen=True, slots=True)
class SecretBundle:
    """A secret. ``version`` is the last part of ``id``; ``kid`` is set when a certificate is behind it."""

    value: str = field(repr=False)
    id: str
    version: str
    content_type: str = ""
    kid: str = ""


class _Bundle(msgspec.Struct, frozen=True):
    value: str | None = None
    id: str | None = None
    content_type: str | None = msgspec.field(default=None, name="contentType")
    kid: str | None = None


class _Inner(msgspec.Struct, frozen=True):
    code: str | None = None


class _Error(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None
    innererror: _Inner | None = None


class _Envelope(msgspec.Struct, frozen=True):
    error: _Error | None = None


class KeyVaultClient:
    """Reads secrets. Proxies of the environment count, redirects are not followed, nothing is retried.

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
        url = f"{vault_url.rstrip('/')}/secrets/{quote(name, safe='')}/{quote(version, safe='')}"
        status, headers, body = await self._get(f"{url}?api-version={API_VERSION}", token)
        if status != 200:  # noqa: PLR2004 - HTTP OK
            raise parse_vault_error(status, headers, body, retry_after(headers, self._wall()))
        return parse_secret(body)

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._owned and self._session is not None:
            await self._session.close()
            self._session = None

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
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise AzureUnavailable(f"{host} cannot be reached: {text}") from error


def parse_secret(body: bytes) -> SecretBundle:
    """Read the body of a secret. Raises AzureUnavailable when it has no value or no id."""
    try:
        bundle = msgspec.json.decode(body, type=_Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AzureUnavailable("Key Vault's answer is not a secret") from error
    if bundle.value is None:
        raise AzureUnavailable("secret value is nil")
    if not bundle.id:
        raise AzureUnavailable("secret id is nil")
    return SecretBundle(
        value=bundle.value,
        id=bundle.id,
        version=urlsplit(bundle.id).path.rstrip("/").rpartition("/")[2],
        content_type=bundle.content_type or "",
        kid=bundle.kid or "",
    )


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
