"""Which of a pod's identities a token request gets (pure): the same one every time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from podidentity.api.constants import (
    POD_UID_ANNOTATION,
    STATE_ASSIGNED,
    STATE_CREATED,
    TYPE_USER_ASSIGNED,
)
from podidentity.api.core import Pod
from podidentity.api.identity import AzureAssignedIdentity, AzureIdentity, AzureIdentityBinding


@dataclass(frozen=True, slots=True)
class Named:
    """The identity a request names; at most one field is set. ``object_id`` is not known to Kubernetes."""

    client_id: str = ""
    object_id: str = ""
    resource_id: str = ""

    def matches(self, identity: AzureIdentity) -> bool:
        """Whether ``identity`` may be the one meant: ids are compared case-insensitively, no name means any."""
        if self.client_id:
            return identity.spec.client_id.casefold() == self.client_id.casefold()
        if self.resource_id:
            return (
                identity.spec.type == TYPE_USER_ASSIGNED
                and identity.spec.resource_id.strip("/").casefold() == self.resource_id.strip("/").casefold()
            )
        return True


ANY = Named()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An identity bound to the pod; ``ready`` is False while it is not yet on the host."""

    identity: AzureIdentity
    order: tuple[str, str]
    ready: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """``ready``: usable and wanted, best first; ``pending``: wanted, not yet on the host; ``others``: not wanted."""

    ready: tuple[AzureIdentity, ...]
    pending: int = 0
    others: int = 0


def from_assigned(
    pod: Pod, assigned: Iterable[AzureAssignedIdentity], *, node: str, force_namespaced: bool
) -> list[Candidate]:
    """Return what the assigned identities give this very pod on this node.

    Left out: another pod's (by name, namespace, or UID where the object carries one), another node's, those being
    deleted, those in any state but empty, ``Created`` and ``Assigned``, and in namespaced mode (forced, or asked for
    by the identity's annotation) those whose identity lives in another namespace.
    """
    found = []
    for item in assigned:
        spec = item.spec
        meta = item.metadata
        state = item.status.status
        if spec.pod != pod.metadata.name or spec.pod_namespace != pod.metadata.namespace:
            continue
        if meta.deletion_timestamp is not None or (spec.node_name and spec.node_name != node):
            continue
        if state not in ("", STATE_ASSIGNED, STATE_CREATED):
            continue
        uid = meta.annotations.get(POD_UID_ANNOTATION)
        if uid and uid != pod.metadata.uid:
            continue
        identity = spec.azure_identity_ref
        if (force_namespaced or identity.namespaced) and identity.metadata.namespace != pod.metadata.namespace:
            continue
        binding = spec.azure_binding_ref.metadata
        found.append(Candidate(identity, (binding.namespace, binding.name), state != STATE_CREATED))
    return found


def from_bindings(
    pod: Pod, label: str, bindings: Iterable[AzureIdentityBinding], identities: Iterable[AzureIdentity]
) -> list[Candidate]:
    """Return what managed mode gives the pod: bindings of its namespace that select ``label``, and their identities.

    A pod without the label gets nothing, also from a binding with an empty selector.
    """
    namespace = pod.metadata.namespace
    if not label:
        return []
    by_name = {item.metadata.name: item for item in identities if item.metadata.namespace == namespace}
    found = []
    for binding in bindings:
        meta = binding.metadata
        if meta.namespace != namespace or binding.spec.selector != label or meta.deletion_timestamp is not None:
            continue
        identity = by_name.get(binding.spec.azure_identity)
        if identity is not None and identity.metadata.deletion_timestamp is None:
            found.append(Candidate(identity, (meta.namespace, meta.name), ready=True))
    return found


def choose(candidates: Iterable[Candidate], named: Named) -> Choice:
    """Sort the candidates by what the request names; order among the ready is (binding namespace, binding name)."""
    wanted = []
    others = 0
    for candidate in candidates:
        if named.matches(candidate.identity):
            wanted.append(candidate)
        else:
            others += 1
    if len(wanted) > 1:
        wanted.sort(key=lambda candidate: candidate.order)
    ready = tuple(candidate.identity for candidate in wanted if candidate.ready)
    return Choice(ready, len(wanted) - len(ready), others)
