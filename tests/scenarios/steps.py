"""What a scenario is made of: steps that do something, conditions that must come to hold. All are data."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.stage import is_ready
from tests.scenarios.scene import PATIENCE, Scene

API = "aadpodidentity.k8s.io/v1"
Object = Mapping[str, Any]


class Step:
    """Something that is done."""

    @abstractmethod
    async def play(self, scene: Scene) -> None:
        """Do it."""


class Condition(Step):
    """Something that must come to hold: it is waited for, and the time that took is kept."""

    @abstractmethod
    async def lacks(self, scene: Scene) -> str:
        """What is not yet as it must be; empty when nothing is."""

    async def play(self, scene: Scene) -> None:
        """Wait for it."""
        await scene.until(repr(self), lambda: self.lacks(scene), within=getattr(self, "within", PATIENCE))


@dataclass(frozen=True)
class Scenario:
    """One row of the acceptance table: its id, what must hold in words, and how that is seen.

    ``alone``: it disturbs others and is played when they are over. ``servers``: on which API servers it can be.
    ``leaves``: what it made stays, because nobody is there any more who would take it away.
    """

    id: str
    holds: str
    steps: tuple[Step, ...]
    alone: bool = False
    servers: tuple[str, ...] = ("embedded", "real")
    leaves: bool = False


@dataclass(frozen=True)
class Together(Step):
    """Steps at the same time."""

    steps: tuple[Step, ...]

    async def play(self, scene: Scene) -> None:
        """Play them all."""
        async with asyncio.TaskGroup() as group:
            for step in self.steps:
                group.create_task(step.play(scene))


@dataclass(frozen=True)
class Series(Step):
    """Steps one after the other, as one of several that are played together."""

    steps: tuple[Step, ...]

    async def play(self, scene: Scene) -> None:
        """Play them."""
        for step in self.steps:
            await step.play(scene)


@dataclass(frozen=True)
class Now(Step):
    """A condition that holds when it is first asked for."""

    condition: Condition

    async def play(self, scene: Scene) -> None:
        """Ask once."""
        lacking = await self.condition.lacks(scene)
        assert not lacking, f"{self.condition} does not hold: {lacking}"


@dataclass(frozen=True)
class While(Step):
    """A condition that holds all the time that other steps take."""

    condition: Condition
    steps: tuple[Step, ...]

    async def play(self, scene: Scene) -> None:
        """Play the steps; fails as soon as the condition is seen not to hold."""
        done = asyncio.Event()

        async def watch() -> None:
            while True:
                last = done.is_set()
                lacking = await self.condition.lacks(scene)
                assert not lacking, f"{self.condition} did not hold all the time: {lacking}"
                if last:
                    return
                await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            for step in self.steps:
                await step.play(scene)
            done.set()


@dataclass(frozen=True)
class Identity(Step):
    """A user-assigned identity, its AzureIdentity and its binding.

    ``selector`` is the identity's name by default, "-" for no binding. ``exists``: whether Azure has it.
    """

    ref: str
    selector: str = ""
    exists: bool = True
    namespaced: bool = False

    async def play(self, scene: Scene) -> None:
        """Make all three."""
        spec = scene.site.stage.lab.spec
        name = scene.azure_name(self.ref)
        if self.exists:
            made = await scene.site.stage.lab.azure.create_identity(name, spec.resource_group)
            scene.identities[self.ref] = made
            resource_id, client_id = made.id, made.properties.client_id
        else:
            group = f"{spec.subscription_scope}/resourceGroups/{spec.resource_group}"
            resource_id = f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            client_id = "11111111-1111-4111-8111-111111111111"
        behaviour = {"annotations": {"aadpodidentity.k8s.io/Behavior": "namespaced"}} if self.namespaced else {}
        await Declared(self.ref, {"type": 0, "resourceID": resource_id, "clientID": client_id}, behaviour).play(scene)
        if self.selector != "-":
            await Binding(self.ref, self.ref, self.selector).play(scene)


@dataclass(frozen=True)
class Declared(Step):
    """An AzureIdentity alone, whatever it says."""

    ref: str
    spec: Object
    metadata: Object | None = None

    async def play(self, scene: Scene) -> None:
        """Create it."""
        document = {"apiVersion": API, "kind": "AzureIdentity", "metadata": self.metadata or {}, "spec": self.spec}
        await scene.make("identity", self.ref, document)


@dataclass(frozen=True)
class Known(Step):
    """An AzureIdentity and binding for an identity that is there already: ``kubelet`` or ``kept``."""

    ref: str
    of: str

    async def play(self, scene: Scene) -> None:
        """Declare it."""
        made = scene.identities[self.of]
        await Declared(self.ref, {"type": 0, "resourceID": made.id, "clientID": made.properties.client_id}).play(scene)
        await Binding(self.ref, self.ref).play(scene)


@dataclass(frozen=True)
class Binding(Step):
    """A binding of an identity."""

    ref: str
    identity: str
    selector: str = ""

    async def play(self, scene: Scene) -> None:
        """Create it."""
        name = self.identity.rpartition("/")[2]
        spec = {"azureIdentity": name, "selector": scene.selector(self.selector or name)}
        document = {"apiVersion": API, "kind": "AzureIdentityBinding", "spec": spec}
        await scene.make("binding", self.ref, document)


@dataclass(frozen=True)
class Exempt(Step):
    """An AzurePodIdentityException for pods with any of these labels."""

    ref: str
    labels: Mapping[str, str]

    async def play(self, scene: Scene) -> None:
        """Create it."""
        document = {"apiVersion": API, "kind": "AzurePodIdentityException", "spec": {"podLabels": dict(self.labels)}}
        await scene.make("exception", self.ref, document)


@dataclass(frozen=True)
class Pod(Step):
    """A pod that stays. ``node``: see ``Scene.node_name``; only on the lab's own nodes does it run."""

    ref: str
    label: str = ""
    node: str = ""
    ready: bool = True
    labels: Object | None = None
    init: str = ""
    """A Python program that runs to its end before the pod's own."""

    async def play(self, scene: Scene) -> None:
        """Create it, and wait until it runs if it can."""
        container: Object = {"name": "c", "image": "busybox", "command": ["sleep", "100000"]}
        spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 0}
        spec["automountServiceAccountToken"] = False
        if self.init:
            spec["initContainers"] = [{"name": "i", "image": "podidentity/azure-sdk", "args": ["-c", self.init]}]
        if self.node:
            spec["nodeName"] = scene.node_name(self.node)
        else:
            spec["affinity"] = scene.site.usual_nodes
        labels = {**(self.labels or {}), **({"aadpodidbinding": scene.selector(self.label)} if self.label else {})}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": spec}
        await scene.make("pod", self.ref, document)
        if self.ready and "/" not in self.node:
            await Ready(self.ref).play(scene)


