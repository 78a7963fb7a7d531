"""Pods of nodes that are gone: nobody is left to end them."""

from __future__ import annotations

import random

from podidentity.kube.store import Change
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.queue import WorkQueue
from podidentity.lab.controllers.things import PODS, Thing


class OrphanedPods:
    """Deletes, without grace, the pods whose node no longer exists."""

    def __init__(self, access: Access, pods: Cache[Thing], nodes: Cache[Thing], *, rng: random.Random) -> None:
        self._access = access
        self._pods = pods
        self._nodes = nodes
        self.queue = WorkQueue("orphaned-pods", self._reconcile, rng=rng, workers=1)
        nodes.listen(self._node_changed)
        pods.listen(self._pod_changed)

    def _node_changed(self, change: Change[Thing]) -> None:
        if change.new is None and change.old is not None:
            for pod in self._pods.store.values():
                if pod.spec.get("nodeName") == change.old.name:
                    self.queue.add(pod.key)

    def _pod_changed(self, change: Change[Thing]) -> None:
        node = str(change.new.spec.get("nodeName") or "") if change.new else ""
        if change.new is not None and node and self._nodes.store.get(node) is None:
            self.queue.add(change.new.key)

    async def _reconcile(self, key: str) -> None:
        await self._nodes.synced()
        pod = self._pods.store.get(key)
        node = str(pod.spec.get("nodeName") or "") if pod else ""
        if pod is None or not node or self._nodes.store.get(node) is not None:
            return
        if not await self._exists(node):
            await self._access.delete(PODS, pod, grace=0)

    async def _exists(self, node: str) -> bool:
        """Ask the API: the cache of nodes may be behind that of pods."""
        found = await self._access.client.list(self._nodes.resource, field_selector=f"metadata.name={node}")
        return bool(found.items)
