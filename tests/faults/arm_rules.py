"""What Azure does wrong, as rules of the simulated Azure, for real and for virtual time."""

from __future__ import annotations

from typing import Any, Final

from tests.faults.life import IDS

Rules = list[dict[str, Any]]

_ALL: Final = {"service": "arm", "path": "/Microsoft.Compute/"}
_PATCH: Final = {**_ALL, "method": "PATCH"}
_LINKED: Final = (
    "The client has permission to perform action 'Microsoft.ManagedIdentity/userAssignedIdentities/assign/action' on "
    f"scope ...; however, it does not have permission to perform it on the linked scope(s) '{IDS}/a' or the linked "
    "scope(s) are invalid."
)
ARM_FAULTS: Final[dict[str, Rules]] = {
    "ARM 403, an identity": [{**_PATCH, "status": 403, "code": "LinkedAuthorizationFailed", "message": _LINKED}],
    "ARM 403, the machines": [{**_ALL, "status": 403, "code": "AuthorizationFailed"}],
    "ARM 409": [{**_PATCH, "status": 409, "code": "Conflict", "times": 12}],
    "ARM 429": [{**_PATCH, "status": 429, "code": "TooManyRequests", "headers": {"Retry-After": "7"}}],
    "ARM 500": [{**_ALL, "status": 500, "code": "InternalServerError"}],
    "ARM hangs": [{**_PATCH, "delay": 1000, "drop": True}],
    "ARM is slow": [{**_ALL, "delay": 9}],
    "ARM loses answers after success": [{**_PATCH, "drop": True, "after": True}],
    "ARM fails operations": [],
}
"""Name of the fault -> its rules. The last is a switch of its own, ``arm_operation_error``."""
