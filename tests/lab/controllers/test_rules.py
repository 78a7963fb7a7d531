"""The controllers' decisions, as functions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podidentity.lab.controllers import daemonplan, replicas, rollout
from podidentity.lab.controllers.placement import choose, matches_node, tolerates
from podidentity.lab.controllers.things import Thing, expression_holds, selects, template_hash
from podidentity.lab.controllers.when import available, seconds

READY = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:01:40Z"}]}


def thing(
    name: str, spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any
) -> Thing:
    """Any object."""
    body = {"metadata": {"name": name, "uid": name, **metadata}, "spec": spec or {}, "status": status or {}}
    return msgspec.convert(body, Thing)


def node(name: str, *, ready: bool = True, **spec: Any) -> Thing:
    """A node."""
    return thing(name, spec, READY if ready else {}, labels={"name": name})


def pod(name: str, on: str = "", *, ready: bool = True, **metadata: Any) -> Thing:
    """A pod of the owner `o`."""
    owner = [{"uid": "o", "controller": True, "kind": "ReplicaSet", "name": "o"}]
    status = {"phase": "Running" if ready else "Pending", **(READY if ready else {})}
    return thing(name, {"nodeName": on} if on else {}, status, ownerReferences=owner, **metadata)


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "value": "v", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: dict[str, str], tolerated: bool) -> None:
    """Key, value, operator and effect decide, as documented."""
    assert tolerates([toleration], {"key": "k", "value": "v", "effect": "NoSchedule"}) is tolerated


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("In", ["3"], True),
        ("NotIn", ["3"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["2"], True),
        ("Lt", ["2"], False),
        ("Gt", ["x"], False),
        ("What", [], False),
    ],
)
def test_match_expressions(operator: str, values: list[str], holds: bool) -> None:
    """Each operator of node affinity and selectors."""
    assert expression_holds({"key": "a", "operator": operator, "values": values}, {"a": "3"}) is holds


def test_empty_selector_selects_nothing() -> None:
    """A workload without selector never adopts the whole namespace."""
    assert not selects({}, {"a": "b"})
    assert not selects(None, {})
    assert selects({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": "b"})


def test_affinity_terms_are_alternatives() -> None:
    """Of several terms one is enough; within a term everything must hold; an empty term holds nowhere."""
    required = "requiredDuringSchedulingIgnoredDuringExecution"

    def spec(*terms: dict[str, Any]) -> dict[str, Any]:
        return {"affinity": {"nodeAffinity": {required: {"nodeSelectorTerms": list(terms)}}}}

    one = {"matchExpressions": [{"key": "name", "operator": "In", "values": ["n1"]}]}
    two = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    assert [matches_node(spec(one, two), node(name)) for name in ("n1", "n2", "n3")] == [True, True, False]
    assert not matches_node(spec({**one, **two}), node("n1"))
    assert not matches_node(spec({}), node("n1"))


def test_no_nodes_is_said_plainly() -> None:
    """An empty cluster has its own message."""
    assert choose(pod("p"), [], {}).reason == "no nodes available to schedule pods"


def test_surplus_pods_go_by_worth() -> None:
    """Unassigned pods go before pending, pending before ready, the youngest of equals first."""
    pods = [
        pod("old", "n", creationTimestamp="2026-01-01T00:00:00Z"),
        pod("young", "n", creationTimestamp="2026-01-02T00:00:00Z"),
        pod("pending", "n", ready=False),
        pod("homeless", ready=False),
        pod("going", "n", deletionTimestamp="2026-01-01T00:00:00Z"),
    ]
    order = [[one.name for one in replicas.plan(keep, pods).delete] for keep in (4, 3, 2, 1)]
    assert order == [[], ["homeless"], ["homeless", "pending"], ["homeless", "pending", "young"]]
    assert replicas.plan(6, pods).create == 2


def test_template_hash_ignores_its_own_label() -> None:
    """A ReplicaSet's template hashes as its Deployment's, whatever the order of keys."""
    plain = {"metadata": {"labels": {"a": "b", "c": "d"}}, "spec": {"x": 1}}
    marked = {"spec": {"x": 1}, "metadata": {"labels": {"c": "d", "pod-template-hash": "zzz", "a": "b"}}}
    assert template_hash(plain) == template_hash(marked)
    assert template_hash(plain) != template_hash({**plain, "spec": {"x": 2}})


def test_template_hash_looks_as_kubernetes_own() -> None:
    """Pods are named `mic-7d6655bcc4-8pxx9`: the middle is a 32-bit number whose digits are written 456789bcdf."""
    found = {template_hash({"spec": {"x": number}}) for number in range(200)}
    assert len(found) == 200
    assert set("".join(found)) == set("456789bcdf")
    assert max(map(len, found)) <= 10


def test_availability_takes_min_ready_seconds() -> None:
    """Ready since 100 s with minReadySeconds 30 is available at 130 s."""
    assert available(pod("p", "n"), 30, 110) == 20
    assert available(pod("p", "n"), 30, 130) == 0
    assert available(pod("p", "n", ready=False), 0, 0) > 1e9
    assert seconds("nonsense") == 0


def test_daemon_pods_are_pinned() -> None:
    """A DaemonSet's pod fits exactly its node, and keeps the template's own affinity."""
    spec = daemonplan.pinned({"nodeSelector": {"name": "n1"}}, "n1")
    assert matches_node(spec, node("n1"))
    assert not matches_node(daemonplan.pinned({}, "n1"), node("n2"))
    assert daemonplan.target(thing("p", dict(spec))) == "n1"


def test_daemon_pod_stays_on_a_cordoned_node_but_not_on_a_drained_one() -> None:
    """NoSchedule lets a running pod stay, NoExecute does not, nor does a changed selector."""
    daemon = thing("d", {"template": {"spec": {}}})
    running = pod("p", "n1", labels={"controller-revision-hash": template_hash({"spec": {}})})
    for taint, deleted in (("NoSchedule", 0), ("NoExecute", 1)):
        nodes = [node("n1", taints=[{"key": "k", "effect": taint}])]
        assert len(daemonplan.plan(daemon, nodes, [running], 200).delete) == deleted
    elsewhere = thing("d", {"template": {"spec": {"nodeSelector": {"name": "n2"}}}})
    assert len(daemonplan.plan(elsewhere, [node("n1")], [running], 200).delete) == 1


def test_failed_daemon_pod_is_replaced() -> None:
    """An ended pod is deleted and its node gets a new one."""
    daemon = thing("d", {"template": {"spec": {}}})
    failed = thing("p", {"nodeName": "n1"}, {"phase": "Failed"})
    found = daemonplan.plan(daemon, [node("n1")], [failed], 0)
    assert (found.create, [one.name for one in found.delete]) == (("n1",), ["p"])


@pytest.mark.parametrize(
    ("value", "up", "pods"),
    [("25%", True, 1), ("25%", False, 0), (2, True, 2), ("100%", False, 3), ("x", True, 0), (None, True, 0)],
)
def test_portions(value: object, up: bool, pods: int) -> None:
    """Percentages of three replicas, surge rounded up and unavailable down."""
    assert rollout.portion(value, 3, up=up) == pods


class World:
    """ReplicaSets whose pods get ready when the test says so."""

    def __init__(self, wanted: int, surge: int, unavailable: int, old: int) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
        self.deployment = thing("d", {"replicas": wanted, "strategy": rolling})
        self.size = {"old": old, "new": 0}
        self.ready = {"old": old, "new": 0}

    def sets(self) -> tuple[Thing, Thing]:
        """The new ReplicaSet and the old one."""

        def one(name: str) -> Thing:
            status = {"replicas": self.size[name], "availableReplicas": self.ready[name]}
            return thing(name, {"replicas": self.size[name]}, status)

        return one("new"), one("old")

    def step(self, *, gets_ready: bool) -> bool:
        """One round of the controller; whether anything changed."""
        new, old = self.sets()
        changes = rollout.scales(self.deployment, new, [old])
        for name, size in changes.items():
            self.size[name] = size
            self.ready[name] = min(self.ready[name], size)
        waiting = next((name for name in self.size if self.ready[name] < self.size[name]), "")
        if gets_ready and waiting:
            self.ready[waiting] += 1
        return bool(changes) or (gets_ready and bool(waiting))


@settings(max_examples=200)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3), st.lists(st.booleans(), max_size=30))
def test_rolling_update_keeps_its_bounds_and_ends(wanted: int, surge: int, unavailable: int, luck: list[bool]) -> None:
    """Whatever gets ready when: never too many pods, never too few that work, and in the end only new ones."""
    world = World(wanted, surge, unavailable, wanted)
    limits = rollout.bounds(world.deployment.spec)
    for gets_ready in luck:
        world.step(gets_ready=gets_ready)
        assert sum(world.size.values()) <= wanted + limits.surge
        assert sum(world.ready.values()) >= wanted - limits.unavailable
    for _ in range(10 * wanted + 10):
        if not world.step(gets_ready=True):
            break
    assert world.size == {"old": 0, "new": wanted}
