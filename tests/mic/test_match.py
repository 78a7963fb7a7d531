"""Matching: incremental equals from scratch, and an event costs what it touches."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from podidentity.api.constants import BEHAVIOR_ANNOTATION, POD_LABEL
from podidentity.api.core import Pod, PodSpec, PodStatus
from podidentity.api.identity import (
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentityBindingSpec,
    AzureIdentitySpec,
)
from podidentity.api.meta import KubeObject, ObjectMeta
from podidentity.mic.match import Matcher
from podidentity.mic.wanted import AssignmentKey, Wanted

ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{}"
NAMESPACES = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["x", "y"])
SELECTORS = st.sampled_from(["", "s", "t"])


class Histories(RuleBasedStateMachine):
    """Random creations, changes and deletions, in one matcher and in one made anew from what is there."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.forced = False
        self.matcher = Matcher()
        self.objects: dict[tuple[type, str], KubeObject] = {}
        self.wanted: dict[AssignmentKey, Wanted] = {}
        self.version = 0

    @initialize(forced=st.booleans())
    def mode(self, forced: bool) -> None:
        """Namespaced by flag or not; by annotation some identities are in either."""
        self.forced = forced
        self.matcher = Matcher(force_namespaced=forced)

    def put(self, obj: Pod | AzureIdentity | AzureIdentityBinding) -> None:
        """Create or change, and follow the deltas."""
        self.version += 1
        meta = msgspec.structs.replace(obj.metadata, resource_version=str(self.version))
        new = msgspec.structs.replace(obj, metadata=meta)
        old = self.objects.get((type(obj), obj.key))
        self.objects[type(obj), obj.key] = new
        self.follow(old, new)

    def follow(self, old: object, new: object) -> None:
        """Apply one change."""
        delta = self.matcher.apply(old, new)  # type: ignore[arg-type]  # one of the three
        for want in delta.removed:
            assert self.wanted.pop(want.key) is want
        for want in delta.added:
            assert want.key not in self.wanted
            self.wanted[want.key] = want

    @rule(
        ns=NAMESPACES,
        name=NAMES,
        label=SELECTORS,
        node=st.sampled_from(["", "n1", "n2"]),
        rest=st.tuples(st.sampled_from(["Pending", "Running", "Failed"]), st.sampled_from(["u1", "u2"]), st.booleans()),
    )
    def pod(self, ns: str, name: str, label: str, node: str, rest: tuple[str, str, bool]) -> None:
        """A pod comes or changes."""
        phase, uid, dying = rest
        stamp = "2026-01-01T00:00:00Z" if dying else None
        meta = ObjectMeta(name=name, namespace=ns, uid=uid, labels={POD_LABEL: label}, deletion_timestamp=stamp)
        self.put(Pod(metadata=meta, spec=PodSpec(node_name=node), status=PodStatus(phase=phase)))

    @rule(ns=NAMESPACES, name=NAMES, selector=SELECTORS, to=NAMES)
    def binding(self, ns: str, name: str, selector: str, to: str) -> None:
        """A binding comes or changes."""
        spec = AzureIdentityBindingSpec(azure_identity=to, selector=selector)
        self.put(AzureIdentityBinding(metadata=ObjectMeta(name=name, namespace=ns), spec=spec))

    @rule(ns=NAMESPACES, name=NAMES, resource=st.sampled_from(["i", "j", "/bad"]), namespaced=st.booleans())
    def identity(self, ns: str, name: str, resource: str, namespaced: bool) -> None:
        """An identity comes or changes."""
        annotations = {BEHAVIOR_ANNOTATION: "namespaced"} if namespaced else {}
        spec = AzureIdentitySpec(resource_id=ID.format(resource), client_id="c")
        self.put(AzureIdentity(metadata=ObjectMeta(name=name, namespace=ns, annotations=annotations), spec=spec))

    @rule(which=st.integers(0, 30))
    def delete(self, which: int) -> None:
        """Something goes."""
        if self.objects:
            key = sorted(self.objects, key=str)[which % len(self.objects)]
            self.follow(self.objects.pop(key), None)

    @invariant()
    def same_as_from_scratch(self) -> None:
        """The deltas add up to what a new matcher finds, in any order of arrival."""
        Histories.steps += 1
        fresh = Matcher(force_namespaced=self.forced)
        for obj in reversed(self.objects.values()):
            fresh.apply(None, obj)  # type: ignore[arg-type]  # one of the three

        def facts(table: dict[AssignmentKey, Wanted]) -> dict[AssignmentKey, tuple[object, ...]]:
            return {key: (want.intent, want.namespace, want.resource) for key, want in table.items()}

        assert facts(self.wanted) == facts(self.matcher.wanted()) == facts(fresh.wanted())
        assert {p.message for p in self.matcher.problems()} == {p.message for p in fresh.problems()}