@dataclass(frozen=True)
class Ready(Condition):
    """A pod runs."""

    ref: str

    async def lacks(self, scene: Scene) -> str:
        """Its status."""
        pod = await scene.get("pod", self.ref)
        return "" if is_ready(pod) else f"status {pod.get('status')}"


@dataclass(frozen=True)
class Delete(Step):
    """Something is deleted; a node by its word, a pod that does not run at once."""

    kind: str
    ref: str

    async def play(self, scene: Scene) -> None:
        """Delete it."""
        if self.kind == "node":
            name = scene.node_name(self.ref)
            scene.nodes.discard(name)
            await scene.call("DELETE", f"/api/v1/nodes/{name}")
        else:
            await scene.delete(self.kind, self.ref, grace=0 if self.kind == "pod" else None)


@dataclass(frozen=True)
class Change(Step):
    """Something is merged into an object."""

    kind: str
    ref: str
    patch: Object

    async def play(self, scene: Scene) -> None:
        """Change it."""
        await scene.change(self.kind, self.ref, self.patch)


@dataclass(frozen=True)
class Relabel(Step):
    """A pod's label names another selector."""

    ref: str
    label: str

    async def play(self, scene: Scene) -> None:
        """Change it."""
        await scene.change("pod", self.ref, {"metadata": {"labels": {"aadpodidbinding": scene.selector(self.label)}}})


@dataclass(frozen=True)
class Repoint(Step):
    """An AzureIdentity names another identity of Azure."""

    ref: str
    at: str

    async def play(self, scene: Scene) -> None:
        """Change it."""
        made = scene.identities[self.at]
        await scene.change(
            "identity", self.ref, {"spec": {"resourceID": made.id, "clientID": made.properties.client_id}}
        )


@dataclass(frozen=True)
class Detach(Step):
    """Somebody takes an identity off a host by hand."""

    identity: str
    host: str = ""

    async def play(self, scene: Scene) -> None:
        """Do it at once."""
        body = {"host": scene.host_id(self.host), "identity": scene.identities[self.identity].id}
        await scene.azure("POST", "/identities/detach", body)
