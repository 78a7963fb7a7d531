"""Which role assignments mic needs, least first, and what a wider one would open. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from podidentity.rules.resource_id import ResourceId
from podidentity.rules.roles import (
    IDENTITY_OPERATOR,
    VM_CONTRIBUTOR,
    Definition,
    covers,
    group_of,
    group_scope,
    level,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Breadth(StrEnum):
    """Where Managed Identity Operator is wanted."""

    IDENTITY = "identity"
    GROUP = "group"
    SUBSCRIPTION = "subscription"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who gets a role: the object id in Entra ID, and who that is in words."""

    object_id: str
    who: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A cluster: who mic signs in as, where its nodes are, which identities its pods use.

    ``control_plane`` does nothing for mic; the walkthrough gives it the same roles.
    """

    principals: tuple[Principal, ...]
    subscription: str
    node_group: str
    identities: tuple[ResourceId, ...] = ()
    control_plane: Principal | None = None

    @property
    def nodes(self) -> str:
        """ARM id of the nodes' resource group."""
        return group_scope(self.subscription, self.node_group)


@dataclass(frozen=True, slots=True)
class Need:
    """One role assignment that must be there, and what for."""

    principal: Principal
    role: Definition
    scope: str
    why: str


HOSTS = "read the nodes' machines and change their identities"


def needed(facts: Facts, breadth: Breadth = Breadth.IDENTITY) -> tuple[Need, ...]:
    """The assignments, for each principal: one for the nodes, then those for the identities."""
    return tuple(need for principal in facts.principals for need in _of(principal, facts, breadth))


def as_the_walkthrough(facts: Facts) -> tuple[Need, ...]:
    """Both roles at the subscription, to the control plane's identity and to mic's: four with an AKS cluster."""
    scope = f"/subscriptions/{facts.subscription}"
    control = (facts.control_plane,) if facts.control_plane else ()
    found = []
    for principal in (*control, *facts.principals):
        why = "as in the walkthrough; mic does not use it" if principal in control else "as in the walkthrough"
        found += [Need(principal, role, scope, why) for role in (IDENTITY_OPERATOR, VM_CONTRIBUTOR)]
    return tuple(found)


def _of(principal: Principal, facts: Facts, breadth: Breadth) -> Iterator[Need]:
    if breadth is Breadth.SUBSCRIPTION:
        yield Need(principal, VM_CONTRIBUTOR, f"/subscriptions/{facts.subscription}", HOSTS)
    else:
        yield Need(principal, VM_CONTRIBUTOR, facts.nodes, HOSTS)
    scopes: dict[str, tuple[str, list[str]]] = {}
    for identity in facts.identities:
        scope = _scope(identity, breadth)
        scopes.setdefault(scope.lower(), (scope, []))[1].append(identity.name)
    if not scopes:
        scope = facts.nodes if breadth is not Breadth.SUBSCRIPTION else f"/subscriptions/{facts.subscription}"
        yield Need(principal, IDENTITY_OPERATOR, scope, "attach identities that are made there; none was named")
    for scope, names in scopes.values():
        yield Need(principal, IDENTITY_OPERATOR, scope, f"attach {', '.join(names)} to the nodes")


def _scope(identity: ResourceId, breadth: Breadth) -> str:
    if breadth is Breadth.IDENTITY:
        return identity.path
    return group_of(identity) if breadth is Breadth.GROUP else f"/subscriptions/{identity.subscription}"


def opened(facts: Facts, breadth: Breadth) -> tuple[str, ...]:
    """One sentence for each scope wider than ``breadth``: what it would open."""
    sentences = []
    if breadth is Breadth.IDENTITY:
        groups = {group_of(one).lower(): group_of(one) for one in reversed(facts.identities)}
        sentences += [
            f"Managed Identity Operator at {told(scope)} (--scope=group): every identity of that group, also those "
            f"made later, could be attached to the nodes and used by whoever works as mic."
            for scope in reversed(groups.values())
        ]
    if breadth is not Breadth.SUBSCRIPTION:
        sentences.append(
            "Either role at the subscription (--scope=subscription, as the walkthrough has it): every identity and "
            "every virtual machine of the subscription, those that have nothing to do with this cluster too."
        )
    return tuple(sentences)


def excess(need: Need, role: Definition, scope: str) -> str:
    """What a grant opens beyond the need that it satisfies; empty when it is no wider."""
    parts = []
    if role.id != need.role.id and role.permits("Microsoft.Resources/anything/write"):
        parts.append(f"{role.name} permits far more than {need.role.name}")
    if level(scope) is not level(need.scope) and covers(scope, need.scope):
        what = "identity" if need.role.id == IDENTITY_OPERATOR.id else "machine"
        parts.append(f"it holds for every {what} of {told(scope)}, not only at {told(need.scope)}")
    return "; ".join(parts)