def test_incremental_equals_from_scratch() -> None:
    """Protects every assignment from an event that is taken in wrongly: 10,000 random steps, in every mode."""
    Histories.steps = 0
    plan = settings(max_examples=200, stateful_step_count=55, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Histories, settings=plan)
    assert Histories.steps >= 10_000


def _cluster(pods: int, selectors: int) -> Matcher:
    matcher = Matcher()
    for number in range(selectors):
        name = f"s{number}"
        spec = AzureIdentitySpec(resource_id=ID.format(name), client_id="c")
        matcher.apply(None, AzureIdentity(metadata=ObjectMeta(name=name, namespace="d"), spec=spec))
        binding = AzureIdentityBindingSpec(azure_identity=name, selector=name)
        matcher.apply(None, AzureIdentityBinding(metadata=ObjectMeta(name=name, namespace="d"), spec=binding))
    for number in range(pods):
        matcher.apply(None, _pod(number, f"s{number % selectors}"))
    return matcher


def _pod(number: int, label: str, phase: str = "Running", version: str = "1") -> Pod:
    meta = ObjectMeta(name=f"p{number}", namespace="d", uid=str(number), labels={POD_LABEL: label})
    meta = msgspec.structs.replace(meta, resource_version=version)
    return Pod(metadata=meta, spec=PodSpec(node_name="n"), status=PodStatus(phase=phase))


def test_m17_an_event_visits_what_it_touches() -> None:
    """Protects the controller's cost per event from growing with the cluster."""
    visits = []
    for size in (100, 2000):
        matcher = _cluster(size, size // 10)
        before = matcher.visited
        assert len(matcher.apply(None, _pod(size, "s1")).added) == 1
        matcher.apply(_pod(3, "s3"), _pod(3, "s3", version="2"))
        matcher.apply(_pod(3, "s3"), _pod(3, "s3", phase="Failed"))
        visits.append(matcher.visited - before)
    assert visits[0] == visits[1] <= 10


def test_m19_a_label_on_a_binding_disturbs_nobody() -> None:
    """Protects running pods from edits that change nothing about them."""
    matcher = _cluster(10, 1)
    spec = AzureIdentityBindingSpec(azure_identity="s0", selector="s0")
    old = AzureIdentityBinding(metadata=ObjectMeta(name="s0", namespace="d"), spec=spec)
    new = msgspec.structs.replace(old, metadata=ObjectMeta(name="s0", namespace="d", labels={"a": "b"}))
    delta = matcher.apply(old, new)
    assert not delta.added
    assert not delta.removed


def test_m1_same_name_in_two_namespaces() -> None:
    """Protects the documented order: the first namespace wins, the other is reported once."""
    matcher = Matcher()
    for namespace in ("b", "a"):
        spec = AzureIdentitySpec(resource_id=ID.format(namespace), client_id="c")
        matcher.apply(None, AzureIdentity(metadata=ObjectMeta(name="i", namespace=namespace), spec=spec))
        binding = AzureIdentityBindingSpec(azure_identity="i", selector="s")
        matcher.apply(None, AzureIdentityBinding(metadata=ObjectMeta(name="b", namespace=namespace), spec=binding))
    delta = matcher.apply(None, _pod(1, "s"))
    assert [want.identity.namespace for want in delta.added] == ["a"]
    assert [(p.kind, p.about.name) for p in delta.problems] == [("duplicate name", "p1")]
    assert "namespaced mode" in delta.problems[0].message
    assert not matcher.apply(_pod(1, "s"), _pod(1, "s", version="2")).problems


def test_where_the_chain_ends_is_told_once() -> None:
    """A label without binding and a binding without identity are told on the pod, and no more once mended."""
    matcher = Matcher()
    told = matcher.apply(None, _pod(1, "s")).problems
    assert [(p.kind, p.about.name) for p in told] == [("no binding", "p1")]
    assert "no AzureIdentityBinding has the selector s," in told[0].message
    assert not matcher.apply(_pod(1, "s"), _pod(1, "s", version="2")).problems
    spec = AzureIdentityBindingSpec(azure_identity="i", selector="s")
    binding = AzureIdentityBinding(metadata=ObjectMeta(name="b", namespace="d"), spec=spec)
    told = matcher.apply(None, binding).problems
    assert {(p.kind, p.about.name) for p in told} == {("no identity", "b"), ("no identity", "p1")}
    assert all("AzureIdentityBinding d/b names AzureIdentity d/i, which does not exist" in p.message for p in told)
    assert [p.same for p in matcher.problems()] == [p.same for p in told]
    identity = AzureIdentity(
        metadata=ObjectMeta(name="i", namespace="d"), spec=AzureIdentitySpec(resource_id=ID.format("i"), client_id="c")
    )
    delta = matcher.apply(None, identity)
    assert (len(delta.added), delta.problems, matcher.problems()) == (1, (), [])
