"""ARM's role assignments: what a principal may do at a scope, and giving it a role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from podidentity.azure import authorization_request as wire
from podidentity.azure.errors import AzureStatusError
from podidentity.rules.role_check import Grant

if TYPE_CHECKING:
    from podidentity.azure.arm_call import ArmCaller
    from podidentity.rules.role_needs import Need
    from podidentity.rules.roles import Definition


class AuthorizationClient:
    """Reads and makes role assignments. Every method raises the tree of ``azure.errors``."""

    def __init__(self, arm: ArmCaller) -> None:
        self._arm = arm
        self._definitions: dict[str, Definition] = {}

    async def grants(self, scope: str, principal_id: str) -> tuple[Grant, ...]:
        """What holds at ``scope`` for the principal: given there or above, to itself or to a group of its."""
        url = wire.assignments_url(self._arm.base_url, scope, principal_id)
        found = [wire.parse_assignment(item) async for item in self._items(url)]
        return tuple(
            [Grant(principal_id, await self._role(role), where, conditional) for role, where, conditional in found]
        )

    async def assign(self, need: Need) -> bool:
        """Make the assignment; whether it is new. One that is there already, by whatever name, is no error."""
        url = wire.assignment_url(self._arm.base_url, need)
        try:
            answer = await self._arm.call("PUT", url, wire.assignment_body(need))
        except AzureStatusError as error:
            if error.code == "RoleAssignmentExists":
                return False
            raise
        return answer.status == 201  # noqa: PLR2004 - created; 200 when it was there

    async def principal_of(self, subscription: str, client_id: str) -> tuple[str, str]:
        """ARM id and object id of the user-assigned identity with that client id; empty when there is none."""
        async for item in self._items(wire.identities_url(self._arm.base_url, subscription)):
            arm_id, client, principal = wire.parse_identity(item)
            if client.lower() == client_id.lower():
                return arm_id, principal
        return "", ""

    async def system_assigned(self, group: str) -> dict[str, str]:
        """Object ids of the identities that the group's machines and scale sets have of their own, by their names."""
        found = {}
        for kind in ("virtualMachines", "virtualMachineScaleSets"):
            async for item in self._items(wire.hosts_url(self._arm.base_url, group, kind)):
                name, principal = wire.parse_host(item)
                if principal:
                    found[name] = principal
        return found

    async def close(self) -> None:
        """Close the connections and the credential."""
        await self._arm.close()

    async def _role(self, definition_id: str) -> Definition:
        known = wire.known_definition(definition_id) or self._definitions.get(definition_id)
        if known is None:
            answer = await self._arm.call("GET", wire.definition_url(self._arm.base_url, definition_id))
            known = self._definitions[definition_id] = wire.parse_definition(answer.body)
        return known

    async def _items(self, url: str) -> AsyncIterator[bytes]:
        """All items of a list, page by page."""
        while url:
            answer = await self._arm.call("GET", url)
            items, following = wire.page(answer.body)
            for item in items:
                yield item
            url = self._arm.ours(following) if following else ""
