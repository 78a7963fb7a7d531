"""Azure's error bodies, told apart once: a body in, one exception of the tree in ``errors`` out. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from podidentity.azure.answers import MAX_RETRY_AFTER, excerpt
from podidentity.azure.errors import (
    ApiVersionRefused,
    AuthenticationFailed,
    AuthorizationFailed,
    AzureStatusError,
    ConflictError,
    FailedIdentityOperation,
    HostNotFound,
    LinkedAuthorizationFailed,
    OperationFailed,
    SubscriptionNotFound,
    Throttled,
    TooManyIdentities,
)
from podidentity.rules.resource_id import fold

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_MESSAGE: Final = 2000
_IDENTITY: Final = re.compile(
    r"/subscriptions/[^/'\",\s]{1,90}/resourcegroups/[^/'\",]{1,90}"
    r"/providers/microsoft\.managedidentity/userassignedidentities/[^/'\",\s()\\]{1,128}",
    re.IGNORECASE,
)
_LINKED: Final = re.compile(r"on the linked scope\(s\) '([^']{1,60000})'", re.IGNORECASE)
_ONE_RESOURCE: Final = re.compile(r"identity operation for resource '([^']{1,1000})'", re.IGNORECASE)
_WAIT: Final = re.compile(r"retry after ([0-9]{1,5}) seconds", re.IGNORECASE)
_BUSY: Final = re.compile(r"temporarily throttled|too many requests", re.IGNORECASE)
_TOO_MANY: Final = re.compile(r"exceed limit '?[0-9]+'? in one request", re.IGNORECASE)
_VERSIONS: Final = re.compile(r"supported (?:api-?)?versions? (?:are|is):? '([^']{1,6000})'", re.IGNORECASE)
_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(?:-preview)?")
_VERSION_CODES: Final = frozenset(
    {"InvalidApiVersionParameter", "NoRegisteredProviderFound", "UnsupportedApiVersion", "MissingApiVersionParameter"}
)


class _Detail(msgspec.Struct, frozen=True):
    code: str | None = None
    message: str | None = None
    details: tuple[_Detail, ...] | None = None


class _Envelope(msgspec.Struct, frozen=True):
    error: _Detail | None = None
    code: str | None = None
    message: str | None = None


def parse_error(status: int, headers: Mapping[str, str], body: bytes, retry_after: float | None) -> AzureStatusError:
    """Return the exception an error answer stands for. Any body is survived: garbage becomes the message's excerpt."""
    code, message = _words(body, f"HTTP {status}")
    return _classified(status, code, message, retry_after, headers)


def operation_error(state: str, body: bytes) -> AzureStatusError:
    """Return the exception of a long-running operation that ended in ``state`` (Failed, Canceled)."""
    code, message = _words(body, "")
    if not code:
        return OperationFailed(0, f"Operation{state}", "the operation ended without saying why")
    error = _classified(0, code, message, None, {})
    if type(error) is AzureStatusError:
        return OperationFailed(0, code, message)
    return error


def _words(body: bytes, fallback_code: str) -> tuple[str, str]:
    """Code and message, details joined in."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return fallback_code, excerpt(body) if fallback_code else ""
    top = envelope.error or _Detail(code=envelope.code, message=envelope.message)
    texts = [top.message or ""]
    texts += [text for detail in (top.details or ()) if (text := detail.message or detail.code or "") not in texts]
    message = " ".join(" ".join(texts).split())
    return top.code or fallback_code, message or (excerpt(body) if fallback_code else "")


def _classified(
    status: int, code: str, message: str, retry_after: float | None, headers: Mapping[str, str]
) -> AzureStatusError:
    short = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "..."
    if code == "LinkedAuthorizationFailed":
        linked = LinkedAuthorizationFailed(status, code, short, retry_after=retry_after, headers=headers)
        linked.scopes = _linked_scopes(message)
        return linked
    if code == "FailedIdentityOperation":
        failed = FailedIdentityOperation(status, code, short, retry_after=retry_after, headers=headers)
        failed.ids = _failed_ids(message)
        if _BUSY.search(message):
            failed.throttled = True
            wait = _WAIT.search(message)
            failed.retry_after = min(float(wait[1]), MAX_RETRY_AFTER) if wait else retry_after
        return failed
    if code in _VERSION_CODES:
        refused = ApiVersionRefused(status, code, short, retry_after=retry_after, headers=headers)
        named = _VERSIONS.search(message)
        refused.supported = tuple(sorted(set(_VERSION.findall(named[1])))) if named else ()
        return refused
    kind = TooManyIdentities if _TOO_MANY.search(message) else _BY_CODE.get(code) or _BY_STATUS.get(status)
    return (kind or AzureStatusError)(status, code, short, retry_after=retry_after, headers=headers)


_BY_CODE: Final[Mapping[str, type[AzureStatusError]]] = {
    "AuthorizationFailed": AuthorizationFailed,
    "Conflict": ConflictError,
    "ConflictingConcurrentWriteNotAllowed": ConflictError,
    "TooManyRequests": Throttled,
    "SubscriptionNotFound": SubscriptionNotFound,
}
_BY_STATUS: Final[Mapping[int, type[AzureStatusError]]] = {
    401: AuthenticationFailed,
    403: AuthorizationFailed,
    404: HostNotFound,
    409: ConflictError,
    429: Throttled,
}


def _linked_scopes(message: str) -> frozenset[str]:
    lists = _LINKED.findall(message)
    return frozenset(fold(found) for text in lists for found in _IDENTITY.findall(text))


def _failed_ids(message: str) -> frozenset[str]:
    """Find the identities a FailedIdentityOperation names.

    "for resource '...'" may name the machine instead; then any identity the message contains counts.
    """
    named = [found for text in _ONE_RESOURCE.findall(message) for found in _IDENTITY.findall(text)]
    return frozenset(fold(found) for found in (named or _IDENTITY.findall(message)))
