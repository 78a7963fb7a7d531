"""What can go wrong between us and the Kubernetes API.

::

    KubeError
    ├── KubeUnavailable        no answer: refused, reset, TLS, time out, or an answer that is no Kubernetes
    │   └── WatchSilent        a watch that said nothing for too long
    └── ApiError               the API answered with an error: code, reason, message, retry_after
        ├── Unauthorized       401
        ├── Forbidden          403
        ├── NotFound           404
        ├── AlreadyExists      409 AlreadyExists
        ├── Conflict           409, anything else
        ├── Gone               410: the resource version or the continue token is too old
        └── Invalid            422
"""

from __future__ import annotations

from podidentity.kube.refusals import missing_right


class KubeError(Exception):
    """Base of everything this package raises."""


class KubeUnavailable(KubeError):  # noqa: N818 - named as what it says: the API is unavailable
    """No usable answer. ``sent`` is False when the request certainly never reached the API."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class WatchSilent(KubeUnavailable):
    """A watch was silent up to its idle deadline: nothing happened, or the connection is dead. Open it anew."""


class ApiError(KubeError):
    """The API's own error: HTTP status ``code``, ``reason``, ``message``, ``retry_after`` in seconds or None."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{message} ({code} {reason})" if reason else f"{message} ({code})")
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Unauthorized(ApiError):  # noqa: N818 - Kubernetes' own word
    """401: no or outdated credentials."""


class Forbidden(ApiError):  # noqa: N818 - Kubernetes' own word
    """403: RBAC does not allow it. Its text says which right is missing and who needs it."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(code, reason, message, retry_after)
        right = missing_right(message)
        if right:
            self.args = (right,)


class NotFound(ApiError):  # noqa: N818 - Kubernetes' own word
    """404: the object or the kind is not there."""


class AlreadyExists(ApiError):  # noqa: N818 - Kubernetes' own word
    """409 on create: the name is taken."""


class Conflict(ApiError):  # noqa: N818 - Kubernetes' own word
    """409: the object changed since it was read, or a precondition failed."""


class Gone(ApiError):  # noqa: N818 - Kubernetes' own word
    """410: list again."""


class Invalid(ApiError):  # noqa: N818 - Kubernetes' own word
    """422: the object did not validate."""
