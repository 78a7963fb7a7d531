"""All of mic over real sockets, between the embedded Kubernetes API and the simulated Azure."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import aiohttp
from tests.mic.component.conftest import POOL, ROOT, SUB, Site, kubeconfig, prepare, put_pod, read_until, running_mic
from tests.ports import free_port

from podidentity.api.resources import CONFIG_MAPS, EVENTS, LEASES


async def test_m27_from_pod_to_scale_set_and_back(site: Site) -> None:
    """Protects the whole controller: attach, Events, metrics, refusal of one identity, clean removal, system kept."""
    async with running_mic(site) as (app, metrics):
        await put_pod(site, "p", "app1")
        await site.until(lambda states: states == {"p-default-app1": "Assigned"})
        assert site.attached() == {"kubelet", "app1"}
        assert app.probe().body() == "Active"
        assert app.not_ready() == []
        assert b"aadpodidentity_assigned_identity_addition_count 1.0" in metrics.render()
        await put_pod(site, "q", "app2")
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
    await put_pod(site, "p", "app1")
    async with running_mic(site) as (app, _):
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
    async with running_mic(site, "one") as (_, metrics):
        assert b"aadpodidentity_mic_new_leader_election_count 1.0" not in metrics.render()
        await put_pod(site, "p", "app1")
        await site.until(lambda states: states == {"p-default-app1": "Created"})
        await asyncio.sleep(1)
    async with running_mic(site, "two") as (_, metrics):
        await site.until(lambda states: states == {"p-default-app1": "Assigned"}, 30)
        assert b"aadpodidentity_mic_new_leader_election_count 1.0" in metrics.render()
        lease = await site.client.get(LEASES, "aad-pod-identity-mic", "default")
        assert lease.spec.holder_identity == "two"
    assert site.attached() == {"kubelet", "app1"}


WATCHED = {"nodes", "pods", "azureassignedidentities", "azureidentities", "azureidentitybindings"}
START_LINES = (
    "starting mic process. Version:",
    "kubeconfig (",
    "running MIC in namespaced mode: false",
    "client QPS set to: adaptive",
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
    (tmp_path / "config").write_text(json.dumps(kubeconfig(bare)))
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
            await read_until(process.stderr, lines, "is not installed")
            assert await _fetch(f"http://127.0.0.1:{probe}/healthz") == (200, "Not Active")
            assert (await _fetch(f"http://127.0.0.1:{probe}/readyz"))[0] == 503
            await prepare(bare)
            await read_until(process.stderr, lines, "sync thread started.")
            assert await _fetch(f"http://127.0.0.1:{probe}/healthz") == (200, "Active")
            assert await _fetch(f"http://127.0.0.1:{probe}/readyz") == (200, "ok")
            status = json.loads((await _fetch(f"http://127.0.0.1:{probe}/status"))[1])
            assert (status["leader"], status["ready"], set(status["watches"])) == (True, True, WATCHED)
            assert "aadpodidentity_mic_leader 1.0" in (await _fetch(f"http://127.0.0.1:{metrics}/metrics"))[1]
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


async def _fetch(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        return reply.status, await reply.text()
