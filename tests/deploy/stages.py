"""mic and nmi against the real API server as one account, each in a story that needs every right of its role.

Azure is simulated in memory. ``play`` goes on as far as the account's rights allow; ``reached`` says how far that is.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import pytest
from tests.deploy.original import GROUP, Obj
from tests.mic.conftest import FakeArm, Recorder, arm_id
from tests.nmi.conftest import Reply, read_reply
from tests.nmi.fakes import FakeEntra, FakeImds

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.api.constants import EVENT_SOURCE, FINALIZER, NODE_LABEL
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES
from podidentity.config.mic import mic_settings
from podidentity.config.nmi import nmi_settings
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import NotFound
from podidentity.kube.events import EventRecorder
from podidentity.kube.settings import KubeSettings
from podidentity.mic.app import App as Mic
from podidentity.mic.app import Clients
from podidentity.mic.app import build_app as build_mic
from podidentity.nmi.assembly import App as Nmi
from podidentity.nmi.assembly import Deps, PodsOfApi, SecretsOfApi
from podidentity.nmi.assembly import build_app as build_nmi
from podidentity.nmi.rights import say_rights
from podidentity.nmi.tokens.authority import Authorities
from podidentity.nmi.watches import AnyReflector, all_synced, not_ready, reflectors
from podidentity.telemetry.logging import configure_logging, get_logger
from podidentity.telemetry.metrics import Metrics

NODE: Final = "rights-node"
POOL: Final = "pool"
OURS: Final = f"/apis/{GROUP}/v1"
SOURCE: Final = "127.9.0.1"
"""The address of the pod that asks nmi."""


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


class MicStage(Stage):
    """mic: ready, leads, one pod's identity from its record to its removal, twice."""

    STEPS = ("ready", "recorded", "assigned", "updated", "removed", "told", "told again")

    def __init__(self, admin: KubeClient, account: KubeSettings, namespace: str) -> None:
        super().__init__(admin, account, namespace)
        self.arm = FakeArm()
        self.arm.add_host(POOL)
        self.arm.patch_seconds = 0.01
        self.app: Mic | None = None

    @property
    def working(self) -> bool:
        """Whether it leads and knows the cluster."""
        return self.app is not None and self.app.probe().body() == "Active"

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
            custom.meddler = self.admin
            events = EventRecorder(core, component=EVENT_SOURCE, clock=clock)
            clients, rng = Clients(core, custom, election), random.Random(1)
            counts: Any = Recorder()
            self.app = build_mic(settings, clients, self.arm, events, counts, fence=fence, clock=clock, rng=rng)
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
        app = self.app
        assert app is not None
        await self.step("ready", lambda: self.working and not app.not_ready())
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


