"""What a DaemonSet needs: which nodes run its pod, which pods go, and how an update replaces them (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from podidentity.lab.controllers.placement import DAEMON_TOLERATIONS, matches_node, untolerated
from podidentity.lab.controllers.rollout import portion
from podidentity.lab.controllers.things import REVISION_LABEL, Json, Thing, dig, pod_active, pod_ready, template_hash
from podidentity.lab.controllers.when import available

_AFFINITY = "requiredDuringSchedulingIgnoredDuringExecution"


def daemon_spec(spec: Json) -> Json:
    """The pod spec with the tolerations every DaemonSet's pods have."""
    tolerations = list(spec.get("tolerations") or ())
    extra = [item for item in DAEMON_TOLERATIONS if item not in tolerations]
    if spec.get("hostNetwork"):
        extra.append({"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"})
    return {**spec, "tolerations": [*tolerations, *extra]}


def eligible(template_spec: Json, nodes: Sequence[Thing]) -> tuple[str, ...]:
    """Names of the nodes that shall run a pod."""
    spec = daemon_spec(template_spec)
    return tuple(node.name for node in nodes if matches_node(spec, node) and untolerated(spec, node) is None)


def pinned(spec: Json, node: str) -> Json:
    """The pod spec that only ``node`` satisfies."""
    fields = [{"key": "metadata.name", "operator": "In", "values": [node]}]
    terms = dig(spec, "affinity", "nodeAffinity", _AFFINITY, "nodeSelectorTerms") or [{}]
    pinned_terms = [{**term, "matchFields": fields} for term in terms]
    affinity = spec.get("affinity") or {}
    node_affinity = {**(affinity.get("nodeAffinity") or {}), _AFFINITY: {"nodeSelectorTerms": pinned_terms}}
    return {**daemon_spec(spec), "affinity": {**affinity, "nodeAffinity": node_affinity}}


def target(pod: Thing) -> str:
    """The node a pod runs on or is meant for."""
    if name := pod.spec.get("nodeName"):
        return str(name)
    terms = dig(pod.spec, "affinity", "nodeAffinity", _AFFINITY, "nodeSelectorTerms") or ()
    fields = (item for term in terms for item in term.get("matchFields") or ())
    return next((str(item["values"][0]) for item in fields if item.get("key") == "metadata.name"), "")


@dataclass(frozen=True, slots=True)
class Plan:
    """Nodes that need a pod, and pods that have to go."""

    create: tuple[str, ...]
    delete: tuple[Thing, ...]


@dataclass(frozen=True, slots=True)
class _Update:
    """How pods of an older template are replaced: by pods made beside them (``surge``), or after them."""

    digest: str
    seconds: int
    surge: int
    unavailable: int
    now: float

    def new(self, pod: Thing) -> bool:
        """Whether a pod is made of the template as it is now."""
        return pod.metadata.labels.get(REVISION_LABEL) == self.digest

    def available(self, pod: Thing | None) -> bool:
        """Whether there is a pod and it is ready for long enough."""
        return pod is not None and available(pod, self.seconds, self.now) <= 0


def _update_of(daemon: Thing, wanted: int, now: float) -> _Update:
    """``updateStrategy`` in pods; ``OnDelete`` replaces none, and nothing allowed is read as one unavailable."""
    digest = template_hash(daemon.spec.get("template") or {})
    seconds = int(daemon.spec.get("minReadySeconds") or 0)
    if dig(daemon.spec, "updateStrategy", "type") == "OnDelete":
        return _Update(digest, seconds, 0, 0, now)
    rolling = dig(daemon.spec, "updateStrategy", "rollingUpdate") or {}
    surge = portion(rolling.get("maxSurge", 0), wanted, up=True)
    unavailable = portion(rolling.get("maxUnavailable", 1), wanted, up=True)
    return _Update(digest, seconds, surge, unavailable or int(not surge), now)


