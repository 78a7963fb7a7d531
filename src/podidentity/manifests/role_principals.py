"""Who gets the roles, by object id; ARM is asked where a source has client ids only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from podidentity.config.errors import ConfigError
from podidentity.rules.role_needs import Principal
from podidentity.rules.roles import group_scope, told

if TYPE_CHECKING:
    from podidentity.manifests.role_facts import Said


class Directory(Protocol):
    """The part of ARM that knows object ids."""

    async def principal_of(self, subscription: str, client_id: str) -> tuple[str, str]:
        """ARM id and object id of the user-assigned identity with a client id."""

    async def system_assigned(self, group: str) -> dict[str, str]:
        """Object ids of the group's machines' own identities, by the machines' names."""


def at_hand(said: Said) -> tuple[Principal, ...]:
    """The principal if its object id is known without asking; empty otherwise. Raises ConfigError."""
    sign_in = said.sign_in
    if sign_in is None:
        raise ConfigError(
            "who mic signs in as is not known; give its object id with --principal-id, or a file that says it"
        )
    if sign_in.object_id:
        return (Principal(sign_in.object_id, sign_in.who),)
    if sign_in.service_principal:
        raise ConfigError(
            f"mic signs in as the service principal with client id {sign_in.client_id}, and roles go to object ids; "
            f"give what `az ad sp show --id {sign_in.client_id} --query id -o tsv` prints with --principal-id"
        )
    return ()


async def asked_for(said: Said, arm: Directory) -> tuple[Principal, ...]:
    """As ``at_hand``, but ARM is asked when it must be. Raises ConfigError, AzureError."""
    found = at_hand(said)
    sign_in = said.sign_in
    if found or sign_in is None:
        return found
    if sign_in.client_id:
        arm_id, object_id = await arm.principal_of(said.subscription, sign_in.client_id)
        if not object_id:
            raise ConfigError(
                f"subscription {said.subscription} has no user-assigned identity with client id {sign_in.client_id}; "
                f"give its object id with --principal-id"
            )
        return (Principal(object_id, f"identity {arm_id.rpartition('/')[2]}"),)
    group = group_scope(said.subscription, said.node_group)
    machines = await arm.system_assigned(group)
    if not machines:
        raise ConfigError(f"no machine and no scale set in {told(group)} has an identity of its own; see --node-group")
    return tuple(Principal(object_id, f"own identity of {name}") for name, object_id in machines.items())
