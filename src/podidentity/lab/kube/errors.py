"""What a request fails with: one exception that knows its ``Status`` object.

The texts are those of kube-apiserver 1.34. What this server does not do, it refuses through :func:`not_here`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podidentity.lab.kube.objects import Obj, go_value

REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    501: "NotImplemented",
    503: "ServiceUnavailable",
}
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Cause:
    """One entry of ``details.causes``: ``reason`` as in FieldValueInvalid, ``message`` without the field."""

    reason: str
    message: str
    field: str

    @property
    def text(self) -> str:
        """How the cause reads inside the message."""
        return f"{self.field}: {self.message}"


class StatusError(Exception):
    """A failed request: HTTP ``code`` and ``headers``; ``reason``, ``message``, optional ``details`` of the Status."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: Obj | None = None,
        metadata: Obj | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = REASONS.get(code, "InternalError") if reason is None else reason
        self.message = message
        self.details = details
        self._metadata = metadata or {}
        self.headers = {"Retry-After": "1"} if code == _TOO_MANY else {}

    def status(self) -> Obj:
        """The ``Status`` object of the answer."""
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self._metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def details(kind: str, group: str = "", name: str = "") -> Obj:
    """``details`` of a Status; empty parts are left out."""
    return {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}


def qualified(plural: str, group: str) -> str:
    """``azureidentities.aadpodidentity.k8s.io``, or ``pods`` for the core group."""
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> StatusError:
    """404: the object does not exist."""
    return StatusError(404, f'{qualified(plural, group)} "{name}" not found', details=details(plural, group, name))


def already_exists(plural: str, group: str, name: str) -> StatusError:
    """409 AlreadyExists."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return StatusError(409, message, reason="AlreadyExists", details=details(plural, group, name))


def conflict(plural: str, group: str, name: str, why: str = "") -> StatusError:
    """409 Conflict: by default the resourceVersion is not the latest."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return StatusError(409, message, details=details(plural, group, name))


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> StatusError:
    """422: every cause is named; several are put in brackets."""
    found = list(causes)
    texts = [cause.text for cause in found]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    more = details(kind, group, name)
    more["causes"] = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in found]
    return StatusError(422, f'{qualified(kind, group)} "{name}" is invalid: {text}', details=more)


def unsupported(options: str, field: str, value: object, *supported: str) -> StatusError:
    """422: a query or an options object asks for what does not exist; ``options`` is its kind, as CreateOptions."""
    text = f"Unsupported value: {go_value(value)}: supported values: {', '.join(map(go_value, supported))}"
    return invalid(options, "meta.k8s.io", "", [Cause("FieldValueNotSupported", text, field)])


def forbidden(plural: str, group: str, name: str, why: str) -> StatusError:
    """403 for a reason other than RBAC (admission, a terminating namespace)."""
    of = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    return StatusError(403, f"{of} is forbidden: {why}", details=details(plural, group, name))


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, message)


def expired(asked: int, oldest: int) -> StatusError:
    """410: the watch history does not reach back to ``asked``."""
    return StatusError(410, f"too old resource version: {asked} ({oldest})")


def not_here(what: str, code: int = 501) -> StatusError:
    """Something Kubernetes has and this small server has not; says where it is to be had."""
    return StatusError(
        code, f"{what} is not part of the lab's embedded API server; start the lab with --api-server=real"
    )
