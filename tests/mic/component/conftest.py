"""All of mic but its servers, between the embedded Kubernetes API and the simulated Azure, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.api.constants import EVENT_SOURCE
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES
from podidentity.azure.arm import ComputeClient
from podidentity.azure.cloud import cloud_named
from podidentity.azure.credentials import AccessToken
from podidentity.config.mic import MicSettings, mic_settings
from podidentity.config.redact import SecretText
from podidentity.kube.auth import StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.events import EventRecorder
from podidentity.kube.greeting import Greeting
from podidentity.kube.settings import KubeSettings
from podidentity.lab.cloud import CloudConfig, parse_seed
from podidentity.lab.cloud import Running as Azure
from podidentity.lab.cloud import serve as serve_azure
from podidentity.lab.kube.config import ApiConfig
from podidentity.lab.kube.serving import Running as Api
from podidentity.lab.kube.serving import serve as serve_api
from podidentity.mic.app import App, build_app
from podidentity.mic.clients import Clients
from podidentity.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
SUB = "11111111-1111-1111-1111-111111111111"
CONTROLLER = "33333333-3333-3333-3333-333333333333"
GROUP = f"/subscriptions/{SUB}/resourceGroups/rg-Nodes"
POOL = f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/pool"
APP = f"/subscriptions/{SUB}/resourceGroups/rg-apps/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
SEED = {
    "subscriptionId": SUB,
    "resourceGroups": ["rg-Nodes", "rg-apps"],
    "identities": [
        {"name": "kubelet", "resourceGroup": "rg-Nodes"},
        {"name": "app1", "resourceGroup": "rg-apps", "clientId": "aaaaaaaa-0000-0000-0000-000000000001"},
        {"name": "app2", "resourceGroup": "rg-apps", "clientId": "aaaaaaaa-0000-0000-0000-000000000002"},
    ],
    "scaleSets": [
        {"name": "pool", "resourceGroup": "rg-Nodes", "instances": 2, "systemAssigned": True, "identities": ["kubelet"]}
    ],
    "servicePrincipals": [{"clientId": CONTROLLER, "secret": "s3cret"}],
    "roleAssignments": [
        {"principal": CONTROLLER, "role": "Virtual Machine Contributor", "scope": "rg-Nodes"},
        {"principal": CONTROLLER, "role": "Managed Identity Operator", "scope": f"{APP}/app1"},
    ],
}


class Minted:
    """The controller's tokens, straight from the simulated Entra ID."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    async def token(self, resource: str) -> AccessToken:
        """A token."""
        text = self._azure.admin.mint_token(resource, client_id=CONTROLLER)
        return AccessToken(token=SecretText(text), expires_on=2**31, resource=resource)

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Site:
    """The two services and a client of the first."""

    api: Api
    azure: Azure
    client: KubeClient

    def settings(self) -> KubeSettings:
        """An administrator's."""
        token = StaticToken(self.api.admin_token)
        return KubeSettings(server=self.api.url, ca_data=self.api.ca.encode(), token_source=token)

    async def put(self, path: str, obj: dict[str, Any]) -> None:
        """Create an object."""
        await self.client.raw("POST", path, body=obj)

    async def states(self) -> dict[str, str]:
        """Name -> state of the assigned identities."""
        found = await self.client.list(AZURE_ASSIGNED_IDENTITIES)
        return {obj.name: obj.status.status for obj in found.items}

    def attached(self) -> set[str]:
        """The names of the identities on the scale set."""
        found = self.azure.admin.identities_on(POOL)
        return {key.rsplit("/", 1)[1].lower() for key in found["userAssignedIdentities"]}  # type: ignore[attr-defined]

    async def until(self, holds: Callable[[dict[str, str]], bool], seconds: float = 20) -> None:
        """Wait until the states are so."""
        states: dict[str, str] = {}
        try:
            async with asyncio.timeout(seconds):
                while not holds(states := await self.states()):  # noqa: ASYNC110 - it happens over a socket
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"not within {seconds} s: {states}, on the host: {self.azure.admin.identities_on(POOL)}")


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Site]:
    """An API with nothing in it, an Azure with a scale set."""
    config = CloudConfig(state_dir=tmp_path / "azure", seed=parse_seed(json.dumps(SEED)))
    async with serve_api(ApiConfig()) as api, serve_azure(config) as azure:
        token = StaticToken(api.admin_token)
        settings = KubeSettings(server=api.url, ca_data=api.ca.encode(), token_source=token)
        async with KubeClient(settings, user_agent="tests") as client:
            yield Site(api, azure, client)


