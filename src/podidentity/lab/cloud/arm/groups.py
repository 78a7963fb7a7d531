"""Microsoft.Resources: subscriptions and resource groups."""

from collections.abc import Sequence

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm import errors
from podidentity.lab.cloud.arm.body import Resource, read
from podidentity.lab.cloud.arm.gate import ArmCall, ArmHandler, Gate
from podidentity.lab.cloud.model import ResourceGroup
from podidentity.lab.cloud.wire import Reply, Route
from podidentity.lab.cloud.world import World

_GROUP = "Microsoft.Resources/subscriptions/resourceGroups"
_SUBSCRIPTION = "Microsoft.Resources/subscriptions"


class Groups:
    """The provider. The list of subscriptions holds those in which the caller has any role."""

    def __init__(self, world: World, gate: Gate) -> None:
        self._world = world
        self._gate = gate

    def routes(self) -> Sequence[Route[ArmHandler]]:
        """What is served."""
        groups = "/subscriptions/{sub}/resourceGroups"
        return (
            Route("GET", "/subscriptions", self._subscriptions, f"{_SUBSCRIPTION} (list)"),
            Route("GET", "/subscriptions/{sub}", self._subscription, _SUBSCRIPTION),
            Route("GET", "/tenants", self._tenants, "Microsoft.Resources/tenants (list)"),
            Route("GET", groups, self._list, f"{_GROUP} (list)", f"{_GROUP}/read"),
            Route("GET", groups + "/{group}", self._get, _GROUP, f"{_GROUP}/read"),
            Route("PUT", groups + "/{group}", self._put, _GROUP, f"{_GROUP}/write"),
        )

    def _visible(self, request: ArmCall, subscription: str) -> bool:
        if self._gate.may(request.caller, f"{_SUBSCRIPTION}/read", f"/subscriptions/{subscription}"):
            return True
        grants = self._world.grants(request.caller.object_id)
        return any(ids.within(f"/subscriptions/{subscription}", grant.scope) for grant in grants)

    def _render_subscription(self, subscription: str) -> dict[str, object]:
        tenant = self._world.directory.tenant_id
        return {
            "id": f"/subscriptions/{subscription}",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionId": subscription,
            "tenantId": tenant,
            "displayName": "Lab subscription",
            "state": "Enabled",
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
        }

    def _subscriptions(self, request: ArmCall) -> Reply:
        visible = [found for found in self._world.subscriptions() if self._visible(request, found)]
        count = {"type": "Total", "value": len(visible)}
        return Reply(200, {"value": [self._render_subscription(found) for found in visible], "count": count})

    def _subscription(self, request: ArmCall) -> Reply:
        wanted = request.params["sub"].casefold()
        subscription = next(found for found in self._world.subscriptions() if found.casefold() == wanted)
        if not self._visible(request, subscription):
            self._gate.require(request.caller, f"{_SUBSCRIPTION}/read", request.scope)
        return Reply(200, self._render_subscription(subscription))

    def _tenants(self, _request: ArmCall) -> Reply:
        tenant = self._world.directory.tenant_id
        return Reply(200, {"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant, "tenantCategory": "Home"}]})

    def _render(self, group: ResourceGroup) -> dict[str, object]:
        return {
            "id": group.id,
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
            "tags": group.tags,
            "properties": {"provisioningState": "Succeeded"},
        }

    def _list(self, request: ArmCall) -> Reply:
        subscription = f"/subscriptions/{request.params['sub']}"
        groups = [self._render(group) for group in self._world.groups.values() if ids.within(subscription, group.id)]
        return Reply(200, {"value": groups})

    def _get(self, request: ArmCall) -> Reply:
        group = self._world.groups.get(ids.fold(request.scope))
        if group is None:
            raise errors.group_not_found(request.scope)
        return Reply(200, self._render(group))

    def _put(self, request: ArmCall) -> Reply:
        body = read(request.call, Resource)
        old = self._world.groups.get(ids.fold(request.scope))
        name = request.params["group"]
        if old is None and not body.location:
            message = "The location property is required for this definition."
            raise errors.arm_error(400, "LocationRequired", message)
        if old and body.location and body.location.casefold() != old.location.casefold():
            message = f"Invalid resource group location '{body.location}'. It already exists in '{old.location}'."
            raise errors.arm_error(409, "InvalidResourceGroupLocation", message)
        group = ResourceGroup(
            id=old.id if old else ids.group_id(request.params["sub"], name),
            name=old.name if old else name,
            location=old.location if old else body.location,
            tags=body.tags,
        )
        self._world.commit(self._world.groups.put(ids.fold(group.id), group))
        return Reply(200 if old else 201, self._render(group))
