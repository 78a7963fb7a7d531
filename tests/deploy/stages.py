"""What the stages of mic and nmi share: the cluster's side, the log, and how far the story came."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
from tests.deploy.original import GROUP, Obj

from podidentity.kube.client import KubeClient
from podidentity.kube.errors import NotFound
from podidentity.kube.settings import KubeSettings
from podidentity.telemetry.logging import configure_logging

NODE: Final = "rights-node"
POOL: Final = "pool"
_COMPUTE: Final = "azure:///subscriptions/sub/resourceGroups/nodes/providers/Microsoft.Compute"
NODE_OF_POOL: Final[Obj] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": NODE},
    "spec": {"providerID": f"{_COMPUTE}/virtualMachineScaleSets/{POOL}/virtualMachines/0"},
}
OURS: Final = f"/apis/{GROUP}/v1"
NMI_ACCOUNT: Final = "aad-pod-id-nmi-service-account"
SOURCE: Final = "127.9.0.1"
"""The address of the pod that asks nmi."""


class Stage:
    """What both have: an administrator who makes objects, the log, and how far the story came."""

    def __init__(self, admin: KubeClient, account: KubeSettings, namespace: str) -> None:
        self.admin = admin
        self.account = account
        self.namespace = namespace
        self.reached: list[str] = []
        self.stream = io.StringIO()
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def log(self) -> str:
        """What was logged so far."""
        return self.stream.getvalue()

    async def make(self, base: str, plural: str, obj: Obj) -> None:
        """Create an object in the namespace of the story."""
        await self.admin.raw("POST", f"{base}/namespaces/{self.namespace}/{plural}", body=obj)

    async def make_pod(self, name: str, label: str) -> None:
        """A pod on the node; nobody runs it."""
        metadata = {"name": name, "labels": {"aadpodidbinding": label}}
        spec = {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}], "automountServiceAccountToken": False}
        await self.make("/api/v1", "pods", {"metadata": metadata, "spec": spec})

    async def drop_pod(self, name: str) -> None:
        """The pod is gone at once."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        with contextlib.suppress(NotFound):
            await self.admin.raw("DELETE", path, params={"gracePeriodSeconds": "0"})

    async def step(self, name: str, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until it holds."""
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                break
            await asyncio.sleep(0.02)
        self.reached.append(name)

    @contextlib.asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """A time limit that tells how far it came."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            pytest.fail(f"after {seconds} s only {self.reached}: {self.log}")

    @contextlib.asynccontextmanager
    async def running(self, *parts: Awaitable[None]) -> AsyncIterator[None]:
        """Run the parts of a component meanwhile; none may end by itself."""
        self.tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            yield
        finally:
            ended = [task for task in self.tasks if task.done() and not task.cancelled() and task.exception()]
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            configure_logging(log_format="text", verbosity=0)
            assert not ended, ended
