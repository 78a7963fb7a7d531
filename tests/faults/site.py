"""Two real mics between a real API server and a simulated Azure, each behind networks of its own that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from tests.faults.judge import Made
from tests.faults.links import Relay
from tests.faults.patches import Patches
from tests.ports import free_port
from tests.real_server import RealServer

from podidentity.lab.cloud import CloudConfig, parse_seed
from podidentity.lab.cloud.server import Cloud, build

ROOT = Path(__file__).resolve().parents[2]
SUB = "11111111-1111-1111-1111-111111111111"
TENANT = "22222222-2222-2222-2222-222222222222"
CONTROLLER = "33333333-3333-3333-3333-333333333333"
GROUP = f"/subscriptions/{SUB}/resourceGroups/nodes"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app"
CLIENT_ID = "aaaaaaaa-0000-0000-0000-000000000001"
HOSTS = 60
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
SHIPPED = {
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "ServiceAccount": ACCOUNTS,
    "ClusterRole": f"{RBAC}/clusterroles",
    "ClusterRoleBinding": f"{RBAC}/clusterrolebindings",
}
CUSTOM = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
PODS = "/api/v1/namespaces/default/pods"
TICK = 0.02
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"],
    "rules": [
        {
            "level": "Metadata",
            "verbs": ["create", "update", "patch", "delete"],
            "resources": [{"group": "aadpodidentity.k8s.io", "resources": ["azureassignedidentities"]}],
        },
        {"level": "None"},
    ],
}
SEED = {
    "subscriptionId": SUB,
    "tenantId": TENANT,
    "resourceGroups": ["nodes"],
    "identities": [{"name": "app", "resourceGroup": "nodes", "clientId": CLIENT_ID}],
    "vms": [{"name": f"vm{number}", "resourceGroup": "nodes"} for number in range(HOSTS)],
    "servicePrincipals": [{"clientId": CONTROLLER, "secret": "s3cret"}],
    "roleAssignments": [
        {"principal": CONTROLLER, "role": "Virtual Machine Contributor", "scope": "nodes"},
        {"principal": CONTROLLER, "role": "Managed Identity Operator", "scope": IDENTITY},
    ],
}


class Azure:
    """A simulated Azure that writes down which mic changed a machine, and when."""

    def __init__(self, cloud: Cloud) -> None:
        self.admin = cloud.admin
        self.world = cloud.world
        self.patches = Patches(cloud.world, time.time)
        self._https = cloud.frontend.https
        self._tick = time.time()

    @property
    def made(self) -> list[Made]:
        """Every PATCH there was."""
        return self.patches.made

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request; the mic is told by the end of its user agent."""
        if request.method != "PATCH":
            return await self._https(request)
        source = request.headers.get("User-Agent", "").rpartition(" ")[2]
        with self.patches.patch(request.path.casefold(), source, self._tick) as answered:
            response = await self._https(request)
            answered()
            return response

    async def keep_time(self) -> None:
        """Note when this loop was last known to be awake: a request may have waited since then."""
        while True:
            self._tick = time.time()
            await asyncio.sleep(TICK)


