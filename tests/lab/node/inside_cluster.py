"""Runs in a world of its own: the embedded API and two nodes, one of each network variant, until it is killed."""

import subprocess
import sys
import time
from pathlib import Path

from podidentity.lab.node import network
from podidentity.lab.node.launch import NodeLaunch, node_command, node_network


def launches(folder: Path) -> list[NodeLaunch]:
    """One routed node and one with a bridge."""
    modes: list[network.Mode] = ["routed", "bridge"]
    return [
        NodeLaunch(
            name=f"node{index}",
            node_ip=f"10.240.0.{4 + index}",
            pod_cidr=f"10.244.{index}.0/24",
            network=mode,
            provider_id=f"azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/{index}",
            namespace=Path(f"/run/netns/node{index}"),
            state_dir=folder / "nodes" / f"node{index}",
            ca=folder / "pki/ca.crt",
            cert=folder / f"pki/kubelet-node{index}.crt",
            key=folder / f"pki/kubelet-node{index}.key",
            hosts=folder / "hosts",
            ca_bundle=folder / "pki/ca.crt",
            ready_file=folder / "run" / f"node{index}.ready",
            rotation_interval=0.5,
            labels={"agentpool": "pool"},
        )
        for index, mode in enumerate(modes)
    ]


def start(folder: Path, name: str, command: list[str], ready: Path) -> subprocess.Popen[bytes]:
    """Start one part and wait until it is ready."""
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{name} did not start:\n{(folder / f'{name}.log').read_text()}")
        time.sleep(0.02)
    return process


def main() -> None:
    """Build it all, say so, wait."""
    folder = Path(sys.argv[1])
    pki = folder / "pki"
    network.create_fabric()
    nodes = launches(folder)
    for launch in nodes:
        network.create_node(node_network(launch))
    options = {
        "data-dir": folder / "kube",
        "tls-cert": pki / "apiserver.crt",
        "tls-key": pki / "apiserver.key",
        "client-ca": pki / "ca.crt",
        "sa-key": pki / "sa.key",
        "listen": "10.240.0.1:443",
        "unix": folder / "run/api.sock",
        "ready-file": folder / "run/api.ready",
        "kubelet-ca": pki / "ca.crt",
        "kubelet-client-cert": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    start(folder, "api", [sys.executable, "-m", "podidentity.lab.kube", *words], folder / "run/api.ready")
    kubelets = {launch.name: start(folder, launch.name, node_command(launch), launch.ready_file) for launch in nodes}
    (folder / "run/ready").touch()
    while True:
        time.sleep(0.1)
        for launch in nodes:
            if kubelets[launch.name].poll() is not None:
                kubelets[launch.name] = start(folder, launch.name, node_command(launch), launch.ready_file)


if __name__ == "__main__":
    main()
