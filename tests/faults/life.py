"""The life of a cluster: pods, nodes, identities and bindings that come, go and change, by a seed. No product code."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp

SUB: Final = "11111111-1111-1111-1111-111111111111"
TENANT: Final = "22222222-2222-2222-2222-222222222222"
CONTROLLER: Final = "33333333-3333-3333-3333-333333333333"
SUCCESSOR: Final = "44444444-4444-4444-4444-444444444444"
"""The controller's principal, and the one that takes its place when azure.json is replaced."""
GROUP: Final = f"/subscriptions/{SUB}/resourceGroups/Nodes"
COMPUTE: Final = f"{GROUP}/providers/Microsoft.Compute"
IDS: Final = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
CUSTOM: Final = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
NODES: Final = "/api/v1/nodes"
NAMES: Final = ("a", "b", "c", "d", "foreign", "others")
"""Identities at Azure. ``foreign`` is on some machines before the controller comes, and stays there; the last is one
that no pod uses.
"""
MACHINES: Final = {
    "n0": f"{COMPUTE}/virtualMachines/vm0",
    "n1": f"{COMPUTE}/virtualMachines/vm1",
    "n2": f"{COMPUTE}/virtualMachines/vm2",
    "n3": f"{COMPUTE}/virtualMachineScaleSets/pool/virtualMachines/0",
    "n4": f"{COMPUTE}/virtualMachineScaleSets/pool/virtualMachines/1",
}
LEAVING: Final = ("n2", "n4")
"""Nodes that leave and join again."""
BINDINGS: Final = {"a": ("a", "a"), "b": ("b", "both"), "b-too": ("a", "both"), "turn": ("turn", "turn")}
"""Name of a binding: its AzureIdentity and its selector."""
LABELS: Final = ("a", "both", "turn", "foreign", "nobody")
PODS: Final = tuple(f"p{number}" for number in range(10))
_VM: Final = {"resourceGroup": "Nodes"}
_HAS: Final = {"systemAssigned": True, "identities": ["foreign"]}
_ROLES: Final = ("Virtual Machine Contributor", "Managed Identity Operator")
SEED: Final = {
    "subscriptionId": SUB,
    "tenantId": TENANT,
    "resourceGroups": ["Nodes"],
    "identities": [{"name": name, "resourceGroup": "Nodes", "clientId": f"client-{name}"} for name in NAMES],
    "vms": [{"name": "vm0", **_VM, **_HAS}, {"name": "vm1", **_VM}, {"name": "vm2", **_VM, **_HAS}],
    "scaleSets": [{"name": "pool", "instances": 2, **_VM, "systemAssigned": True}],
    "servicePrincipals": [{"clientId": one, "secret": f"secret of {one[:4]}"} for one in (CONTROLLER, SUCCESSOR)],
    "roleAssignments": [
        {"principal": one, "role": role, "scope": "Nodes"} for one in (CONTROLLER, SUCCESSOR) for role in _ROLES
    ],
}

Call = Callable[[str, str, object], Awaitable[Any]]
"""Method, path and body to the API's answer; raises aiohttp.ClientError."""


def azure_json(client_id: str) -> dict[str, str]:
    """The cluster's cloud configuration with this principal."""
    names = {"tenantId": TENANT, "subscriptionId": SUB, "resourceGroup": "Nodes", "aadClientId": client_id}
    return {"cloud": "AzurePublicCloud", "aadClientSecret": f"secret of {client_id[:4]}", **names}


def identity(name: str, resource: str) -> dict[str, Any]:
    """An AzureIdentity of the identity ``resource`` at Azure."""
    spec = {"type": 0, "resourceID": f"{IDS}/{resource}", "clientID": f"client-{resource}"}
    return _custom("AzureIdentity", name, spec)


def binding(name: str, of: str, selector: str) -> dict[str, Any]:
    """An AzureIdentityBinding."""
    return _custom("AzureIdentityBinding", name, {"azureIdentity": of, "selector": selector})