def plan(daemon: Thing, nodes: Sequence[Thing], pods: Sequence[Thing], now: float) -> Plan:
    """What a DaemonSet needs now; old pods are replaced no faster than ``updateStrategy`` allows."""
    wanted = eligible(dig(daemon.spec, "template", "spec") or {}, nodes)
    update = _update_of(daemon, len(wanted), now)
    known = {node.name: node for node in nodes}
    by_target = _by_target(pods)
    create = [name for name in wanted if not any(not _ended(pod) for pod in by_target.get(name, ()))]
    delete = [pod for pod in pods if _ended(pod) and not pod.ending]
    kept: dict[str, list[Thing]] = {}
    for name, here in by_target.items():
        active = [pod for pod in here if pod_active(pod)]
        stays = name in wanted or (name in known and _may_stay(daemon, known[name]))
        delete += _surplus(active, update) if stays else active
        if stays:
            kept[name] = active
    if update.surge:
        create += _joined(kept, update)
    elif update.unavailable:
        delete += _outdated([here[0] for here in kept.values() if len(here) == 1], len(wanted), update)
    return Plan(tuple(create), tuple(delete))


def _by_target(pods: Sequence[Thing]) -> dict[str, list[Thing]]:
    """The pods of each node: those that are bound first, then the oldest."""
    found: dict[str, list[Thing]] = {}
    for pod in sorted(pods, key=lambda pod: (not pod.spec.get("nodeName"), pod.metadata.creation_timestamp or "")):
        found.setdefault(target(pod), []).append(pod)
    return found


def _ended(pod: Thing) -> bool:
    return pod.status.get("phase") in {"Succeeded", "Failed"}


def _may_stay(daemon: Thing, node: Thing) -> bool:
    """A pod that runs is only driven away by a selector or a NoExecute taint."""
    spec = daemon_spec(dig(daemon.spec, "template", "spec") or {})
    taint = untolerated(spec, node)
    return matches_node(spec, node) and (taint is None or taint.get("effect") != "NoExecute")


def _surplus(active: Sequence[Thing], update: _Update) -> list[Thing]:
    """Pods of one node beyond one; with surge an old one that is ready stays until the new one is available."""
    if not update.surge:
        return list(active[1:])
    new = [pod for pod in active if update.new(pod)]
    old = [pod for pod in active if not update.new(pod)]
    surplus = [*new[1:], *old[1:]]
    if new and old and (update.available(new[0]) or not pod_ready(old[0])):
        surplus.append(old[0])
    return surplus


def _joined(kept: Mapping[str, Sequence[Thing]], update: _Update) -> Iterator[str]:
    """Nodes that get a new pod beside the old one: ``surge`` of them at a time, besides those whose old one is lost."""
    alone: list[tuple[str, Thing]] = []
    room = update.surge
    for name, pods in sorted(kept.items()):
        new = [pod for pod in pods if update.new(pod)]
        pair = len(pods) == 2 and len(new) == 1  # noqa: PLR2004 - that is a pair
        if len(pods) == 1 and not new:
            alone.append((name, pods[0]))
        elif len(pods) > 1 and not (pair and update.available(new[0])):
            room -= 1
    for name, old in alone:
        if not update.available(old):
            yield name
        elif room > 0:
            room -= 1
            yield name


def _outdated(pods: Sequence[Thing], wanted: int, update: _Update) -> Iterator[Thing]:
    """Old pods that make way: those that are lost anyhow, and as many others as may be unavailable."""
    down = wanted - sum(map(update.available, pods))
    room = update.unavailable - down
    for pod in sorted(pods, key=lambda pod: pod.name):
        if update.new(pod):
            continue
        if not update.available(pod):
            yield pod
        elif room > 0:
            room -= 1
            yield pod


def status_of(daemon: Thing, nodes: Sequence[Thing], pods: Sequence[Thing], now: float) -> Json:
    """``status`` of a DaemonSet."""
    wanted = eligible(dig(daemon.spec, "template", "spec") or {}, nodes)
    digest = template_hash(daemon.spec.get("template") or {})
    seconds = int(daemon.spec.get("minReadySeconds") or 0)
    here = _by_target([pod for pod in pods if pod_active(pod)])
    first: Mapping[str, Thing] = {name: found[0] for name, found in here.items()}
    running = [first[name] for name in wanted if name in first]
    ready = sum(available(pod, seconds, now) <= 0 for pod in running)
    return {
        "currentNumberScheduled": len(running),
        "desiredNumberScheduled": len(wanted),
        "numberMisscheduled": sum(name not in wanted for name in first),
        "numberReady": sum(map(pod_ready, running)),
        "updatedNumberScheduled": sum(pod.metadata.labels.get(REVISION_LABEL) == digest for pod in running) or None,
        "numberAvailable": ready or None,
        "numberUnavailable": len(wanted) - ready or None,
        "observedGeneration": daemon.metadata.generation,
    }
