"""Which nodes a pod may run on, and which of them it should (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from podidentity.lab.controllers.things import Json, Thing, condition, controller_of, dig, expression_holds

NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
DAEMON_TOLERATIONS: tuple[Json, ...] = tuple(
    {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
    for name, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)
"""What the DaemonSet controller adds to its pods."""

_AFFINITY = "node(s) didn't match Pod's node affinity/selector"
_PORTS = "node(s) didn't have free ports for the requested pod ports"


def matches_node(spec: Json, node: Thing) -> bool:
    """Whether nodeSelector and required node affinity let a pod run on ``node``."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = dig(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term_holds(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term_holds(term: Json, node: Thing) -> bool:
    labels, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not labels and not fields:
        return False
    return all(expression_holds(item, node.metadata.labels) for item in labels) and all(
        expression_holds(item, {"metadata.name": node.name}) for item in fields
    )


def tolerates(tolerations: Iterable[Json], taint: Json) -> bool:
    """Whether any toleration covers a taint."""
    for found in tolerations:
        if found.get("effect") and found["effect"] != taint.get("effect"):
            continue
        operator = found.get("operator") or "Equal"
        if operator == "Exists" and found.get("key") in {None, "", taint.get("key")}:
            return True
        same = found.get("key") == taint.get("key") and (found.get("value") or "") == (taint.get("value") or "")
        if operator == "Equal" and same:
            return True
    return False


def taints(node: Thing) -> Iterator[Json]:
    """What keeps pods away: the node's taints, and those that follow from its state."""
    yield from (taint for taint in node.spec.get("taints") or () if taint.get("effect") in {"NoSchedule", "NoExecute"})
    if node.spec.get("unschedulable"):
        yield UNSCHEDULABLE
    if condition(node, "Ready") != "True":
        yield NOT_READY


def untolerated(spec: Json, node: Thing) -> Json | None:
    """The first taint that keeps a pod away, or None."""
    tolerations = spec.get("tolerations") or ()
    return next((taint for taint in taints(node) if not tolerates(tolerations, taint)), None)


def host_ports(spec: Json) -> frozenset[tuple[str, int]]:
    """Protocol and number of every port a pod takes on its node."""
    return frozenset(
        (str(port.get("protocol") or "TCP"), int(port["hostPort"]))
        for container in spec.get("containers") or ()
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """``node`` is the node chosen, "" with the ``reason`` why there is none."""

    node: str
    reason: str = ""


def choose(pod: Thing, nodes: Sequence[Thing], placed: Mapping[str, Sequence[Thing]]) -> Decision:
    """The node for a pod: of those that fit, one with few pods of the same controller, then with few pods.

    ``placed`` gives the pods already on each node, by node name.
    """
    refusals: Counter[str] = Counter()
    fitting: list[tuple[int, int, str]] = []
    owner, ports = controller_of(pod), host_ports(pod.spec)
    for node in nodes:
        others = placed.get(node.name, ())
        refusal = _refusal(pod, node, others, ports)
        if refusal:
            refusals[refusal] += 1
            continue
        siblings = sum(bool(owner) and controller_of(other) == owner for other in others)
        fitting.append((siblings, len(others), node.name))
    if fitting:
        return Decision(min(fitting)[2])
    if not nodes:
        return Decision("", "no nodes available to schedule pods")
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(refusals.items()))
    return Decision("", f"0/{len(nodes)} nodes are available: {reasons}.")


def _refusal(pod: Thing, node: Thing, others: Sequence[Thing], ports: frozenset[tuple[str, int]]) -> str:
    if not matches_node(pod.spec, node):
        return _AFFINITY
    taint = untolerated(pod.spec, node)
    if taint == UNSCHEDULABLE:
        return "node(s) were unschedulable"
    if taint is not None:
        return f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value') or ''}}}"
    if ports and any(ports & host_ports(other.spec) for other in others):
        return _PORTS
    return ""
