"""The kubeconfig of a lab, for kubectl and for our own commands."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from podidentity.lab.layout import Layout, write_atomically


def _embedded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def kubeconfig_text(layout: Layout, server: str, user: str = "admin") -> str:
    """A kubeconfig with everything inside, so that it can be copied; ``user`` is one of the lab's PKI."""
    name = "podidentity-lab"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
            "clusters": [
                {
                    "name": name,
                    "cluster": {
                        "server": server,
                        "certificate-authority-data": _embedded(layout.pki / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate-data": _embedded(layout.pki / f"{user}.crt"),
                        "client-key-data": _embedded(layout.pki / f"{user}.key"),
                    },
                }
            ],
        },
        sort_keys=False,
    )


def write_kubeconfig(layout: Layout, port: int) -> None:
    """Write it, readable by its owner only: it makes its reader the cluster's administrator."""
    write_atomically(layout.kubeconfig, kubeconfig_text(layout, f"https://127.0.0.1:{port}"))
