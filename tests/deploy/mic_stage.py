"""mic against the real API server as one account, in a story that needs every right of its role; Azure is in memory."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from tests.deploy.original import GROUP, Obj
from tests.deploy.stages import OURS, POOL, Stage
from tests.mic.conftest import FakeArm, Recorder, arm_id

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.api.constants import EVENT_SOURCE
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES
from podidentity.config.mic import mic_settings
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import NotFound
from podidentity.kube.events import EventRecorder
from podidentity.kube.greeting import Greeting
from podidentity.kube.settings import KubeSettings
from podidentity.mic.app import App as Mic
from podidentity.mic.app import build_app as build_mic
from podidentity.mic.clients import Clients
from podidentity.telemetry.logging import configure_logging


class Meddled(KubeClient):
    """Somebody else writes to a record just before mic's first release of it, so that mic must read it again."""

    meddler: KubeClient | None = None

    async def patch_merge(
        self, resource: Any, name: str, namespace: str, patch: Mapping[str, object], *, subresource: str = ""
    ) -> Any:
        """Send the patch, after the other's write the first time."""
        other, self.meddler = self.meddler, None
        if other is not None:
            await other.patch_merge(resource, name, namespace, {"metadata": {"annotations": {"by": "another"}}})
        return await super().patch_merge(resource, name, namespace, patch, subresource=subresource)


class MicStage(Stage):
    """mic: ready, leads, one pod's identity from its record to its removal, twice."""

    STEPS = ("ready", "recorded", "assigned", "updated", "removed", "told", "told again")

    def __init__(self, admin: KubeClient, account: KubeSettings, namespace: str, *, meddled: bool = True) -> None:
        super().__init__(admin, account, namespace)
        self.meddled = meddled
        self.arm = FakeArm()
        self.arm.add_host(POOL)
        self.arm.patch_seconds = 0.01
        self.app: Mic | None = None

    @property
    def working(self) -> bool:
        """Whether it leads and knows the cluster."""
        return self.app is not None and self.app.probe().body() == "Active"

    @property
    def ready(self) -> bool:
        """Whether it says so."""
        return self.working and self.app is not None and not self.app.not_ready()

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Run mic as its account."""
        configure_logging(log_format="text", verbosity=0, stream=self.stream)
        flags = [f"--leader-election-namespace={self.namespace}", "--leader-election-duration=2s"]
        more = ["--identity-removal-linger=0s", "--clientQps=200"]
        settings, clock = mic_settings([*flags, *more], {"MIC_POD_NAMESPACE": self.namespace}, "one"), Clock()
        async with contextlib.AsyncExitStack() as stack:
            core, election = [
                await stack.enter_async_context(KubeClient(self.account, user_agent="mic")) for _ in range(2)
            ]
            fence = Fence(clock, delivery=1)
            custom = await stack.enter_async_context(Meddled(self.account, user_agent="mic", fence=fence))
            custom.meddler = self.admin if self.meddled else None
            events = EventRecorder(core, component=EVENT_SOURCE, clock=clock)
            clients, rng = Clients(core, custom, election), random.Random(1)
            counts: Any = Recorder()
            self.app = build_mic(
                settings, clients, self.arm, events, counts, fence=fence, greeting=Greeting(core), clock=clock, rng=rng
            )
            async with self.running(self.app.run(), events.run()):
                yield

    async def prepare(self) -> None:
        """An identity with its binding."""
        spec = {"type": 0, "resourceID": arm_id("app"), "clientID": "client-app"}
        await self.make(OURS, "azureidentities", self._object("AzureIdentity", "app", spec))
        spec = {"azureIdentity": "app", "selector": "app"}
        await self.make(OURS, "azureidentitybindings", self._object("AzureIdentityBinding", "app-binding", spec))

    async def play(self) -> None:
        """The story; it stands still where a right is missing."""
        await self.step("ready", lambda: self.ready)
        await self.make_pod("p", "app")
        await self.step("recorded", lambda: self._record_is(lambda record: True))
        await self.step("assigned", lambda: self._record_is(lambda record: _state(record) == "Assigned"))
        for client_id in ("client-other", "client-app"):
            await self._change_client_id(client_id)
            await self.step("updated", lambda: self._record_is(lambda record: _client_id(record) == client_id))  # noqa: B023 - awaited here
        await self.drop_pod("p")
        await self.step("removed", self._record_is_gone)
        await self.step("told", lambda: self._applied(1))
        await self.make_pod("p", "app")
        await self.step("told again", lambda: self._applied(2))
        await self.drop_pod("p")
        await self.step("removed", self._record_is_gone)

    async def clean(self) -> None:
        """What the story and mic made, whatever rights mic had."""
        await self.drop_pod("p")
        for plural, name in (("azureidentitybindings", "app-binding"), ("azureidentities", "app")):
            await self.admin.raw("DELETE", f"{OURS}/namespaces/{self.namespace}/{plural}/{name}")
        with contextlib.suppress(NotFound):
            name = f"p-{self.namespace}-app"
            await self.admin.patch_merge(AZURE_ASSIGNED_IDENTITIES, name, "default", {"metadata": {"finalizers": []}})
            await self.admin.delete(AZURE_ASSIGNED_IDENTITIES, name, "default")

    def _object(self, kind: str, name: str, spec: Obj) -> Obj:
        return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}

    async def _change_client_id(self, client_id: str) -> None:
        path = f"{OURS}/namespaces/{self.namespace}/azureidentities/app"
        body = {"spec": {"clientID": client_id}}
        await self.admin.raw("PATCH", path, body=body, content_type="application/merge-patch+json")

    async def _record(self) -> Obj | None:
        try:
            body = await self.admin.raw("GET", f"{OURS}/namespaces/default/azureassignedidentities/{self._name}")
        except NotFound:
            return None
        found: Obj = json.loads(body)
        return found

    @property
    def _name(self) -> str:
        return f"p-{self.namespace}-app"

    async def _record_is(self, holds: Callable[[Obj], bool]) -> bool:
        record = await self._record()
        return record is not None and holds(record)

    async def _record_is_gone(self) -> bool:
        return await self._record() is None

    async def _applied(self, times: int) -> bool:
        """Whether the binding has one Event that says so many times that it was applied."""
        path = f"/api/v1/namespaces/{self.namespace}/events"
        events = json.loads(await self.admin.raw("GET", path))["items"]
        applied = [
            event["count"]
            for event in events
            if event["reason"] == "binding applied" and event["involvedObject"]["kind"] == "AzureIdentityBinding"
        ]
        return max(applied, default=0) >= times


def _state(record: Obj) -> str:
    return str(record["status"]["status"])


def _client_id(record: Obj) -> str:
    return str(record["spec"]["azureIdentityRef"]["spec"]["clientID"])
