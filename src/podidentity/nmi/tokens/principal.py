"""Tokens of service principals (types 1 and 2), from Entra ID with the proof the AzureIdentity names."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from podidentity.azure.errors import AzureError, TokenError
from podidentity.config.redact import SecretText
from podidentity.nmi.tokens.authority import Authorities
from podidentity.nmi.tokens.imds import ImdsAnswer, refusal_of, token_of
from podidentity.nmi.tokens.proofs import KEEP_SECONDS, Proofs
from podidentity.nmi.tokens.source import Token, TokenRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from podidentity.azure.certificate import ClientCertificate
    from podidentity.nmi.tokens.proofs import Proof

_UNAUTHORIZED: Final = 401


class Grants(Protocol):
    """The part of ``azure.entra.EntraClient`` used here; both raise AzureError when there is no token."""

    async def token(self, authority: str, tenant: str, client_id: str, secret: SecretText, resource: str) -> ImdsAnswer:
        """Ask with a client secret."""
        ...

    async def token_by_certificate(
        self, authority: str, tenant: str, client_id: str, certificate: ClientCertificate, resource: str
    ) -> ImdsAnswer:
        """Ask with a signed assertion."""
        ...


class ServicePrincipal:
    """A :class:`TokenSource` for identities of types 1 and 2.

    Where the proof goes is judged before it is read. A proof that Entra ID does not take is read anew, and if it has
    changed meanwhile tried once more.
    """

    def __init__(
        self, grants: Grants, proofs: Proofs, authorities: Authorities, told: Callable[[float, AzureError | None], None]
    ) -> None:
        self._grants = grants
        self._told = told
        self._proofs = proofs
        self._authorities = authorities

    async def token(self, request: TokenRequest) -> Token:
        """Ask once, or twice."""
        authority = self._authorities.of(request)
        proof, read_at = await self._proofs.proof(request)
        try:
            return await self._ask(authority, request, proof)
        except TokenError as error:
            if error.status != _UNAUTHORIZED:
                raise refusal_of(error) from error
            other, _ = await self._proofs.proof(request, newer_than=read_at)
            if other is proof:
                raise refusal_of(error) from error
        except AzureError as error:
            raise refusal_of(error) from error
        try:
            return await self._ask(authority, request, other)
        except AzureError as error:
            raise refusal_of(error) from error

    async def _ask(self, authority: str, request: TokenRequest, proof: Proof) -> Token:
        """Ask once. Raises AzureError."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        failure: AzureError | None = None
        client, tenant, resource = request.client_id, request.tenant_id, request.resource
        try:
            if isinstance(proof, SecretText):
                answer = await self._grants.token(authority, tenant, client, proof, resource)
            else:
                answer = await self._grants.token_by_certificate(authority, tenant, client, proof, resource)
        except AzureError as error:
            failure = error
            raise
        finally:
            self._told(loop.time() - start, failure)
        return token_of(answer, request)


async def watch_secrets(proofs: Proofs, in_use: Callable[[], set[str]], evict: Callable[[str], object]) -> NoReturn:
    """Look each minute at the Secrets in use; the tokens of one that has changed or gone are evicted."""
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        for secret in sorted(in_use()):
            if await proofs.changed(secret):
                proofs.forget(secret)
                evict(secret)
