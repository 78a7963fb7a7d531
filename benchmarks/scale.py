"""The whole controller on a virtual clock when the cluster grows: what is done once, and what one event costs."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec

from events import binding, identity, node
from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Node, Pod, PodSpec, PodStatus
from podidentity.api.meta import ObjectMeta
from podidentity.mic.assign import AssignSettings
from podidentity.mic.match import Matched
from podidentity.mic.wanted import resource_key
from report import Report, ratio
from simulation import MemoryArm, MemoryKube, Simulation, simulate, unlogged

PODS_PER_NODE = 20
PODS_PER_IDENTITY = 200
IDENTITIES_PER_NODE = 4
NEVER = 1e9
"""Seconds: no machine is read again just to see whether somebody changed it."""
DRIFT = 180.0
"""Seconds, the default of ``--identity-assignment-reconcile-interval``."""
QUIET = 600.0
"""Virtual seconds in which nothing happens."""


@dataclass(frozen=True, slots=True)
class Size:
    """A cluster of so many labelled pods, twenty to a machine, 200 to an identity, four identities to a machine."""

    pods: int

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.pods // PODS_PER_NODE

    @property
    def identities(self) -> int:
        """Identities, each with a binding."""
        return max(self.pods // PODS_PER_IDENTITY, IDENTITIES_PER_NODE + 1)

    def app(self, number: int) -> int:
        """The number of the identity that pod ``number`` has."""
        return (number // PODS_PER_NODE * IDENTITIES_PER_NODE + number % IDENTITIES_PER_NODE) % self.identities

    def pod(self, number: int, *, app: int | None = None, name: str = "pod") -> Pod:
        """A pod on the machine of pod ``number``, with its identity or another one."""
        label = self.app(number) if app is None else app
        meta = ObjectMeta(
            name=f"{name}-{number}",
            namespace="default",
            uid=f"uid-{name}-{number}",
            labels={POD_LABEL: f"app-{label}"},
        )
        place = PodSpec(node_name=f"node-{number // PODS_PER_NODE}")
        return Pod(metadata=meta, spec=place, status=PodStatus(phase="Running"))


def simulation(size: Size) -> Simulation:
    """A controller that knows of nothing yet; records go without linger."""
    specs = [identity(number).spec for number in range(size.identities)]
    client_ids = {resource_key(spec): spec.client_id for spec in specs}
    return Simulation(MemoryKube(), MemoryArm(client_ids), AssignSettings(linger=0.0, reconcile_interval=NEVER))


def fill(sim: Simulation, size: Size) -> None:
    """Tell of everything there is, as the first lists do."""
    for number in range(size.nodes):
        sim.put(None, node(number))
    for number in range(size.identities):
        sim.put(None, identity(number))
        sim.put(None, binding(number))
    for number in range(size.pods):
        sim.put(None, size.pod(number))


@asynccontextmanager
async def leading(sim: Simulation) -> AsyncIterator[None]:
    """The controller acts while the block runs."""
    async with asyncio.TaskGroup() as tasks:
        acting = tasks.create_task(sim.controller.lead())
        yield
        acting.cancel()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event: what happens around pod ``number`` of a cluster, and which pods it concerns."""

    name: str
    before: Callable[[Size, int], Matched | Node | None]
    after: Callable[[Size, int], Matched | Node | None]
    everywhere: bool = False
    count: int = 60


def _new(size: Size, number: int) -> Pod:
    return size.pod(number, name="new")


def _stranger(size: Size, number: int) -> Pod:
    """A pod with an identity that its machine does not have."""
    return size.pod(number, app=(size.app(number) + IDENTITIES_PER_NODE) % size.identities, name="stranger")


def _changed(size: Size, number: int) -> Matched:
    one = identity(size.app(number))
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, ad_endpoint="https://elsewhere"))


def _labelled(size: Size, number: int) -> Node:
    one = node(number // PODS_PER_NODE)
    return msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, labels={"team": "blue"}))


def _ended(size: Size, number: int) -> Pod:
    return msgspec.structs.replace(_new(size, number), status=PodStatus(phase="Succeeded"))


