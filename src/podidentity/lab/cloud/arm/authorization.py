"""Microsoft.Authorization: role assignments and the built-in role definitions."""

import re
from collections.abc import Sequence

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm import errors
from podidentity.lab.cloud.arm.body import iso, read
from podidentity.lab.cloud.arm.gate import ArmCall, ArmHandler
from podidentity.lab.cloud.faults import FaultSwitch
from podidentity.lab.cloud.model import RoleAssignment
from podidentity.lab.cloud.roles import ROLES, Role, find_role
from podidentity.lab.cloud.wire import Reply, Route
from podidentity.lab.cloud.world import World

_ASSIGNMENT = "Microsoft.Authorization/roleAssignments"
_DEFINITION = "Microsoft.Authorization/roleDefinitions"
_FILTER = re.compile(
    r"\s*(?:(?P<at>atScope\(\))|(?P<field>principalId|roleName)\s+eq\s+'(?P<value>[^']*)'"
    r"|assignedTo\('(?P<assigned>[^']*)'\))\s*",
    re.IGNORECASE,
)


class _Properties(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    role_definition_id: str
    principal_id: str
    principal_type: str = ""


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    properties: _Properties


class Authorization:
    """The provider. A new assignment is honoured after the faults' `role_delay`."""

    def __init__(self, world: World, faults: FaultSwitch) -> None:
        self._world = world
        self._faults = faults

    def routes(self) -> Sequence[Route[ArmHandler]]:
        """What is served, at the root scope and at any other."""
        routes: list[Route[ArmHandler]] = []
        for scope in ("/subscriptions/{sub}/{scope*}", "/subscriptions/{sub}", ""):
            assignments, definitions = f"{scope}/providers/{_ASSIGNMENT}", f"{scope}/providers/{_DEFINITION}"
            routes += [
                Route("GET", assignments + "/{name}", self._get, _ASSIGNMENT, f"{_ASSIGNMENT}/read"),
                Route("PUT", assignments + "/{name}", self._put, _ASSIGNMENT, f"{_ASSIGNMENT}/write"),
                Route("DELETE", assignments + "/{name}", self._delete, _ASSIGNMENT, f"{_ASSIGNMENT}/delete"),
                Route("GET", assignments, self._list, f"{_ASSIGNMENT} (list)", f"{_ASSIGNMENT}/read"),
                Route("GET", definitions + "/{name}", self._definition, _DEFINITION, ""),
                Route("GET", definitions, self._definitions, f"{_DEFINITION} (list)", ""),
            ]
        return routes

    def _definition_id(self, role: Role) -> str:
        return f"/subscriptions/{self._world.directory.subscription_id}/providers/{_DEFINITION}/{role.id}"

    def _render(self, row: RoleAssignment) -> dict[str, object]:
        return {
            "properties": {
                "roleDefinitionId": self._definition_id(ROLES[row.role]),
                "principalId": row.principal_id,
                "principalType": row.principal_type,
                "scope": row.scope,
                "condition": None,
                "conditionVersion": None,
                "createdOn": iso(row.created),
                "updatedOn": iso(row.created),
                "createdBy": row.created_by,
                "updatedBy": row.created_by,
                "delegatedManagedIdentityResourceId": None,
                "description": None,
            },
            "id": row.id,
            "type": _ASSIGNMENT,
            "name": row.name,
        }

    def _get(self, request: ArmCall) -> Reply:
        row = self._world.assignments.get(ids.fold(request.scope))
        if row is None:
            message = f"The role assignment '{request.params['name']}' is not found."
            raise errors.arm_error(404, "RoleAssignmentNotFound", message)
        return Reply(200, self._render(row))

    def _put(self, request: ArmCall) -> Reply:
        wanted = read(request.call, _Body).properties
        name, scope = request.params["name"], _scope(request)
        if not ids.is_guid(name):
            raise errors.arm_error(
                400, "InvalidRoleAssignmentId", f"The role assignment ID '{name}' is not valid. It must be a GUID."
            )
        role = find_role(ids.name_of(wanted.role_definition_id))
        if role is None:
            message = (
                f"The specified role definition with ID '{ids.name_of(wanted.role_definition_id)}' does not exist."
            )
            raise errors.arm_error(400, "RoleDefinitionDoesNotExist", message)
        if not wanted.principal_type and not self._world.knows_principal(wanted.principal_id):
            message = (
                f"Principal {wanted.principal_id.replace('-', '')} does not exist in the directory "
                f"{self._world.directory.tenant_id}. Check that you have the correct principal ID."
            )
            raise errors.arm_error(400, "PrincipalNotFound", message)
        old = self._same(scope, role, wanted.principal_id)
        if old is not None:
            return self._existing(old, name)
        return self._create(request, wanted, role)

    def _same(self, scope: str, role: Role, principal: str) -> RoleAssignment | None:
        for row in self._world.assignments.values():
            same = row.principal_id.casefold() == principal.casefold() and row.role == role.id
            if same and ids.fold(row.scope) == ids.fold(scope):
                return row
        return None

    def _existing(self, old: RoleAssignment, name: str) -> Reply:
        if old.name.casefold() == name.casefold():
            return Reply(200, self._render(old))
        message = (
            "The role assignment already exists. "
            f"The ID of the existing role assignment is {old.name.replace('-', '')}."
        )
        raise errors.arm_error(409, "RoleAssignmentExists", message)

    def _create(self, request: ArmCall, wanted: _Properties, role: Role) -> Reply:
        key, now, scope = ids.fold(request.scope), self._world.now(), _scope(request)
        if key in self._world.assignments:
            message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            raise errors.arm_error(400, "RoleAssignmentUpdateNotPermitted", message)
        row = RoleAssignment(
            id=f"{scope.rstrip('/')}/providers/{_ASSIGNMENT}/{request.params['name']}",
            name=request.params["name"],
            scope=scope,
            role=role.id,
            principal_id=wanted.principal_id,
            principal_type=wanted.principal_type or "ServicePrincipal",
            created=now,
            effective_from=now + self._faults.now.role_delay,
            created_by=request.caller.object_id,
        )
        self._world.commit(self._world.assignments.put(key, row))
        return Reply(201, self._render(row))

    def _delete(self, request: ArmCall) -> Reply:
        row = self._world.assignments.get(ids.fold(request.scope))
        if row is None:
            return Reply(204)
        self._world.commit(self._world.assignments.drop(ids.fold(request.scope)))
        return Reply(200, self._render(row))

    def _list(self, request: ArmCall) -> Reply:
        scope = _scope(request)
        keep = _read_filter(request)
        rows = (
            row
            for row in self._world.assignments.values()
            if ids.within(row.scope, scope) or (ids.within(scope, row.scope) and "at" not in keep)
        )
        principal = keep.get("principalid")
        found = [self._render(row) for row in rows if principal in (None, row.principal_id.casefold())]
        return Reply(200, {"value": found, "nextLink": None})

    def _definition(self, request: ArmCall) -> Reply:
        role = ROLES.get(request.params["name"].casefold())
        if role is None:
            message = f"The specified role definition with ID '{request.params['name']}' does not exist."
            raise errors.arm_error(404, "RoleDefinitionDoesNotExist", message)
        return Reply(200, self._render_role(role))

    def _definitions(self, request: ArmCall) -> Reply:
        wanted = _read_filter(request).get("rolename")
        found = [self._render_role(role) for role in ROLES.values() if wanted in (None, role.name.casefold())]
        return Reply(200, {"value": found, "nextLink": None})

    def _render_role(self, role: Role) -> dict[str, object]:
        permissions = {
            "actions": role.actions,
            "notActions": role.not_actions,
            "dataActions": role.data_actions,
            "notDataActions": (),
        }
        return {
            "properties": {
                "roleName": role.name,
                "type": "BuiltInRole",
                "description": role.description,
                "assignableScopes": ["/"],
                "permissions": [permissions],
            },
            "id": self._definition_id(role),
            "type": _DEFINITION,
            "name": role.id,
        }


def _scope(request: ArmCall) -> str:
    """What a role assignment request is about: its path up to the provider."""
    marker = "/providers/microsoft.authorization/"
    return request.scope[: request.scope.casefold().rindex(marker)] or "/"


def _read_filter(request: ArmCall) -> dict[str, str]:
    """The `$filter`: "at" when it is atScope(), "principalid" and "rolename" folded; 400 for any other."""
    text, kept = request.call.parameter("$filter"), dict[str, str]()
    for part in re.split(r"\band\b", text, flags=re.IGNORECASE) if text else ():
        match = _FILTER.fullmatch(part)
        if match is None:
            raise errors.arm_error(400, "BadRequestFormat", f"The filter '{text}' is not supported.")
        if match["at"]:
            kept["at"] = "yes"
        elif match["field"]:
            kept[match["field"].casefold()] = match["value"].casefold()
        else:
            kept["principalid"] = match["assigned"].casefold()
    return kept
