"""Microsoft.KeyVault: vaults and their access policies (the secrets are the data plane's)."""

from collections.abc import Sequence

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm import errors
from podidentity.lab.cloud.arm.body import read
from podidentity.lab.cloud.arm.gate import ArmCall, ArmHandler
from podidentity.lab.cloud.model import AccessPolicy, Vault
from podidentity.lab.cloud.wire import Reply, Route
from podidentity.lab.cloud.world import World

TYPE = "Microsoft.KeyVault/vaults"


class _Permissions(msgspec.Struct, frozen=True, kw_only=True):
    secrets: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class _Policy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    tenant_id: str
    object_id: str
    permissions: _Permissions = _Permissions()


class _Properties(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    access_policies: tuple[_Policy, ...] = ()
    enable_rbac_authorization: bool | None = None


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    properties: _Properties = _Properties()
    location: str = ""
    tags: dict[str, str] = {}


class Vaults:
    """The provider. A vault's name is taken everywhere once it exists in any group."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> Sequence[Route[ArmHandler]]:
        """What is served."""
        group = "/subscriptions/{sub}/resourceGroups/{group}/providers/" + TYPE
        one, policies = group + "/{name}", f"{TYPE}/accessPolicies"
        return (
            Route("GET", one, self._get, TYPE, f"{TYPE}/read"),
            Route("PUT", one, self._put, TYPE, f"{TYPE}/write"),
            Route("DELETE", one, self._delete, TYPE, f"{TYPE}/delete"),
            Route("PUT", one + "/accessPolicies/{operation}", self._policies, policies, f"{policies}/write"),
            Route("GET", group, self._list, f"{TYPE} (list)", f"{TYPE}/read"),
            Route("GET", "/subscriptions/{sub}/providers/" + TYPE, self._list, f"{TYPE} (list)", f"{TYPE}/read"),
        )

    def _render(self, vault: Vault) -> dict[str, object]:
        return {
            "id": vault.id,
            "name": vault.name,
            "type": TYPE,
            "location": vault.location,
            "tags": vault.tags,
            "properties": {
                "sku": {"family": "A", "name": "standard"},
                "tenantId": self._world.directory.tenant_id,
                "accessPolicies": [_render_policy(policy) for policy in vault.policies],
                "enabledForDeployment": False,
                "enableSoftDelete": True,
                "softDeleteRetentionInDays": 90,
                "enableRbacAuthorization": vault.rbac,
                "vaultUri": f"https://{vault.name}.vault.azure.net/",
                "provisioningState": "Succeeded",
                "publicNetworkAccess": "Enabled",
            },
        }

    def _find(self, request: ArmCall) -> Vault:
        vault = self._world.vaults.get(request.params["name"].casefold())
        arm_id = "/" + "/".join(request.scope.strip("/").split("/")[:8])
        if vault is None or ids.fold(vault.id) != ids.fold(arm_id):
            raise errors.resource_not_found(arm_id)
        return vault

    def _get(self, request: ArmCall) -> Reply:
        return Reply(200, self._render(self._find(request)))

    def _list(self, request: ArmCall) -> Reply:
        scope = request.scope.casefold().split(f"/providers/{TYPE.casefold()}")[0]
        found = [self._render(vault) for vault in self._world.vaults.values() if ids.within(scope, vault.id)]
        return Reply(200, {"value": found})

    def _put(self, request: ArmCall) -> Reply:
        body, name = read(request.call, _Body), request.params["name"]
        group = self._world.groups.get(ids.fold(ids.group_id(request.params["sub"], request.params["group"])))
        if group is None:
            raise errors.group_not_found(request.scope)
        old = self._world.vaults.get(name.casefold())
        if old is not None and ids.fold(old.id) != ids.fold(request.scope):
            raise errors.arm_error(409, "VaultAlreadyExists", f"The vault name '{name}' is already in use.")
        rbac = body.properties.enable_rbac_authorization
        vault = Vault(
            id=old.id if old else ids.resource_id(ids.subscription_of(group.id), group.name, TYPE, name),
            name=old.name if old else name,
            location=old.location if old else body.location or group.location,
            rbac=(old.rbac if old else False) if rbac is None else rbac,
            policies=tuple(_policy(policy) for policy in body.properties.access_policies),
            tags=body.tags,
        )
        self._world.commit(self._world.vaults.put(vault.name.casefold(), vault))
        return Reply(200 if old else 201, self._render(vault))

    def _delete(self, request: ArmCall) -> Reply:
        vault = self._world.vaults.get(request.params["name"].casefold())
        if vault is None or ids.fold(vault.id) != ids.fold(request.scope):
            return Reply(204)
        world = self._world
        dropped = [
            table.drop(world.secret_key(row.vault, row.name))
            for table in (world.secrets, world.keys, world.certificates)
            for row in table.values()
            if row.vault.casefold() == vault.name.casefold()
        ]
        self._world.commit(self._world.vaults.drop(vault.name.casefold()), *dropped)
        return Reply(200)

    def _policies(self, request: ArmCall) -> Reply:
        operation, vault = request.params["operation"].casefold(), self._find(request)
        given = read(request.call, _Body).properties.access_policies
        if operation not in ("add", "replace", "remove"):
            raise errors.invalid_parameter(f"The operation kind '{operation}' is not valid.", "operationKind")
        policies = {} if operation == "replace" else {policy.object_id: policy for policy in vault.policies}
        for policy in given:
            if operation == "remove":
                policies.pop(policy.object_id, None)
            else:
                policies[policy.object_id] = _merged(policies.get(policy.object_id), _policy(policy))
        changed = msgspec.structs.replace(vault, policies=tuple(policies.values()))
        self._world.commit(self._world.vaults.put(vault.name.casefold(), changed))
        shown = {"accessPolicies": [_render_policy(policy) for policy in changed.policies]}
        arm_id = f"{vault.id}/accessPolicies/"
        return Reply(200, {"id": arm_id, "type": f"{TYPE}/accessPolicies", "properties": shown})


def _policy(given: _Policy) -> AccessPolicy:
    folded = (
        tuple(word.casefold() for word in words)
        for words in (given.permissions.secrets, given.permissions.keys, given.permissions.certificates)
    )
    secrets, keys, certificates = folded
    return AccessPolicy(
        object_id=given.object_id, tenant_id=given.tenant_id, secrets=secrets, keys=keys, certificates=certificates
    )


def _merged(old: AccessPolicy | None, new: AccessPolicy) -> AccessPolicy:
    if old is None:
        return new
    return msgspec.structs.replace(
        new,
        secrets=tuple(dict.fromkeys(old.secrets + new.secrets)),
        keys=tuple(dict.fromkeys(old.keys + new.keys)),
        certificates=tuple(dict.fromkeys(old.certificates + new.certificates)),
    )


def _render_policy(policy: AccessPolicy) -> dict[str, object]:
    permissions = {"keys": policy.keys, "secrets": policy.secrets, "certificates": policy.certificates}
    return {"tenantId": policy.tenant_id, "objectId": policy.object_id, "permissions": permissions}
