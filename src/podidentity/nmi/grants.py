"""From an identity to what is asked of Azure, and back: which token belongs to the object id named (pure)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

import msgspec

from podidentity.api.constants import TYPE_USER_ASSIGNED
from podidentity.api.identity import AzureIdentity
from podidentity.nmi.tokens.source import TokenRefused, TokenRequest
from podidentity.rules.identity_choice import Named

MAX_AUXILIARY_TENANTS: Final = 3


@dataclass(frozen=True, slots=True)
class SecretRules:
    """``anywhere``: clientPassword may name a Secret of another namespace than its AzureIdentity's."""

    anywhere: bool = False


NO_OTHER_NAMESPACE: Final = SecretRules()


def request_for(
    identity: AzureIdentity, resource: str, caller: str, rules: SecretRules, *, bypass: bool = False
) -> TokenRequest:
    """Return the token request for an identity.

    Raises TokenRefused for one that names nothing, which would mean the node's own, and for one that names a Secret it
    may not use.
    """
    spec = identity.spec
    if spec.type == TYPE_USER_ASSIGNED:
        client_id, resource_id = spec.client_id.casefold(), spec.resource_id.casefold()
        if not client_id and not resource_id:
            raise TokenRefused(403, f"AzureIdentity {identity.key} has neither clientID nor resourceID")
        return TokenRequest(resource, client_id=client_id, resource_id=resource_id, caller=caller, bypass=bypass)
    auxiliary_tenants(identity)
    return TokenRequest(
        resource,
        type=spec.type,
        client_id=spec.client_id.casefold(),
        tenant_id=spec.tenant_id,
        ad_endpoint=spec.ad_endpoint,
        secret=_secret_of(identity, rules),
        caller=caller,
        bypass=bypass,
    )


def _secret_of(identity: AzureIdentity, rules: SecretRules) -> str:
    named = identity.spec.client_password
    namespace = named.namespace or identity.namespace
    if namespace != identity.namespace and not rules.anywhere:
        raise TokenRefused(
            403,
            f"AzureIdentity {identity.key} names a Secret of another namespace; put the Secret beside it, or allow "
            "this with --allow-cross-namespace-secrets",
        )
    if not named.name or "/" in named.name or "/" in namespace:
        raise TokenRefused(403, f"AzureIdentity {identity.key} names no Secret in clientPassword")
    return f"{namespace}/{named.name}"


def auxiliary_tenants(identity: AzureIdentity) -> tuple[str, ...]:
    """Return the further tenants a service principal wants tokens of. Raises TokenRefused when they are too many."""
    tenants = identity.spec.auxiliary_tenant_ids or ()
    if identity.spec.type == TYPE_USER_ASSIGNED:
        return ()
    if len(tenants) > MAX_AUXILIARY_TENANTS:
        raise TokenRefused(
            403, f"AzureIdentity {identity.key} has {len(tenants)} auxiliaryTenantIDs, at most {MAX_AUXILIARY_TENANTS}"
        )
    return tenants


def request_of_node(named: Named, resource: str, caller: str, *, bypass: bool = False) -> TokenRequest:
    """Return the token request of a pod that is passed through: what it names, else the node's default identity."""
    return TokenRequest(
        resource,
        client_id=named.client_id.casefold(),
        resource_id=named.resource_id.casefold(),
        object_id=named.object_id.casefold(),
        caller=caller,
        bypass=bypass,
    )


class _Claims(msgspec.Struct):
    oid: str = ""


def object_id_of(access_token: str) -> str:
    """Return the ``oid`` claim of a JWT, lower-case; empty when there is none. The signature is not looked at."""
    parts = access_token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        return ""
    try:
        raw = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(raw, type=_Claims).oid.casefold()
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return ""
