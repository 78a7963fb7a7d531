"""The whole controller on a virtual clock: what is in memory instead of the API and of ARM, and what happens to it."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import looptime
import msgspec

from podidentity.aio.clock import loop_clock
from podidentity.aio.fence import Fence
from podidentity.api.core import Node
from podidentity.api.identity import AzureAssignedIdentity
from podidentity.api.meta import ObjectReference
from podidentity.azure.arm import HostIdentities, IdentityPatch, UserAssigned
from podidentity.kube.errors import NotFound
from podidentity.kube.store import Change
from podidentity.lab.kube.objects import rfc3339
from podidentity.mic.assign import AssignSettings, Shared
from podidentity.mic.budget import Budget
from podidentity.mic.controller import Controller
from podidentity.mic.match import Matched
from podidentity.mic.ports import Outlets
from podidentity.mic.world import World
from podidentity.mic.writer import RecordWriter
from podidentity.rules.resource_id import HostId
from podidentity.telemetry.logging import configure_logging

T = TypeVar("T")
EPOCH = 1_800_000_000.0
API_SECONDS = 0.01
READ_SECONDS = 0.1
PATCH_SECONDS = 10.0
"""What the API, ARM's reads and ARM's changes of a machine take, in virtual seconds."""


class MemoryKube:
    """AzureAssignedIdentity objects; ``tell`` hears of each change, as from a watch. ``wall``: its clock."""

    def __init__(self) -> None:
        self.objects: dict[str, AzureAssignedIdentity] = {}
        self.tell: Callable[[Change[AzureAssignedIdentity]], None] = lambda _change: None
        self.wall: Callable[[], float] = lambda: EPOCH
        self.writes = 0

    async def get(self, resource: Any, name: str, namespace: str = "") -> Any:
        """Read one object."""
        await asyncio.sleep(API_SECONDS)
        return self._found(namespace, name)

    async def create(self, resource: Any, obj: Any) -> Any:
        """Create an object."""
        await asyncio.sleep(API_SECONDS)
        return self._put(obj, uid=f"uid-{self.writes}")

    async def replace(self, resource: Any, obj: Any) -> Any:
        """Replace an object."""
        await asyncio.sleep(API_SECONDS)
        return self._put(obj)

    async def patch_json(self, resource: Any, name: str, namespace: str, ops: Sequence[Mapping[str, object]]) -> Any:
        """Set the status: nothing else is asked for here."""
        await asyncio.sleep(API_SECONDS)
        (op,) = ops
        obj = self._found(namespace, name)
        status = msgspec.structs.replace(obj.status, status=str(op["value"]))
        return self._put(msgspec.structs.replace(obj, status=status))

    async def patch_merge(self, resource: Any, name: str, namespace: str, patch: Mapping[str, Any]) -> Any:
        """Drop the finalizers: the object is gone."""
        await asyncio.sleep(API_SECONDS)
        obj = self._found(namespace, name)
        return self._put(obj, finalizers=tuple(patch["metadata"]["finalizers"]))

    async def delete(self, resource: Any, name: str, namespace: str = "", *, uid: str = "") -> Any:
        """Mark an object as deleted."""
        await asyncio.sleep(API_SECONDS)
        return self._put(self._found(namespace, name), deletion_timestamp=rfc3339(self.wall()))

    def _found(self, namespace: str, name: str) -> AzureAssignedIdentity:
        obj = self.objects.get(f"{namespace}/{name}")
        if obj is None:
            raise NotFound(404, "NotFound", name)
        return obj

    def _put(self, obj: AzureAssignedIdentity, **meta: Any) -> AzureAssignedIdentity:
        self.writes += 1
        new = msgspec.structs.replace(
            obj, metadata=msgspec.structs.replace(obj.metadata, resource_version=str(self.writes), **meta)
        )
        gone = new.metadata.deletion_timestamp is not None and not new.metadata.finalizers
        if gone:
            del self.objects[new.key]
        else:
            self.objects[new.key] = new
        change = Change(new, None) if gone else Change(None, new)
        asyncio.get_running_loop().call_soon(self.tell, change)
        return new


class MemoryArm:
    """Machines and what is attached to them; ``client_ids``: folded resource id -> client id."""

    def __init__(self, client_ids: Mapping[str, str]) -> None:
        self.attached: dict[str, frozenset[str]] = {}
        self.client_ids = client_ids
        self.gets = self.patches = 0

    async def get(self, host: HostId) -> HostIdentities:
        """Read a machine."""
        self.gets += 1
        await asyncio.sleep(READ_SECONDS)
        found = {
            key: UserAssigned(resource_id=key, client_id=self.client_ids[key], principal_id="p")
            for key in self.attached.get(host.key, ())
        }
        return HostIdentities(
            type="UserAssigned" if found else "",
            user_assigned=found,
            provisioning_state="Succeeded",
            location="westeurope",
            system_principal_id="",
        )

    async def patch(self, host: HostId, patch: IdentityPatch) -> None:
        """Change a machine."""
        self.patches += 1
        await asyncio.sleep(PATCH_SECONDS)
        self.attached[host.key] = (self.attached.get(host.key, frozenset()) | patch.add) - patch.remove


class Silent:
    """Events and metrics, counted only."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def event(self, ref: ObjectReference, type_: str, reason: str, message: str) -> None:
        """Count an Event."""
        self.counts[reason] += 1

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Count an observation."""
        self.counts[name] += 1

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count."""
        self.counts[name] += int(amount)


class Simulation:
    """The controller between the two; make it inside a running loop."""

    def __init__(self, kube: MemoryKube, arm: MemoryArm, settings: AssignSettings) -> None:
        clock = loop_clock(EPOCH)
        self.kube, self.arm, told = kube, arm, Silent()
        fence = Fence(clock)
        fence.open_until(math.inf)
        self.world = World()
        outlets = Outlets(self.kube, self.arm, told, told, fence)
        writer = RecordWriter(self.world, outlets, clock)
        shared = Shared(self.world, outlets, settings, clock, random.Random(7), Budget.of(clock), writer)
        self.controller = Controller(shared)
        self.kube.tell, self.kube.wall = self.controller.assigned, clock.wall

    def put(self, old: Matched | Node | None, new: Matched | Node | None) -> None:
        """An object was added, changed or deleted."""
        if isinstance(new or old, Node):
            self.controller.node(Change(old, new))  # type: ignore[arg-type]
        else:
            self.controller.matched(Change(old, new))  # type: ignore[arg-type]

    def recall(self) -> None:
        """Take in every record there is, as the first list does."""
        for obj in tuple(self.kube.objects.values()):
            self.controller.assigned(Change(None, obj))

    async def settled(self, shelves: Sequence[str] = ()) -> None:
        """Wait until nothing is left to do on these shelves, on all by default."""
        world = self.world.shelves
        while any(world[key].open for key in shelves or world if key in world):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1 if shelves else 1.0)


@contextmanager
def unlogged() -> Iterator[None]:
    """What the controller would log meanwhile goes nowhere."""
    with Path(os.devnull).open("w") as nowhere:
        configure_logging(log_format="text", verbosity=0, stream=nowhere)
        try:
            yield
        finally:
            configure_logging(log_format="text", verbosity=0)


def simulate(work: Coroutine[Any, Any, T]) -> T:
    """Run on a loop whose time passes when there is nothing to do."""
    loop = looptime.new_event_loop(noop_cycles=2)
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
