"""What is wrong with an AzureIdentity, in one sentence with its remedy."""

from __future__ import annotations

from podidentity.api.constants import (
    TYPE_SERVICE_PRINCIPAL,
    TYPE_SERVICE_PRINCIPAL_CERTIFICATE,
    TYPE_USER_ASSIGNED,
)
from podidentity.api.identity import AzureIdentity, AzureIdentitySpec
from podidentity.rules.resource_id import parse_identity_id

_EXPECTED_ID = "/subscriptions/<s>/resourcegroups/<g>/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<n>"


def identity_problem(identity: AzureIdentity) -> str | None:
    """Why nothing can be assigned for this identity, or ``None`` when it is sound."""
    spec = identity.spec
    if spec.type == TYPE_USER_ASSIGNED:
        return _user_assigned_problem(spec)
    if spec.type in {TYPE_SERVICE_PRINCIPAL, TYPE_SERVICE_PRINCIPAL_CERTIFICATE}:
        return _service_principal_problem(spec)
    return (
        f"spec.type is {spec.type}; use 0 (user-assigned identity), 1 (service principal with secret) or "
        f"2 (service principal with certificate)"
    )


def _user_assigned_problem(spec: AzureIdentitySpec) -> str | None:
    if not spec.resource_id:
        return f"spec.resourceID is missing; set it to {_EXPECTED_ID}"
    if parse_identity_id(spec.resource_id) is None:
        return f"spec.resourceID {spec.resource_id!r} is not a user-assigned identity; it must be {_EXPECTED_ID}"
    if not spec.client_id:
        return "spec.clientID is missing; set it to the identity's client id"
    return None


def _service_principal_problem(spec: AzureIdentitySpec) -> str | None:
    missing = [
        name
        for name, value in (
            ("clientID", spec.client_id),
            ("tenantID", spec.tenant_id),
            ("clientPassword.name", spec.client_password.name),
        )
        if not value
    ]
    if not missing:
        return None
    names = ", ".join(f"spec.{name}" for name in missing)
    return f"{names} missing; a service principal (type {spec.type}) needs all of clientID, tenantID, clientPassword"
