"""Garbage collection: what has lost its owners goes; orphans and foreground deletions are seen through."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from podidentity.api.meta import KubeObject, OwnerReference
from podidentity.api.resources import Resource
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import Conflict, NotFound
from podidentity.kube.store import Change
from podidentity.lab.controllers.graph import Graph
from podidentity.lab.controllers.queue import WorkQueue

ORPHAN: Final = "orphan"
FOREGROUND: Final = "foregroundDeletion"
_MERGE: Final = "application/merge-patch+json"


class Collector:
    """Keys are uids: of objects whose owners are in doubt, and of owners that are being deleted."""

    def __init__(self, client: KubeClient, graph: Graph, *, rng: random.Random) -> None:
        self._client = client
        self._graph = graph
        self.queue = WorkQueue("collector", self._collect, rng=rng, workers=4)
        self._unresolved: set[str] = set()
        graph.listen(self._changed)
        graph.listen_kinds(self._kinds_changed)

    def _changed(self, _resource: Resource[KubeObject], change: Change[KubeObject]) -> None:
        if change.new is None:
            assert change.old is not None
            for _, dependent in self._graph.dependents(change.old.metadata.uid):
                self.queue.add(dependent.metadata.uid)
            for owner in change.old.metadata.owner_references:
                self.queue.add(owner.uid)
            return
        if change.new.metadata.owner_references or change.new.metadata.deletion_timestamp:
            self.queue.add(change.new.metadata.uid)

    def _kinds_changed(self) -> None:
        """Owners of kinds that were unknown may be known now."""
        unresolved, self._unresolved = self._unresolved, set()
        for uid in unresolved:
            self.queue.add(uid)

    async def _collect(self, uid: str) -> None:
        await self._graph.ready.wait()
        found = self._graph.find(uid)
        if found is None:
            return
        resource, obj = found
        if obj.metadata.deletion_timestamp:
            await self._see_through(resource, obj)
        elif obj.metadata.owner_references:
            await self._check_owners(resource, obj)

    async def _check_owners(self, resource: Resource[KubeObject], obj: KubeObject) -> None:
        owners = obj.metadata.owner_references
        if any(self._resource(owner) is None for owner in owners):
            self._unresolved.add(obj.metadata.uid)
        alive = [owner for owner in owners if await self._lives(owner, obj.namespace)]
        if alive and len(alive) == len(owners):
            return
        if alive:
            await self._keep_owners(resource, obj, {owner.uid for owner in alive})
        else:
            await self._delete(resource, obj)

    async def _lives(self, owner: OwnerReference, namespace: str) -> bool:
        """Whether an owner exists; when the caches do not know it, the API is asked. Of unknown kinds: yes."""
        if self._graph.find(owner.uid) is not None:
            return True
        resource = self._resource(owner)
        if resource is None:
            return True
        try:
            found = await self._client.get(resource, owner.name, namespace if resource.namespaced else "")
        except NotFound:
            return False
        return found.metadata.uid == owner.uid

    def _resource(self, owner: OwnerReference) -> Resource[KubeObject] | None:
        return self._graph.resource(owner.api_version, owner.kind)

    async def _see_through(self, resource: Resource[KubeObject], obj: KubeObject) -> None:
        if ORPHAN in obj.metadata.finalizers:
            for of, dependent in list(self._graph.dependents(obj.metadata.uid)):
                kept = {owner.uid for owner in dependent.metadata.owner_references} - {obj.metadata.uid}
                await self._keep_owners(of, dependent, kept)
            await self._drop_finalizer(resource, obj, ORPHAN)
        elif FOREGROUND in obj.metadata.finalizers:
            dependents = list(self._graph.dependents(obj.metadata.uid))
            for of, dependent in dependents:
                if not dependent.metadata.deletion_timestamp:
                    await self._delete(of, dependent, foreground=True)
            if not dependents:
                await self._drop_finalizer(resource, obj, FOREGROUND)

    async def _delete(self, resource: Resource[KubeObject], obj: KubeObject, *, foreground: bool = False) -> None:
        options: Mapping[str, object] = {
            "propagationPolicy": "Foreground" if foreground else "Background",
            "preconditions": {"uid": obj.metadata.uid},
        }
        try:
            await self._client.raw("DELETE", resource.path(obj.namespace, obj.name), body=options)
        except (NotFound, Conflict):
            return

    async def _keep_owners(self, resource: Resource[KubeObject], obj: KubeObject, uids: set[str]) -> None:
        path = resource.path(obj.namespace, obj.name)
        live = await self._live(path, obj)
        if live is None:
            return
        references = [found for found in live["metadata"].get("ownerReferences") or () if found["uid"] in uids]
        await self._patch(path, live, {"ownerReferences": references or None})

    async def _drop_finalizer(self, resource: Resource[KubeObject], obj: KubeObject, finalizer: str) -> None:
        path = resource.path(obj.namespace, obj.name)
        live = await self._live(path, obj)
        if live is not None:
            kept = [found for found in live["metadata"].get("finalizers") or () if found != finalizer]
            await self._patch(path, live, {"finalizers": kept or None})

    async def _live(self, path: str, obj: KubeObject) -> dict[str, Any] | None:
        """The object as the API has it, None when it is another one or gone."""
        try:
            found: dict[str, Any] = msgspec.json.decode(await self._client.raw("GET", path))
        except NotFound:
            return None
        return found if found["metadata"]["uid"] == obj.metadata.uid else None

    async def _patch(self, path: str, live: Mapping[str, Any], metadata: Mapping[str, object]) -> None:
        body = {"metadata": {**metadata, "resourceVersion": live["metadata"]["resourceVersion"]}}
        try:
            await self._client.raw("PATCH", path, body=body, content_type=_MERGE)
        except NotFound:
            return
