"""nmi against the real API server as one account, in a story that needs every right of its role; Azure is in memory."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator

from tests.deploy.original import GROUP, Obj
from tests.deploy.stages import NMI_ACCOUNT, NODE, OURS, SOURCE, Stage
from tests.mic.conftest import arm_id
from tests.nmi.conftest import Reply, read_reply
from tests.nmi.fakes import FakeEntra, FakeImds

from podidentity.aio.clock import Clock
from podidentity.api.constants import FINALIZER, NODE_LABEL
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES
from podidentity.config.nmi import nmi_settings
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import KubeSettings
from podidentity.nmi.assembly import App as Nmi
from podidentity.nmi.assembly import Deps, PodsOfApi, SecretsOfApi
from podidentity.nmi.assembly import build_app as build_nmi
from podidentity.nmi.reviews import Reviews
from podidentity.nmi.rights import say_rights
from podidentity.nmi.tokens.authority import Authorities
from podidentity.nmi.watches import AnyReflector, all_synced, not_ready, reflectors
from podidentity.telemetry.logging import configure_logging, get_logger
from podidentity.telemetry.metrics import Metrics


class NmiStage(Stage):
    """nmi: ready, a pod's token, the token of a pod it does not know, a service principal's token."""

    STEPS = ("ready", "token", "other pod", "service principal")

    def __init__(
        self,
        admin: KubeClient,
        account: KubeSettings,
        namespace: str,
        *,
        managed: bool = False,
        reviewing: bool = False,
    ) -> None:
        super().__init__(admin, account, namespace)
        self.managed = managed
        self.reviewing = reviewing
        self.proof = ""
        self.app: Nmi | None = None
        self.watches: list[AnyReflector] = []
        self.port = 0

    @property
    def working(self) -> bool:
        """Whether it knows the cluster, so that it gives tokens."""
        return self.app is not None and self.app.synced.is_set()

    @property
    def ready(self) -> bool:
        """Whether it says so."""
        return self.working and not not_ready(self.watches)

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Run nmi as its account, listening on the loopback; IMDS and Entra ID are stand-ins."""
        configure_logging(log_format="text", verbosity=0, stream=self.stream)
        mode = ["--operation-mode=managed", "--forceNamespaced"] if self.managed else ["--enableScaleFeatures=true"]
        if self.reviewing:
            mode.append(f"--host-token-callers=service-account:{self.namespace}/{NMI_ACCOUNT}")
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
                reviews=Reviews(client, settings.host_token_audience, clock, log),
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
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{NMI_ACCOUNT}/token"
        wanted = {"spec": {"audiences": ["podidentity-nmi"]}}
        self.proof = json.loads(await self.admin.raw("POST", path, body=wanted))["status"]["token"]
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
        await self.step("ready", lambda: self.ready)
        await self.step("token", lambda: self._answers("client-of-app", 200))
        await self.step("other pod", lambda: self._answers("client-of-app", 404, podname="gone", podns=self.namespace))
        await self.step("service principal", lambda: self._answers("client-of-sp", 200))

    async def _answers(self, client_id: str, status: int, **host: str) -> bool:
        route = "/host/token" if host else "/metadata/identity/oauth2/token"
        target = f"{route}?api-version=2018-02-01&resource=https://vault.azure.net&client_id={client_id}"
        headers = {"Host": "127.0.0.1" if host else "169.254.169.254", "Metadata": "true", **host}
        if host and self.reviewing:
            headers["Authorization"] = f"Bearer {self.proof}"
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
