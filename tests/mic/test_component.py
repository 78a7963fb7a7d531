"""All of mic over real sockets, between the embedded Kubernetes API and the simulated Azure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.ports import free_port

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.api.constants import EVENT_SOURCE
from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES, CONFIG_MAPS, EVENTS, LEASES
from podidentity.azure.arm import ComputeClient
from podidentity.azure.cloud import cloud_named
from podidentity.azure.credentials import AccessToken
from podidentity.config.mic import MicSettings, mic_settings
from podidentity.config.redact import SecretText
from podidentity.kube.auth import StaticToken
from podidentity.kube.client import KubeClient
from podidentity.kube.events import EventRecorder
from podidentity.kube.settings import KubeSettings
from podidentity.lab.cloud import CloudConfig, parse_seed
from podidentity.lab.cloud import Running as Azure
from podidentity.lab.cloud import serve as serve_azure
from podidentity.lab.kube.config import ApiConfig
from podidentity.lab.kube.serving import Running as Api
from podidentity.lab.kube.serving import serve as serve_api
from podidentity.mic.app import App, Clients, build_app
from podidentity.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
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
    await _prepare(bare)
    return bare


async def _prepare(site: Site) -> None:
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


async def _pod(site: Site, name: str, label: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"aadpodidbinding": label}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
    }
    await site.put("/api/v1/namespaces/default/pods", pod)


def _settings(holder: str) -> MicSettings:
    flags = ["--identity-removal-linger=1s", "--leader-election-duration=2s", "--clientQps=200"]
    return mic_settings(flags, {"MIC_POD_NAMESPACE": "default"}, holder)


@contextlib.asynccontextmanager
async def _mic(site: Site, holder: str = "one") -> AsyncIterator[tuple[App, Metrics]]:
    """A whole mic but its servers."""
    settings, metrics, clock = _settings(holder), Metrics(), Clock()
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
        app = build_app(
            settings, Clients(*kube), compute, events, metrics, fence=fence, clock=clock, rng=random.Random(1)
        )
        tasks = [asyncio.create_task(app.run()), asyncio.create_task(events.run())]
        try:
            yield app, metrics
        finally:
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not ended, ended


async def test_m27_from_pod_to_scale_set_and_back(site: Site) -> None:
    """Protects the whole controller: attach, Events, metrics, refusal of one identity, clean removal, system kept."""
    async with _mic(site) as (app, metrics):
        await _pod(site, "p", "app1")
        await site.until(lambda states: states == {"p-default-app1": "Assigned"})
        assert site.attached() == {"kubelet", "app1"}
        assert app.probe().body() == "Active"
        assert app.not_ready() == []
        assert b"aadpodidentity_assigned_identity_addition_count 1.0" in metrics.render()
        await _pod(site, "q", "app2")
        async with asyncio.timeout(20):
            while not (refused := await _events(site, "Pod", "q")):  # noqa: ASYNC110 - it happens over a socket
                await asyncio.sleep(0.1)
        assert refused[0][0] == "binding apply error"
        assert "Managed Identity Operator" in refused[0][1]
        record = await site.client.get(CONFIG_MAPS, "aad-pod-identity-config", "default")
        assert record.data["type-upgrade-status"]
        for name in ("p", "q"):
            await site.client.raw(
                "DELETE", f"/api/v1/namespaces/default/pods/{name}", params={"gracePeriodSeconds": "0"}
            )
        await site.until(lambda states: states == {})
    assert site.attached() == {"kubelet"}
    assert "SystemAssigned" in str(site.azure.admin.identities_on(POOL)["type"])
    applied = await _events(site, "AzureIdentityBinding", "app1-binding")
    assert applied[0] == ("binding applied", "Binding app1-binding applied on node n1 for pod p-default-app1")


async def test_m46_only_labelled_pods_are_watched(site: Site) -> None:
    """Protects memory: what the cluster's other pods are costs nothing, and a label that comes later is seen."""
    path = "/api/v1/namespaces/default/pods"
    other = {"metadata": {"name": "other"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}}
    await site.put(path, other)
    await _pod(site, "p", "app1")
    async with _mic(site) as (app, _):
        await site.until(lambda states: states == {"p-default-app1": "Assigned"})
        assert app._controller._world.matcher.counts()[0] == 1
        label = {"metadata": {"labels": {"aadpodidbinding": "app1"}}}
        await site.client.raw("PATCH", f"{path}/other", body=label, content_type="application/merge-patch+json")
        await site.until(lambda states: "other-default-app1" in states)
        assert app._controller._world.matcher.counts()[0] == 2


