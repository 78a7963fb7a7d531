"""Which bindings and identities a pod selects, and in which order.

A pod selects a binding when the value of its ``aadpodidbinding`` label equals the binding's ``spec.selector``. The
identity is the one of that name in the *binding's* namespace. In namespaced mode (forced, or by the identity's
annotation) pod, binding and identity must share one namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Pod
from podidentity.api.identity import AzureIdentity, AzureIdentityBinding

TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Selected:
    """One binding that applies to a pod, with its identity."""

    binding: AzureIdentityBinding
    identity: AzureIdentity


def selector_of(pod: Pod) -> str:
    """The value of the pod's label, empty when it has none."""
    return pod.metadata.labels.get(POD_LABEL, "")


def wants_identities(pod: Pod) -> bool:
    """Whether the pod is to be served: labelled, on a node, and not at its end.

    A terminating pod is served until it is gone, because a graceful shutdown needs tokens.
    """
    return bool(selector_of(pod)) and bool(pod.spec.node_name) and pod.status.phase not in TERMINAL_PHASES


def binding_order(binding: AzureIdentityBinding) -> tuple[str, str]:
    """The key by which bindings are ordered: namespace, then name."""
    return binding.namespace, binding.name


def identity_key(binding: AzureIdentityBinding) -> str:
    """``namespace/name`` of the identity the binding points to: always in the binding's own namespace."""
    return f"{binding.namespace}/{binding.spec.azure_identity}"


def in_scope(
    pod_namespace: str, binding: AzureIdentityBinding, identity: AzureIdentity, *, force_namespaced: bool
) -> bool:
    """Whether the namespaces of pod, binding and identity allow the match."""
    if binding.namespace != identity.namespace:
        return False
    return pod_namespace == binding.namespace or not (force_namespaced or identity.namespaced)


def select(
    pod: Pod,
    bindings: Iterable[AzureIdentityBinding],
    identity_of: Callable[[str], AzureIdentity | None],
    *,
    force_namespaced: bool,
) -> tuple[Selected, ...]:
    """The bindings that apply to ``pod``, ordered; ``identity_of`` looks an identity up by ``namespace/name``.

    Bindings of another selector and those whose identity is missing or out of scope are left out. Two entries may
    name identities of one name in two namespaces: which of them counts is the caller's decision.
    """
    selector = selector_of(pod)
    if not selector:
        return ()
    selected = []
    for binding in sorted((b for b in bindings if b.spec.selector == selector), key=binding_order):
        identity = identity_of(identity_key(binding))
        if identity is not None and in_scope(pod.namespace, binding, identity, force_namespaced=force_namespaced):
            selected.append(Selected(binding, identity))
    return tuple(selected)
