"""A small cluster and a small Azure in memory, on virtual time, with the controller between them."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from podidentity.aio.clock import loop_clock
from podidentity.aio.fence import Fence
from podidentity.api.constants import FINALIZER, POD_LABEL
from podidentity.api.core import Node, NodeSpec, Pod, PodSpec, PodStatus
from podidentity.api.identity import (
    AzureAssignedIdentity,
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentityBindingSpec,
    AzureIdentitySpec,
)
from podidentity.api.meta import ObjectMeta, ObjectReference
from podidentity.azure.arm import HostIdentities, IdentityPatch, UserAssigned
from podidentity.azure.errors import HostNotFound
from podidentity.kube.errors import AlreadyExists, Conflict, NotFound
from podidentity.kube.store import Change
from podidentity.mic.assign import AssignSettings, Shared
from podidentity.mic.budget import Budget
from podidentity.mic.controller import Controller
from podidentity.mic.ports import Outlets
from podidentity.mic.world import World
from podidentity.mic.writer import RecordWriter
from podidentity.rules.resource_id import HostId, fold, parse_identity_id

START = 1_700_000_000.0


def arm_id(name: str) -> str:
    """The ARM id of the identity ``name``."""
    return f"/subscriptions/sub/resourceGroups/Ids/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"


class FakeKube:
    """AzureAssignedIdentity objects with versions, uids, finalizers and conflicts; the watch tells after 5 ms."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.objects: dict[str, AzureAssignedIdentity] = {}
        self.calls: Counter[str] = Counter()
        self.listeners: list[Callable[[Change[AzureAssignedIdentity]], None]] = []
        self.failures: list[tuple[str, Exception]] = []
        self.watching = True
        self.latency, self.answers_after = 0.01, 0.0
        self._version = 0
        self._wall = wall

    async def get(self, resource: Any, name: str, namespace: str = "") -> Any:
        """Read one object."""
        await self._call("get")
        return self._found(namespace, name)

    async def create(self, resource: Any, obj: Any) -> Any:
        """Create one object."""
        await self._call("create")
        if obj.key in self.objects:
            raise AlreadyExists(409, "AlreadyExists", f"{obj.key} exists")
        self._version += 1
        created = datetime.fromtimestamp(self._wall(), UTC).isoformat()
        meta = msgspec.structs.replace(obj.metadata, uid=f"uid-{self._version}", creation_timestamp=created)
        return await self._put(msgspec.structs.replace(obj, metadata=meta))

    async def replace(self, resource: Any, obj: Any) -> Any:
        """Replace one object."""
        await self._call("replace")
        self._check(self._found(obj.namespace, obj.name), obj.metadata.resource_version)
        return await self._put(obj)

    async def patch_json(self, resource: Any, name: str, namespace: str, ops: Sequence[Mapping[str, object]]) -> Any:
        """Apply the few operations mic sends."""
        await self._call("patch")
        body = msgspec.json.decode(msgspec.json.encode(self._found(namespace, name)))
        for op in ops:
            *parents, last = [part.replace("~1", "/") for part in str(op["path"])[1:].split("/")]
            target = body
            for part in parents:
                target = target[part]
            if op["op"] in {"replace", "remove"} and last not in target:
                raise Conflict(422, "Invalid", f"{op['path']} is not there")
            if op["op"] == "remove":
                del target[last]
            else:
                target[last] = op["value"]
        return await self._put(msgspec.json.decode(msgspec.json.encode(body), type=AzureAssignedIdentity))

    async def patch_merge(self, resource: Any, name: str, namespace: str, patch: Mapping[str, Any]) -> Any:
        """Set finalizers and status."""
        await self._call("patch")
        old = self._found(namespace, name)
        self._check(old, patch["metadata"]["resourceVersion"])
        meta = msgspec.structs.replace(old.metadata, finalizers=tuple(patch["metadata"]["finalizers"]))
        status = msgspec.structs.replace(old.status, **patch["status"])
        return await self._put(msgspec.structs.replace(old, metadata=meta, status=status))

    async def delete(self, resource: Any, name: str, namespace: str = "", *, uid: str = "") -> Any:
        """Mark as deleted, or remove when no finalizer is left."""
        await self._call("delete")
        old = self._found(namespace, name)
        if uid and uid != old.metadata.uid:
            raise Conflict(409, "Conflict", "uid differs")
        stamp = datetime.fromtimestamp(self._wall(), UTC).isoformat()
        meta = msgspec.structs.replace(old.metadata, deletion_timestamp=old.metadata.deletion_timestamp or stamp)
        left = await self._put(msgspec.structs.replace(old, metadata=meta))
        return left if left.metadata.finalizers else None

    def seed(self, obj: AzureAssignedIdentity) -> AzureAssignedIdentity:
        """Put an object there as another controller left it."""
        self._version += 1
        uid = obj.metadata.uid or f"uid-{self._version}"
        return self._store(msgspec.structs.replace(obj, metadata=msgspec.structs.replace(obj.metadata, uid=uid)))

    async def _put(self, obj: AzureAssignedIdentity) -> AzureAssignedIdentity:
        stored = self._store(obj)
        await asyncio.sleep(self.answers_after)
        return stored

    async def _call(self, verb: str) -> None:
        self.calls[verb] += 1
        await asyncio.sleep(self.latency)
        for failure in self.failures:
            if failure[0] == verb:
                self.failures.remove(failure)
                raise failure[1]

    def _found(self, namespace: str, name: str) -> AzureAssignedIdentity:
        obj = self.objects.get(f"{namespace}/{name}")
        if obj is None:
            raise NotFound(404, "NotFound", f"{namespace}/{name}")
        return obj

    def _check(self, old: AzureAssignedIdentity, version: str) -> None:
        if version and version != old.metadata.resource_version:
            raise Conflict(409, "Conflict", "the object has been modified")

    def _store(self, obj: AzureAssignedIdentity) -> AzureAssignedIdentity:
        self._version += 1
        meta = msgspec.structs.replace(obj.metadata, resource_version=str(self._version))
        new = msgspec.structs.replace(obj, metadata=meta)
        old = self.objects.get(new.key)
        gone = meta.deletion_timestamp is not None and not meta.finalizers
        if gone:
            self.objects.pop(new.key, None)
        else:
            self.objects[new.key] = new
        change = Change(new, None) if gone else Change(old, new)
        if self.watching:
            for listener in self.listeners:
                asyncio.get_running_loop().call_later(0.005, listener, change)
        return new


