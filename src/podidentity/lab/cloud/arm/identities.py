"""Microsoft.ManagedIdentity: user-assigned identities."""

from collections.abc import Sequence

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm import errors
from podidentity.lab.cloud.arm.body import Resource, read
from podidentity.lab.cloud.arm.gate import ArmCall, ArmHandler
from podidentity.lab.cloud.model import Identity
from podidentity.lab.cloud.wire import Reply, Route
from podidentity.lab.cloud.world import World

TYPE = "Microsoft.ManagedIdentity/userAssignedIdentities"


class Identities:
    """The provider. Deleting an identity does not take it off the hosts that have it, as in Azure."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> Sequence[Route[ArmHandler]]:
        """What is served."""
        group = "/subscriptions/{sub}/resourceGroups/{group}/providers/" + TYPE
        one, everywhere = group + "/{name}", "/subscriptions/{sub}/providers/" + TYPE
        return (
            Route("GET", one, self._get, TYPE, f"{TYPE}/read"),
            Route("PUT", one, self._put, TYPE, f"{TYPE}/write"),
            Route("DELETE", one, self._delete, TYPE, f"{TYPE}/delete"),
            Route("GET", group, self._list, f"{TYPE} (list)", f"{TYPE}/read"),
            Route("GET", everywhere, self._list, f"{TYPE} (list)", f"{TYPE}/read"),
        )

    def _render(self, identity: Identity) -> dict[str, object]:
        subscription, group = ids.subscription_of(identity.id), ids.group_of(identity.id)
        return {
            "id": f"/subscriptions/{subscription}/resourcegroups/{group}/providers/{TYPE}/{identity.name}",
            "name": identity.name,
            "type": TYPE,
            "location": identity.location,
            "tags": identity.tags,
            "properties": {
                "tenantId": self._world.directory.tenant_id,
                "principalId": identity.principal_id,
                "clientId": identity.client_id,
            },
        }

    def _get(self, request: ArmCall) -> Reply:
        identity = self._world.identities.get(ids.fold(request.scope))
        if identity is None:
            raise errors.resource_not_found(request.scope)
        return Reply(200, self._render(identity))

    def _list(self, request: ArmCall) -> Reply:
        scope = request.scope.casefold().split(f"/providers/{TYPE.casefold()}")[0]
        found = [self._render(row) for row in self._world.identities.values() if ids.within(scope, row.id)]
        return Reply(200, {"value": found})

    def _put(self, request: ArmCall) -> Reply:
        body = read(request.call, Resource)
        group = self._world.groups.get(ids.fold(ids.group_id(request.params["sub"], request.params["group"])))
        if group is None:
            raise errors.group_not_found(request.scope)
        old = self._world.identities.get(ids.fold(request.scope))
        if old is None:
            identity = Identity(
                id=ids.resource_id(ids.subscription_of(group.id), group.name, TYPE, request.params["name"]),
                name=request.params["name"],
                location=body.location or group.location,
                client_id=self._world.new_guid(),
                principal_id=self._world.new_guid(),
                tags=body.tags,
            )
        else:
            identity = msgspec.structs.replace(old, tags=body.tags)
        self._world.commit(self._world.identities.put(ids.fold(identity.id), identity))
        return Reply(200 if old else 201, self._render(identity))

    def _delete(self, request: ArmCall) -> Reply:
        key = ids.fold(request.scope)
        if key not in self._world.identities:
            return Reply(204)
        self._world.commit(self._world.identities.drop(key))
        return Reply(200)
