"""Which pods are served and what they select."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podidentity.api.constants import BEHAVIOR_ANNOTATION, POD_LABEL
from podidentity.api.core import Pod, PodSpec, PodStatus
from podidentity.api.identity import (
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentityBindingSpec,
    AzureIdentitySpec,
    SecretReference,
)
from podidentity.api.meta import ObjectMeta
from podidentity.rules.identity_problem import identity_problem
from podidentity.rules.selection import select, wants_identities

ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/n"


def pod(namespace: str = "a", label: str | None = "s", node: str = "n1", phase: str = "Running", **meta: str) -> Pod:
    """A labelled pod on a node."""
    labels = {} if label is None else {POD_LABEL: label}
    return Pod(
        metadata=ObjectMeta(name="p", namespace=namespace, labels=labels, **meta),
        spec=PodSpec(node_name=node),
        status=PodStatus(phase=phase),
    )


def identity(namespace: str, name: str = "i", behavior: str = "") -> AzureIdentity:
    """An identity, with or without the annotation."""
    annotations = {BEHAVIOR_ANNOTATION: behavior} if behavior else {}
    return AzureIdentity(metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations))


def binding(namespace: str, name: str = "b", selector: str = "s", to: str = "i") -> AzureIdentityBinding:
    """A binding to the identity ``to``."""
    return AzureIdentityBinding(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=AzureIdentityBindingSpec(azure_identity=to, selector=selector),
    )


def test_who_is_served() -> None:
    """Protects terminating pods' tokens, and keeps finished or unplaced pods from holding identities."""
    assert wants_identities(pod())
    assert wants_identities(pod(deletion_timestamp="2026-01-01T00:00:00Z"))
    assert wants_identities(pod(phase="Pending"))
    assert not wants_identities(pod(phase="Succeeded"))
    assert not wants_identities(pod(phase="Failed"))
    assert not wants_identities(pod(node=""))
    assert not wants_identities(pod(label=""))
    assert not wants_identities(pod(label=None))


NAMESPACES = st.sampled_from(["a", "b", "c"])


@given(
    NAMESPACES,
    st.lists(
        st.tuples(NAMESPACES, st.sampled_from(["b1", "b2"]), st.sampled_from(["s", "t"])), unique_by=lambda t: t[:2]
    ),
    st.dictionaries(NAMESPACES, st.sampled_from(["", "namespaced", "Namespaced"])),
    st.booleans(),
)
def test_selection(where: str, bindings: list[tuple[str, str, str]], identities: dict[str, str], force: bool) -> None:
    """Protects the namespaced mode: nothing crosses a namespace, and the order is by namespace, then name."""
    table = {f"{ns}/i": identity(ns, behavior=mode) for ns, mode in identities.items()}
    chosen = select(pod(where), [binding(ns, n, s) for ns, n, s in bindings], table.get, force_namespaced=force)
    keys = [(c.binding.namespace, c.binding.name) for c in chosen]
    assert keys == sorted(keys)
    expected = {
        (ns, n)
        for ns, n, s in bindings
        if s == "s" and ns in identities and (ns == where or not (force or identities[ns] == "namespaced"))
    }
    assert set(keys) == expected
    assert all(c.identity.namespace == c.binding.namespace for c in chosen)


def test_unlabelled_pod_selects_nothing() -> None:
    """Protects against a binding with an empty selector matching every unlabelled pod."""
    assert select(pod(label=""), [binding("a", selector="")], {"a/i": identity("a")}.get, force_namespaced=False) == ()


def test_identity_problems() -> None:
    """Protects the sentence an operator reads for each way an AzureIdentity can be wrong."""

    def problem(**spec: object) -> str | None:
        return identity_problem(AzureIdentity(spec=AzureIdentitySpec(**spec)))  # type: ignore[arg-type]  # test table

    assert problem(resource_id=ID, client_id="c") is None
    assert "resourceID is missing" in str(problem(client_id="c"))
    assert "is not a user-assigned identity" in str(problem(resource_id=ID + "/", client_id="c"))
    assert "clientID is missing" in str(problem(resource_id=ID))
    assert "spec.type is 3" in str(problem(type=3))
    assert problem(type=1, client_id="c", tenant_id="t", client_password=SecretReference(name="s")) is None
    assert "spec.tenantID, spec.clientPassword.name missing" in str(problem(type=2, client_id="c"))
