"""Microsoft.Compute: virtual machines and scale sets, as far as their identities go."""

from collections.abc import Sequence

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm import errors
from podidentity.lab.cloud.arm.body import iso
from podidentity.lab.cloud.arm.gate import ArmCall, ArmHandler, Gate
from podidentity.lab.cloud.arm.identity_patch import IdentityChange, read_identity
from podidentity.lab.cloud.faults import FaultSwitch
from podidentity.lab.cloud.model import Attached, Host, HostIdentity, Operation
from podidentity.lab.cloud.wire import Reply, Route
from podidentity.lab.cloud.world import World

_GROUP = "/subscriptions/{sub}/resourceGroups/{group}"
_COMPUTE = _GROUP + "/providers/Microsoft.Compute"
_MIN_API = "2018-06-01"
_HISTORY = 20


def render_identity(host: Host, tenant_id: str) -> dict[str, object]:
    """The `identity` of a host as GET shows it: its keys are spelled otherwise than the identities' own ids."""
    shown: dict[str, object] = {"type": host.identity.type}
    if host.identity.system:
        shown |= {"principalId": host.identity.system, "tenantId": tenant_id}
    if host.identity.user:
        shown["userAssignedIdentities"] = {
            _respelled(user.id, lower=host.is_vm): {"principalId": user.principal_id, "clientId": user.client_id}
            for user in host.identity.user.values()
        }
    return shown


