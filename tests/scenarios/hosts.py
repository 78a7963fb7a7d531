"""Steps about hosts and nodes of the scenario's own: ARM knows them, no kubelet runs on them."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.scenarios.scene import Scene
from tests.scenarios.steps import Condition, Delete, Step

from podidentity.kube.errors import NotFound

COMPUTE = "providers/Microsoft.Compute"
KINDS = {"scaleSets": "virtualMachineScaleSets", "vms": "virtualMachines"}


@dataclass(frozen=True)
class Host(Step):
    """A scale set (or VM) with nodes ``WORD/0``, ``WORD/1``, ...

    ``group`` is a resource group of the scenario's own, ``subscription`` a GUID; the lab's by default. ``carries``:
    identities that are on it before the cluster ever asks.
    """

    word: str
    nodes: int = 1
    kind: str = "scaleSets"
    group: str = ""
    subscription: str = ""
    system: bool = False
    carries: tuple[str, ...] = ()

    async def play(self, scene: Scene) -> None:
        """Plant it, with mic's role where its group is new, and register its nodes."""
        spec = scene.site.stage.lab.spec
        group = f"{scene.id}-{self.group}" if self.group else spec.node_resource_group
        subscription = self.subscription or spec.subscription_id
        scope = f"/subscriptions/{subscription}/resourceGroups/{group}"
        name = f"{scene.id}-{'pool' if self.group else self.word}"
        host: dict[str, Any] = {"name": name, "resourceGroup": group, "subscriptionId": subscription}
        host |= {"systemAssigned": self.system, "identities": [scene.identities[ref].id for ref in self.carries]}
        if self.kind == "scaleSets":
            host["instances"] = self.nodes
        seed: dict[str, Any] = {self.kind: [host]}
        if self.group:
            seed["resourceGroups"] = [{"name": group, "subscriptionId": subscription}]
            role = {"principal": spec.kubelet_client_id, "role": "Virtual Machine Contributor", "scope": scope}
            seed["roleAssignments"] = [role]
        await scene.azure("POST", "/seed", seed)
        scene.hosts[self.word] = f"{scope}/{COMPUTE}/{KINDS[self.kind]}/{name}"
        scene.memory.setdefault("stays", []).extend(self.carries)
        for index in range(self.nodes):
            await NewNode(f"{self.word}/{index}").play(scene)


@dataclass(frozen=True)
class NewNode(Step):
    """A node ``HOST/INDEX`` comes to the cluster."""

    ref: str

    async def play(self, scene: Scene) -> None:
        """Register it."""
        word, _, index = self.ref.partition("/")
        host, name = scene.hosts[word], scene.node_name(self.ref)
        machine = f"/virtualMachines/{index}" if "virtualMachineScaleSets" in host else ""
        document = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"providerID": f"azure://{host}{machine}"},
        }
        scene.nodes.add(name)
        await scene.call("POST", "/api/v1/nodes", document)


@dataclass(frozen=True)
class NodeGone(Step):
    """A node goes, and then its pods, as a cluster does it."""

    ref: str
    pods: tuple[str, ...]

    async def play(self, scene: Scene) -> None:
        """Delete them."""
        await Delete("node", self.ref).play(scene)
        for pod in self.pods:
            with contextlib.suppress(NotFound):
                await Delete("pod", pod).play(scene)


async def identity_of(scene: Scene, host: str) -> Mapping[str, Any]:
    """What is on a host, as the simulated Azure keeps it."""
    wanted = scene.host_id(host).casefold()
    rows = (await scene.azure("GET", "/state"))["host"]
    found: Mapping[str, Any] = next(row for row in rows if str(row["id"]).casefold() == wanted)["effective"]
    return found


@dataclass(frozen=True)
class Principal(Condition):
    """The host's system-assigned identity has the principal it had when this was first asked."""

    host: str

    async def lacks(self, scene: Scene) -> str:
        """What it is now."""
        now = (await identity_of(scene, self.host))["system"]
        first = scene.memory.setdefault(f"principal of {self.host}", now)
        return "" if now and now == first else f"{now!r}, not {first!r}"


@dataclass(frozen=True)
class Carries(Condition):
    """An identity is on a host, whoever else is."""

    identity: str
    host: str = ""

    async def lacks(self, scene: Scene) -> str:
        """What is there."""
        found = (await scene.on_hosts()).get(scene.host_id(self.host).casefold(), set())
        return "" if self.identity in found else f"on the host: {sorted(found)}"


async def patches(scene: Scene, host: str) -> int:
    """PATCHes that a host was sent so far, refused ones too."""
    resources = (await scene.azure("GET", "/counters"))["arm"].get("resources", {})
    return int(resources.get(scene.host_id(host).casefold(), {}).get("PATCH", 0))


@dataclass(frozen=True)
class Patched(Step):
    """A host has been sent at least one PATCH, and no more than that."""

    most: int
    host: str

    async def play(self, scene: Scene) -> None:
        """Count them."""
        found = await patches(scene, self.host)
        assert 1 <= found <= self.most, f"{found} PATCHes of {self.host}"


@dataclass(frozen=True)
class Refuses(Step):
    """ARM answers PATCHes of a host with 429 and Retry-After (seconds), until ``Accepts``."""

    host: str
    retry_after: int

    async def play(self, scene: Scene) -> None:
        """Set the rule."""
        rule = {"service": "arm", "method": "PATCH", "path": re.escape(scene.host_id(self.host).rpartition("/")[2])}
        rule |= {"status": 429, "code": "TooManyRequests", "headers": {"Retry-After": str(self.retry_after)}}
        await scene.site.set_rule(scene.id, rule)
        scene.memory["refusing since"] = (time.monotonic(), await patches(scene, self.host))


@dataclass(frozen=True)
class RefusedFor(Condition):
    """So many PATCHes have been refused, and no two came closer together than Retry-After allows."""

    host: str
    times: int
    retry_after: int

    async def lacks(self, scene: Scene) -> str:
        """How many were."""
        since, before = scene.memory["refusing since"]
        refused = await patches(scene, self.host) - before
        allowed = (time.monotonic() - since) // self.retry_after + 1
        assert refused <= allowed, f"{refused} PATCHes where Retry-After allowed {allowed:g}"
        return "" if refused >= self.times else f"{refused} refused"


@dataclass(frozen=True)
class Accepts(Step):
    """The simulated Azure answers this scenario's requests as usual again."""

    async def play(self, scene: Scene) -> None:
        """Take the rule away."""
        await scene.site.set_rule(scene.id, None)


@dataclass(frozen=True)
class ThrottledImds(Step):
    """The metadata service answers requests for an identity with 429 and Retry-After, until ``Accepts``."""

    identity: str
    headers: Mapping[str, str] = field(default_factory=lambda: {"Retry-After": "2"})

    async def play(self, scene: Scene) -> None:
        """Set the rule."""
        name = re.escape(scene.azure_name(self.identity))
        rule = {"service": "imds", "path": name, "status": 429, "headers": dict(self.headers)}
        await scene.site.set_rule(scene.id, {**rule, "code": "too_many_requests"})
