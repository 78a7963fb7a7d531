"""What one event costs mic's matcher when the cluster grows: objects visited and CPU time."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Node, NodeSpec, Pod, PodSpec, PodStatus
from podidentity.api.identity import (
    AzureIdentity,
    AzureIdentityBinding,
    AzureIdentityBindingSpec,
    AzureIdentitySpec,
)
from podidentity.api.meta import ObjectMeta
from podidentity.mic.match import Matched
from podidentity.mic.world import World
from report import Report, quantile, ratio

PODS_PER_SELECTOR = 5
PODS_PER_NODE = 30
GROUP = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg/providers"


def pod(number: int, *, phase: str = "Running") -> Pod:
    """The pod of that number, on its node, labelled for its selector."""
    meta = ObjectMeta(
        name=f"pod-{number}",
        namespace="default",
        uid=f"uid-{number}",
        resource_version="1",
        labels={POD_LABEL: f"app-{number // PODS_PER_SELECTOR}"},
    )
    return Pod(metadata=meta, spec=PodSpec(node_name=f"node-{number // PODS_PER_NODE}"), status=PodStatus(phase=phase))


def identity(number: int, *, client: str = "aaaaaaaa") -> AzureIdentity:
    """The identity that selector number ``number`` leads to."""
    arm_id = f"{GROUP}/Microsoft.ManagedIdentity/userAssignedIdentities/app-{number}"
    spec = AzureIdentitySpec(resource_id=arm_id, client_id=f"{client}-0000-0000-0000-{number:012d}")
    return AzureIdentity(metadata=ObjectMeta(name=f"app-{number}", namespace="default"), spec=spec)


def binding(number: int, *, label: str = "") -> AzureIdentityBinding:
    """The binding of selector number ``number``."""
    meta = ObjectMeta(name=f"app-{number}", namespace="default", labels={"team": label} if label else {})
    spec = AzureIdentityBindingSpec(azure_identity=f"app-{number}", selector=f"app-{number}")
    return AzureIdentityBinding(metadata=meta, spec=spec)


def node(number: int) -> Node:
    """A virtual machine."""
    arm_id = f"azure://{GROUP}/Microsoft.Compute/virtualMachines/vm-{number}"
    return Node(metadata=ObjectMeta(name=f"node-{number}"), spec=NodeSpec(provider_id=arm_id))


def world_of(pods: int) -> World:
    """A world with so many labelled pods, five to an identity, thirty to a machine."""
    world = World()
    for number in range(pods // PODS_PER_NODE + 1):
        world.node(None, node(number))
    for number in range(pods // PODS_PER_SELECTOR):
        world.match(None, identity(number))
        world.match(None, binding(number))
    for number in range(pods):
        world.match(None, pod(number))
    return world


Maker = Callable[[int], Matched | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event: what object ``number`` was before it and is after it, None for an object that is not there.

    ``usual``: what it is in a world just made.
    """

    name: str
    usual: Maker
    before: Maker
    after: Maker

    @property
    def per_selector(self) -> bool:
        """Whether there is one such object a selector, not one a pod."""
        return self.usual is not pod


def _gone(_number: int) -> None:
    return None


KINDS = (
    Kind("pod added", pod, _gone, pod),
    Kind("pod deleted", pod, pod, _gone),
    Kind("pod's status changed", pod, pod, lambda i: pod(i, phase="Pending")),
    Kind("pod ended", pod, pod, lambda i: pod(i, phase="Succeeded")),
    Kind("binding labelled", binding, binding, lambda i: binding(i, label="blue")),
    Kind("binding deleted (5 pods)", binding, binding, _gone),
    Kind("identity changed (5 pods)", identity, identity, lambda i: identity(i, client="bbbbbbbb")),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one event: objects visited and CPU microseconds (median of several rounds)."""

    visited: float
    microseconds: float


def cost(world: World, kind: Kind, things: int, *, count: int, rounds: int = 7) -> Cost:
    """Let it happen to ``count`` of ``things`` objects spread over the whole cluster, undo it, several times."""
    numbers = spread(things, count)
    pairs = [(kind.before(number), kind.after(number)) for number in numbers]
    visited = 0
    times = []
    for number in numbers:
        world.match(kind.usual(number), kind.before(number))
    for _ in range(rounds):
        before, start = world.matcher.visited, time.thread_time_ns()
        for old, new in pairs:
            world.match(old, new)
        times.append((time.thread_time_ns() - start) / 1000 / len(pairs))
        visited = world.matcher.visited - before
        for old, new in pairs:
            world.match(new, old)
    for number in numbers:
        world.match(kind.before(number), kind.usual(number))
    return Cost(visited / len(pairs), quantile(times, 0.5))


def spread(things: int, count: int) -> list[int]:
    """At most ``count`` different numbers below ``things``, from all over, neighbours far apart."""
    return random.Random(things).sample(range(things), min(count, things))


async def measure(quick: bool) -> Report:
    """Measure."""
    sizes = (200, 400) if quick else (1_000, 10_000, 100_000)
    costs: dict[tuple[str, int], Cost] = {}
    for size in sizes:
        world = world_of(size)
        gc.collect()
        gc.freeze()
        for kind in KINDS:
            things = size // PODS_PER_SELECTOR if kind.per_selector else size
            costs[kind.name, size] = cost(world, kind, things, count=200)
        gc.unfreeze()
    first = sizes[0]
    rows = []
    for kind in KINDS:
        row = [kind.name]
        for size in sizes:
            one, base = costs[kind.name, size], costs[kind.name, first]
            row += [f"{one.visited:.0f}", f"{one.microseconds:.1f}"]
            row += [ratio(one.microseconds, base.microseconds)] if size != first else []
        rows.append(row)
    columns = ["event"]
    for size in sizes:
        columns += [f"{size:,} pods: visited", "CPU us"] + ([f"to {first:,}"] if size != first else [])
    return Report(
        title="events: what one event costs mic",
        compares="the same event in clusters of different size; five pods share an identity, thirty a machine",
        columns=columns,
        rows=rows,
        bound="Python's own speed. The number of objects visited is the same in every cluster; the time grows by what "
        "the processor's caches no longer hold",
    )
