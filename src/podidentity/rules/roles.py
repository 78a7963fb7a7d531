"""Azure's roles as far as mic's rights go: which it needs, what a definition permits, which scope is in which. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from podidentity.rules.resource_id import ResourceId, fold

if TYPE_CHECKING:
    from collections.abc import Iterable

_SUBSCRIPTION: Final = re.compile(r"/subscriptions/[^/]+", re.IGNORECASE)
_GROUP: Final = re.compile(r"/subscriptions/[^/]+/resourcegroups/[^/]+", re.IGNORECASE)
_MANAGEMENT_GROUP: Final = re.compile(r"/providers/microsoft\.management/managementgroups/[^/]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Definition:
    """A role: its GUID, its name, and the actions it gives and takes out again, with ``*`` for anything."""

    id: str
    name: str
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()

    def permits(self, action: str) -> bool:
        """Whether the role gives that action."""
        return _among(self.actions, action) and not _among(self.not_actions, action)


_IDENTITIES: Final = "Microsoft.ManagedIdentity/userAssignedIdentities"
IDENTITY_OPERATOR: Final = Definition(
    "f1a07417-d97a-45cb-824c-7a7467783830",
    "Managed Identity Operator",
    (f"{_IDENTITIES}/*/read", f"{_IDENTITIES}/*/assign/action"),
)
VM_CONTRIBUTOR: Final = Definition(
    "9980e02c-c2be-4d73-94e8-173b1dc7cf3c",
    "Virtual Machine Contributor",
    ("Microsoft.Compute/virtualMachines/*", "Microsoft.Compute/virtualMachineScaleSets/*"),
)
CONTRIBUTOR: Final = Definition(
    "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Contributor",
    ("*",),
    ("Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"),
)
OWNER: Final = Definition("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", ("*",))
BUILT_IN: Final = {one.id: one for one in (IDENTITY_OPERATOR, VM_CONTRIBUTOR, CONTRIBUTOR, OWNER)}
"""Those whose actions are known here; for the first two only the actions that count."""

USED: Final = {
    IDENTITY_OPERATOR.id: (f"{_IDENTITIES}/read", f"{_IDENTITIES}/assign/action"),
    VM_CONTRIBUTOR.id: tuple(
        f"Microsoft.Compute/{kind}/{verb}"
        for kind in ("virtualMachines", "virtualMachineScaleSets")
        for verb in ("read", "write")
    ),
}
"""What mic does by each of the two roles."""


class Level(StrEnum):
    """How much lies below a scope."""

    RESOURCE = "resource"
    GROUP = "resource group"
    SUBSCRIPTION = "subscription"
    ABOVE = "management group"


def level(scope: str) -> Level:
    """Say what kind of scope it is."""
    text = scope.rstrip("/")
    if not text or _MANAGEMENT_GROUP.fullmatch(text):
        return Level.ABOVE
    if _SUBSCRIPTION.fullmatch(text):
        return Level.SUBSCRIPTION
    return Level.GROUP if _GROUP.fullmatch(text) else Level.RESOURCE


def covers(outer: str, inner: str) -> bool:
    """Whether what is given at ``outer`` holds at ``inner``.

    A management group is taken to be above: ARM lists at a scope only those that are.
    """
    if level(outer) is Level.ABOVE:
        return True
    above, below = fold(outer).rstrip("/"), fold(inner).rstrip("/")
    return below == above or below.startswith(f"{above}/")


def group_scope(subscription: str, group: str) -> str:
    """ARM id of a resource group."""
    return f"/subscriptions/{subscription}/resourceGroups/{group}"


def group_of(identity: ResourceId) -> str:
    """ARM id of the identity's resource group."""
    return group_scope(identity.subscription, identity.resource_group)


def told(scope: str) -> str:
    """A scope in a person's words: ``resource group rg``, ``subscription 1234``, ``identity uai1 in rg``."""
    parts = scope.strip("/").split("/")
    kind = level(scope)
    if kind is Level.RESOURCE:
        what = "identity" if len(parts) > 1 and fold(parts[-2]) == "userassignedidentities" else "resource"
        return f"{what} {parts[-1]} in {parts[3]}" if len(parts) > 4 else scope  # noqa: PLR2004 - group is the 4th
    return f"{kind} {parts[-1]}" if parts[-1] else "the whole tenant"


def _among(patterns: Iterable[str], action: str) -> bool:
    return any(_pattern(pattern).fullmatch(fold(action)) for pattern in patterns)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    """``*`` is any run of characters; ``/*/`` may stand for one slash, as in Managed Identity Operator."""
    text = re.escape(fold(pattern)).replace(r"/\*/", "/(?:.*/)?").replace(r"\*", ".*")
    return re.compile(text)
