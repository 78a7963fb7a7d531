"""Assigns pods to nodes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from podidentity.api.meta import reference
from podidentity.kube.events import EventRecorder
from podidentity.kube.store import Change
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.placement import choose
from podidentity.lab.controllers.queue import WorkQueue
from podidentity.lab.controllers.things import PODS, Thing, condition, condition_of, dig, pod_active

SCHEDULER = "default-scheduler"
BY_NODE = "node"
_WAITING = "\x00waiting"


def by_node(pod: Thing) -> Iterator[str]:
    """Index of pods: the node's name, or a mark when there is none yet."""
    if pod_active(pod):
        yield str(pod.spec.get("nodeName") or _WAITING)


class Scheduler:
    """One pod at a time, so that each decision sees the one before it. ``pods`` has the index BY_NODE."""

    def __init__(
        self, access: Access, pods: Cache[Thing], nodes: Cache[Thing], events: EventRecorder, *, rng: random.Random
    ) -> None:
        self._access = access
        self._pods = pods
        self._nodes = nodes
        self._events = events
        self.queue = WorkQueue("scheduler", self._schedule, rng=rng, workers=1)
        pods.listen(self._pod_changed)
        nodes.listen(self._node_changed)

    def _pod_changed(self, change: Change[Thing]) -> None:
        if change.new is not None:
            if _unassigned(change.new):
                self.queue.add(change.new.key)
        else:
            self._retry()

    def _node_changed(self, change: Change[Thing]) -> None:
        if change.new is not None and (change.old is None or _placement(change.old) != _placement(change.new)):
            self._retry()

    def _retry(self) -> None:
        for pod in self._pods.store.by_index(BY_NODE, _WAITING):
            self.queue.add(pod.key)

    async def _schedule(self, key: str) -> None:
        pod = self._pods.store.get(key)
        if pod is None or not _unassigned(pod):
            return
        nodes = tuple(sorted(self._nodes.store.values(), key=lambda node: node.name))
        placed = {node.name: self._pods.store.by_index(BY_NODE, node.name) for node in nodes}
        decision = choose(pod, nodes, placed)
        if not decision.node:
            await self._refuse(pod, decision.reason)
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": decision.node}
        metadata = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
        await self._access.post(PODS.path(pod.namespace, pod.name, "binding"), body)
        message = f"Successfully assigned {pod.namespace}/{pod.name} to {decision.node}"
        self._events.event(reference(_typed(pod)), "Normal", "Scheduled", message)
        await self._pods.until(lambda store: not _unassigned(store.get(key)))

    async def _refuse(self, pod: Thing, reason: str) -> None:
        if condition_of(pod, "PodScheduled").get("message") == reason:
            return
        others = [item for item in pod.status.get("conditions") or () if item.get("type") != "PodScheduled"]
        unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason}
        await self._access.status(PODS, pod, {"conditions": [*others, unschedulable]})
        self._events.event(reference(_typed(pod)), "Warning", "FailedScheduling", reason)


def _unassigned(pod: Thing | None) -> bool:
    return (
        pod is not None
        and pod_active(pod)
        and not pod.spec.get("nodeName")
        and pod.spec.get("schedulerName", SCHEDULER) == SCHEDULER
        and not pod.spec.get("schedulingGates")
    )


def _placement(node: Thing) -> object:
    """What of a node decides on pods."""
    spec = (node.spec.get("taints"), node.spec.get("unschedulable"))
    return dict(node.metadata.labels), spec, condition(node, "Ready"), dig(node.status, "allocatable")


def _typed(pod: Thing) -> Thing:
    """The pod with its kind, which lists leave out."""
    return Thing(api_version="v1", kind="Pod", metadata=pod.metadata)