class NmiStage(Stage):
    """nmi: ready, a pod's token, the token of a pod it does not know, a service principal's token."""

    STEPS = ("ready", "token", "other pod", "service principal")

    def __init__(self, admin: KubeClient, account: KubeSettings, namespace: str, *, managed: bool) -> None:
        super().__init__(admin, account, namespace)
        self.managed = managed
        self.app: Nmi | None = None
        self.watches: list[AnyReflector] = []
        self.port = 0

    @property
    def working(self) -> bool:
        """Whether it knows the cluster, so that it gives tokens."""
        return self.app is not None and self.app.synced.is_set()

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Run nmi as its account, listening on the loopback; IMDS and Entra ID are stand-ins."""
        configure_logging(log_format="text", verbosity=0, stream=self.stream)
        mode = ["--operation-mode=managed", "--forceNamespaced"] if self.managed else ["--enableScaleFeatures=true"]
        settings = nmi_settings([f"--node={NODE}", *mode], {})
        clock, log, imds = Clock(), get_logger(), FakeImds()
        async with KubeClient(self.account, user_agent="nmi") as client:
            deps = Deps(
                pods=PodsOfApi(client, NODE, log),
                secrets=SecretsOfApi(client),
                imds_tokens=imds,
                imds_documents=imds,
                entra=FakeEntra(),
                log=log,
                meter=Metrics(),
                clock=clock,
                rng=random.Random(1),
                authorities=Authorities("https://login.microsoftonline.com"),
            )
            self.app = app = build_nmi(settings, deps, addresses=["10.9.9.9"])
            self.watches = reflectors(settings, client, app, clock=clock, rng=random.Random(1))
            sock = socket.create_server(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
            watching = [watch.run() for watch in self.watches]
            serving = app.server.serve([sock])
            async with self.running(*watching, serving, app.tokens.run(), self._announce(app), say_rights(client, log)):
                yield
            await app.tokens.flights.close()

    async def _announce(self, app: Nmi) -> None:
        await all_synced(self.watches)
        app.synced.set()

    async def prepare(self) -> None:
        """Two identities of two types, a pod with both, and a Secret."""
        secret = {"metadata": {"name": "sp"}, "data": {"secret": base64.b64encode(b"right").decode()}}
        await self.make("/api/v1", "secrets", secret)
        await self.make_pod("web", "app")
        status = {"status": {"phase": "Running", "podIP": SOURCE, "podIPs": [{"ip": SOURCE}]}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/web/status"
        await self.admin.raw("PATCH", path, body=status, content_type="application/merge-patch+json")
        for name, spec in self._identities().items():
            identity = self._object("AzureIdentity", name, spec)
            binding = self._object("AzureIdentityBinding", name, {"azureIdentity": name, "selector": "app"})
            if self.managed:
                await self.make(OURS, "azureidentities", identity)
                await self.make(OURS, "azureidentitybindings", binding)
                continue
            refs = {"azureIdentityRef": identity, "azureBindingRef": binding}
            said = {**refs, "pod": "web", "podNamespace": self.namespace, "nodename": NODE}
            record = self._object("AzureAssignedIdentity", f"web-{self.namespace}-{name}", said)
            record["metadata"] |= {"namespace": "default", "labels": {NODE_LABEL: NODE}, "finalizers": [FINALIZER]}
            record["status"] = {"status": "Assigned", "availableReplicas": 1}
            await self.admin.raw("POST", f"{OURS}/namespaces/default/azureassignedidentities", body=record)

    def _identities(self) -> dict[str, Obj]:
        password = {"name": "sp", "namespace": self.namespace}
        tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47"
        principal = {"type": 1, "clientID": "client-of-sp", "tenantID": tenant, "clientPassword": password}
        return {"app": {"type": 0, "resourceID": arm_id("app"), "clientID": "client-of-app"}, "sp": principal}

    def _object(self, kind: str, name: str, spec: Obj) -> Obj:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata, "spec": spec}

    async def play(self) -> None:
        """The story; it stands still where a right is missing."""
        await self.step("ready", lambda: self.working and not not_ready(self.watches))
        await self.step("token", lambda: self._answers("client-of-app", 200))
        await self.step("other pod", lambda: self._answers("client-of-app", 404, podname="gone", podns=self.namespace))
        await self.step("service principal", lambda: self._answers("client-of-sp", 200))

    async def _answers(self, client_id: str, status: int, **host: str) -> bool:
        route = "/host/token" if host else "/metadata/identity/oauth2/token"
        target = f"{route}?api-version=2018-02-01&resource=https://vault.azure.net&client_id={client_id}"
        headers = {"Host": "127.0.0.1" if host else "169.254.169.254", "Metadata": "true", **host}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        source = "127.0.0.1" if host else SOURCE
        reply = await self._send(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode(), source)
        return reply.status == status

    async def _send(self, raw: bytes, source: str) -> Reply:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        try:
            writer.write(raw)
            async with asyncio.timeout(20):
                return await read_reply(reader)
        finally:
            writer.close()
            await writer.wait_closed()

    async def clean(self) -> None:
        """What the story made."""
        await self.drop_pod("web")
        await self.admin.raw("DELETE", f"/api/v1/namespaces/{self.namespace}/secrets/sp")
        for name in self._identities():
            if self.managed:
                for plural in ("azureidentitybindings", "azureidentities"):
                    await self.admin.raw("DELETE", f"{OURS}/namespaces/{self.namespace}/{plural}/{name}")
                continue
            record = f"web-{self.namespace}-{name}"
            free = {"metadata": {"finalizers": []}}
            await self.admin.patch_merge(AZURE_ASSIGNED_IDENTITIES, record, "default", free)
            await self.admin.delete(AZURE_ASSIGNED_IDENTITIES, record, "default")
