"""Namespaces: what each has from the start, and emptying those that are deleted."""

from __future__ import annotations

import random
from typing import Final

from podidentity.api.meta import KubeObject
from podidentity.api.resources import Resource
from podidentity.kube.errors import AlreadyExists, ApiError, NotFound
from podidentity.kube.store import Change
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.graph import Graph
from podidentity.lab.controllers.queue import WorkQueue
from podidentity.lab.controllers.things import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS, Json, Thing

ACCOUNT: Final = "default"
ROOT_CA: Final = "kube-root-ca.crt"
_KUBERNETES: Final = "kubernetes"


class Namespaces:
    """``ca`` is the text of the cluster's CA certificate, published in every namespace."""

    def __init__(self, access: Access, namespaces: Cache[Thing], graph: Graph, *, ca: str, rng: random.Random) -> None:
        self._access = access
        self._namespaces = namespaces
        self._graph = graph
        self._ca = ca
        self.queue = WorkQueue("namespaces", self._reconcile, rng=rng)
        namespaces.listen(lambda change: self.queue.add(change.new.name) if change.new else None)
        graph.listen(self._changed)

    def _changed(self, resource: Resource[KubeObject], change: Change[KubeObject]) -> None:
        """A removed object may be the last of its namespace, or one that has to be there."""
        if change.new is None and change.old is not None and resource.namespaced:
            self.queue.add(change.old.namespace)

    async def _reconcile(self, name: str) -> None:
        namespace = self._namespaces.store.get(name)
        if namespace is None:
            return
        if namespace.ending:
            await self._graph.ready.wait()
            await self._empty(namespace)
        else:
            await self._furnish(name)

    async def _furnish(self, namespace: str) -> None:
        await self._ensure(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": ACCOUNT}})
        metadata = {
            "name": ROOT_CA,
            "annotations": {"kubernetes.io/description": "The certificate authority of the API."},
        }
        await self._ensure(CONFIG_MAPS, namespace, {"metadata": metadata, "data": {"ca.crt": self._ca}})

    async def _ensure(self, resource: Resource[Thing], namespace: str, obj: Json) -> None:
        try:
            await self._access.create(resource, namespace, obj)
        except AlreadyExists:
            return
        except NotFound:
            return  # the namespace went meanwhile
        except ApiError as error:
            if "being terminated" not in str(error):
                raise

    async def _empty(self, namespace: Thing) -> None:
        """Delete everything inside; when nothing is left, let the namespace go."""
        if _KUBERNETES not in (namespace.spec.get("finalizers") or ()):
            return
        left = 0
        for resource in self._graph.namespaced():
            left += await self._clear(resource, namespace.name)
        if left:
            return
        path = NAMESPACES.path("", namespace.name)
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace.name, "uid": namespace.uid},
            "spec": {"finalizers": [item for item in namespace.spec["finalizers"] if item != _KUBERNETES]},
        }
        try:
            await self._access.client.raw("PUT", f"{path}/finalize", body=body)
        except NotFound:
            return

    async def _clear(self, resource: Resource[KubeObject], namespace: str) -> int:
        """How many objects of one kind are left after deleting those not being deleted yet."""
        found = (await self._access.client.list(resource, namespace=namespace)).items
        for obj in found:
            if obj.metadata.deletion_timestamp is None:
                try:
                    await self._access.client.delete(resource, obj.name, namespace, uid=obj.metadata.uid)
                except NotFound:
                    continue
        return len((await self._access.client.list(resource, namespace=namespace)).items) if found else 0
