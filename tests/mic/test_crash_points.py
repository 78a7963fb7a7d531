"""The controller is stopped after each external call of a scenario, every single one, and started anew.

The call has had its effect, its answer is lost. Whatever the point: what is wanted gets there, nothing is left behind.
The calls are those to ARM, those that read and write records, and those that take the startup taint off nodes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.mic.conftest import Bench, arm_id

from podidentity.api.core import Node, Taint
from podidentity.mic.assign import AssignSettings
from podidentity.mic.startup_taint import TAINT, StartupTaints
from podidentity.telemetry.logging import get_logger

pytestmark = pytest.mark.looptime(noop_cycles=1)

SETTINGS = AssignSettings(linger=5.0, reconcile_interval=20.0)
FOREIGN = "/subscriptions/sub/resourcegroups/ids/providers/microsoft.managedidentity/userassignedidentities/foreign"


class Tripwire:
    """Stands before the Kubernetes API or ARM, counts the calls that had their effect, and pulls the plug at one."""

    def __init__(self, target: Any, after: Callable[[str], Awaitable[None]]) -> None:
        self._target = target
        self._after = after

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **named: Any) -> Any:
            try:
                return await getattr(self._target, name)(*args, **named)
            finally:
                await self._after(name)

        return call


class Nodes:
    """As much of the API as the startup taint needs: nmi is Ready on every node."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def raw(self, _method: str, _path: str, **_options: object) -> bytes:
        """The pods of nmi on a node."""
        ready = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        return json.dumps({"items": [ready]}).encode()

    async def patch_json(self, _resource: object, name: str, _namespace: str, _ops: object) -> Node:
        """Take the taint off."""
        self._bench.put(tainted(self._bench.things[f"Node {name}"]))
        found: Node = self._bench.things[f"Node {name}"]
        return found


def tainted(node: Node, *taints: str) -> Node:
    """The node with these taints."""
    spec = msgspec.structs.replace(node.spec, taints=tuple(Taint(key=key) for key in taints))
    return msgspec.structs.replace(node, spec=spec)