KINDS = (
    Kind("node labelled", lambda _, n: node(n // PODS_PER_NODE), _labelled),
    Kind(
        "binding labelled",
        lambda size, n: binding(size.app(n)),
        lambda size, n: binding(size.app(n), label="blue"),
    ),
    Kind("pod bound, identity there", lambda _, __: None, _new),
    Kind("pod ended, identity still used", _new, _ended),
    Kind("pod bound, identity new on its machine", lambda _, __: None, _stranger),
    Kind("pod deleted, identity last used by it", _stranger, lambda _, __: None),
    Kind("identity changed (200 pods)", lambda size, n: identity(size.app(n)), _changed, everywhere=True, count=1),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one event: objects visited by the matcher, CPU microseconds until all is as it should be."""

    visited: float
    microseconds: float


async def cost(sim: Simulation, size: Size, kind: Kind) -> Cost:
    """The mean of several such events, one after the other, all over the cluster."""
    numbers = random.Random(size.pods).sample(range(0, size.pods, PODS_PER_NODE), min(kind.count, size.nodes))
    hosts = [_machines(size, number, everywhere=kind.everywhere) for number in numbers]
    shelves = [[sim.world.hosts.shelf_of(f"node-{host}") for host in some] for some in hosts]
    changes = [(kind.before(size, number), kind.after(size, number)) for number in numbers]
    visited, begun = sim.world.matcher.visited, time.process_time()
    for (old, new), touched in zip(changes, shelves, strict=True):
        sim.put(old, new)
        await sim.settled(touched)
    spent = (time.process_time() - begun) / len(numbers)
    return Cost((sim.world.matcher.visited - visited) / len(numbers), spent * 1e6)


def _machines(size: Size, number: int, *, everywhere: bool) -> list[int]:
    """The machines that an event around pod ``number`` concerns: its own, or all that have its identity."""
    if not everywhere:
        return [number // PODS_PER_NODE]
    places = range(0, size.pods, PODS_PER_NODE)
    apps = range(IDENTITIES_PER_NODE)
    return [at // PODS_PER_NODE for at in places if any(size.app(at + one) == size.app(number) for one in apps)]


@dataclass(frozen=True, slots=True)
class Grown:
    """A cluster of one size. CPU in seconds, ``virtual`` in virtual ones; ``steady`` and ``late``: see ``_steady``."""

    listed: float
    assigned: float
    virtual: float
    patches: int
    costs: Sequence[Cost]
    restarted: float
    steady: float
    reads: float
    late: float


async def grown(size: Size) -> Grown:
    """Measure a cluster of one size."""
    loop = asyncio.get_running_loop()
    sim = simulation(size)
    begun = time.process_time()
    fill(sim, size)
    listed = time.process_time() - begun
    _set_aside()
    begun, start = time.process_time(), loop.time()
    async with leading(sim):
        await sim.settled()
        assigned, virtual, patches = time.process_time() - begun, loop.time() - start, sim.arm.patches
        _set_aside()
        costs = [await cost(sim, size, kind) for kind in KINDS]
    again = Simulation(sim.kube, sim.arm, AssignSettings(linger=0.0, reconcile_interval=DRIFT))
    return Grown(listed, assigned, virtual, patches, costs, *await _again(again, size))


def _set_aside() -> None:
    """What is there now is not looked at by the garbage collector any more: it would be measured with the events."""
    gc.collect()
    gc.freeze()


async def _again(sim: Simulation, size: Size) -> tuple[float, float, float, float]:
    """A new process takes over: its CPU seconds until all is known to be right; then ten quiet minutes.

    Of those: the share of a CPU, machines read a second, and the seconds that a pod waits that comes then.
    """
    loop, begun = asyncio.get_running_loop(), time.process_time()
    fill(sim, size)
    sim.recall()
    async with leading(sim):
        await sim.settled()
        restarted = time.process_time() - begun
        begun, gets = time.process_time(), sim.arm.gets
        await asyncio.sleep(QUIET)
        steady, reads = (time.process_time() - begun) / QUIET, (sim.arm.gets - gets) / QUIET
        start, last = loop.time(), size.pods - PODS_PER_NODE
        sim.put(None, _stranger(size, last))
        await sim.settled([sim.world.hosts.shelf_of(f"node-{last // PODS_PER_NODE}")])
        return restarted, steady, reads, loop.time() - start


def _rows(sizes: Sequence[Size], found: Sequence[Grown]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("machines, identities", *(f"{size.nodes:,}, {size.identities:,}" for size in sizes), "-"),
        ("all objects taken in: CPU s", *(f"{one.listed:.2f}" for one in found), "-"),
        ("all assigned: virtual s", *(f"{one.virtual:.0f}" for one in found), "-"),
        ("all assigned: PATCHes", *(f"{one.patches:,}" for one in found), "-"),
    ]
    each = [one.assigned * 1e6 / size.pods for size, one in zip(sizes, found, strict=True)]
    rows.append(("all assigned: CPU us a pod", *(f"{value:.0f}" for value in each), ratio(each[-1], each[0])))
    each = [one.restarted * 1e6 / size.pods for size, one in zip(sizes, found, strict=True)]
    rows.append(("taken over: CPU us a pod", *(f"{value:.0f}" for value in each), ratio(each[-1], each[0])))
    for index, kind in enumerate(KINDS):
        costs = [one.costs[index] for one in found]
        shown = [f"{one.visited:.0f} visited, {one.microseconds:,.0f} us" for one in costs]
        rows.append((kind.name, *shown, ratio(costs[-1].microseconds, costs[0].microseconds)))
    rows += [
        ("quiet: share of a CPU", *(f"{one.steady:.1%}" for one in found), "-"),
        ("quiet: machines read a second", *(f"{one.reads:.1f}" for one in found), "-"),
        ("quiet: a pod bound then waits, virtual s", *(f"{one.late:.1f}" for one in found), "-"),
    ]
    return rows


async def measure(quick: bool) -> Report:
    """Measure; the virtual loops have a thread of their own each, so that this one's time goes on."""
    sizes = [Size(pods) for pods in ((200, 400) if quick else (1_000, 10_000, 100_000))]
    with unlogged():
        found = [await asyncio.to_thread(simulate, grown(size)) for size in sizes]
    gc.unfreeze()
    return Report(
        title="scale: the whole controller in a growing cluster, on a virtual clock",
        compares="clusters of different size: 20 labelled pods a machine, 200 an identity, a binding each; the API "
        "answers after 0.01 virtual seconds, ARM reads in 0.1 and changes a machine in 10. An event's CPU is that of "
        "the controller, its writes and its calls of ARM until all is as it should be",
        columns=("", *(f"{size.pods:,} pods" for size in sizes), f"to {sizes[0].pods:,}"),
        rows=_rows(sizes, found),
        bound="all assigned at once: ARM's limit of 10 changes a second for one principal. Events: Python's own speed; "
        "what is visited does not grow, the time by what the processor's caches no longer hold",
    )
