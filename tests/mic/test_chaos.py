"""Random lives of a cluster: whatever happens, in the end the hosts carry exactly what they should."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from podidentity.azure.errors import (
    AzureStatusError,
    AzureUnavailable,
    ConflictError,
    LinkedAuthorizationFailed,
    Throttled,
)
from podidentity.kube.errors import ApiError, KubeError, KubeUnavailable

pytestmark = pytest.mark.looptime

Bench = Any
FOREIGN = "/subscriptions/sub/resourcegroups/ids/providers/microsoft.managedidentity/userassignedidentities/foreign"


class Chaos:
    """Random steps on a bench."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.rng = random.Random(seed)
        self.pods: dict[str, Any] = {}
        self.uids = 0
        self.where = {"n0": "vmss0", "n1": "vmss0", "n2": "vmss1"}
        for node, host in self.where.items():
            bench.node(node, host)
        for host in bench.arm.attached:
            bench.arm.attached[host][FOREIGN] = "client-foreign"
            bench.arm.types[host] = "SystemAssigned, UserAssigned"
        for name in ("id0", "id1", "id2", "foreign"):
            bench.identity(name)
        bench.arm.fault = self.fault

    def fault(self, _host: str, patch: Any) -> Exception | None:
        """Fail every third PATCH in one way or another."""
        linked = LinkedAuthorizationFailed(403, "LinkedAuthorizationFailed", "no")
        linked.scopes = frozenset(sorted(patch.add)[:1])
        errors = (
            AzureUnavailable("net"),
            ConflictError(409, "Conflict", ""),
            Throttled(429, "TooManyRequests", "", retry_after=30.0),
            AzureStatusError(400, "InvalidParameter", ""),
            linked,
        )
        return self.rng.choice(errors) if self.rng.random() < 0.33 else None

    async def step(self) -> None:
        """One thing happens."""
        rng, bench = self.rng, self.bench
        choice = rng.random()
        if choice < 0.45:
            self.uids += 1
            name = f"p{rng.randrange(4)}"
            if name in self.pods and rng.random() < 0.5:
                bench.drop(self.pods.pop(name))
            label = rng.choice(["id0", "id1", "id2", "foreign"])
            node, uid = f"n{rng.randrange(3)}", f"u{self.uids}"
            self.pods[name] = bench.pod(name, node, label, uid=uid)
        elif choice < 0.7 and self.pods:
            bench.drop(self.pods.pop(rng.choice(sorted(self.pods))))
        elif choice < 0.75:
            await bench.restart()
        elif choice < 0.8:
            verb = rng.choice(["create", "patch", "delete", "replace"])
            bench.kube.failures.append((verb, rng.choice([ApiError(500, "x", "x"), KubeUnavailable("lost")])))
        elif choice < 0.85 and bench.kube.objects:
            obj = rng.choice(sorted(bench.kube.objects.values(), key=lambda o: o.name))
            with suppress(KubeError):
                await bench.kube.delete(None, obj.name, obj.namespace)
        elif choice < 0.9:
            node, host = f"n{rng.randrange(3)}", f"vmss{rng.randrange(2)}"
            if rng.random() < 0.5:
                bench.drop(bench.things[f"Node {node}"])
                await asyncio.sleep(rng.choice([0, 0.3, 20]))
            self.where[node] = host
            bench.node(node, host)
        await asyncio.sleep(rng.choice([0, 0.01, 0.05, 0.3, 2, 11, 40, 130]))

    def expected(self) -> dict[str, set[str]]:
        """What each host shall carry."""
        hosts: dict[str, set[str]] = {host: {"foreign"} for host in self.bench.arm.attached}
        for pod in self.pods.values():
            hosts[self.where[pod.spec.node_name]].add(pod.metadata.labels["aadpodidbinding"])
        return hosts


@pytest.mark.parametrize("seed", range(12))
async def test_converges(bench: Bench, seed: int) -> None:
    """Protects the whole: after any history the hosts and the records are exactly what is wanted."""
    chaos = Chaos(bench, seed)
    for _ in range(40):
        await chaos.step()
    bench.arm.fault = lambda _host, _patch: None
    bench.kube.failures.clear()

    def right() -> bool:
        hosts = {host: bench.on(host) for host in bench.arm.attached}
        records = {obj.spec.pod for obj in bench.kube.objects.values()}
        calm = all(state == "Assigned" for state in bench.states().values())
        return bool(hosts == chaos.expected() and calm and records == set(chaos.pods))

    await bench.until(right, 1500)
    await asyncio.sleep(400)
    assert right()