@contextlib.asynccontextmanager
async def azure_at(folder: Path, pki: Path, seed: Mapping[str, object]) -> AsyncIterator[tuple[Azure, int]]:
    """Serve it with TLS under Azure's names; gives its port too."""
    cloud = build(CloudConfig(state_dir=folder, seed=parse_seed(json.dumps(seed))))
    azure = Azure(cloud)
    azure.admin.set_faults(arm_limits=None, arm_delay_vm=0.2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "cloud.crt", pki / "cloud.key")
    runner = web.ServerRunner(web.Server(azure.handle, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        async with background(azure.keep_time()):
            yield azure, runner.addresses[0][1]
    finally:
        await runner.cleanup()
        cloud.world.close()


@contextlib.asynccontextmanager
async def background(work: Awaitable[None]) -> AsyncIterator[None]:
    """Run beside the block; cancelled at its end, an error of its own ends the test."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Api:
    """The administrator, straight at the API server."""

    def __init__(self, server: RealServer) -> None:
        pki = server.folder / "pki"
        context = ssl.create_default_context(cafile=str(server.ca))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self.url = server.url
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON; None for 404. Raises aiohttp.ClientError."""
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else None
        async with self.session.request(method, self.url + path, json=body, headers=headers) as answer:
            if answer.status == 404:
                return None
            answer.raise_for_status()
            return await answer.json()


async def install(api: Api) -> None:
    """The CRDs, and mic's account with its rights."""
    for document in yaml.safe_load_all((ROOT / "deploy/deployment-rbac.yaml").read_text()):
        if document and document["kind"] in SHIPPED:
            await api.call("POST", SHIPPED[document["kind"]], document)
    for resource in ("azureassignedidentities", "azureidentities", "azureidentitybindings"):
        await until(partial(served, api, f"{CUSTOM}/{resource}"), "the CRDs are served")


async def populate(api: Api) -> None:
    """One identity, and a node for each machine."""
    for number in range(HOSTS):
        machine = f"azure://{GROUP}/providers/Microsoft.Compute/virtualMachines/vm{number}"
        node = {"metadata": {"name": f"n{number}"}, "spec": {"providerID": machine}}
        await api.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", **node})
    kind = {"apiVersion": "aadpodidentity.k8s.io/v1"}
    spec = {"type": 0, "resourceID": IDENTITY, "clientID": CLIENT_ID}
    identity = {**kind, "kind": "AzureIdentity", "metadata": {"name": "app"}, "spec": spec}
    bound = {"azureIdentity": "app", "selector": "app"}
    binding = {**kind, "kind": "AzureIdentityBinding", "metadata": {"name": "app"}, "spec": bound}
    await api.call("POST", f"{CUSTOM}/azureidentities", identity)
    await api.call("POST", f"{CUSTOM}/azureidentitybindings", binding)


async def token_of_mic(api: Api) -> str:
    """A token of the account that the shipped manifests give mic."""
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    answer = await api.call("POST", f"{ACCOUNTS}/aad-pod-id-mic-service-account/token", asked)
    return str(answer["status"]["token"])


async def served(api: Api, path: str) -> bool:
    """Whether the API serves a collection; one that has just started throttles."""
    try:
        return await api.call("GET", path) is not None
    except aiohttp.ClientResponseError as error:
        if error.status != 429:
            raise
        return False


async def churn(api: Api) -> None:
    """Pods come and go for ever, on one machine after the other: there is always something to write."""
    number = 0
    while True:
        name = f"p{number % HOSTS}"
        labels = {"aadpodidbinding": "app"}
        spec = {"nodeName": f"n{number % HOSTS}", "containers": [{"name": "c", "image": "i"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        with contextlib.suppress(aiohttp.ClientError):
            if (number // HOSTS) % 2:
                await api.call("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")
            else:
                await api.call("POST", PODS, pod)
        number += 1
        await asyncio.sleep(0.25)


def two_ports() -> tuple[int, int]:
    """Two different free ports."""
    one = other = free_port()
    while other == one:
        other = free_port()
    return one, other


@dataclass
class Mic:
    """One mic process; it reaches the API through ``api`` and Azure through ``azure``."""

    name: str
    folder: Path
    lease: float
    pki: Path
    token: str
    api: Relay
    azure: Relay
    cloudconfig: Path | None = None
    ports: tuple[int, int] = field(default_factory=two_ports)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it unless it runs; returns when it could lead."""
        if self.process is None or self.process.returncode is not None:
            with (self.folder / f"{self.name}.log").open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *("setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "podidentity", "mic"),
                    *self._flags(),
                    env=self._environ(),
                    stderr=log,
                )
        await until(self._ready, f"{self.name} is ready", 60)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def stop(self) -> None:
        """Kill it if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.folder / f"{self.name}.log").read_text()[-2000:]
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.ports[0]}/readyz") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def _flags(self) -> Iterator[str]:
        yield f"--kubeconfig={self._kubeconfig()}"
        yield f"--leader-election-duration={self.lease:g}s"
        yield f"--leader-election-instance={self.name}"
        yield f"--custom-user-agent={self.name}"
        yield f"--http-probe-port={self.ports[0]}"
        yield f"--prometheus-port={self.ports[1]}"
        yield "--identity-removal-linger=0s"
        yield "--clientQps=100"
        if self.cloudconfig is not None:
            yield f"--cloudconfig={self.cloudconfig}"

    def _environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "src"),
            "MIC_POD_NAMESPACE": "default",
            "CLOUD": "AzurePublicCloud",
            "TENANT_ID": TENANT,
            "CLIENT_ID": CONTROLLER,
            "CLIENT_SECRET": "s3cret",
            "SUBSCRIPTION_ID": SUB,
            "RESOURCE_GROUP": "nodes",
            "SSL_CERT_FILE": str(self.pki / "ca.crt"),
            "HTTPS_PROXY": f"http://127.0.0.1:{self.azure.port}",
        }

    def _kubeconfig(self) -> Path:
        path = self.folder / f"{self.name}.kubeconfig"
        server = {"server": f"https://127.0.0.1:{self.api.port}", "certificate-authority": str(self.pki / "ca.crt")}
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": server}],
            "users": [{"name": "u", "user": {"token": self.token}}],
        }
        path.write_text(json.dumps(text))
        return path


def kubernetes_writes(audit_log: Path) -> Iterator[Made]:
    """The changes of AzureAssignedIdentities that the API server wrote down as it received them."""
    for line in audit_log.read_text().splitlines():
        event = json.loads(line)
        at = dt.datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        source = event["userAgent"].rpartition(" ")[2]
        yield Made(at, at, source, f"{event['verb']} {event['requestURI']}")


async def until(holds: Callable[[], Awaitable[bool]], what: str, within: float = 30) -> float:
    """Wait until it holds; how many seconds that took."""
    start = time.monotonic()
    while not await holds():
        assert time.monotonic() - start < within, f"not within {within:g} s: {what}"
        await asyncio.sleep(TICK)
    return time.monotonic() - start
