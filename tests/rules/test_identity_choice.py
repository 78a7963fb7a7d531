"""Which identity a request gets, and which pods are excepted: pure rules."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.nmi.conftest import NODE, Make

from podidentity.api.constants import POD_UID_ANNOTATION
from podidentity.rules.exceptions import excepted
from podidentity.rules.identity_choice import ANY, Candidate, Named, choose, from_assigned, from_bindings

make = Make()
POD = make.pod()


def ready(*names: str) -> list[Candidate]:
    """Return ready candidates of these names."""
    return [Candidate(make.identity(name), ("team", f"{name}-binding"), ready=True) for name in names]


@given(st.permutations(["a", "b", "c", "d"]))
def test_choice_does_not_depend_on_the_order_of_the_store(names: Sequence[str]) -> None:
    """Named or not, the same identity is chosen whatever order the objects came in."""
    assert choose(ready(*names), ANY).ready[0].name == "a"
    assert [identity.name for identity in choose(ready(*names), Named(client_id="CLIENT-OF-C")).ready] == ["c"]


def test_resource_id_is_compared_in_any_case() -> None:
    """A resource id matches however it is cased, with or without the first slash, and only type 0."""
    spelled = make.identity("b").spec.resource_id.upper().lstrip("/")
    assert [identity.name for identity in choose(ready("a", "b"), Named(resource_id=spelled)).ready] == ["b"]
    principal = [Candidate(make.identity("b", type_=1), ("team", "b"), ready=True)]
    assert choose(principal, Named(resource_id=spelled)).ready == ()


def test_pending_and_others_are_counted_apart() -> None:
    """What is wanted but not ready, and what is not wanted, are told apart: they wait differently."""
    pending = Candidate(make.identity("p"), ("team", "p"), ready=False)
    choice = choose([*ready("a"), pending], Named(client_id="client-of-p"))
    assert (choice.ready, choice.pending, choice.others) == ((), 1, 1)


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        (make.assigned(POD), True),
        (make.assigned(POD, state=""), True),
        (make.assigned(POD, state="Unassigned"), False),
        (make.assigned(POD, deletion="2026-01-01T00:00:00Z"), False),
        (make.assigned(POD, node="node-1"), False),
        (make.assigned(POD, node=""), True),
        (make.assigned(POD, annotations={POD_UID_ANNOTATION: "uid-web"}), True),
        (make.assigned(POD, annotations={POD_UID_ANNOTATION: "uid-of-yesterday"}), False),
        (make.assigned(make.pod("web2")), False),
        (make.assigned(make.pod(namespace="other")), False),
        (make.assigned(POD, make.identity(namespace="other")), True),
        (
            make.assigned(
                POD, make.identity(namespace="other", annotations={"aadpodidentity.k8s.io/Behavior": "namespaced"})
            ),
            False,
        ),
    ],
)
def test_d33_which_records_count(record: object, counts: bool) -> None:
    """Only this very pod's living records on this node count; namespaced identities stay in their namespace."""
    found = from_assigned(POD, [record], node=NODE, force_namespaced=False)  # type: ignore[list-item]
    assert bool(found) is counts


def test_forced_namespaced_mode_drops_foreign_identities() -> None:
    """With the flag, an identity of another namespace gives nothing (and is no index out of range)."""
    record = make.assigned(POD, make.identity(namespace="other"))
    assert from_assigned(POD, [record], node=NODE, force_namespaced=True) == []


def test_d31_managed_mode_ignores_an_empty_selector() -> None:
    """A pod without the label matches no binding, not even one with an empty selector."""
    record = make.assigned(POD)
    binding, identity = record.spec.azure_binding_ref, record.spec.azure_identity_ref
    empty = type(binding)(metadata=binding.metadata, spec=type(binding.spec)(azure_identity="app", selector=""))
    assert from_bindings(POD, "", [empty], [identity]) == []
    assert from_bindings(POD, "web", [empty], [identity]) == []
    assert [item.identity for item in from_bindings(POD, "web", [binding], [identity])] == [identity]
    assert from_bindings(make.pod(namespace="other"), "web", [binding], [identity]) == []


@pytest.mark.parametrize(
    ("labels", "namespace", "found"),
    [
        ({"app": "addon"}, "team", True),
        ({"app": "ADDON"}, "team", True),
        ({"x": "y", "kind": "k"}, "team", True),
        ({"APP": "addon"}, "team", False),
        ({"app": "other"}, "team", False),
        ({"app": "addon"}, "other", False),
        ({}, "team", False),
    ],
)
def test_d8_exception_needs_one_label_of_its_own_namespace(
    labels: dict[str, str],
    namespace: str,
    found: bool,
) -> None:
    """One common label is enough, keys exactly, values in any case, namespaces never across."""
    exception = make.exception({"app": "addon", "kind": "K"})
    pod = make.pod(namespace=namespace, labels=labels)
    assert excepted(pod, [exception]) is (exception if found else None)
