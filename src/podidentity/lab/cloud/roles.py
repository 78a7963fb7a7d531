"""Azure's built-in roles, as far as the lab has them, and whether they allow an action (pure)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from podidentity.lab.cloud.ids import within


@dataclass(frozen=True, slots=True)
class Role:
    """A role definition: control-plane actions, what is taken out of them, and data-plane actions."""

    id: str
    name: str
    description: str
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """A role (a definition's GUID) at a scope."""

    scope: str
    role: str


_SHARED = ("Microsoft.Authorization/*/read", "Microsoft.Resources/subscriptions/resourceGroups/read")

ROLES: dict[str, Role] = {
    role.id: role
    for role in (
        Role(
            "f1a07417-d97a-45cb-824c-7a7467783830",
            "Managed Identity Operator",
            "Read and Assign User Assigned Identity",
            (
                "Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
                "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action",
                *_SHARED,
                "Microsoft.Resources/deployments/*",
                "Microsoft.Support/*",
            ),
        ),
        Role(
            "9980e02c-c2be-4d73-94e8-173b1dc7cf3c",
            "Virtual Machine Contributor",
            "Lets you manage virtual machines, but not access to them, and not the virtual network or storage "
            "account they're connected to.",
            (
                *_SHARED,
                "Microsoft.Compute/availabilitySets/*",
                "Microsoft.Compute/locations/*",
                "Microsoft.Compute/virtualMachines/*",
                "Microsoft.Compute/virtualMachineScaleSets/*",
                "Microsoft.Compute/disks/write",
                "Microsoft.Compute/disks/read",
                "Microsoft.Compute/disks/delete",
                "Microsoft.Resources/deployments/*",
                "Microsoft.Support/*",
            ),
        ),
        Role(
            "4633458b-17de-408a-b874-0445c86b69e6",
            "Key Vault Secrets User",
            "Read secret contents.",
            data_actions=(
                "Microsoft.KeyVault/vaults/secrets/getSecret/action",
                "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
            ),
        ),
        Role(
            "12338af0-0e69-4776-bea7-57ae8d297424",
            "Key Vault Crypto User",
            "Perform cryptographic operations using keys.",
            data_actions=("Microsoft.KeyVault/vaults/keys/read", "Microsoft.KeyVault/vaults/keys/*/action"),
        ),
        Role(
            "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba",
            "Key Vault Certificate User",
            "Read certificate contents.",
            data_actions=(
                "Microsoft.KeyVault/vaults/certificates/read",
                "Microsoft.KeyVault/vaults/secrets/getSecret/action",
                "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
                "Microsoft.KeyVault/vaults/keys/read",
            ),
        ),
        Role(
            "acdd72a7-3385-48ef-bd42-f606fba81ae7",
            "Reader",
            "View all resources, but does not allow you to make any changes.",
            ("*/read",),
        ),
        Role(
            "b24988ac-6180-42a0-ab88-20f7382dd24c",
            "Contributor",
            "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC.",
            ("*",),
            ("Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"),
        ),
        Role(
            "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
            "Owner",
            "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
            ("*",),
        ),
        Role(
            "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
            "Key Vault Secrets Officer",
            "Perform any action on the secrets of a key vault, except manage permissions.",
            ("Microsoft.KeyVault/vaults/read",),
            data_actions=("Microsoft.KeyVault/vaults/secrets/*",),
        ),
    )
}


def find_role(name_or_id: str) -> Role | None:
    """A role by its GUID or by its name, in any case."""
    wanted = name_or_id.casefold()
    return ROLES.get(wanted) or next((role for role in ROLES.values() if role.name.casefold() == wanted), None)


@lru_cache(maxsize=512)
def _pattern(action: str) -> re.Pattern[str]:
    """An action with wildcards: `*` is any run of characters, and `/*/` may stand for one `/`, as in Azure."""
    text = re.escape(action.casefold()).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*")
    return re.compile(text)


def _covers(patterns: Iterable[str], action: str) -> bool:
    return any(_pattern(pattern).fullmatch(action.casefold()) for pattern in patterns)


def allows(grants: Iterable[Grant], action: str, scope: str, *, data: bool = False) -> bool:
    """Whether any grant at or above the scope allows the action; `data` asks for the data plane."""
    for grant in grants:
        role = ROLES.get(grant.role)
        if role is None or not within(grant.scope, scope):
            continue
        actions, excluded = (role.data_actions, ()) if data else (role.actions, role.not_actions)
        if _covers(actions, action) and not _covers(excluded, action):
            return True
    return False
