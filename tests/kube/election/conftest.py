"""An API in memory and candidates for leadership, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from podidentity.aio.clock import Clock, loop_clock
from podidentity.aio.fence import Fence
from podidentity.api.core import Endpoints, Lease
from podidentity.api.meta import KubeObject, ObjectMeta
from podidentity.api.resources import ENDPOINTS, Resource
from podidentity.kube.errors import AlreadyExists, Conflict, Forbidden, KubeUnavailable, NotFound
from podidentity.kube.leadership import ElectionSettings, Leadership
from podidentity.kube.records import ANNOTATION, Record, read_lease, write_endpoints

START = 1_770_000_000.25


class MemoryApi:
    """Objects with resource versions; can hang, fail or forbid."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], KubeObject] = {}
        self.version = 0
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.forbidden: set[str] = set()
        self.lose_answer = 0
        self.answer_after = 0.0
        self.writes: list[tuple[str, str]] = []

    def client(self, name: str) -> Any:
        """A client of its own for one candidate."""
        return MemoryClient(self, name)

    def put(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        """Store an object with a new version."""
        self.version += 1
        meta = msgspec.structs.replace(obj.metadata, resource_version=str(self.version))
        stored = msgspec.structs.replace(obj, metadata=meta)
        self.objects[resource.plural, obj.key] = stored
        return stored

    def original(self, renewed: str, holder: str = "old-mic", duration: int = 15) -> None:
        """Write the record as the original does."""
        fresh = Endpoints(metadata=ObjectMeta(name="mic", namespace="default"))
        old = self.objects.get(("endpoints", "default/mic"), fresh)
        assert isinstance(old, Endpoints)
        self.put(ENDPOINTS, write_endpoints(old, Record(holder, duration, "2026-01-01T00:00:00Z", renewed, 3)))

    def record(self) -> dict[str, Any]:
        """The Endpoints record as JSON."""
        annotations = self.objects["endpoints", "default/mic"].metadata.annotations
        found: dict[str, Any] = json.loads(annotations[ANNOTATION])
        return found

    def lease(self) -> Record:
        """The Lease's record."""
        obj = self.objects["leases", "default/mic"]
        assert isinstance(obj, Lease)
        record = read_lease(obj)
        assert record is not None
        return record


class MemoryClient:
    """The part of KubeClient that leadership uses."""

    def __init__(self, api: MemoryApi, name: str) -> None:
        self.api = api
        self.name = name

    async def _gate(self, resource: Resource[Any]) -> None:
        await asyncio.sleep(0.01)
        while self.name in self.api.hanging:  # noqa: ASYNC110 - the test ends it by cancelling or clearing
            await asyncio.sleep(1000)
        if self.name in self.api.failing:
            raise KubeUnavailable("connection refused")
        if resource.plural in self.api.forbidden:
            raise Forbidden(403, "Forbidden", f"{resource.plural} is forbidden")

    async def get(self, resource: Resource[Any], name: str, namespace: str = "") -> KubeObject:
        """Read."""
        await self._gate(resource)
        try:
            return self.api.objects[resource.plural, f"{namespace}/{name}"]
        except KeyError:
            raise NotFound(404, "NotFound", "not found") from None

    async def create(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        """Create."""
        await self._gate(resource)
        if (resource.plural, obj.key) in self.api.objects:
            raise AlreadyExists(409, "AlreadyExists", "exists")
        stored = self._store(resource, obj)
        await asyncio.sleep(self.api.answer_after)
        return stored

    async def replace(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        """Replace."""
        await self._gate(resource)
        old = self.api.objects.get((resource.plural, obj.key))
        if old is None:
            raise NotFound(404, "NotFound", "not found")
        if old.metadata.resource_version != obj.metadata.resource_version:
            raise Conflict(409, "Conflict", "modified")
        stored = self._store(resource, obj)
        if self.api.lose_answer:
            self.api.lose_answer -= 1
            raise KubeUnavailable("reset")
        await asyncio.sleep(self.api.answer_after)
        return stored

    def _store(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        self.api.writes.append((self.name, resource.plural))
        return self.api.put(resource, obj)


class Candidate:
    """One process that contends; ``spans`` is when it led, in seconds of virtual time."""

    def __init__(self, api: MemoryApi, name: str, *, lock: str = "endpointsleases", duration: float = 15) -> None:
        self.clock: Clock = loop_clock(START)
        self.settings = ElectionSettings(name, "default", "mic", duration, lock)
        self.transitions: list[bool] = []
        self.fence = Fence(self.clock)
        self.leadership = Leadership(
            api.client(name),
            self.settings,
            fence=self.fence,
            clock=self.clock,
            rng=random.Random(name),
            on_transition=self.transitions.append,
        )
        self.spans: list[list[float]] = []
        self.started = asyncio.Event()
        self.last_write = -1.0
        self.task: asyncio.Task[None] | None = None

    async def lead(self) -> None:
        """Write each 0.1 s while allowed."""
        self.spans.append([self.clock.monotonic()])
        self.started.set()
        try:
            while True:
                if self.fence.is_open:
                    self.last_write = self.clock.monotonic()
                await asyncio.sleep(0.1)
        finally:
            self.spans[-1].append(self.clock.monotonic())
            self.started.clear()

    def start(self, lead: Callable[[], Awaitable[None]] | None = None) -> Candidate:
        """Contend in the background."""
        self.task = asyncio.get_running_loop().create_task(self.leadership.run(lead or self.lead))
        return self

    async def stop(self) -> None:
        """Cancel, as SIGTERM does."""
        assert self.task is not None
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


MakeCandidate = Callable[..., Candidate]


@pytest.fixture
def api() -> MemoryApi:
    """An empty API."""
    return MemoryApi()


@pytest.fixture
def candidate(api: MemoryApi) -> MakeCandidate:
    """Make candidates: ``candidate(name, lock=..., duration=...)``."""

    def make(name: str, **options: Any) -> Candidate:
        return Candidate(api, name, **options)

    return make
