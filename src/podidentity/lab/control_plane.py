"""The command lines of a real control plane: etcd, kube-apiserver, kube-controller-manager. Pure.

The lab runs them in its namespaces, the contract suite on loopback. Certificates are those of
:func:`podidentity.lab.pki.make_pki`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ISSUER: Final = "https://kubernetes.default.svc"
SERVICE_RANGE: Final = "10.0.0.0/24"
PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager")
CONTROLLERS: Final = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
)
"""What nothing else in a lab does; other workloads and scheduling are the lab's own controllers'."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """One cluster's. ``data`` is etcd's folder, ``address`` and ``port`` are where the API is served."""

    data: Path
    pki: Path
    address: str
    port: int
    etcd_port: int = 2379
    etcd_peer_port: int = 2380

    def etcd(self, program: Path) -> tuple[str, ...]:
        """Etcd, on loopback and without waiting for the disk: a lab's state survives a killed process, not a crash."""
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        return (
            str(program),
            f"--data-dir={self.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def apiserver(self, program: Path) -> tuple[str, ...]:
        """kube-apiserver with RBAC, the default admission plugins, and the way to kubelets for logs and exec."""
        pki = self.pki
        return (
            str(program),
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            f"--cert-dir={self.data.parent}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={pki / 'sa.key'}",
            f"--service-account-signing-key-file={pki / 'sa.key'}",
            "--authorization-mode=RBAC",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--feature-gates=TranslateStreamCloseWebsocketRequests=false",
            "--endpoint-reconciler-type=none",
            "--v=1",
        )

    def controller_manager(self, program: Path, kubeconfig: Path) -> tuple[str, ...]:
        """kube-controller-manager with the controllers a lab has no others for."""
        return (
            str(program),
            f"--kubeconfig={kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--root-ca-file={self.pki / 'ca.crt'}",
            "--leader-elect=false",
            "--use-service-account-credentials=false",
            "--secure-port=0",
            "--v=1",
        )