async def _events(site: Site, kind: str, name: str) -> list[tuple[str, str]]:
    found = (await site.client.list(EVENTS)).items
    about = [e for e in found if (e.involved_object.kind, e.involved_object.name) == (kind, name)]
    return [(event.reason, event.message) for event in about]


async def test_m43_leader_change(site: Site) -> None:
    """Protects assignments over a change of the leader: the second goes on where the first was cancelled."""
    site.azure.admin.set_faults(arm_delay_vmss=3.0)
    async with _mic(site, "one") as (_, metrics):
        assert b"aadpodidentity_mic_new_leader_election_count 1.0" not in metrics.render()
        await _pod(site, "p", "app1")
        await site.until(lambda states: states == {"p-default-app1": "Created"})
        await asyncio.sleep(1)
    async with _mic(site, "two") as (_, metrics):
        await site.until(lambda states: states == {"p-default-app1": "Assigned"}, 30)
        assert b"aadpodidentity_mic_new_leader_election_count 1.0" in metrics.render()
        lease = await site.client.get(LEASES, "aad-pod-identity-mic", "default")
        assert lease.spec.holder_identity == "two"
    assert site.attached() == {"kubelet", "app1"}


START_LINES = (
    "starting mic process. Version:",
    "kubeconfig (",
    "running MIC in namespaced mode: false",
    "client QPS set to: 5. Burst to: 5",
    "starting to create the pod identity client. Version:",
    "Kubernetes server version: v1.",
    "MIC using user assigned identity: ae95##### REDACTED #####5f1d for authentication.",
    "initialized health probe on port",
    "started health probe",
    "registered views for metric",
    "starting Prometheus exporter",
    "registered and exported metrics on port",
    "initiating MIC Leader election",
    "attempting to acquire leader lease  default/aad-pod-identity-mic...",
    "successfully acquired lease default/aad-pod-identity-mic",
    "upgrading the types to work with case sensitive go-client",
    "type upgrade completed !!",
    "CRD informers started",
    "pod cache synchronized. Took",
    "pod watcher started !!",
    "sync thread started.",
)


async def test_process(bare: Site, tmp_path: Path) -> None:
    """Protects what operators grep: the start-up lines in order, the wait for the CRDs, a clean end on SIGTERM."""
    (tmp_path / "config").write_text(json.dumps(_kubeconfig(bare)))
    identity = "ae950000-0000-0000-0000-000000005f1d"
    environ = {
        "MIC_POD_NAMESPACE": "default",
        "CLOUD": "AzurePublicCloud",
        "TENANT_ID": SUB,
        "SUBSCRIPTION_ID": SUB,
        "RESOURCE_GROUP": "rg-Nodes",
        "USE_MSI": "true",
        "USER_ASSIGNED_MSI_CLIENT_ID": identity,
        "PYTHONPATH": str(ROOT / "src"),
    }
    probe, metrics = free_port(), free_port()
    flags = [f"--kubeconfig={tmp_path / 'config'}", f"--http-probe-port={probe}", f"--prometheus-port={metrics}"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "podidentity", "mic", *flags, env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(40):
            await _read_until(process.stderr, lines, "is not installed")
            assert await _fetch(f"http://127.0.0.1:{probe}/healthz") == (200, "Not Active")
            assert (await _fetch(f"http://127.0.0.1:{probe}/readyz"))[0] == 503
            await _prepare(bare)
            await _read_until(process.stderr, lines, "sync thread started.")
            assert await _fetch(f"http://127.0.0.1:{probe}/healthz") == (200, "Active")
            assert await _fetch(f"http://127.0.0.1:{probe}/readyz") == (200, "ok")
            assert "aadpodidentity_mic_new_leader" in (await _fetch(f"http://127.0.0.1:{metrics}/metrics"))[1]
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = iter(lines)
    missing = [text for text in START_LINES if not any(text in line for line in found)]
    assert not missing, lines
    lease = await bare.client.get(LEASES, "aad-pod-identity-mic", "default")
    assert not lease.spec.holder_identity


def _kubeconfig(site: Site) -> dict[str, Any]:
    settings = {"server": site.api.url, "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": settings}],
        "users": [{"name": "u", "user": {"token": site.api.admin_token}}],
    }


async def _fetch(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        return reply.status, await reply.text()


async def _read_until(stream: asyncio.StreamReader, lines: list[str], text: str) -> None:
    while True:
        line = (await stream.readline()).decode()
        assert line, "".join(lines)
        lines.append(line)
        if text in line:
            return
