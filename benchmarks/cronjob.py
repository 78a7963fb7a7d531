"""A CronJob with a pod each minute for an hour, at default settings, on a virtual clock: what it costs at ARM."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec

from bars import Figures
from events import GROUP, binding, identity
from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Node, NodeSpec, Pod, PodSpec, PodStatus
from podidentity.api.meta import ObjectMeta
from podidentity.mic.assign import AssignSettings
from podidentity.mic.wanted import resource_key
from report import quantile
from scale import leading
from simulation import MemoryArm, MemoryKube, Simulation

MINUTE: Final = 60.0
RUNS: Final = 60
LASTS: Final = 20.0
"""Seconds that a pod runs once it has its identity."""
HISTORY: Final = 3
"""Jobs that a CronJob keeps when they are over."""


def _node(number: int) -> Node:
    """A machine of the scale set."""
    arm_id = f"azure://{GROUP}/Microsoft.Compute/virtualMachineScaleSets/pool/virtualMachines/{number}"
    return Node(metadata=ObjectMeta(name=f"node-{number}"), spec=NodeSpec(provider_id=arm_id))


def _pod(number: int) -> Pod:
    """The pod of a run; the runs take turns on two machines."""
    meta = ObjectMeta(name=f"job-{number}", namespace="default", uid=f"uid-{number}", labels={POD_LABEL: "app-0"})
    return Pod(metadata=meta, spec=PodSpec(node_name=f"node-{number % 2}"), status=PodStatus(phase="Running"))


async def hour() -> Figures:
    """Run for an hour, then delete the CronJob; seconds are virtual, ``removed`` counts from the last pod deleted."""
    spec = identity(0).spec
    sim = Simulation(MemoryKube(), MemoryArm({resource_key(spec): spec.client_id}), AssignSettings())
    for one in (_node(0), _node(1), identity(0), binding(0)):
        sim.put(None, one)
    loop, took, kept = asyncio.get_running_loop(), [], deque[Pod]()
    async with leading(sim):
        for number in range(RUNS):
            begun, pod = loop.time(), _pod(number)
            sim.put(None, pod)
            while not _assigned(sim, pod):  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.1)
            took.append(loop.time() - begun)
            await asyncio.sleep(LASTS)
            over = msgspec.structs.replace(pod, status=PodStatus(phase="Succeeded"))
            sim.put(pod, over)
            kept.append(over)
            if len(kept) > HISTORY:
                sim.put(kept.popleft(), None)
            await asyncio.sleep(begun + MINUTE - loop.time())
        for pod in kept:
            sim.put(pod, None)
        begun = loop.time()
        while sim.kube.objects or any(sim.arm.attached.values()):  # noqa: ASYNC110 - time is virtual
            await asyncio.sleep(0.1)
        removed = loop.time() - begun
    return Figures(RUNS, max(took), quantile(took, 0.5), removed, sim.arm.patches, 0, 0)


def _assigned(sim: Simulation, pod: Pod) -> bool:
    """Whether the pod's record says so."""
    found = [one for one in sim.kube.objects.values() if one.name.startswith(f"{pod.name}-")]
    return [one.status.status for one in found] == ["Assigned"]
