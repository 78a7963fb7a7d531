"""What shall be: one pod has one identity. Pure values; the object in the API is their durable record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import msgspec

from podidentity.api.constants import (
    FINALIZER,
    NODE_LABEL,
    POD_UID_ANNOTATION,
    TYPE_USER_ASSIGNED,
)
from podidentity.api.core import Pod
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureAssignedIdentitySpec,
    AzureAssignedIdentityStatus,
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentitySpec,
)
from podidentity.api.meta import KubeObject, ObjectMeta
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES, AZURE_IDENTITIES, AZURE_IDENTITY_BINDINGS, Resource
from podidentity.rules.node_label import node_label
from podidentity.rules.resource_id import fold, parse_identity_id

T = TypeVar("T", bound=KubeObject)


class AssignmentKey(NamedTuple):
    """Which pod has which identity; the pod's uid is not part of it, so that a pod that comes back finds its record."""

    namespace: str
    pod: str
    identity: str


class Intent(NamedTuple):
    """Everything whose change must reach the record. Labels and resource versions are deliberately not in it."""

    pod_uid: str
    node: str
    identity_namespace: str
    identity_namespaced: bool
    identity: AzureIdentitySpec
    binding_namespace: str
    binding: str
    selector: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """One assignment that shall exist. ``resource`` is the folded ARM id, empty for types 1 and 2."""

    key: AssignmentKey
    intent: Intent
    namespace: str
    resource: str
    pod: Pod
    identity: AzureIdentity
    binding: AzureIdentityBinding

    @property
    def node(self) -> str:
        """The node the pod is on."""
        return self.intent.node

    @property
    def client_id(self) -> str:
        """The identity's client id, folded."""
        return fold(self.identity.spec.client_id)


def intent_of(pod_uid: str, node: str, identity: AzureIdentity, binding: AzureIdentityBinding) -> Intent:
    """The part of the four that counts."""
    return Intent(
        pod_uid,
        node,
        identity.namespace,
        identity.namespaced,
        identity.spec,
        binding.namespace,
        binding.name,
        binding.spec.selector,
    )


def resource_key(spec: AzureIdentitySpec) -> str:
    """The folded ARM id that has to be on the host, empty for types 1 and 2 and for a malformed id."""
    if spec.type != TYPE_USER_ASSIGNED:
        return ""
    return _folded(spec.resource_id)


@lru_cache(maxsize=4096)
def _folded(resource_id: str) -> str:
    """The same text for all records of one identity."""
    parsed = parse_identity_id(resource_id)
    return parsed.key if parsed else ""


def wanted(pod: Pod, identity: AzureIdentity, binding: AzureIdentityBinding, namespace: str) -> Wanted:
    """The assignment that a pod's selection of a sound identity leads to; its object belongs in ``namespace``."""
    return Wanted(
        key=AssignmentKey(pod.namespace, pod.name, identity.name),
        intent=intent_of(pod.metadata.uid, pod.spec.node_name, identity, binding),
        namespace=namespace,
        resource=resource_key(identity.spec),
        pod=pod,
        identity=identity,
        binding=binding,
    )


def assigned_identity(want: Wanted, name: str, annotations: Mapping[str, str], *, state: str) -> AzureAssignedIdentity:
    """The object that records ``want`` under ``name``."""
    return AzureAssignedIdentity(
        api_version=AZURE_ASSIGNED_IDENTITIES.api_version,
        kind=AZURE_ASSIGNED_IDENTITIES.kind,
        metadata=ObjectMeta(
            name=name,
            namespace=want.namespace,
            labels={NODE_LABEL: node_label(want.node)},
            annotations={POD_UID_ANNOTATION: want.intent.pod_uid, **annotations},
            finalizers=(FINALIZER,),
        ),
        spec=_spec(want),
        status=AzureAssignedIdentityStatus(status=state, available_replicas=1),
    )


def rewritten(
    old: AzureAssignedIdentity, want: Wanted, *, state: str, annotations: Mapping[str, str]
) -> AzureAssignedIdentity:
    """The object ``old``, its metadata kept and ``annotations`` put over it, made to record ``want``."""
    annotations = {**old.metadata.annotations, POD_UID_ANNOTATION: want.intent.pod_uid, **annotations}
    labels = {**old.metadata.labels, NODE_LABEL: node_label(want.node)}
    return msgspec.structs.replace(
        old,
        api_version=AZURE_ASSIGNED_IDENTITIES.api_version,
        kind=AZURE_ASSIGNED_IDENTITIES.kind,
        metadata=msgspec.structs.replace(old.metadata, labels=labels, annotations=annotations),
        spec=_spec(want),
        status=AzureAssignedIdentityStatus(status=state, available_replicas=1),
    )


def identified(resource: Resource[T], obj: T) -> T:
    """``obj`` with its apiVersion and kind, which items of a list may come without."""
    return msgspec.structs.replace(obj, api_version=resource.api_version, kind=resource.kind)


def _spec(want: Wanted) -> AzureAssignedIdentitySpec:
    # The API demands apiVersion and kind inside each embedded object.
    return AzureAssignedIdentitySpec(
        azure_identity_ref=identified(AZURE_IDENTITIES, want.identity),
        azure_binding_ref=identified(AZURE_IDENTITY_BINDINGS, want.binding),
        pod=want.key.pod,
        pod_namespace=want.key.namespace,
        node_name=want.node,
    )
