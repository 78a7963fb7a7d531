"""Entra ID's token endpoint for service principals (identity types 1 and 2)."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import aiohttp

from podidentity.aio.wording import connection_error
from podidentity.azure.answers import retry_after
from podidentity.azure.errors import AzureUnavailable, TokenError
from podidentity.azure.http import new_session, read_bounded
from podidentity.azure.imds import ImdsToken, parse_token, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podidentity.azure.certificate import ClientCertificate
    from podidentity.config.redact import SecretText

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TENANT: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,254}")


class EntraClient:
    """Client-credential grants. Proxies of the environment count, redirects are not followed, nothing is retried.

    ``timeout`` is seconds for a whole exchange. Authorities must be https unless ``plain_http`` (tests).
    """

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        session: aiohttp.ClientSession | None = None,
        wall: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
        plain_http: bool = False,
    ) -> None:
        self._timeout = timeout
        self._session = session
        self._owned = session is None
        self._wall = wall
        self._environ = os.environ if environ is None else environ
        self._plain_http = plain_http

    async def token(
        self,
        authority: str,
        tenant: str,
        client_id: str,
        secret: SecretText,
        resource: str,
        *,
        version: Literal["v1", "v2"] = "v1",
    ) -> ImdsToken:
        """A token for ``resource`` by client secret, in IMDS's shape. Raises TokenError, AzureUnavailable."""
        form = {"client_id": client_id, "client_secret": secret.reveal(), "grant_type": "client_credentials"}
        return await self.grant(authority, tenant, form, resource, version=version)

    async def token_by_certificate(
        self, authority: str, tenant: str, client_id: str, certificate: ClientCertificate, resource: str
    ) -> ImdsToken:
        """A token for ``resource`` by an assertion the certificate signs. Raises TokenError, AzureUnavailable."""
        audience = self._endpoint(authority, tenant, "v1").partition("?")[0]
        form = {
            "client_id": client_id,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": certificate.assertion(client_id, audience, now=self._wall()),
            "grant_type": "client_credentials",
        }
        return await self.grant(authority, tenant, form, resource)

    async def grant(
        self,
        authority: str,
        tenant: str,
        form: Mapping[str, str],
        resource: str,
        *,
        version: Literal["v1", "v2"] = "v1",
    ) -> ImdsToken:
        """Post a grant; ``resource`` (v1) or ``scope`` (v2) is added to the form. Raises as ``token`` does."""
        url = self._endpoint(authority, tenant, version)
        wanted = {"resource": resource} if version == "v1" else {"scope": f"{resource}/.default"}
        status, headers, body = await self._post(url, {**form, **wanted})
        if status != 200:  # noqa: PLR2004 - HTTP OK
            raise refusal(status, body, retry_after(headers, self._wall()))
        return parse_token(body, resource=resource, now=self._wall())

    async def close(self) -> None:
        """Close the session if it is ours."""
        if self._owned and self._session is not None:
            await self._session.close()
            self._session = None

    def _endpoint(self, authority: str, tenant: str, version: str) -> str:
        scheme = urlsplit(authority).scheme
        if scheme != "https" and not (self._plain_http and scheme == "http"):
            raise TokenError(0, "invalid_authority", f'"{authority}" is not an https:// URL')
        if not _TENANT.fullmatch(tenant):
            raise TokenError(0, "invalid_tenant", f'"{tenant[:100]}" is not a tenant id or domain')
        path = "oauth2/token?api-version=1.0" if version == "v1" else "oauth2/v2.0/token"
        return f"{authority.rstrip('/')}/{tenant}/{path}"

    async def _post(self, url: str, form: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = new_session(environ=self._environ, proxies=True, timeout=self._timeout)
        try:
            async with self._session.post(
                url,
                data=dict(form),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            ) as response:
                return response.status, response.headers, await read_bounded(response.content.iter_any())
        except TimeoutError as error:
            raise AzureUnavailable(f"{_host(url)} did not answer within {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = connection_error(error)[:200]
            raise AzureUnavailable(f"{_host(url)} cannot be reached: {text}") from error


def _host(url: str) -> str:
    return urlsplit(url).netloc
