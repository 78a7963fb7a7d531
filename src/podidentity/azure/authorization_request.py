"""Role assignments, the pure half: addresses, bodies, answers. No I/O."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import msgspec

from podidentity.azure.errors import AzureUnavailable
from podidentity.rules.roles import BUILT_IN, Definition

if TYPE_CHECKING:
    from podidentity.rules.role_needs import Need

API_VERSION: Final = "2022-04-01"
IDENTITIES_API_VERSION: Final = "2023-01-31"
HOSTS_API_VERSION: Final = "2019-12-01"
NAMESPACE: Final = uuid.UUID("0b1f5f0e-9a4d-5a43-9c9a-3a5b7d8f2c61")
"""Of the names we give to assignments: the same need has the same name, so that a second PUT changes nothing."""

T = TypeVar("T")


class _Properties(msgspec.Struct, frozen=True, rename="camel"):
    role_definition_id: str
    principal_id: str
    scope: str
    condition: str | None = None


class _Assignment(msgspec.Struct, frozen=True):
    properties: _Properties


class _Permission(msgspec.Struct, frozen=True, rename="camel"):
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()


class _DefinitionProperties(msgspec.Struct, frozen=True, rename="camel"):
    role_name: str = ""
    permissions: tuple[_Permission, ...] = ()


class _Definition(msgspec.Struct, frozen=True):
    name: str
    properties: _DefinitionProperties


class _Ids(msgspec.Struct, frozen=True, rename="camel"):
    principal_id: str = ""
    client_id: str = ""


class _Identity(msgspec.Struct, frozen=True):
    id: str
    name: str
    properties: _Ids


class _HostIdentity(msgspec.Struct, frozen=True, rename="camel"):
    principal_id: str | None = None


class _Host(msgspec.Struct, frozen=True):
    name: str
    identity: _HostIdentity | None = None


class _Page(msgspec.Struct, frozen=True, rename="camel"):
    value: tuple[msgspec.Raw, ...] = ()
    next_link: str | None = None


def assignments_url(base_url: str, scope: str, principal_id: str) -> str:
    """Where the assignments are listed that hold at ``scope`` for that principal, by itself or through its groups."""
    chosen = quote(f"atScope() and assignedTo('{principal_id}')", safe="")
    return f"{_at(base_url, scope)}/roleAssignments?api-version={API_VERSION}&$filter={chosen}"


def assignment_url(base_url: str, need: Need) -> str:
    """Where the assignment is written; its name is made of what it says."""
    said = f"{need.scope.lower()}\n{need.principal.object_id.lower()}\n{need.role.id}"
    return f"{_at(base_url, need.scope)}/roleAssignments/{uuid.uuid5(NAMESPACE, said)}?api-version={API_VERSION}"


def assignment_body(need: Need) -> bytes:
    """What is written. ``principalType`` spares ARM a look into a directory that may not know a new one yet."""
    subscription = "/".join(need.scope.split("/")[:3])
    definition = f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{need.role.id}"
    return msgspec.json.encode(
        {
            "properties": {
                "roleDefinitionId": definition,
                "principalId": need.principal.object_id,
                "principalType": "ServicePrincipal",
            }
        }
    )


def definition_url(base_url: str, definition_id: str) -> str:
    """Where a role definition is read: its id is its path."""
    return f"{base_url}{quote(definition_id, safe='/')}?api-version={API_VERSION}"


def identities_url(base_url: str, subscription: str) -> str:
    """Where the user-assigned identities of a subscription are listed."""
    path = f"/subscriptions/{subscription}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    return f"{base_url}{quote(path, safe='/')}?api-version={IDENTITIES_API_VERSION}"


def hosts_url(base_url: str, group: str, kind: str) -> str:
    """Where the machines (``virtualMachines``) or scale sets of the group (its ARM id) are listed."""
    return f"{base_url}{quote(group, safe='/()')}/providers/Microsoft.Compute/{kind}?api-version={HOSTS_API_VERSION}"


def page(body: bytes) -> tuple[tuple[msgspec.Raw, ...], str]:
    """Items of a list, and where it goes on: empty at its end. Raises AzureUnavailable."""
    found = _read(body, _Page, "a list")
    return found.value, found.next_link or ""


def parse_assignment(item: bytes) -> tuple[str, str, bool]:
    """Role definition id, scope, whether it has a condition. Raises AzureUnavailable."""
    found = _read(item, _Assignment, "a role assignment").properties
    return found.role_definition_id, found.scope, bool(found.condition)


def parse_definition(body: bytes) -> Definition:
    """A role. Raises AzureUnavailable."""
    found = _read(body, _Definition, "a role definition")
    blocks = found.properties.permissions
    return Definition(
        found.name.lower(),
        found.properties.role_name,
        tuple(action for block in blocks for action in block.actions),
        tuple(action for block in blocks for action in block.not_actions),
    )


def known_definition(definition_id: str) -> Definition | None:
    """The built-in role of that id, when its actions are known without asking."""
    return BUILT_IN.get(definition_id.rpartition("/")[2].lower())


def parse_identity(item: bytes) -> tuple[str, str, str]:
    """ARM id, client id and principal id of a user-assigned identity. Raises AzureUnavailable."""
    found = _read(item, _Identity, "an identity")
    return found.id, found.properties.client_id, found.properties.principal_id


def parse_host(item: bytes) -> tuple[str, str]:
    """Name of a machine or scale set and the principal id of its own identity, empty without one."""
    found = _read(item, _Host, "a machine")
    return found.name, (found.identity and found.identity.principal_id) or ""


def _at(base_url: str, scope: str) -> str:
    return f"{base_url}{quote(scope, safe='/()')}/providers/Microsoft.Authorization"


def _read(body: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AzureUnavailable(f"ARM's answer is not {what} ({error})") from error