@pytest.fixture
async def site(bare: Site) -> Site:
    """The same with the CRDs, a node and two identities."""
    await prepare(bare)
    return bare


async def prepare(site: Site) -> None:
    """Put the CRDs, a node and two identities there."""
    for document in yaml.safe_load_all((ROOT / "deploy/deployment-rbac.yaml").read_text()):
        if document and document["kind"] == "CustomResourceDefinition":
            await site.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document)
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1"},
        "spec": {"providerID": f"azure://{POOL}/virtualMachines/0"},
    }
    await site.put("/api/v1/nodes", node)
    for number, name in enumerate(("app1", "app2"), 1):
        await _identity(site, name, f"aaaaaaaa-0000-0000-0000-00000000000{number}")


async def _identity(site: Site, name: str, client_id: str) -> None:
    path = "/apis/aadpodidentity.k8s.io/v1/namespaces/default"
    kind = {"apiVersion": "aadpodidentity.k8s.io/v1"}
    spec = {"type": 0, "resourceID": f"{APP}/{name}", "clientID": client_id}
    identity = {**kind, "kind": "AzureIdentity", "metadata": {"name": name}, "spec": spec}
    await site.put(f"{path}/azureidentities", identity)
    bound = {"azureIdentity": name, "selector": name}
    binding = {**kind, "kind": "AzureIdentityBinding", "metadata": {"name": f"{name}-binding"}, "spec": bound}
    await site.put(f"{path}/azureidentitybindings", binding)


async def put_pod(site: Site, name: str, label: str) -> None:
    """A labelled pod on the node."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"aadpodidbinding": label}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
    }
    await site.put("/api/v1/namespaces/default/pods", pod)


def mic_of(holder: str, *flags: str) -> MicSettings:
    """Quick settings, and further flags."""
    quick = ["--identity-removal-linger=1s", "--leader-election-duration=2s", "--clientQps=200"]
    return mic_settings([*quick, *flags], {"MIC_POD_NAMESPACE": "default"}, holder)


@contextlib.asynccontextmanager
async def whole_mic(site: Site, settings: MicSettings) -> AsyncIterator[tuple[App, EventRecorder, Metrics]]:
    """A whole mic but its servers; nothing of it runs."""
    metrics, clock = Metrics(), Clock()
    async with contextlib.AsyncExitStack() as stack:
        fence = Fence(clock, delivery=1)
        fences = (None, fence, None)
        kube = [
            await stack.enter_async_context(KubeClient(site.settings(), user_agent="mic", fence=one)) for one in fences
        ]
        cloud = cloud_named("AzurePublicCloud", {})
        compute = ComputeClient(cloud, Minted(site.azure), user_agent="mic", base_url=site.azure.arm_url, fence=fence)
        stack.push_async_callback(compute.close)
        events = EventRecorder(kube[0], component=EVENT_SOURCE, clock=clock)
        greeting, rng = Greeting(kube[0]), random.Random(1)
        app = build_app(
            settings, Clients(*kube), compute, events, metrics, fence=fence, greeting=greeting, clock=clock, rng=rng
        )
        yield app, events, metrics


@contextlib.asynccontextmanager
async def running_mic(site: Site, holder: str = "one") -> AsyncIterator[tuple[App, Metrics]]:
    """It runs."""
    async with whole_mic(site, mic_of(holder)) as (app, events, metrics):
        tasks = [asyncio.create_task(app.run()), asyncio.create_task(events.run())]
        try:
            yield app, metrics
        finally:
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not ended, ended


def kubeconfig(site: Site) -> dict[str, Any]:
    """An administrator's."""
    settings = {"server": site.api.url, "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": settings}],
        "users": [{"name": "u", "user": {"token": site.api.admin_token}}],
    }


async def read_until(stream: asyncio.StreamReader, lines: list[str], text: str) -> None:
    """Read lines of a log into ``lines`` until one has the text."""
    while True:
        line = (await stream.readline()).decode()
        assert line, "".join(lines)
        lines.append(line)
        if text in line:
            return