def node(name: str) -> dict[str, Any]:
    """A Node."""
    spec = {"providerID": f"azure://{MACHINES[name]}"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def _custom(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "aadpodidentity.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Life:
    """Does one thing after another through ``call``; what fails because the API is away is not done."""

    def __init__(self, call: Call, rng: random.Random) -> None:
        self._call = call
        self._rng = rng
        self._pods: dict[str, str] = {}
        self._nodes = set(MACHINES)
        self._bindings = set(BINDINGS) | {"foreign"}

    async def furnish(self) -> None:
        """Put nodes, identities and bindings there; the CRDs are served already."""
        for name in MACHINES:
            await self._call("POST", NODES, node(name))
        for name, resource in {"a": "a", "b": "b", "turn": "c", "foreign": "foreign"}.items():
            await self._call("POST", f"{CUSTOM}/azureidentities", identity(name, resource))
        for name in self._bindings:
            await self._bind(name)

    async def go_on(self, longest: float) -> None:
        """Live for ever, up to ``longest`` seconds between two events."""
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                await self.step()
            await asyncio.sleep(self._rng.choice((0.01, 0.1, longest / 2, longest)))

    async def settle(self) -> None:
        """Delete the pods of nodes that left, as the cluster does."""
        for name in [name for name, where in self._pods.items() if where not in self._nodes]:
            await self._delete(name)

    async def step(self) -> None:
        """One thing happens."""
        happens: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (8, self._comes),
            (4, self._goes),
            (4, self._comes_back),
            (3, self._is_labelled),
            (2, self._turns),
            (2, self._is_bound),
            (2, self._leaves_or_joins),
        )
        weights, what = zip(*happens, strict=True)
        await self._rng.choices(what, weights)[0]()

    async def _comes(self) -> None:
        free = [name for name in PODS if name not in self._pods]
        if free:
            await self._create(self._rng.choice(free))

    async def _goes(self) -> None:
        if self._pods:
            await self._delete(self._rng.choice(sorted(self._pods)))

    async def _comes_back(self) -> None:
        if self._pods:
            name = self._rng.choice(sorted(self._pods))
            where = self._pods[name]
            await self._delete(name)
            await asyncio.sleep(self._rng.choice((0, 0.2, 3)))
            await self._create(name, where if self._rng.random() < 0.7 else "")

    async def _is_labelled(self) -> None:
        if self._pods:
            name = self._rng.choice(sorted(self._pods))
            labels = {"metadata": {"labels": {"aadpodidbinding": self._rng.choice(LABELS)}}}
            await self._call("PATCH", f"{_pods(name)}/{name}", labels)

    async def _turns(self) -> None:
        """An AzureIdentity becomes another identity at Azure."""
        changed = {"spec": identity("turn", self._rng.choice("cd"))["spec"]}
        await self._call("PATCH", f"{CUSTOM}/azureidentities/turn", changed)

    async def _is_bound(self) -> None:
        name = self._rng.choice(sorted(BINDINGS))
        path = f"{CUSTOM}/azureidentitybindings/{name}"
        if name in self._bindings and self._rng.random() < 0.5:
            await self._call("PATCH", path, {"spec": {"selector": self._rng.choice(LABELS)}})
        elif name in self._bindings:
            await self._call("DELETE", path, None)
            self._bindings.discard(name)
        else:
            await self._bind(name)

    async def _leaves_or_joins(self) -> None:
        name = self._rng.choice(LEAVING)
        if name not in self._nodes:
            await self._call("POST", NODES, node(name))
            self._nodes.add(name)
            return
        await self._call("DELETE", f"{NODES}/{name}", None)
        self._nodes.discard(name)
        await asyncio.sleep(self._rng.choice((0, 1)))
        await self.settle()

    async def _bind(self, name: str) -> None:
        of, selector = BINDINGS.get(name, (name, name))
        await self._call("POST", f"{CUSTOM}/azureidentitybindings", binding(name, of, selector))
        self._bindings.add(name)

    async def _create(self, name: str, where: str = "") -> None:
        if where not in self._nodes:
            where = self._rng.choice(sorted(self._nodes))
        spec = {"nodeName": where, "containers": [{"name": "c", "image": "i"}]}
        labels = {"aadpodidbinding": self._rng.choice(LABELS)}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        await self._call("POST", _pods(name), pod)
        self._pods[name] = where

    async def _delete(self, name: str) -> None:
        await self._call("DELETE", f"{_pods(name)}/{name}?gracePeriodSeconds=0", None)
        self._pods.pop(name, None)


def _pods(name: str) -> str:
    """Pods of odd numbers live in another namespace."""
    return f"/api/v1/namespaces/{'other' if int(name[1:]) % 2 else 'default'}/pods"
