"""How the world starts a node: its network and the command of its kubelet."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from podidentity.lab.node.network import Mode, NodeNetwork


@dataclass(frozen=True, slots=True)
class NodeLaunch:
    """Everything a node is made of. Paths are absolute and as the world sees them.

    ``namespace`` is the file that will hold the network namespace; ``state_dir`` holds the folders that the node sees
    as ``/etc/kubernetes`` (etc-kubernetes), ``/run`` and ``/var``; ``ready_file`` appears when the node is Ready.
    """

    name: str
    node_ip: str
    pod_cidr: str
    network: Mode
    provider_id: str
    namespace: Path
    state_dir: Path
    ca: Path
    cert: Path
    key: Path
    hosts: Path
    ca_bundle: Path
    ready_file: Path
    server: str = "https://10.240.0.1:443"
    rotation_interval: float = 2.0
    labels: Mapping[str, str] = field(default_factory=dict)


def node_network(launch: NodeLaunch) -> NodeNetwork:
    """What :func:`podidentity.lab.node.network.create_node` needs; call it before the command is started."""
    return NodeNetwork(launch.name, str(launch.namespace), launch.node_ip, launch.pod_cidr, launch.network)


def node_command(launch: NodeLaunch) -> list[str]:
    """The kubelet's command line. It enters the node's namespaces itself; it ends on SIGTERM, its pods with it."""
    options = {
        "name": launch.name,
        "node-ip": launch.node_ip,
        "pod-cidr": launch.pod_cidr,
        "network": launch.network,
        "provider-id": launch.provider_id,
        "netns": launch.namespace,
        "state-dir": launch.state_dir,
        "ca": launch.ca,
        "cert": launch.cert,
        "key": launch.key,
        "hosts": launch.hosts,
        "ca-bundle": launch.ca_bundle,
        "ready-file": launch.ready_file,
        "server": launch.server,
        "rotation-interval": launch.rotation_interval,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    words += [f"--label={name}={value}" for name, value in launch.labels.items()]
    return [sys.executable, "-m", "podidentity.lab.node", *words]