class FakeArm:
    """Hosts with identities; checks every PATCH as ARM would."""

    def __init__(self) -> None:
        self.attached: dict[str, dict[str, str]] = {}
        self.types: dict[str, str] = {}
        self.client_ids: dict[str, str] = {}
        self.patches: list[tuple[float, str, IdentityPatch]] = []
        self.gets: Counter[str] = Counter()
        self.fault: Callable[[str, IdentityPatch], Exception | None] = lambda _host, _patch: None
        self.get_fault: Callable[[str], Exception | None] = lambda _host: None
        self.hanging: set[str] = set()
        self.patch_seconds = 10.0
        self.in_flight: Counter[str] = Counter()
        self.paths, self.dead = set[str](), set[str]()
        self.provisioning: dict[str, str] = {}

    def add_host(self, name: str, type_: str = "") -> None:
        """A scale set without identities."""
        self.attached[name] = {}
        self.types[name] = type_

    async def get(self, host: HostId) -> HostIdentities:
        """Read."""
        self.gets[host.name] += 1
        self.paths.add(host.path)
        await asyncio.sleep(0.1)
        error = self.get_fault(host.name)
        if error is not None:
            raise error
        return self._answer(host.name)

    async def patch(self, host: HostId, patch: IdentityPatch) -> None:
        """Change."""
        name = host.name
        self.patches.append((asyncio.get_running_loop().time(), name, patch))
        self.in_flight[name] += 1
        assert self.in_flight[name] == 1, "two PATCHes of one host at a time"
        try:
            await asyncio.sleep(self.patch_seconds)
            if name in self.hanging:
                await asyncio.Event().wait()
            error = self.fault(name, patch)
            if error is not None:
                raise error
            self._change(name, patch)
        finally:
            self.in_flight[name] -= 1

    def _change(self, name: str, patch: IdentityPatch) -> None:
        assert patch.add or patch.remove
        assert len(patch.add) + len(patch.remove) <= 150
        system = "SystemAssigned" in self.types[name]
        assert ("SystemAssigned" in patch.type) == system, "the system-assigned identity must survive"
        present = self.attached[name]
        for key in patch.remove:
            present.pop(key)
            self.dead.discard(f"{name} {key}")
        if "UserAssigned" not in patch.type:
            assert not present, f"type {patch.type} would drop {sorted(present)}"
        for key in patch.add:
            parsed = parse_identity_id(key)
            assert parsed is not None
            present[key] = self.client_ids.get(parsed.name, f"client-{parsed.name}")
        self.types[name] = patch.type

    def _answer(self, name: str) -> HostIdentities:
        if name not in self.attached:
            raise HostNotFound(404, "ResourceNotFound", f"{name} was not found")
        found = {
            fold(key): UserAssigned(key.upper(), "", "")
            if f"{name} {fold(key)}" in self.dead
            else UserAssigned(key.upper(), client.upper(), f"principal of {client}")
            for key, client in self.attached[name].items()
        }
        return HostIdentities(self.types[name], found, self.provisioning.get(name, "Succeeded"), "westeurope")


