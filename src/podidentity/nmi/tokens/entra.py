"""Tokens of service principals, from Entra ID with the secret the AzureIdentity names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from podidentity.azure.errors import AzureError
from podidentity.config.redact import SecretText
from podidentity.kube.errors import KubeError, KubeUnavailable, NotFound
from podidentity.nmi.tokens.imds import ImdsAnswer, refusal_of, token_of
from podidentity.nmi.tokens.source import Token, TokenRefused, TokenRequest

DEFAULT_AUTHORITY: Final = "https://login.microsoftonline.com"
PREFERRED_KEYS: Final = ("clientSecret", "client-secret", "client_secret", "password")
"""Which key of the Secret is meant, should it have several."""


class Grants(Protocol):
    """The part of ``azure.entra.EntraClient`` used here."""

    async def token(self, authority: str, tenant: str, client_id: str, secret: SecretText, resource: str) -> ImdsAnswer:
        """Raise AzureError when there is no token."""
        ...


class Secrets(Protocol):
    """Reads Secrets; raises KubeError."""

    async def read(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """Return the Secret's data, decoded."""
        ...


class ServicePrincipal:
    """A :class:`TokenSource` for identities of type 1. ``authorities`` are the https hosts a secret may be sent to."""

    def __init__(self, grants: Grants, secrets: Secrets, *, authorities: frozenset[str]) -> None:
        self._grants = grants
        self._secrets = secrets
        self._authorities = authorities

    async def token(self, request: TokenRequest) -> Token:
        """Read the Secret, then ask once."""
        authority = self._authority(request.ad_endpoint or DEFAULT_AUTHORITY)
        secret = await self._secret(request.secret)
        try:
            answer = await self._grants.token(authority, request.tenant_id, request.client_id, secret, request.resource)
        except AzureError as error:
            raise refusal_of(error) from error
        return token_of(answer, request)

    def _authority(self, endpoint: str) -> str:
        """Return ``https://host`` of a known host; written anew, so that no two parsers can read it differently."""
        for host in self._authorities:
            if endpoint.rstrip("/").casefold() == f"https://{host}".casefold():
                return f"https://{host}"
        raise TokenRefused(403, f"adEndpoint {endpoint[:100]} is no token endpoint of a known cloud")

    async def _secret(self, key: str) -> SecretText:
        namespace, _, name = key.partition("/")
        try:
            data = await self._secrets.read(namespace, name)
        except NotFound as error:
            raise TokenRefused(403, f"Secret {key} of the identity does not exist") from error
        except KubeUnavailable as error:
            raise TokenRefused(503, "the Kubernetes API cannot be asked for the Secret", retry_after=1.0) from error
        except KubeError as error:
            raise TokenRefused(403, f"Secret {key} of the identity cannot be read") from error
        return _value(key, data)


def _value(key: str, data: Mapping[str, bytes]) -> SecretText:
    names = [name for name in PREFERRED_KEYS if name in data] or list(data)
    if len(names) != 1 and not (names and names[0] in PREFERRED_KEYS):
        raise TokenRefused(403, f"Secret {key} must have one key, or one named {PREFERRED_KEYS[0]}")
    try:
        return SecretText(data[names[0]].decode("utf-8").strip())
    except UnicodeDecodeError as error:
        raise TokenRefused(403, f"Secret {key}: {names[0]} is not text") from error