def _respelled(arm_id: str, *, lower: bool) -> str:
    parts = ids.identity_parts(arm_id)
    if parts is None:
        return arm_id
    subscription, group, name = parts
    group_part = f"resourcegroups/{group.lower()}" if lower else f"resourceGroups/{group.upper()}"
    return (
        f"/subscriptions/{subscription}/{group_part}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    )


def render_host(host: Host, tenant_id: str) -> dict[str, object]:
    """A VM or scale set as ARM shows it."""
    shown: dict[str, object] = {
        "name": host.name,
        "id": host.id,
        "type": f"Microsoft.Compute/{host.kind}",
        "location": host.location,
        "tags": host.tags,
    }
    if host.identity.type != "None":
        shown["identity"] = render_identity(host, tenant_id)
    properties: dict[str, object] = {"provisioningState": host.provisioning_state}
    if host.is_vm:
        properties |= {"vmId": host.unique_id, "hardwareProfile": {"vmSize": "Standard_DS2_v2"}}
    else:
        shown["sku"] = {"name": "Standard_DS2_v2", "tier": "Standard", "capacity": host.instances}
        properties |= {
            "uniqueId": host.unique_id,
            "singlePlacementGroup": False,
            "orchestrationMode": host.orchestration_mode,
            "overprovision": False,
            "upgradePolicy": {"mode": "Manual"},
        }
    return shown | {"properties": properties}


class Compute:
    """The provider. PATCH answers at once with `Updating`; the operation ends after the faults' delay."""

    def __init__(self, world: World, gate: Gate, faults: FaultSwitch) -> None:
        self._world = world
        self._gate = gate
        self._faults = faults

    def routes(self) -> Sequence[Route[ArmHandler]]:
        """What is served."""
        routes: list[Route[ArmHandler]] = []
        for kind in (ids.VM, ids.VMSS):
            name, action = f"Microsoft.Compute/{kind}", f"Microsoft.Compute/{kind}"
            one = f"{_COMPUTE}/{kind}/{{host}}"
            routes += [
                Route("GET", one, self._get, name, f"{action}/read"),
                Route("PATCH", one, self._patch, name, f"{action}/write"),
                Route("GET", f"{_COMPUTE}/{kind}", self._lister(kind), f"{name} (list)", f"{action}/read"),
                Route(
                    "GET",
                    f"/subscriptions/{{sub}}/providers/Microsoft.Compute/{kind}",
                    self._lister(kind),
                    f"{name} (list)",
                    f"{action}/read",
                ),
            ]
        instances, read = (
            f"{_COMPUTE}/{ids.VMSS}/{{host}}/virtualMachines",
            f"Microsoft.Compute/{ids.VMSS}/virtualMachines/read",
        )
        polled = "/subscriptions/{sub}/providers/Microsoft.Compute/locations/{location}/operations/{operation}"
        return [
            *routes,
            Route("GET", instances, self._instances, f"Microsoft.Compute/{ids.VMSS}/virtualMachines (list)", read),
            Route(
                "GET", instances + "/{instance}", self._instance, f"Microsoft.Compute/{ids.VMSS}/virtualMachines", read
            ),
            Route("GET", polled, self._poll, "Microsoft.Compute/locations/operations"),
        ]

    def _host(self, request: ArmCall, kind: str = "") -> Host:
        """The host a request is about, in the group it names; 404 otherwise."""
        segments = request.scope.strip("/").split("/")
        arm_id = "/" + "/".join(segments[:8])
        host = self._world.host(arm_id)
        if host is None or (kind and host.kind != kind):
            raise errors.resource_not_found(arm_id)
        return host

    def _render(self, host: Host) -> dict[str, object]:
        return render_host(host, self._world.directory.tenant_id)

    def _get(self, request: ArmCall) -> Reply:
        host = self._host(request)
        headers = self._gate.throttle_host(host, write=False)
        return Reply(200, self._render(host), headers)

    def _lister(self, kind: str) -> ArmHandler:
        def listed(request: ArmCall) -> Reply:
            scope = request.scope.casefold().split("/providers/microsoft.compute")[0]
            hosts = (self._world.host(host.id) for host in self._world.hosts.values())
            shown = [self._render(host) for host in hosts if host and host.kind == kind and ids.within(scope, host.id)]
            return Reply(200, {"value": shown})

        return listed

    def _patch(self, request: ArmCall) -> Reply:
        change = read_identity(request.call.body)
        if change and request.api_version < _MIN_API:
            message = f"userAssignedIdentities need api-version {_MIN_API} or later."
            raise errors.invalid_parameter(message, "api-version")
        if change:
            self._gate.require_assign(request, change.add)
        host = self._host(request)
        headers = self._gate.throttle_host(host, write=True)
        if host.operation:
            raise errors.concurrent_write(self._faults.now.arm_conflict_code, host.id)
        if change is None:
            return Reply(200, self._render(host), headers)
        return self._start(request, host, self._changed(host, change), headers)

    def _changed(self, host: Host, change: IdentityChange) -> HostIdentity:
        """The host's identities after the change; raises for one that does not exist or a set that cannot be."""
        if change.system and host.orchestration_mode == "Flexible":
            message = "A flexible scale set accepts user assigned identities only."
            raise errors.invalid_parameter(message, "identity.type")
        users = {key: user for key, user in host.identity.user.items() if key not in change.remove}
        for arm_id in change.add:
            identity = self._world.identities.get(ids.fold(arm_id))
            if identity is None:
                raise errors.failed_identity_operation(host.id, arm_id)
            users[ids.fold(arm_id)] = Attached(
                id=identity.id, client_id=identity.client_id, principal_id=identity.principal_id
            )
        if change.user and not users:
            message = "At least one user assigned identity is required when the type includes 'UserAssigned'."
            raise errors.invalid_parameter(message, "resourceIdentity.identityIds")
        system, client = host.identity.system, host.identity.system_client
        if change.system and not system:
            system, client = self._world.new_guid(), self._world.new_guid()
        if not change.system:
            system, client = "", ""
        return HostIdentity(system=system, system_client=client, user=users if change.user else {})

    def _start(self, request: ArmCall, host: Host, identity: HostIdentity, headers: dict[str, str]) -> Reply:
        """Begin the operation that makes these the host's identities."""
        faults, now = self._faults.now, self._world.now()
        code, _, message = faults.arm_operation_error.partition(": ")
        operation = Operation(
            id=self._world.new_guid(),
            host=host.key,
            starts=now,
            ends=now + (faults.arm_delay_vm if host.is_vm else faults.arm_delay_vmss),
            error_code=code,
            error_message=message,
        )
        history = (*host.history, operation.id)
        updating = msgspec.structs.replace(
            host,
            identity=identity,
            provisioning_state="Updating",
            operation=operation.id,
            history=history[-_HISTORY:],
        )
        self._world.commit(
            self._world.hosts.put(host.key, updating),
            self._world.operations.put(operation.id, operation),
            *(self._world.operations.drop(old) for old in history[:-_HISTORY]),
        )
        link = (
            f"{request.call.base}/subscriptions/{ids.subscription_of(host.id)}/providers/Microsoft.Compute"
            f"/locations/{host.location}/operations/{operation.id}?p={self._world.directory.subscription_id}"
            f"&api-version={request.api_version}"
        )
        headers |= {"azure-asyncoperation": link, "azure-asyncnotification": "Enabled"} | self._retry_after()
        return Reply(200, self._render(updating), headers)

    def _retry_after(self) -> dict[str, str]:
        seconds = self._faults.now.arm_operation_retry_after
        return {"Retry-After": str(seconds)} if seconds else {}

    def _poll(self, request: ArmCall) -> Reply:
        operation = self._world.operations.get(request.params["operation"].casefold())
        if operation is None or ids.subscription_of(operation.host) != request.params["sub"].casefold():
            name = request.params["operation"]
            raise errors.arm_error(404, "NotFound", f"The operation '{name}' was not found.")
        headers = self._gate.throttle_poll(operation.host)
        body: dict[str, object] = {"startTime": iso(operation.starts)}
        if self._world.now() < operation.ends:
            body |= {"status": "InProgress", "name": operation.id}
            return Reply(200, body, headers | self._retry_after())
        body |= {"endTime": iso(operation.ends), "status": "Succeeded", "name": operation.id}
        if operation.error_code:
            error = {"code": operation.error_code, "message": operation.error_message}
            body |= {"status": "Failed", "error": error}
        return Reply(200, body, headers)

    def _instances(self, request: ArmCall) -> Reply:
        host = self._host(request, ids.VMSS)
        return Reply(200, {"value": [self._render_instance(host, str(number)) for number in range(host.instances)]})

    def _instance(self, request: ArmCall) -> Reply:
        host, instance = self._host(request, ids.VMSS), request.params["instance"]
        if not instance.isdecimal() or int(instance) >= host.instances:
            raise errors.resource_not_found(request.scope)
        return Reply(200, self._render_instance(host, instance))

    def _render_instance(self, host: Host, instance: str) -> dict[str, object]:
        shown: dict[str, object] = {
            "name": f"{host.name}_{instance}",
            "id": f"{host.id}/virtualMachines/{instance}",
            "type": f"Microsoft.Compute/{ids.VMSS}/virtualMachines",
            "location": host.location,
            "tags": host.tags,
            "instanceId": instance,
            "sku": {"name": "Standard_DS2_v2", "tier": "Standard"},
            "properties": {
                "latestModelApplied": True,
                "provisioningState": host.provisioning_state,
                "vmId": ids.guid(host.unique_id, instance),
            },
        }
        if host.identity.type != "None":
            shown["identity"] = render_identity(host, self._world.directory.tenant_id)
        return shown
