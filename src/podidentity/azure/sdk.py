"""The one place that imports azure-identity: its credentials over a transport of ours."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import (
    AzureCliCredential,
    ChainedTokenCredential,
    ClientSecretCredential,
    EnvironmentCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from podidentity.azure.errors import TokenError
from podidentity.azure.http import new_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from azure.core.credentials_async import AsyncTokenCredential

    from podidentity.config.redact import SecretText

IMDS_TIMEOUT: Final = 10.0
AUTHORITY_TIMEOUT: Final = 30.0


# The library's warnings would go to stderr raw; what they tell is in the errors it raises.
logging.getLogger("azure").addHandler(logging.NullHandler())


class RebasedTransport(AioHttpTransport):  # type: ignore[misc]  # azure-core exports it lazily, untyped
    """azure-core's aiohttp transport; requests to one origin are sent to another one (``origin`` -> ``target``)."""

    def __init__(self, *, origin: str, target: str, proxies: bool, timeout: float, environ: Mapping[str, str]) -> None:
        super().__init__(session_owner=True)
        self._origin = urlsplit(origin)
        self._target = urlsplit(target)
        self._new_session = functools.partial(
            new_session, environ=environ, proxies=proxies, timeout=timeout, tls=self._target.scheme == "https"
        )
        self._made = False

    async def open(self) -> None:
        """Make the session, once, in the loop that uses it."""
        if not self._made:
            self.session = self._new_session()
            self._made = True
        await super().open()

    async def send(self, request: Any, **config: Any) -> Any:
        """Send ``request``, moved to the target if it is for the origin."""
        url = urlsplit(request.url)
        if (url.scheme, url.netloc) == (self._origin.scheme, self._origin.netloc):
            request.url = urlunsplit(
                (
                    self._target.scheme,
                    self._target.netloc,
                    self._target.path.rstrip("/") + url.path,
                    url.query,
                    url.fragment,
                )
            )
        return await super().send(request, **config)


def managed_identity(client_id: str, *, imds_url: str, environ: Mapping[str, str]) -> AsyncTokenCredential:
    """Sign in as the node's user-assigned identity of that client id; an empty one means the system-assigned."""
    transport = RebasedTransport(
        origin="http://169.254.169.254", target=imds_url, proxies=False, timeout=IMDS_TIMEOUT, environ=environ
    )
    return ManagedIdentityCredential(client_id=client_id or None, transport=transport)


def service_principal(
    *,
    tenant: str,
    client_id: str,
    secret: SecretText,
    authority: str,
    authority_url: str,
    environ: Mapping[str, str],
) -> AsyncTokenCredential:
    """Sign in as a service principal with a client secret; requests to ``authority`` go to ``authority_url``.

    Raises TokenError when the tenant is not a tenant's name.
    """
    transport = RebasedTransport(
        origin=authority, target=authority_url, proxies=True, timeout=AUTHORITY_TIMEOUT, environ=environ
    )
    try:
        return ClientSecretCredential(
            tenant, client_id, secret.reveal(), authority=authority, transport=transport, retry_total=3
        )
    except ValueError as error:
        raise TokenError(0, "invalid_configuration", str(error)) from error


def persons(ways: Sequence[str], *, authority: str, environ: Mapping[str, str]) -> AsyncTokenCredential:
    """Sign in as the person or program at this machine, by the first of ``ways`` that can; none asks anything.

    ``environment``: AZURE_TENANT_ID, AZURE_CLIENT_ID and a secret, certificate or token file of a service principal;
    ``managed-identity``: the machine's, AZURE_CLIENT_ID says which; ``cli``: who is signed in with ``az``.
    """

    def transport() -> RebasedTransport:
        return RebasedTransport(
            origin=authority, target=authority, proxies=True, timeout=AUTHORITY_TIMEOUT, environ=environ
        )

    def environment() -> AsyncTokenCredential:
        kind = WorkloadIdentityCredential if "AZURE_FEDERATED_TOKEN_FILE" in environ else EnvironmentCredential
        return kind(authority=authority, disable_instance_discovery=True, transport=transport())

    makers: dict[str, Callable[[], AsyncTokenCredential]] = {
        "environment": environment,
        "managed-identity": lambda: managed_identity(
            environ.get("AZURE_CLIENT_ID", ""), imds_url="http://169.254.169.254", environ=environ
        ),
        "cli": lambda: AzureCliCredential(process_timeout=60),
    }
    return ChainedTokenCredential(*(makers[way]() for way in ways))
