"""DaemonSets: one pod on each node that may run it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from podidentity.aio.clock import Clock
from podidentity.kube.errors import NotFound
from podidentity.kube.store import Change
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.placement import DAEMON_TOLERATIONS, matches_node, untolerated
from podidentity.lab.controllers.queue import WorkQueue
from podidentity.lab.controllers.replicas import BY_OWNER, pod_from
from podidentity.lab.controllers.rollout import portion
from podidentity.lab.controllers.things import (
    DAEMON_SETS,
    PODS,
    REVISION_LABEL,
    Json,
    Thing,
    dig,
    owner_reference,
    pod_active,
    pod_ready,
    template_hash,
)
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


def plan(daemon: Thing, nodes: Sequence[Thing], pods: Sequence[Thing], now: float) -> Plan:
    """What a DaemonSet needs now; old pods are replaced no faster than ``maxUnavailable`` allows."""
    wanted = eligible(dig(daemon.spec, "template", "spec") or {}, nodes)
    by_target: dict[str, list[Thing]] = {}
    for pod in pods:
        by_target.setdefault(target(pod), []).append(pod)
    known = {node.name: node for node in nodes}
    create = [name for name in wanted if not any(not _ended(pod) for pod in by_target.get(name, ()))]
    delete = [pod for pod in pods if _ended(pod) and not pod.ending]
    kept: list[Thing] = []
    for name, here in by_target.items():
        active = sorted((pod for pod in here if pod_active(pod)), key=lambda pod: pod.metadata.creation_timestamp or "")
        stays = name in wanted or (name in known and _may_stay(daemon, known[name]))
        delete += active[1:] if stays else active
        kept += active[:1] if stays else []
    return Plan(tuple(create), (*delete, *_outdated(daemon, kept, len(wanted), now)))


def _ended(pod: Thing) -> bool:
    return pod.status.get("phase") in {"Succeeded", "Failed"}


def _may_stay(daemon: Thing, node: Thing) -> bool:
    """A pod that runs is only driven away by a selector or a NoExecute taint."""
    spec = daemon_spec(dig(daemon.spec, "template", "spec") or {})
    taint = untolerated(spec, node)
    return matches_node(spec, node) and (taint is None or taint.get("effect") != "NoExecute")


def _outdated(daemon: Thing, pods: Sequence[Thing], wanted: int, now: float) -> Iterator[Thing]:
    if dig(daemon.spec, "updateStrategy", "type") == "OnDelete":
        return
    digest = template_hash(daemon.spec.get("template") or {})
    seconds = int(daemon.spec.get("minReadySeconds") or 0)
    most = portion(dig(daemon.spec, "updateStrategy", "rollingUpdate", "maxUnavailable") or 1, wanted, up=True)
    down = wanted - sum(available(pod, seconds, now) <= 0 for pod in pods)
    room = max(most, 1) - down
    for pod in sorted(pods, key=lambda pod: pod.name):
        if pod.metadata.labels.get(REVISION_LABEL) == digest:
            continue
        if available(pod, seconds, now) > 0:
            yield pod
        elif room > 0:
            room -= 1
            yield pod


def status_of(daemon: Thing, nodes: Sequence[Thing], pods: Sequence[Thing], now: float) -> Json:
    """``status`` of a DaemonSet."""
    wanted = eligible(dig(daemon.spec, "template", "spec") or {}, nodes)
    digest = template_hash(daemon.spec.get("template") or {})
    seconds = int(daemon.spec.get("minReadySeconds") or 0)
    first: Mapping[str, Thing] = {target(pod): pod for pod in pods if pod_active(pod)}
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


class DaemonSets:
    """The controller. ``pods`` has the index BY_OWNER."""

    def __init__(
        self,
        access: Access,
        daemons: Cache[Thing],
        pods: Cache[Thing],
        nodes: Cache[Thing],
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._access = access
        self._daemons = daemons
        self._pods = pods
        self._nodes = nodes
        self._clock = clock
        self.queue = WorkQueue("daemonsets", self._reconcile, rng=rng)
        daemons.listen(lambda change: self.queue.add(change.new.key) if change.new else None)
        pods.listen(self._pod_changed)
        nodes.listen(self._node_changed)

    def _pod_changed(self, change: Change[Thing]) -> None:
        for pod in (change.old, change.new):
            owner = next((ref for ref in pod.metadata.owner_references if ref.controller), None) if pod else None
            if pod and owner and owner.kind == DAEMON_SETS.kind:
                self.queue.add(f"{pod.namespace}/{owner.name}")

    def _node_changed(self, change: Change[Thing]) -> None:
        old, new = change.old, change.new
        if old and new and _relevant(old) == _relevant(new):
            return
        for daemon in self._daemons.store.values():
            self.queue.add(daemon.key)

    async def _reconcile(self, key: str) -> None:
        daemon = self._daemons.store.get(key)
        if daemon is None or daemon.ending:
            return
        nodes = sorted(self._nodes.store.values(), key=lambda node: node.name)
        wanted = plan(daemon, nodes, self._pods.store.by_index(BY_OWNER, daemon.uid), self._clock.wall())
        for pod in wanted.delete:
            await self._access.delete(PODS, pod)
        await self._create(daemon, wanted.create)
        gone = {pod.key: pod.uid for pod in wanted.delete}
        await self._pods.until(lambda store: all(_going(store.get(key), uid) for key, uid in gone.items()))
        pods = self._pods.store.by_index(BY_OWNER, daemon.uid)
        now = self._clock.wall()
        try:
            await self._access.status(DAEMON_SETS, daemon, status_of(daemon, nodes, pods, now))
        except NotFound:
            return
        seconds = int(daemon.spec.get("minReadySeconds") or 0)
        if soon := [wait for pod in pods if pod_ready(pod) and (wait := available(pod, seconds, now)) > 0]:
            self.queue.add_later(key, min(soon))

    async def _create(self, daemon: Thing, nodes: Sequence[str]) -> None:
        template: Json = daemon.spec.get("template") or {}
        metadata: Json = template.get("metadata") or {}
        labels = {
            **(metadata.get("labels") or {}),
            REVISION_LABEL: template_hash(template),
            "pod-template-generation": str(daemon.metadata.generation),
        }
        marked = {**template, "metadata": {**metadata, "labels": labels}}
        made: list[str] = []
        for node in nodes:
            pinned_template = {**marked, "spec": pinned(template.get("spec") or {}, node)}
            body = pod_from(pinned_template, owner_reference(DAEMON_SETS, daemon), daemon.name)
            made.append((await self._access.create(PODS, daemon.namespace, body)).key)
        await self._pods.until(lambda store: all(store.get(key) for key in made))


def _going(pod: Thing | None, uid: str) -> bool:
    return pod is None or pod.uid != uid or pod.ending


def _relevant(node: Thing) -> object:
    ready = [item.get("status") for item in node.status.get("conditions") or () if item.get("type") == "Ready"]
    return dict(node.metadata.labels), node.spec.get("taints"), node.spec.get("unschedulable"), ready
