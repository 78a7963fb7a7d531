"""Who may do what, by Kubernetes' roles and their bindings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from podidentity.api.meta import KubeObject, Struct

GROUP: Final = "rbac.authorization.k8s.io"
_DEFAULTS: Final = ("kubernetes.io/bootstrapping", "rbac-defaults")
_ALL: Final = "*"


class PolicyRule(Struct, frozen=True):
    """One entry of ``rules``."""

    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()

    def gives(self, verb: str, group: str, resource: str) -> bool:
        """Whether it gives ``verb`` on ``resource``, be it for some names only."""
        return all(
            _ALL in have or wanted in have
            for have, wanted in ((self.verbs, verb), (self.api_groups, group), (self.resources, resource))
        )


class Role(KubeObject, frozen=True):
    """Role or ClusterRole."""

    rules: tuple[PolicyRule, ...] | None = None


class RoleRef(Struct, frozen=True):
    """``roleRef`` of a binding."""

    kind: str = ""
    name: str = ""


class Subject(Struct, frozen=True):
    """One entry of ``subjects``."""

    kind: str = ""
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """As people write it: ``ServiceAccount default/mic``."""
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


class RoleBinding(KubeObject, frozen=True):
    """RoleBinding or, without a namespace, ClusterRoleBinding."""

    role_ref: RoleRef = msgspec.field(default=RoleRef())
    subjects: tuple[Subject, ...] | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """One rule that a subject has; ``namespace`` empty: everywhere. ``binding``: what gives it."""

    subject: Subject
    rule: PolicyRule
    namespace: str
    binding: str


def grants(roles: Iterable[Role], bindings: Iterable[RoleBinding]) -> Iterator[Grant]:
    """All rules of all subjects, without those that a cluster has for its own parts."""
    known: Mapping[tuple[str, str], Role] = {(one.namespace, one.name): one for one in roles}
    for binding in bindings:
        ref = binding.role_ref
        role = known.get((binding.namespace if ref.kind == "Role" else "", ref.name))
        where = f"{'RoleBinding' if binding.namespace else 'ClusterRoleBinding'} {binding.key}"
        own = binding.metadata.labels.get(_DEFAULTS[0]) == _DEFAULTS[1]
        for subject in binding.subjects or ():
            if own and (subject.name.startswith("system:") or subject.namespace == "kube-system"):
                continue
            for rule in (role.rules or ()) if role else ():
                yield Grant(subject, rule, binding.namespace, where)