class Fragile(Bench):
    """A bench whose controller ends after its ``fatal``-th external call, once; ``calls`` says what was called."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.calls: list[str] = []
        self.restarts: list[asyncio.Task[None]] = []
        super().__init__(SETTINGS)
        self.arm.patch_seconds = 1.0

    def outlets(self) -> tuple[Any, Any]:
        """The stand-ins behind tripwires."""
        return Tripwire(self.kube, self._after), Tripwire(self.arm, self._after)

    def start(self) -> None:
        """Let it lead, and manage the startup taint."""
        self.task = asyncio.get_running_loop().create_task(self._lead())

    async def _lead(self) -> None:
        api = Tripwire(Nodes(self), self._after)
        taints = StartupTaints(api, self.nodes, namespace="ours", selector="component=nmi", log=get_logger())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.controller.lead())
            tasks.create_task(taints.run())

    def nodes(self) -> list[Node]:
        """The nodes there are."""
        return [thing for thing in self.things.values() if isinstance(thing, Node)]

    async def _after(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.fatal:
            self.restarts.append(asyncio.get_running_loop().create_task(self._reborn()))
            await asyncio.Event().wait()

    async def _reborn(self) -> None:
        await self.kill()
        await asyncio.sleep(1)
        await self.restart()

    def tenants(self) -> set[str]:
        """The tenants of the identities in the records."""
        return {obj.spec.azure_identity_ref.spec.tenant_id for obj in self.kube.objects.values()}

    def serves(self, *pods: str) -> bool:
        """Whether exactly these pods have records, one each, all Assigned."""
        found = sorted(obj.spec.pod for obj in self.kube.objects.values())
        return found == sorted(pods) and set(self.states().values()) == {"Assigned"}


Scenario = Callable[[Fragile], Awaitable[None]]


def furnished(bench: Fragile) -> None:
    """Two nodes with an identity that was there before us, and identities."""
    for node, host in {"n1": "vmss1", "n2": "vmss2"}.items():
        bench.node(node, host)
        bench.arm.attached[host][FOREIGN] = "client-foreign"
        bench.arm.types[host] = "SystemAssigned, UserAssigned"
    for name in ("id1", "id2", "foreign"):
        bench.identity(name)


async def emptied(bench: Fragile) -> None:
    """Nothing of ours is left, what was there before us is."""
    await bench.until(lambda: bench.states() == {} and bench.world.shelves == {}, 400)
    assert {host: bench.on(host) for host in bench.arm.attached} == {"vmss1": {"foreign"}, "vmss2": {"foreign"}}


async def moving(bench: Fragile) -> None:
    """Pods come, share, move, come back under their names, change identity, and go."""
    furnished(bench)
    first = bench.pod("first", "n1", "id1")
    shares = bench.pod("shares", "n1", "id1")
    moves = bench.pod("moves", "n1", "id2")
    stays = bench.pod("stays", "n2", "foreign")
    await bench.until(lambda: bench.serves("first", "shares", "moves", "stays"), 120)
    bench.drop(shares)
    bench.drop(first)
    bench.drop(moves)
    await asyncio.sleep(0.3)
    first = bench.pod("first", "n1", "id1", uid="again")
    moves = bench.pod("moves", "n2", "id2", uid="elsewhere")
    await bench.until(lambda: bench.serves("first", "moves", "stays"), 400)
    bench.identity("id1", resource_id=f"{FOREIGN}-not", client_id="client-foreign-not")
    await bench.until(
        lambda: bench.serves("first", "moves", "stays") and bench.on("vmss1") == {"foreign", "foreign-not"}, 400
    )
    for pod in (first, moves, stays):
        bench.drop(pod)
    await emptied(bench)


async def changing(bench: Fragile) -> None:
    """A pod's label, an identity's tenant, a binding and a node change or go; an identity is taken off by hand."""
    furnished(bench)
    pod = bench.pod("pod", "n1", "id1")
    other = bench.pod("other", "n2", "id2")
    await bench.until(lambda: bench.serves("pod", "other"), 120)
    pod = bench.pod("pod", "n1", "id2")
    await bench.until(lambda: bench.serves("pod", "other") and bench.on("vmss1") == {"foreign", "id2"}, 400)
    bench.identity("id2", tenant_id="another")
    await bench.until(lambda: bench.serves("pod", "other") and bench.tenants() == {"another"}, 400)
    for host in bench.arm.attached:
        bench.arm.attached[host].pop(arm_id("id2").casefold(), None)
    await bench.until(lambda: bench.on("vmss1") == bench.on("vmss2") == {"foreign", "id2"}, 400)
    bench.drop(bench.things["Node n2"])
    bench.drop(other)
    bench.drop(bench.things["AzureIdentityBinding default/id2-binding"])
    await emptied(bench)
    bench.drop(pod)


async def draining(bench: Fragile) -> None:
    """An orderly end: mic --drain takes everything off, and drops all records."""
    furnished(bench)
    for name, node, label in (("one", "n1", "id1"), ("two", "n1", "id2"), ("three", "n2", "foreign")):
        bench.pod(name, node, label)
    await bench.until(lambda: bench.serves("one", "two", "three"), 120)
    await bench.kill()
    bench.things = {key: thing for key, thing in bench.things.items() if isinstance(thing, Node)}
    bench.settings = replace(SETTINGS, linger=0.0)
    await bench.restart()
    await emptied(bench)


async def tainting(bench: Fragile) -> None:
    """New nodes lose their startup taint, and get their pods."""
    furnished(bench)
    for name in ("n1", "n2"):
        bench.put(tainted(bench.things[f"Node {name}"], "other", TAINT))
    pod = bench.pod("pod", "n1", "id1")
    await bench.until(lambda: bench.serves("pod") and not any(node.spec.taints for node in bench.nodes()), 120)
    bench.drop(pod)
    await emptied(bench)


async def played(scenario: Scenario, fatal: int) -> list[str]:
    """The calls of a run of the scenario that is stopped after call ``fatal`` (0: never)."""
    bench = Fragile(fatal)
    bench.start()
    try:
        await scenario(bench)
    finally:
        await bench.kill()
    return bench.calls


@pytest.mark.parametrize(("scenario", "least"), [(moving, 40), (changing, 25), (draining, 15), (tainting, 10)])
async def test_nothing_is_lost_at_any_crash_point(scenario: Scenario, least: int) -> None:
    """Protects every promise over a crash: after each of the scenario's external calls, one run stops and resumes."""
    points = 0
    while len(await played(scenario, points + 1)) > points:
        points += 1
    assert points > least
