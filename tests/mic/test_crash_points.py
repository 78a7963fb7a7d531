"""The controller is stopped after each external call of a scenario, every single one, and started anew.

The call has had its effect, its answer is lost. Whatever the point: what is wanted gets there, nothing is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.mic.conftest import Bench

from podidentity.mic.assign import AssignSettings

pytestmark = pytest.mark.looptime

SETTINGS = AssignSettings(linger=5.0)
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

    async def _after(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.fatal:
            self.restarts.append(asyncio.get_running_loop().create_task(self._reborn()))
            await asyncio.Event().wait()

    async def _reborn(self) -> None:
        await self.kill()
        await asyncio.sleep(1)
        await self.restart()

    def serves(self, *pods: str) -> bool:
        """Whether exactly these pods have records, one each, all Assigned."""
        found = sorted(obj.spec.pod for obj in self.kube.objects.values())
        return found == sorted(pods) and set(self.states().values()) == {"Assigned"}


async def scenario(bench: Fragile) -> None:
    """Pods come, share, move, come back under their names, change identity, and go."""
    for node, host in {"n1": "vmss1", "n2": "vmss2"}.items():
        bench.node(node, host)
        bench.arm.attached[host][FOREIGN] = "client-foreign"
        bench.arm.types[host] = "SystemAssigned, UserAssigned"
    for name in ("id1", "id2", "foreign"):
        bench.identity(name)
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
    await bench.until(lambda: bench.states() == {} and bench.world.shelves == {}, 400)
    assert {host: bench.on(host) for host in bench.arm.attached} == {"vmss1": {"foreign"}, "vmss2": {"foreign"}}


async def played(fatal: int) -> list[str]:
    """The calls of a run of the scenario that is stopped after call ``fatal`` (0: never)."""
    bench = Fragile(fatal)
    bench.start()
    try:
        await scenario(bench)
    finally:
        await bench.kill()
    return bench.calls


async def test_nothing_is_lost_at_any_crash_point() -> None:
    """Protects every promise over a crash: after each of the scenario's external calls, one run stops and resumes."""
    points = 0
    while len(await played(points + 1)) > points:
        points += 1
    assert points > 40
