"""``podidentity validate``: what a pod gets from where it stands, tried the ways programs try it.

Runs in a pod. It asks as SDKs do: for the node's documents, for a token by client id, by resource id and with neither,
and with each token for a secret if one is named. An identity that is not there yet is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from podidentity.azure.errors import AzureError, TokenError
from podidentity.azure.imds import ImdsResponse, ImdsToken
from podidentity.azure.keyvault import SecretBundle
from podidentity.config.redact import redact_client_id

DOCUMENT: Final = "/metadata/instance?api-version=2017-08-01"
VAULT: Final = "https://vault.azure.net"
NOT_YET: Final = "identity not found"
"""What nmi and IMDS say while the identity is not on the machine, in lower case."""


class Metadata(Protocol):
    """The metadata service. Raises AzureError."""

    async def token(self, resource: str, *, client_id: str = "", resource_id: str = "") -> ImdsToken:
        """Get a token."""

    async def forward(
        self, method: str, raw_target: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> ImdsResponse:
        """Ask for a document."""


class Vault(Protocol):
    """Key Vault. Raises AzureError."""

    async def secret(self, vault_url: str, name: str, version: str, token: str) -> SecretBundle:
        """Read a secret."""


@dataclass(frozen=True)
class Wish:
    """What to try. ``tries`` and ``pause`` (seconds) are for an identity that is not there yet."""

    client_id: str = ""
    resource_id: str = ""
    resource: str = "https://management.azure.com/"
    vault_url: str = ""
    secret: str = ""
    tries: int = 10
    pause: float = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried; ``evidence`` is one line, without any token or secret."""

    what: str
    holds: bool
    evidence: str
    tries: int
    seconds: float


async def validate(wish: Wish, metadata: Metadata, vault: Vault) -> tuple[Finding, ...]:
    """Try everything, one after the other."""
    found = [await _found("documents of the node", lambda: _document(metadata), wish)]
    for how, client_id, resource_id in _ways(wish):

        async def token(client_id: str = client_id, resource_id: str = resource_id) -> str:
            got = await metadata.token(wish.resource, client_id=client_id, resource_id=resource_id)
            return f"of {redact_client_id(got.client_id)}, for {got.expires_in or '?'} s"

        async def secret(client_id: str = client_id, resource_id: str = resource_id) -> str:
            got = await metadata.token(VAULT, client_id=client_id, resource_id=resource_id)
            read = await vault.secret(wish.vault_url, wish.secret, "", got.access_token)
            return f"version {read.version}"

        found.append(await _found(f"token {how}", token, wish))
        if wish.vault_url:
            found.append(await _found(f"secret {wish.secret} {how}", secret, wish))
    return tuple(found)


def _ways(wish: Wish) -> list[tuple[str, str, str]]:
    """How to name the identity: words, client id, resource id."""
    ways = [("by client id", wish.client_id, ""), ("by resource id", "", wish.resource_id)]
    return [*(way for way in ways if way[1] or way[2]), ("with neither id", "", "")]


async def _document(metadata: Metadata) -> str:
    answer = await metadata.forward("GET", DOCUMENT, [("Metadata", "true")], b"")
    if answer.status == 403:  # noqa: PLR2004 - HTTP Forbidden: nmi's --block-instance-metadata
        return "403: blocked on this node"
    if answer.status != 200:  # noqa: PLR2004 - HTTP OK
        raise AzureError(f"{answer.status}: {answer.body[:200].decode(errors='replace')}")
    return f"200, {len(answer.body)} bytes"


async def _found(what: str, tried: Callable[[], Awaitable[str]], wish: Wish) -> Finding:
    """Try one thing, again while the identity is not there yet."""
    clock = asyncio.get_running_loop().time
    begun, tries = clock(), 0
    while True:
        tries += 1
        try:
            return Finding(what, True, await tried(), tries, clock() - begun)  # noqa: FBT003 - the field says it
        except AzureError as error:
            early = isinstance(error, TokenError) and NOT_YET in str(error).lower()
            if not early or tries >= wish.tries:
                return Finding(what, False, str(error), tries, clock() - begun)  # noqa: FBT003 - as above
        await asyncio.sleep(wish.pause)
