"""Tokens for ourselves: azure-identity behind one method, cached and refreshed ahead."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from podidentity.aio.clock import Clock
from podidentity.azure.errors import AzureError, AzureUnavailable, TokenError
from podidentity.config.redact import SecretText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azure.core.credentials_async import AsyncTokenCredential

    from podidentity.azure.cloud import Cloud
    from podidentity.azure.config import AzureConfig

IMDS_URL = "http://169.254.169.254"
REFRESH_AHEAD = 300.0
"""Seconds before expiry when a token is fetched anew while the old one is still served."""
DEADLINE = 120.0
"""Seconds a token request may take, its retries included."""


@dataclass(frozen=True)
class AccessToken:
    """A token; ``expires_on`` is seconds since the epoch."""

    token: SecretText
    expires_on: int
    resource: str


class Credential(Protocol):
    """Gives tokens for a resource such as ``https://management.azure.com/``."""

    async def token(self, resource: str) -> AccessToken:
        """A token that is still valid. Raises TokenError (refused) or AzureUnavailable."""

    async def close(self) -> None:
        """Close the connections."""


class CachedCredential:
    """Serves a token from memory, fetches one at a time, and renews it ahead of its expiry."""

    def __init__(self, source: Credential, *, clock: Clock | None = None) -> None:
        self._source = source
        self._clock = clock if clock is not None else Clock()
        self._tokens: dict[str, AccessToken] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def token(self, resource: str) -> AccessToken:
        """See Credential. While a renewal runs or fails, a token that is still valid is served."""
        cached = self._valid(resource)
        lock = self._locks.setdefault(resource, asyncio.Lock())
        if cached is not None and (not self._ageing(cached) or lock.locked()):
            return cached
        async with lock:
            cached = self._valid(resource)
            if cached is not None and not self._ageing(cached):
                return cached
            try:
                fresh = await self._source.token(resource)
            except AzureError:
                cached = self._valid(resource)
                if cached is not None:
                    return cached
                raise
            self._tokens[resource] = fresh
            return fresh

    async def close(self) -> None:
        """Forget the tokens and close the source."""
        self._tokens.clear()
        await self._source.close()

    def _valid(self, resource: str) -> AccessToken | None:
        cached = self._tokens.get(resource)
        return cached if cached is not None and cached.expires_on > self._clock.wall() else None

    def _ageing(self, token: AccessToken) -> bool:
        return token.expires_on - self._clock.wall() <= REFRESH_AHEAD


class AzureIdentityCredential:
    """One of azure-identity's asynchronous credentials, its errors translated.

    ``final``: that nobody could sign in is a refusal, not something to try again: a person waits for the answer.
    """

    def __init__(
        self, inner: AsyncTokenCredential, *, where: str, deadline: float = DEADLINE, final: bool = False
    ) -> None:
        self._inner = inner
        self._where = where
        self._deadline = deadline
        self._final = final

    async def token(self, resource: str) -> AccessToken:
        """See Credential."""
        from azure.core.exceptions import AzureError as SdkError  # noqa: PLC0415 - heavy, only where it is used

        try:
            async with asyncio.timeout(self._deadline):
                got = await self._inner.get_token(f"{resource}/.default")
        except TimeoutError as error:
            raise AzureUnavailable(f"no token from {self._where} within {self._deadline:.0f} s") from error
        except SdkError as error:
            raise _translated(error, self._where, final=self._final) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # The library trips over answers that are JSON but no token.
            raise AzureUnavailable(f"{self._where} answered with something that is not a token") from error
        return AccessToken(token=SecretText(got.token), expires_on=int(got.expires_on), resource=resource)

    async def close(self) -> None:
        """Close the connections."""
        await self._inner.close()


def _translated(error: BaseException, where: str, *, final: bool) -> AzureError:
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    status = getattr(response, "status_code", 0) or 0
    message = " ".join(str(getattr(error, "message", "") or error).split())[:500]
    if status or final:
        return TokenError(int(status), "token_refused", f"{where}: {message}")
    return AzureUnavailable(f"{where}: {message}")


def credential_for(
    config: AzureConfig,
    *,
    imds_url: str = IMDS_URL,
    authority_url: str = "",
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Credential:
    """The credential the configuration asks for: managed identity, else client secret.

    ``imds_url`` and ``authority_url`` replace the metadata address and the cloud's authority (default: the cloud's).
    The caller closes it. Raises TokenError for a tenant that cannot be one. No discovery goes to other hosts.
    """
    from podidentity.azure.sdk import managed_identity, service_principal  # noqa: PLC0415 - azure-identity: 1 s import

    env = os.environ if environ is None else environ
    if config.use_managed_identity:
        inner = managed_identity(config.user_assigned_identity_id, imds_url=imds_url, environ=env)
        where = "the metadata service"
    else:
        inner = service_principal(
            tenant=config.tenant_id,
            client_id=config.client_id,
            secret=config.client_secret,
            authority=config.cloud.active_directory,
            authority_url=authority_url or config.cloud.active_directory,
            environ=env,
        )
        where = config.cloud.active_directory
    return CachedCredential(AzureIdentityCredential(inner, where=where), clock=clock)


def persons_credential(ways: Sequence[str], cloud: Cloud, *, environ: Mapping[str, str]) -> Credential:
    """The credential of whoever runs a command of ours: the first of ``ways`` that can sign in (see ``sdk.persons``).

    The caller closes it.
    """
    from podidentity.azure.sdk import persons  # noqa: PLC0415 - azure-identity: 1 s import

    inner = persons(ways, authority=cloud.active_directory, environ=environ)
    return CachedCredential(AzureIdentityCredential(inner, where=f"signing in ({', '.join(ways)})", final=True))
