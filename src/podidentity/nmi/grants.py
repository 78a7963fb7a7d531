"""From an identity to what is asked of Azure, and back: which token belongs to the object id named (pure)."""

from __future__ import annotations

import base64
import binascii

import msgspec

from podidentity.api.constants import TYPE_USER_ASSIGNED
from podidentity.api.identity import AzureIdentity
from podidentity.nmi.tokens.source import TokenRequest
from podidentity.rules.identity_choice import Named


def request_for(identity: AzureIdentity, resource: str, caller: str, *, bypass: bool = False) -> TokenRequest | None:
    """Return the token request for an identity; None when it names nothing, which would mean the node's own.

    The Secret of a service principal is looked for in the identity's own namespace, whatever it says.
    """
    spec = identity.spec
    if spec.type == TYPE_USER_ASSIGNED:
        client_id, resource_id = spec.client_id.casefold(), spec.resource_id.casefold()
        if not client_id and not resource_id:
            return None
        return TokenRequest(resource, client_id=client_id, resource_id=resource_id, caller=caller, bypass=bypass)
    return TokenRequest(
        resource,
        type=spec.type,
        client_id=spec.client_id.casefold(),
        tenant_id=spec.tenant_id,
        ad_endpoint=spec.ad_endpoint,
        secret=f"{identity.metadata.namespace}/{spec.client_password.name}",
        caller=caller,
        bypass=bypass,
    )


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
