"""A Kubernetes API (embedded or real) and the simulated Azure as processes on loopback, without namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import yaml

from podidentity.api.resources import AZURE_ASSIGNED_IDENTITIES, AZURE_IDENTITIES, AZURE_IDENTITY_BINDINGS
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError
from podidentity.kube.settings import KubeSettings, load_settings
from podidentity.lab.cloud import AdminClient
from podidentity.lab.control_plane import ControlPlane
from podidentity.lab.kubeconfig import write_kubeconfig
from podidentity.lab.layout import Layout
from podidentity.lab.pki import make_pki
from podidentity.lab.programs import programs
from podidentity.manifests.shipped import shipped
from processes import free_port, started

Server = Literal["embedded", "real"]
"""Which Kubernetes API: the lab's own, or etcd and kube-apiserver."""
Fill = Callable[[str], Awaitable[None]]

TENANT = "22222222-2222-2222-2222-222222222222"
CONTROLLER = "33333333-3333-3333-3333-333333333333"
CONTROLLER_SECRET = "benchmark"
READY_SECONDS: Final = 600.0
"""The most a real API server may take until it is ready."""


@dataclass(frozen=True, slots=True)
class Site:
    """Both services, ready; ``client`` has no limit, ``azure`` is the simulated Azure's admin socket."""

    layout: Layout
    client: KubeClient
    azure: AdminClient
    api_pid: int
    proxy_port: int

    async def patches(self) -> int:
        """PATCHes of machines so far."""
        counters = await self.azure.call("GET", "/counters")
        arm = counters["arm"]
        operations = arm.get("operations", {}) if isinstance(arm, dict) else {}
        return sum(count for name, count in operations.items() if name.startswith("PATCH Microsoft.Compute/"))

    def mic_environ(self) -> dict[str, str]:
        """The environment in which mic finds this Azure under Azure's own names, through a proxy on loopback."""
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self.proxy_port}",
            "https_proxy": f"http://127.0.0.1:{self.proxy_port}",
            "SSL_CERT_FILE": str(self.layout.ca_bundle),
            "REQUESTS_CA_BUNDLE": str(self.layout.ca_bundle),
            "MIC_POD_NAMESPACE": "default",
        }

    def azure_json(self, subscription: str, group: str) -> Path:
        """The cloud configuration of mic, which signs in with a client secret."""
        path = self.layout.root / "azure.json"
        path.write_text(
            json.dumps(
                {
                    "cloud": "AzurePublicCloud",
                    "tenantId": TENANT,
                    "subscriptionId": subscription,
                    "resourceGroup": group,
                    "vmType": "standard",
                    "aadClientId": CONTROLLER,
                    "aadClientSecret": CONTROLLER_SECRET,
                }
            )
        )
        path.chmod(0o600)
        return path


@asynccontextmanager
async def running_site(
    root: Path, seed: Mapping[str, object], server: Server = "embedded", fill: Fill | None = None
) -> AsyncIterator[Site]:
    """Start both in ``root``, with the product's CRDs. ConfigError where the real API's programs are missing.

    ``fill`` is awaited with the real API's etcd (its URL) before the API server starts.
    """
    layout = Layout(root)
    layout.make()
    make_pki(layout.pki, (), ())
    layout.seed.write_text(json.dumps(seed))
    port = free_port()
    write_kubeconfig(layout, port)
    async with AsyncExitStack() as stack:
        serving = _api(layout, port) if server == "embedded" else _real_api(layout, port, fill)
        api = await stack.enter_async_context(serving)
        azure_port = await stack.enter_async_context(_azure(layout))
        proxy_port = await stack.enter_async_context(_proxy(azure_port))
        settings = load_settings(str(layout.kubeconfig), os.environ)
        client = await stack.enter_async_context(KubeClient(settings, user_agent="podidentity-benchmark"))
        admin = await stack.enter_async_context(AdminClient(layout.cloud_socket))
        await _objects(client)
        yield Site(layout, client, admin, api, proxy_port)


@asynccontextmanager
async def _api(layout: Layout, port: int) -> AsyncIterator[int]:
    pki, ready = layout.pki, layout.run / "api.ready"
    words = [sys.executable, "-m", "podidentity.lab.kube", "--data-dir", str(layout.kube_data)]
    words += ["--tls-cert", str(pki / "apiserver.crt"), "--tls-key", str(pki / "apiserver.key")]
    words += ["--client-ca", str(pki / "ca.crt"), "--sa-key", str(pki / "sa.key")]
    words += ["--listen", f"127.0.0.1:{port}", "--ready-file", str(ready)]
    async with started(words, layout.logs / "api.log", ready=ready) as pid:
        yield pid


@asynccontextmanager
async def _real_api(layout: Layout, port: int, fill: Fill | None) -> AsyncIterator[int]:
    found = programs(os.environ)
    plane = ControlPlane(layout.kube_data / "etcd", layout.pki, "127.0.0.1", port, free_port(), free_port())
    etcd, apiserver = plane.etcd(found.require("etcd")), plane.apiserver(found.require("kube-apiserver"))
    settings = load_settings(str(layout.kubeconfig), os.environ)
    async with started(etcd, layout.logs / "etcd.log"):
        if fill is not None:
            url = f"http://127.0.0.1:{plane.etcd_port}"
            async with KubeClient(KubeSettings(server=url), user_agent="podidentity-benchmark") as client:
                await _answered(client, "/health")
            await fill(url)
        async with (
            started(apiserver, layout.logs / "api.log") as pid,
            KubeClient(settings, user_agent="podidentity-benchmark") as client,
        ):
            await _answered(client, "/readyz")
            await _answered(client, "/api/v1/namespaces/default")
            yield pid


async def _answered(client: KubeClient, path: str) -> None:
    """Wait until the API answers ``path`` with success; TimeoutError after READY_SECONDS."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                await client.raw("GET", path)
            except KubeError:
                await asyncio.sleep(0.1)
            else:
                return


@asynccontextmanager
async def _azure(layout: Layout) -> AsyncIterator[int]:
    pki, ready = layout.pki, layout.run / "cloud.ready"
    words = [sys.executable, "-m", "podidentity.lab.cloud", "--state-dir", str(layout.cloud_data)]
    words += ["--seed", str(layout.seed), "--https", "127.0.0.1:0"]
    words += ["--tls-cert", str(pki / "cloud.crt"), "--tls-key", str(pki / "cloud.key")]
    words += ["--admin-socket", str(layout.cloud_socket), "--ready-file", str(ready)]
    async with started(words, layout.logs / "cloud.log", ready=ready):
        yield int(json.loads(ready.read_bytes())["https"].rpartition(":")[2])


@asynccontextmanager
async def _proxy(target: int) -> AsyncIterator[int]:
    """A proxy on loopback whose every CONNECT leads to port ``target``; its port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            there, back = await asyncio.open_connection("127.0.0.1", target)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, back))
                tasks.create_task(_copy(there, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _objects(client: KubeClient) -> None:
    """The CRDs, and the service account without which no pod is admitted."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.raw("POST", "/api/v1/namespaces/default/serviceaccounts", body=account)
    for document in yaml.safe_load_all(shipped("deployment-rbac.yaml").read_text()):
        if document and document["kind"] == "CustomResourceDefinition":
            await client.raw("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body=document)
    for resource in (AZURE_IDENTITIES, AZURE_IDENTITY_BINDINGS, AZURE_ASSIGNED_IDENTITIES):
        await _answered(client, resource.path("default"))
