"""DaemonSets: one pod on each node that may run it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from podidentity.aio.clock import Clock
from podidentity.kube.errors import NotFound
from podidentity.kube.store import Change
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.daemonplan import pinned, plan, status_of
from podidentity.lab.controllers.queue import WorkQueue
from podidentity.lab.controllers.replicas import BY_OWNER, pod_from
from podidentity.lab.controllers.things import (
    DAEMON_SETS,
    PODS,
    REVISION_LABEL,
    Json,
    Thing,
    owner_reference,
    pod_ready,
    template_hash,
)
from podidentity.lab.controllers.when import available


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
