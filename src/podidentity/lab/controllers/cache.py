"""A collection of the API, kept up to date, and told on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from podidentity.api.meta import KubeObject
from podidentity.api.resources import Resource
from podidentity.kube.client import KubeClient
from podidentity.kube.reflector import Reflector
from podidentity.kube.store import Change, Store

T = TypeVar("T", bound=KubeObject)
Index = Callable[[T], Iterable[str]]


class Cache(Generic[T]):
    """Objects of one resource by key and index; listeners hear of each change after the store has it."""

    def __init__(
        self, client: KubeClient, resource: Resource[T], indexes: Mapping[str, Index[T]] | None = None
    ) -> None:
        self.resource = resource
        self.store: Store[T] = Store(indexes or {})
        self._reflector = Reflector(client, resource, self.store, on_change=self._changed)
        self._listeners: list[Callable[[Change[T]], None]] = []
        self._tick = asyncio.Event()

    def listen(self, listener: Callable[[Change[T]], None]) -> None:
        """Call ``listener`` with every change from now on; it must not block."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """List and watch until cancelled."""
        await self._reflector.run()

    async def synced(self) -> None:
        """Wait for the first complete list."""
        await self._reflector.synced.wait()

    async def until(self, done: Callable[[Store[T]], bool], seconds: float = 5.0) -> None:
        """Wait until the cache shows what was just written; after ``seconds`` go on without."""
        try:
            async with asyncio.timeout(seconds):
                while not done(self.store):
                    await self._tick.wait()
        except TimeoutError:
            return

    def _changed(self, change: Change[T]) -> None:
        self._tick.set()
        self._tick = asyncio.Event()
        for listener in self._listeners:
            listener(change)