class Recorder:
    """Events and metrics, kept."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, str]] = []
        self.counts: Counter[str] = Counter()

    def event(self, ref: ObjectReference, type_: str, reason: str, message: str) -> None:
        """Keep an Event."""
        self.events.append((ref.kind, ref.name, reason, message))

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Count an observation."""
        self.counts[name] += 1

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count."""
        self.counts[name] += int(amount)


class Bench:
    """The controller, leading, and a hand on everything around it."""

    def __init__(self, settings: AssignSettings, *, force_namespaced: bool = False) -> None:
        self.clock = loop_clock(START)
        self.kube = FakeKube(self.clock.wall)
        self.arm = FakeArm()
        self.told = Recorder()
        self.settings = settings
        self.force = force_namespaced
        self.things: dict[str, Any] = {}
        self.fence = Fence(self.clock)
        self.fence.open_until(math.inf)
        self.task: asyncio.Task[None] | None = None
        self._boot()

    def _boot(self) -> None:
        world = World(force_namespaced=self.force)
        outlets = Outlets(*self.outlets(), self.told, self.told, self.fence)
        writer = RecordWriter(world, outlets, self.clock)
        budget = Budget.of(self.clock)
        shared = Shared(world, outlets, self.settings, self.clock, random.Random(7), budget, writer)
        self.world = world
        self.controller = Controller(shared)
        self.kube.listeners[:] = [self.controller.assigned]

    def outlets(self) -> tuple[Any, Any]:
        """The Kubernetes API and ARM as the controller calls them."""
        return self.kube, self.arm

    def start(self) -> None:
        """Let it lead."""
        self.task = asyncio.get_running_loop().create_task(self.controller.lead())

    async def kill(self) -> None:
        """Stop it as a crash would."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            if not self.task.cancelled() and (error := self.task.exception()):
                raise error
            self.task = None

    async def restart(self) -> None:
        """A new process, which lists everything before it leads."""
        await self.kill()
        self._boot()
        for thing in self.things.values():
            self._tell(None, thing)
        for obj in self.kube.objects.values():
            self.controller.assigned(Change(None, obj))
        self.start()

    def put(self, thing: Any) -> None:
        """Create or change a pod, node, identity or binding."""
        key = f"{type(thing).__name__} {thing.key}"
        old = self.things.get(key)
        self.things[key] = thing
        self._tell(old, thing)

    def drop(self, thing: Any) -> None:
        """Delete one."""
        self._tell(self.things.pop(f"{type(thing).__name__} {thing.key}"), None)

    def _tell(self, old: Any, new: Any) -> None:
        handle = self.controller.node if isinstance(new or old, Node) else self.controller.matched
        handle(Change(old, new))

    def node(self, name: str, scale_set: str, group: str = "nodes") -> Node:
        """A node on an instance of a scale set; the scale set is made too."""
        if scale_set not in self.arm.attached:
            self.arm.add_host(scale_set)
        compute = f"/subscriptions/sub/resourceGroups/{group}/providers/Microsoft.Compute"
        provider = f"azure://{compute}/virtualMachineScaleSets/{scale_set}/virtualMachines/0"
        node = Node(metadata=ObjectMeta(name=name), spec=NodeSpec(provider_id=provider))
        self.put(node)
        return node

    def identity(self, name: str, namespace: str = "default", **spec: Any) -> AzureIdentity:
        """A sound identity and a binding of it with selector ``name``."""
        spec = {"resource_id": arm_id(name), "client_id": f"client-{name}", **spec}
        obj = AzureIdentity(metadata=ObjectMeta(name=name, namespace=namespace), spec=AzureIdentitySpec(**spec))
        self.put(obj)
        self.put(
            AzureIdentityBinding(
                metadata=ObjectMeta(name=f"{name}-binding", namespace=namespace),
                spec=AzureIdentityBindingSpec(azure_identity=name, selector=name),
            )
        )
        return obj

    def pod(self, name: str, node: str, label: str, namespace: str = "default", **extra: Any) -> Pod:
        """A running pod."""
        uid = extra.pop("uid", f"pod-{namespace}-{name}")
        meta = ObjectMeta(name=name, namespace=namespace, uid=uid, labels={POD_LABEL: label}, **extra)
        pod = Pod(metadata=meta, spec=PodSpec(node_name=node), status=PodStatus(phase="Running"))
        self.put(pod)
        return pod

    def states(self) -> dict[str, str]:
        """Name -> state, with ``-`` in front of what is terminating."""
        return {
            obj.name: ("-" if obj.metadata.deletion_timestamp else "") + obj.status.status
            for obj in self.kube.objects.values()
        }

    def on(self, host: str) -> set[str]:
        """The names of the identities on a host."""
        return {key.rsplit("/", 1)[1] for key in self.arm.attached[host]}

    def record(self, name: str) -> AzureAssignedIdentity:
        """One record; it always has the finalizer."""
        obj = self.kube.objects[f"default/{name}"]
        assert FINALIZER in obj.metadata.finalizers
        return obj

    async def until(self, holds: Callable[[], bool], seconds: float = 600.0) -> float:
        """Wait (virtually) until it holds; how long that took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while not holds():
            assert loop.time() - start < seconds, f"not within {seconds} s: {self.states()} {self.told.events[-3:]}"
            assert self.task is None or not self.task.done(), "the controller ended"
            await asyncio.sleep(0.05)
        return loop.time() - start

    def assigned(self, *names: str) -> bool:
        """Whether exactly these are recorded, all Assigned."""
        return self.states() == dict.fromkeys(names, "Assigned")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A leading controller in an empty cluster."""
    bench = Bench(AssignSettings(immutable=frozenset({"client-immutable"})))
    bench.start()
    yield bench
    await bench.kill()
