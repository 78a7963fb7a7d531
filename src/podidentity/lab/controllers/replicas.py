"""ReplicaSets: as many pods as asked for."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from podidentity.aio.clock import Clock
from podidentity.kube.errors import NotFound
from podidentity.kube.store import Change, Store
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.queue import WorkQueue
from podidentity.lab.controllers.things import (
    PODS,
    REPLICA_SETS,
    Json,
    Thing,
    controller_of,
    owner_reference,
    pod_active,
    pod_ready,
    selects,
)
from podidentity.lab.controllers.when import available

BY_OWNER = "owner"
_BURST = 50


def by_owner(obj: Thing) -> Iterator[str]:
    """Index: the uid of the controlling object."""
    if owner := controller_of(obj):
        yield owner


@dataclass(frozen=True, slots=True)
class Plan:
    """What a ReplicaSet needs now."""

    create: int
    delete: tuple[Thing, ...]


def plan(replicas: int, pods: Sequence[Thing]) -> Plan:
    """Pods to make, or pods to delete: those not assigned, then not running, not ready, and the youngest first."""
    active = [pod for pod in pods if pod_active(pod)]
    surplus = len(active) - replicas
    if surplus <= 0:
        return Plan(-surplus, ())
    youngest = sorted(active, key=lambda pod: pod.metadata.creation_timestamp or "", reverse=True)
    return Plan(0, tuple(sorted(youngest, key=_worth)[:surplus]))


def _worth(pod: Thing) -> tuple[bool, bool, bool]:
    return bool(pod.spec.get("nodeName")), pod.status.get("phase") == "Running", pod_ready(pod)


def pod_from(template: Json, owner: Json, prefix: str) -> Json:
    """A pod of a template."""
    metadata = template.get("metadata") or {}
    kept = {key: metadata[key] for key in ("labels", "annotations", "finalizers") if metadata.get(key)}
    return {
        "metadata": {**kept, "generateName": f"{prefix}-", "ownerReferences": [owner]},
        "spec": template.get("spec") or {},
    }


def status_of(owner: Thing, pods: Iterable[Thing], now: float) -> Json:
    """``status`` of a ReplicaSet."""
    active = [pod for pod in pods if pod_active(pod)]
    seconds = int(owner.spec.get("minReadySeconds") or 0)
    return {
        "replicas": len(active),
        "fullyLabeledReplicas": len(active) or None,
        "readyReplicas": sum(map(pod_ready, active)) or None,
        "availableReplicas": sum(available(pod, seconds, now) <= 0 for pod in active) or None,
        "observedGeneration": owner.metadata.generation,
    }


class ReplicaSets:
    """The controller. ``pods`` has the index BY_OWNER."""

    def __init__(
        self, access: Access, sets: Cache[Thing], pods: Cache[Thing], *, clock: Clock, rng: random.Random
    ) -> None:
        self._access = access
        self._sets = sets
        self._pods = pods
        self._clock = clock
        self.queue = WorkQueue("replicasets", self._reconcile, rng=rng)
        sets.listen(self._set_changed)
        pods.listen(self._pod_changed)

    def _set_changed(self, change: Change[Thing]) -> None:
        if change.new is not None:
            self.queue.add(change.new.key)

    def _pod_changed(self, change: Change[Thing]) -> None:
        for pod in (change.old, change.new):
            owner = next((found for found in pod.metadata.owner_references if found.controller), None) if pod else None
            if pod and owner and owner.kind == REPLICA_SETS.kind:
                self.queue.add(f"{pod.namespace}/{owner.name}")
            elif pod and not owner:
                self._offer(pod)

    def _offer(self, pod: Thing) -> None:
        """An orphan may belong to a ReplicaSet that was made for it."""
        for found in self._sets.store.values():
            if found.namespace == pod.namespace and selects(found.spec.get("selector"), pod.metadata.labels):
                self.queue.add(found.key)

    async def _reconcile(self, key: str) -> None:
        owner = self._sets.store.get(key)
        if owner is None or owner.ending:
            return
        await self._adopt(owner)
        pods = self._pods.store.by_index(BY_OWNER, owner.uid)
        wanted = plan(int(owner.spec.get("replicas") or 0), pods)
        await self._create(owner, min(wanted.create, _BURST))
        for pod in wanted.delete[:_BURST]:
            await self._access.delete(PODS, pod)
            await self._pods.until(partial(_going, pod))
        if wanted.create > _BURST or len(wanted.delete) > _BURST:
            self.queue.add(key)
        await self._write_status(owner)

    async def _adopt(self, owner: Thing) -> None:
        selector = owner.spec.get("selector")
        for pod in self._pods.store.values():
            if pod.namespace != owner.namespace or controller_of(pod) or not pod_active(pod):
                continue
            if selects(selector, pod.metadata.labels):
                references = {"metadata": {"ownerReferences": [owner_reference(REPLICA_SETS, owner)]}}
                await self._access.patch(PODS, pod, references)
                await self._pods.until(partial(_adopted, pod))

    async def _create(self, owner: Thing, count: int) -> None:
        template = owner.spec.get("template") or {}
        body = pod_from(template, owner_reference(REPLICA_SETS, owner), owner.name)
        made = [(await self._access.create(PODS, owner.namespace, body)).key for _ in range(count)]
        await self._pods.until(lambda store: all(store.get(key) for key in made))

    async def _write_status(self, owner: Thing) -> None:
        pods = self._pods.store.by_index(BY_OWNER, owner.uid)
        now = self._clock.wall()
        try:
            await self._access.status(REPLICA_SETS, owner, status_of(owner, pods, now))
        except NotFound:
            return
        waits = [available(pod, int(owner.spec.get("minReadySeconds") or 0), now) for pod in pods if pod_ready(pod)]
        if soon := [wait for wait in waits if wait > 0]:
            self.queue.add_later(owner.key, min(soon))


def _going(pod: Thing, store: Store[Thing]) -> bool:
    """Whether the cache knows that a pod is being deleted, or gone."""
    now = store.get(pod.key)
    return now is None or now.uid != pod.uid or now.ending


def _adopted(pod: Thing, store: Store[Thing]) -> bool:
    now = store.get(pod.key)
    return now is None or bool(controller_of(now))
