"""Equal parts of objects are one object in memory. Pure.

Thousands of records embed the same few identities and bindings, and name the same few nodes; of a pod the controller
needs its name, its uid and one label. What is shared is frozen, so nobody sees the difference but the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from podidentity.api.constants import HOST_ANNOTATION, POD_LABEL
from podidentity.api.core import Pod, PodStatus
from podidentity.api.identity import AzureAssignedIdentity, AzureAssignedIdentityStatus
from podidentity.api.meta import KubeObject, ObjectMeta

T = TypeVar("T", bound=KubeObject)
replace = msgspec.structs.replace

MOST: Final = 10_000
"""Parts kept of each kind; when there are more, sharing begins anew."""


class Sharing:
    """Remembers the parts it has seen."""

    def __init__(self) -> None:
        self._embedded: dict[tuple[str, str, str], KubeObject] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._phases: dict[str, PodStatus] = {}
        self._statuses: dict[AzureAssignedIdentityStatus, AzureAssignedIdentityStatus] = {}
        self._finalizers: dict[tuple[str, ...], tuple[str, ...]] = {}

    def record(self, obj: AzureAssignedIdentity) -> AzureAssignedIdentity:
        """The same record, its parts shared with others."""
        spec, meta = obj.spec, obj.metadata
        finalizers = self._finalizers.setdefault(meta.finalizers, meta.finalizers)
        return replace(
            obj,
            api_version=sys.intern(obj.api_version),
            kind=sys.intern(obj.kind),
            metadata=replace(
                meta,
                namespace=sys.intern(meta.namespace),
                labels=_interned(meta.labels),
                annotations={
                    sys.intern(name): sys.intern(value) if name == HOST_ANNOTATION else value
                    for name, value in meta.annotations.items()
                },
                finalizers=finalizers,
            ),
            spec=replace(
                spec,
                azure_identity_ref=self._part(spec.azure_identity_ref),
                azure_binding_ref=self._part(spec.azure_binding_ref),
                pod_namespace=sys.intern(spec.pod_namespace),
                node_name=sys.intern(spec.node_name),
            ),
            status=self._statuses.setdefault(obj.status, obj.status),
        )

    def pod(self, pod: Pod) -> Pod:
        """A pod without what the controller has no use for."""
        meta, label = pod.metadata, pod.metadata.labels.get(POD_LABEL)
        labels: Mapping[str, str] = {}
        if label is not None:
            if len(self._labels) > MOST:
                self._labels.clear()
            labels = self._labels.setdefault(label, {POD_LABEL: label})
        return replace(
            pod,
            api_version=sys.intern(pod.api_version),
            kind=sys.intern(pod.kind),
            metadata=ObjectMeta(
                name=meta.name,
                namespace=sys.intern(meta.namespace),
                uid=meta.uid,
                resource_version=meta.resource_version,
                deletion_timestamp=meta.deletion_timestamp,
                labels=labels,
            ),
            spec=replace(pod.spec, node_name=sys.intern(pod.spec.node_name), service_account_name=""),
            status=self._phases.setdefault(pod.status.phase, PodStatus(phase=pod.status.phase)),
        )

    def _part(self, part: T) -> T:
        """An equal object that was seen before, if there is one."""
        if len(self._embedded) > MOST:
            self._embedded.clear()
        key = (type(part).__name__, part.namespace, part.name)
        known = self._embedded.get(key)
        if known == part and isinstance(known, type(part)):
            return known
        self._embedded[key] = part
        return part


def _interned(texts: Mapping[str, str]) -> Mapping[str, str]:
    return {sys.intern(name): sys.intern(text) for name, text in texts.items()}
