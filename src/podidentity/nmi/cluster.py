"""What nmi knows of the cluster: the stores its watches fill, and what they say about one pod."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Pod
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureIdentity,
    AzureIdentityBinding,
    AzurePodIdentityException,
)
from podidentity.api.meta import KubeObject
from podidentity.kube.store import Change, Store
from podidentity.nmi.authorize import Policy
from podidentity.nmi.pods import UID_INDEX, pod_store
from podidentity.nmi.waiters import Waiters
from podidentity.rules.identity_choice import Candidate, from_assigned, from_bindings

_BY_POD: Final = "pod"
_BY_NAMESPACE: Final = "namespace"


def _pod_of(item: AzureAssignedIdentity) -> tuple[str, ...]:
    return (f"{item.spec.pod_namespace}/{item.spec.pod}",)


def _namespace_of(item: KubeObject) -> tuple[str, ...]:
    return (item.metadata.namespace,)


class Cluster:
    """The stores of one node's nmi. ``waiters`` holds requests by pod key; a change that may matter wakes them."""

    def __init__(self, *, waiters: Waiters) -> None:
        self.pods: Store[Pod] = pod_store()
        self.assigned: Store[AzureAssignedIdentity] = Store({_BY_POD: _pod_of})
        self.exceptions: Store[AzurePodIdentityException] = Store({_BY_NAMESPACE: _namespace_of})
        self.identities: Store[AzureIdentity] = Store({_BY_NAMESPACE: _namespace_of})
        self.bindings: Store[AzureIdentityBinding] = Store({_BY_NAMESPACE: _namespace_of})
        self.waiters = waiters

    def on_assigned(self, change: Change[AzureAssignedIdentity]) -> None:
        """Wake those whose assignment came, changed or went."""
        for item in (change.old, change.new):
            if item is not None:
                self.waiters.wake(_pod_of(item)[0])

    def on_pod(self, change: Change[Pod]) -> None:
        """Wake those whose pod changed or went."""
        item = change.new or change.old
        if item is not None:
            self.waiters.wake(item.key)

    def on_exception(self, _change: Change[AzurePodIdentityException]) -> None:
        """Wake everybody: an exception names labels, not pods."""
        self.waiters.wake_all()

    def pod_with_uid(self, uid: str) -> Pod | None:
        """Return the pod of this node with this UID."""
        return next(iter(self.pods.by_index(UID_INDEX, uid)), None)

    def exceptions_for(self, pod: Pod) -> Iterable[AzurePodIdentityException]:
        """Return the exceptions of the pod's namespace."""
        return self.exceptions.by_index(_BY_NAMESPACE, pod.metadata.namespace)

    def candidates_for(self, pod: Pod, policy: Policy) -> list[Candidate]:
        """Return the identities bound to the pod, in the mode ``policy`` sets."""
        namespace = pod.metadata.namespace
        if policy.managed:
            return from_bindings(
                pod,
                pod.metadata.labels.get(POD_LABEL, ""),
                self.bindings.by_index(_BY_NAMESPACE, namespace),
                self.identities.by_index(_BY_NAMESPACE, namespace),
            )
        assigned = self.assigned.by_index(_BY_POD, pod.key)
        return from_assigned(pod, assigned, node=policy.node, force_namespaced=policy.force_namespaced)
