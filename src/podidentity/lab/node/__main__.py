"""``python -m podidentity.lab.node``: becomes a node of the lab and runs its kubelet."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from podidentity.aio.signals import until_signal
from podidentity.config.errors import ConfigError
from podidentity.kube.settings import KubeSettings
from podidentity.lab.node.kits import code_of, installed
from podidentity.lab.node.kubelet import KubeletSettings, run
from podidentity.lab.node.machine import PKI, POD_ROOT, Machine, become, code_paths
from podidentity.lab.node.podspec import NodeFacts
from podidentity.lab.node.register import NodeIdentity
from podidentity.lab.node.server import ServerFiles
from podidentity.telemetry.logging import configure_logging

KUBENET = "KUBELET_FLAGS=--network-plugin=kubenet\n"
"""What the node's /etc/default/kubelet says where pods are behind a bridge, as on such a node of AKS."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="podidentity.lab.node")
    for name in ("name", "node-ip", "pod-cidr", "provider-id", "server"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--network", choices=("bridge", "routed"), required=True)
    for name in ("netns", "state-dir", "ca", "cert", "key", "hosts", "ca-bundle", "ready-file"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rotation-interval", type=float, default=120.0)
    parser.add_argument("--label", action="append", default=[])
    return parser


def _pod_environment(server: str) -> dict[str, str]:
    """What every container of the cluster has in its environment."""
    url = urlsplit(server)
    port = str(url.port or 443)
    found = {
        "PATH": f"{sys.prefix}/bin:{_PATH}",
        "LANG": "C.UTF-8",
        "KUBERNETES_SERVICE_HOST": url.hostname or "",
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
        "KUBERNETES_PORT": f"tcp://{url.hostname}:{port}",
    }
    if "PYTHONPATH" in os.environ:
        found["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return found


def _code() -> tuple[str, ...]:
    """The directories of this project's programs and of the kits."""
    kits = [path for folder in installed(os.environ).values() for path in code_of(folder)]
    return (*code_paths(), *kits)


def _settings(given: argparse.Namespace, hosts: str, code: tuple[str, ...]) -> KubeletSettings:
    facts = NodeFacts(
        name=given.name,
        ip=given.node_ip,
        hosts=hosts,
        ca_bundle=f"{PKI}/bundle.crt",
        code=code,
        environ=_pod_environment(given.server),
        mount_point=POD_ROOT,
        kits=installed(os.environ),
    )
    return KubeletSettings(
        node=NodeIdentity(
            name=given.name,
            ip=given.node_ip,
            pod_cidr=given.pod_cidr,
            provider_id=given.provider_id,
            labels=dict(item.split("=", 1) for item in given.label),
        ),
        facts=facts,
        mode=given.network,
        kube=KubeSettings(
            server=given.server,
            ca_file=f"{PKI}/ca.crt",
            client_cert_file=f"{PKI}/kubelet.crt",
            client_key_file=f"{PKI}/kubelet.key",
        ),
        files=ServerFiles(cert=f"{PKI}/kubelet.crt", key=f"{PKI}/kubelet.key", ca=f"{PKI}/ca.crt"),
        rotation=given.rotation_interval,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one node until SIGTERM; 0, or 1 with one line on what went wrong."""
    given = _parser().parse_args(argv)
    configure_logging(log_format="text", verbosity=0)
    try:
        hosts = given.hosts.read_text()
        ready = os.open(given.ready_file.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        files = {"ca.crt": given.ca, "kubelet.crt": given.cert, "kubelet.key": given.key, "bundle.crt": given.ca_bundle}
        etc = {
            "hosts": f"127.0.0.1\tlocalhost\n{hosts.strip()}\n{given.node_ip}\t{given.name}\n",
            "hostname": f"{given.name}\n",
            "resolv.conf": "# The lab has no DNS: names are in /etc/hosts.\noptions timeout:1 attempts:1\n",
        }
        if given.network == "bridge":
            etc["default/kubelet"] = KUBENET
        code = _code()
        settings = _settings(given, hosts, code)
        become(Machine(given.name, str(given.netns), given.state_dir, files, etc, given.ca_bundle, code))

        def on_ready() -> None:
            os.close(os.open(given.ready_file.name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=ready))

        asyncio.run(until_signal(run(settings, on_ready)))
    except (OSError, ConfigError) as error:
        sys.stderr.write(f"podidentity lab: node {given.name}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
