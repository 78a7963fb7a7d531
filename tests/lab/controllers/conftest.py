"""A cluster without machines: the embedded API, the controllers, and a kubelet that only says what real ones say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.lab.kube.wire import Client, client_session

from podidentity.kube.client import KubeClient
from podidentity.kube.target import KubeSettings
from podidentity.lab.controllers.app import App
from podidentity.lab.kube import ApiConfig, Running, User, serve

ADMIN = "controllers-token"
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
REPLICA_SETS = "/apis/apps/v1/namespaces/default/replicasets"
DAEMON_SETS = "/apis/apps/v1/namespaces/default/daemonsets"


class Token:
    """The controllers' credential."""

    async def token(self, *, refresh: bool = False) -> str:
        """The static token."""
        del refresh
        return ADMIN


class Cluster:
    """What a test does and waits for."""

    def __init__(self, api: Client, running: Running) -> None:
        self.api = api
        self.running = running
        self.healthy = True

    async def node(self, name: str, *, ready: bool = True, labels: dict[str, str] | None = None, **spec: Any) -> None:
        """Add a node whose kubelet has spoken: admission's taint of a new node is taken off."""
        metadata = {"name": name, "labels": {"kubernetes.io/os": "linux", **(labels or {})}}
        await self.api.post("/api/v1/nodes", {"metadata": metadata, "spec": spec})
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        await self.api.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": conditions}})
        await self.api.patch(f"/api/v1/nodes/{name}", {"spec": {"taints": spec.get("taints")}})

    async def items(self, path: str = PODS, **params: str) -> list[dict[str, Any]]:
        """Objects of a collection."""
        found: list[dict[str, Any]] = (await self.api.get(path, params=params)).body["items"]
        return found

    async def until(self, path: str, done: Callable[[list[dict[str, Any]]], bool], seconds: float = 8) -> list[Any]:
        """Wait, by watching, until a collection is as wanted."""
        found: list[Any] = []
        try:
            async with asyncio.timeout(seconds):
                watch = await self.api.watch(path)
                try:
                    while not done(found := await self.items(path)):
                        await watch.next()
                finally:
                    watch.close()
        except TimeoutError:
            states = [(item["metadata"], item.get("spec"), item.get("status")) for item in found]
            raise AssertionError(f"{path} never got there: {states}") from None
        return found

    async def kubelet(self) -> None:
        """Run pods that have a node; end those that are deleted."""
        watch = await self.api.watch("/api/v1/pods")
        try:
            while (event := await watch.next())[0] != "END":
                await self._tend(*event)
        finally:
            watch.close()

    async def _tend(self, kind: str, pod: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if kind == "DELETED" or not pod["spec"].get("nodeName"):
            return
        if pod["metadata"].get("deletionTimestamp"):
            await self.api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}})
        elif pod["status"]["phase"] == "Pending" and self.healthy:
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]
            await self.api.patch(f"{path}/status", {"status": {"phase": "Running", "conditions": conditions}})


@asynccontextmanager
async def controllers(running: Running, *, housekeeping: bool = True) -> AsyncIterator[None]:
    """The controllers, ready."""
    settings = KubeSettings(server=running.url, ca_data=running.ca.encode(), token_source=Token())
    async with KubeClient(settings, user_agent="test") as client:
        ready = asyncio.Event()
        task = asyncio.ensure_future(
            App(client, ca="CA", housekeeping=housekeeping, rng=random.Random(1)).run(ready.set)
        )
        waiting = asyncio.ensure_future(ready.wait())
        try:
            async with asyncio.timeout(10):
                await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            yield
        finally:
            waiting.cancel()
            task.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)
            if not task.cancelled() and task.exception():
                raise task.exception() or AssertionError


@asynccontextmanager
async def kubelet(cluster: Cluster) -> AsyncIterator[None]:
    """The kubelet, running."""
    task = asyncio.ensure_future(cluster.kubelet())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def bare() -> AsyncIterator[Cluster]:
    """The API alone; `controllers` are the test's to start."""
    config = ApiConfig(tokens={ADMIN: User("system:kube-controller-manager", ("system:masters",))})
    async with serve(config) as running, client_session(running) as session:
        yield Cluster(Client(session, running), running)


@pytest.fixture
async def cluster(bare: Cluster) -> AsyncIterator[Cluster]:
    """API, controllers and a kubelet; no node yet."""
    async with controllers(bare.running), kubelet(bare):
        yield bare


def workload(name: str, image: str = "x:1", **spec: Any) -> dict[str, Any]:
    """A Deployment or DaemonSet of one container."""
    pod_spec = spec.pop("pod", {})
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": image}], **pod_spec},
    }
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


def running_pods(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that run and are not being deleted."""
    return [pod for pod in pods if pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp")]
