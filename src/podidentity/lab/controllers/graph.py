"""Every object's metadata, of every kind the API serves: what owns what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from podidentity.api.meta import KubeObject
from podidentity.api.resources import Resource
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError
from podidentity.kube.store import Change
from podidentity.lab.controllers.cache import Cache
from podidentity.telemetry.logging import get_logger

BY_OWNER, BY_NAMESPACE, BY_UID = "owner", "namespace", "uid"
_NEEDED = frozenset(["list", "watch", "delete"])
_PAUSE = 1.0
CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", KubeObject, namespaced=False
)


class _Entry(msgspec.Struct, rename="camel"):
    name: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]


class _Resources(msgspec.Struct, rename="camel"):
    group_version: str
    resources: tuple[_Entry, ...]


class _Version(msgspec.Struct, rename="camel"):
    group_version: str


class _Group(msgspec.Struct, rename="camel"):
    preferred_version: _Version


class _Groups(msgspec.Struct):
    groups: tuple[_Group, ...]


Listener = Callable[[Resource[KubeObject], Change[KubeObject]], None]


async def discover(client: KubeClient) -> list[Resource[KubeObject]]:
    """Every kind that can be listed, watched and deleted, in its preferred version. Raises KubeError."""
    groups = msgspec.json.decode(await client.raw("GET", "/apis"), type=_Groups).groups
    paths = ["/api/v1", *(f"/apis/{group.preferred_version.group_version}" for group in groups)]
    found: list[Resource[KubeObject]] = []
    for path in paths:
        listed = msgspec.json.decode(await client.raw("GET", path), type=_Resources)
        group, _, version = listed.group_version.rpartition("/")
        found += [
            Resource(group, version, entry.name, entry.kind, KubeObject, entry.namespaced)
            for entry in listed.resources
            if set(entry.verbs) >= _NEEDED and "/" not in entry.name and entry.kind != "Event"
        ]
    return found


class Graph:
    """Watches all kinds; those of CustomResourceDefinitions come and go. Listeners hear of every change."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._caches: dict[tuple[str, str], Cache[KubeObject]] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._listeners: list[Listener] = []
        self._kinds_listeners: list[Callable[[], None]] = []
        self._stale = asyncio.Event()
        self._log = get_logger(controller="graph")
        self.ready = asyncio.Event()

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with the resource and the change."""
        self._listeners.append(listener)

    def listen_kinds(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever the kinds that are watched may be others than before."""
        self._kinds_listeners.append(listener)

    async def run(self) -> None:
        """Watch until cancelled; discovery is repeated whenever a CustomResourceDefinition changes."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._stale.clear()
                try:
                    await self._update(group)
                except KubeError as error:
                    self._log.v(1).info("discovery failed, will try again", error=str(error))
                    await asyncio.sleep(_PAUSE)
                    continue
                for cache in tuple(self._caches.values()):
                    await self._until_synced(cache)
                self.ready.set()
                for listener in self._kinds_listeners:
                    listener()
                await self._stale.wait()
                await asyncio.sleep(0.1)

    async def _until_synced(self, cache: Cache[KubeObject]) -> None:
        """Wait for a cache, but not for one whose kind has just gone."""
        try:
            async with asyncio.timeout(10):
                await cache.synced()
        except TimeoutError:
            self._stale.set()

    async def _update(self, group: asyncio.TaskGroup) -> None:
        wanted = {(found.group, found.kind): found for found in await discover(self._client)}
        for key in [key for key in self._caches if key not in wanted]:
            self._tasks.pop(key).cancel()
            del self._caches[key]
        for key, resource in wanted.items():
            if key not in self._caches:
                cache = self._caches[key] = Cache(self._client, resource, _INDEXES)
                cache.listen(partial(self._changed, resource))
                self._tasks[key] = group.create_task(cache.run())

    def _changed(self, resource: Resource[KubeObject], change: Change[KubeObject]) -> None:
        if resource.kind == CRDS.kind:
            self._stale.set()
        for listener in self._listeners:
            listener(resource, change)

    def resource(self, api_version: str, kind: str) -> Resource[KubeObject] | None:
        """The resource of a kind, in whatever version."""
        cache = self._caches.get((api_version.rpartition("/")[0], kind))
        return cache.resource if cache else None

    def find(self, uid: str) -> tuple[Resource[KubeObject], KubeObject] | None:
        """The object with this uid."""
        for cache in self._caches.values():
            for obj in cache.store.by_index(BY_UID, uid):
                return cache.resource, obj
        return None

    def dependents(self, uid: str) -> Iterator[tuple[Resource[KubeObject], KubeObject]]:
        """Everything that names this uid as an owner."""
        for cache in tuple(self._caches.values()):
            for obj in cache.store.by_index(BY_OWNER, uid):
                yield cache.resource, obj

    def within(self, namespace: str) -> Iterator[tuple[Resource[KubeObject], KubeObject]]:
        """Everything in a namespace."""
        for cache in tuple(self._caches.values()):
            for obj in cache.store.by_index(BY_NAMESPACE, namespace):
                yield cache.resource, obj

    def namespaced(self) -> tuple[Resource[KubeObject], ...]:
        """Every namespaced kind."""
        return tuple(cache.resource for cache in self._caches.values() if cache.resource.namespaced)


def _owners(obj: KubeObject) -> list[str]:
    return [owner.uid for owner in obj.metadata.owner_references]


def _namespace(obj: KubeObject) -> list[str]:
    return [obj.namespace] if obj.namespace else []


def _uid(obj: KubeObject) -> list[str]:
    return [obj.metadata.uid]


_INDEXES = {BY_OWNER: _owners, BY_NAMESPACE: _namespace, BY_UID: _uid}
