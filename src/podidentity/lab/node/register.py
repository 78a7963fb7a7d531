"""The Node object and its Lease: made at start, kept alive."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from podidentity.aio.clock import Clock
from podidentity.api.core import Lease, LeaseSpec
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import LEASES
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import AlreadyExists, KubeError, NotFound
from podidentity.lab.node.status import stamp
from podidentity.telemetry.logging import get_logger

LEASE_NAMESPACE: Final = "kube-node-lease"
LEASE_SECONDS: Final = 40
RENEW_EVERY: Final = 10.0
STATUS_EVERY: Final = 60.0
KUBELET_PORT: Final = 10250
NOT_READY: Final = "node.kubernetes.io/not-ready"
VERSION: Final = "v1.34.4"
_RETRY: Final = 0.5
_MERGE: Final = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What a Node says of itself."""

    name: str
    ip: str
    pod_cidr: str
    provider_id: str
    labels: Mapping[str, str] = field(default_factory=dict)


def node_object(node: NodeIdentity) -> dict[str, object]:
    """The Node to create. Pure."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        **node.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {"providerID": node.provider_id, "podCIDR": node.pod_cidr, "podCIDRs": [node.pod_cidr]},
    }


def without_not_ready(taints: Sequence[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The taints but the one that admission gives a new node until it is seen to be ready. Pure."""
    return [taint for taint in taints if taint.get("key") != NOT_READY]


def node_status(node: NodeIdentity, started: float, now: float) -> dict[str, object]:
    """The Node's status; times in seconds since the epoch. Pure but for the machine's size."""
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": "16Gi", "pods": "250"}

    def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
        times = {"lastHeartbeatTime": stamp(now), "lastTransitionTime": stamp(started)}
        return {"type": kind, "status": status, "reason": reason, "message": message, **times}

    return {
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": node.ip}, {"type": "Hostname", "address": node.name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "conditions": [
            condition(
                "MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"
            ),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
        "nodeInfo": {
            "architecture": platform.machine(),
            "operatingSystem": "linux",
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "containerRuntimeVersion": "processes://1",
            "kernelVersion": platform.release(),
            "osImage": "podidentity lab",
            "machineID": node.name,
            "systemUUID": node.name,
            "bootID": node.name,
        },
    }


class Registration:
    """Keeps one Node in the API."""

    def __init__(self, client: KubeClient, node: NodeIdentity, clock: Clock) -> None:
        self._client = client
        self._node = node
        self._clock = clock
        self._started = clock.wall()
        self._path = f"/api/v1/nodes/{node.name}"
        self._log = get_logger(node=node.name)

    async def register(self) -> None:
        """Create the Node, or bring an existing one up to date; tried until the API takes it."""
        wanted = node_object(self._node)
        while True:
            try:
                try:
                    await self._client.raw("POST", "/api/v1/nodes", body=wanted)
                except AlreadyExists:
                    patch = {"metadata": wanted["metadata"], "spec": wanted["spec"]}
                    await self._client.raw("PATCH", self._path, body=patch, content_type=_MERGE)
                await self._write_status()
                await self._accept_pods()
                await self._renew()
            except KubeError as error:
                self._log.warning("the node is not registered yet", error=str(error))
                await asyncio.sleep(_RETRY)
            else:
                return

    async def run(self) -> None:
        """Renew the lease and, less often, the status until cancelled."""
        next_status = self._clock.monotonic() + STATUS_EVERY
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self._renew()
                if self._clock.monotonic() >= next_status:
                    await self._write_status()
                    next_status = self._clock.monotonic() + STATUS_EVERY
            except NotFound:
                await self.register()
            except KubeError as error:
                self._log.warning("the node's lease was not renewed", error=str(error))

    async def _accept_pods(self) -> None:
        """Take off the taint of a node that is not ready: a lab has no node lifecycle controller that would."""
        node = msgspec.json.decode(await self._client.raw("GET", self._path))
        taints = node["spec"].get("taints") or []
        kept = without_not_ready(taints)
        if kept != taints:
            version = {"resourceVersion": node["metadata"]["resourceVersion"]}
            patch = {"metadata": version, "spec": {"taints": kept or None}}
            await self._client.raw("PATCH", self._path, body=patch, content_type=_MERGE)

    async def _write_status(self) -> None:
        status = node_status(self._node, self._started, self._clock.wall())
        await self._client.raw("PATCH", f"{self._path}/status", body={"status": status}, content_type=_MERGE)

    async def _renew(self) -> None:
        now = dt.datetime.fromtimestamp(self._clock.wall(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = LeaseSpec(holder_identity=self._node.name, lease_duration_seconds=LEASE_SECONDS, renew_time=now)
        meta = ObjectMeta(name=self._node.name, namespace=LEASE_NAMESPACE)
        lease = Lease(api_version="coordination.k8s.io/v1", kind="Lease", metadata=meta, spec=spec)
        try:
            patch = {"spec": {"holderIdentity": self._node.name, "renewTime": now}}
            await self._client.patch_merge(LEASES, self._node.name, LEASE_NAMESPACE, patch)
        except NotFound:
            await self._client.create(LEASES, lease)
