"""The processes of a lab: their names, their command lines, and how one knows that each is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError
from podidentity.kube.target import KubeSettings
from podidentity.lab.control_plane import ControlPlane
from podidentity.lab.kubeconfig import kubeconfig_text
from podidentity.lab.layout import Layout, write_atomically
from podidentity.lab.node.launch import NodeLaunch, node_command
from podidentity.lab.programs import programs
from podidentity.lab.spec import CLOUD_ADDRESS, FABRIC_ADDRESS, IMDS_ADDRESS, LabSpec, NodeSpec

API_PORT = 443
API_URL = f"https://{FABRIC_ADDRESS}:{API_PORT}"
NAMESPACES = Path("/run/podidentity/netns")
READY = ".ready"
"""How the files end that parts of our own make when they are ready."""

Check = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the lab: its name (and log file), its command, and whether it is ready."""

    name: str
    command: tuple[str, ...]
    ready: Check


@dataclass(frozen=True, slots=True)
class ControlParts:
    """A cluster's control plane: what serves the API, and what needs it to be served."""

    serving: tuple[Part, ...]
    using: tuple[Part, ...]


def _made(path: Path) -> Check:
    """The part makes a file."""

    async def check() -> bool:
        return path.exists()  # noqa: ASYNC240 - one look at a file does not block

    return check


def _answers(client: KubeClient, *paths: str) -> Check:
    """The API has an answer at all of the paths."""

    async def check() -> bool:
        try:
            for path in paths:
                await client.raw("GET", path)
        except KubeError:
            return False
        return True

    return check


async def _at_once() -> bool:
    return True


def _python(module: str, options: Mapping[str, object]) -> tuple[str, ...]:
    words = [sys.executable, "-m", module]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return tuple(words)


def cloud_part(layout: Layout) -> Part:
    """The simulated Azure."""
    ready = layout.run / f"cloud{READY}"
    options = {
        "state-dir": layout.cloud_data,
        "seed": layout.seed,
        "https": f"{CLOUD_ADDRESS}:443",
        "imds": f"{IMDS_ADDRESS}:80",
        "tls-cert": layout.pki / "cloud.crt",
        "tls-key": layout.pki / "cloud.key",
        "admin-socket": layout.cloud_socket,
        "ready-file": ready,
    }
    return Part("cloud", _python("podidentity.lab.cloud", options), _made(ready))


def _embedded_api(layout: Layout) -> Part:
    ready, pki = layout.run / f"api{READY}", layout.pki
    options = {
        "data-dir": layout.kube_data,
        "tls-cert": pki / "apiserver.crt",
        "tls-key": pki / "apiserver.key",
        "client-ca": pki / "ca.crt",
        "sa-key": pki / "sa.key",
        "listen": f"{FABRIC_ADDRESS}:{API_PORT}",
        "unix": layout.api_socket,
        "ready-file": ready,
        "kubelet-ca": pki / "ca.crt",
        "kubelet-client-cert": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
    }
    return Part("api", _python("podidentity.lab.kube", options), _made(ready))


def _controllers(layout: Layout, *more: str) -> Part:
    """Scheduler and workload controllers."""
    ready = layout.run / f"controllers{READY}"
    options = {
        "server": API_URL,
        "ca": layout.pki / "ca.crt",
        "cert": layout.pki / "controllers.crt",
        "key": layout.pki / "controllers.key",
        "ready-file": ready,
    }
    return Part("controllers", (*_python("podidentity.lab.controllers", options), *more), _made(ready))


def embedded_parts(layout: Layout) -> ControlParts:
    """The embedded Kubernetes API and the lab's controllers."""
    return ControlParts((_embedded_api(layout),), (_controllers(layout),))


def admin_settings(layout: Layout, server: str) -> KubeSettings:
    """How the lab itself speaks to its API server: by its own keys, whatever kubeconfig there is."""
    pki = layout.pki
    return KubeSettings(
        server=server,
        ca_file=str(pki / "ca.crt"),
        client_cert_file=str(pki / "admin.crt"),
        client_key_file=str(pki / "admin.key"),
    )


def real_parts(layout: Layout, client: KubeClient) -> ControlParts:
    """Kubernetes' own control plane, asked through ``client`` whether it is ready, and the lab's controllers."""
    found, plane = programs(os.environ), ControlPlane(layout.kube_data / "etcd", layout.pki, FABRIC_ADDRESS, API_PORT)
    kubeconfig = layout.kube_data / "controller-manager.kubeconfig"
    write_atomically(kubeconfig, kubeconfig_text(layout, API_URL, "controllers"))
    furniture = [
        f"/api/v1/namespaces/default/{item}" for item in ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
    ]
    manager = plane.controller_manager(found.require("kube-controller-manager"), kubeconfig)
    return ControlParts(
        (
            Part("etcd", plane.etcd(found.require("etcd")), _at_once),
            Part("kube-apiserver", plane.apiserver(found.require("kube-apiserver")), _answers(client, "/readyz")),
        ),
        (
            Part("kube-controller-manager", manager, _answers(client, *furniture)),
            _controllers(layout, "--no-housekeeping"),
        ),
    )


def node_launch(layout: Layout, spec: LabSpec, node: NodeSpec) -> NodeLaunch:
    """A node."""
    return NodeLaunch(
        name=node.name,
        node_ip=node.address,
        pod_cidr=node.pod_cidr,
        network=spec.network,
        provider_id=node.provider_id,
        namespace=NAMESPACES / node.name,
        state_dir=layout.nodes / node.name,
        ca=layout.pki / "ca.crt",
        cert=layout.pki / f"kubelet-{node.name}.crt",
        key=layout.pki / f"kubelet-{node.name}.key",
        hosts=layout.hosts,
        ca_bundle=layout.ca_bundle,
        ready_file=layout.run / f"{node.name}{READY}",
        server=API_URL,
        rotation_interval=spec.rotation_interval,
    )


def kubelet_part(launch: NodeLaunch) -> Part:
    """The kubelet of a node whose network is there."""
    return Part(launch.name, tuple(node_command(launch)), _made(launch.ready_file))
