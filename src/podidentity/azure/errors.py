"""What can go wrong when Azure is asked for something.

::

    AzureError
    ├── AzureUnavailable              no answer: network, TLS, a deadline, or an answer nobody can read
    ├── TokenError                    the token endpoint (IMDS or Entra ID) refused
    └── AzureStatusError              an answer with an error status
        ├── Throttled                 429; ``retry_after`` says when to come back
        ├── AuthenticationFailed      401
        ├── AuthorizationFailed       403
        │   └── LinkedAuthorizationFailed   403 on identities, named in ``scopes``
        ├── HostNotFound              404
        ├── ConflictError             409
        ├── FailedIdentityOperation   one identity, named in ``ids``, could not be attached
        ├── TooManyIdentities         over the limit of keys in one request
        ├── ApiVersionRefused         the api-version is not taken; ``supported``: those that are
        ├── SubscriptionNotFound      404 of the subscription: moved, or not of this tenant
        ├── HostDeleting              the machine is being deleted; nothing was sent
        ├── OperationFailed           the long-running operation ended in Failed or Canceled
        └── KeyVaultError             the vault refused
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class AzureError(Exception):
    """Base of everything Azure clients raise; ``str`` is one line."""

    retry_after: float | None = None
    """Seconds to wait, when the service named a time."""


class AzureUnavailable(AzureError):  # noqa: N818 - named after the state; callers read `except AzureUnavailable`
    """No usable answer: network, TLS, deadline, or a body that cannot be read."""


class TokenError(AzureError):
    """A token endpoint refused. ``status`` is 0 when the refusal was local."""

    def __init__(self, status: int, error: str, description: str, retry_after: float | None = None) -> None:
        super().__init__(" ".join((f"{error}: {description}" if description else error).split()))
        self.status = status
        self.error = error
        self.description = description
        self.retry_after = retry_after


class AzureStatusError(AzureError):
    """An error answer: HTTP ``status``, Azure's ``code`` and ``message``, all response ``headers``."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}" if status else f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.headers: Mapping[str, str] = headers or {}


class Throttled(AzureStatusError):  # noqa: N818 - named after the state
    """429: too many requests; wait ``retry_after`` seconds."""


class AuthenticationFailed(AzureStatusError):  # noqa: N818 - Azure's own word
    """401: the token was not accepted."""


class AuthorizationFailed(AzureStatusError):  # noqa: N818 - Azure's own code
    """403: the caller lacks a right on the machine."""


class LinkedAuthorizationFailed(AuthorizationFailed):
    """403: the caller lacks a right on linked identities.

    ``scopes`` holds their ids, folded (see ``rules.resource_id.fold``); empty when the message named none.
    """

    scopes: frozenset[str] = frozenset()


class HostNotFound(AzureStatusError):  # noqa: N818 - named after the state
    """404: no such machine or scale set."""


class ConflictError(AzureStatusError):
    """409: somebody else is writing."""


class FailedIdentityOperation(AzureStatusError):  # noqa: N818 - Azure's own code
    """An identity could not be attached.

    ``ids`` are the identities named, folded. ``throttled``: the identity service was busy, the identity is not at
    fault, and ``retry_after`` says when to come back.
    """

    ids: frozenset[str] = frozenset()
    throttled: bool = False


class TooManyIdentities(AzureStatusError):  # noqa: N818 - named after the limit
    """More keys in one request than ARM takes (150)."""


class ApiVersionRefused(AzureStatusError):  # noqa: N818 - named after the answer
    """The api-version is not taken any more, or not for this host; ``supported``: those that are, as far as named."""

    supported: tuple[str, ...] = ()


class SubscriptionNotFound(AzureStatusError):  # noqa: N818 - Azure's own code
    """The subscription is not known to the tenant: moved or deleted. It says nothing about a host."""


class HostDeleting(AzureStatusError):  # noqa: N818 - named after the state
    """The machine is in provisioning state Deleting; no PATCH was sent."""


class OperationFailed(AzureStatusError):  # noqa: N818 - named after the state
    """The long-running operation ended in Failed or Canceled; ``status`` is 0."""


class KeyVaultError(AzureStatusError):
    """Key Vault refused; ``code`` is the inner error's code when there is one (ForbiddenByRbac, SecretNotFound...)."""
