"""What a lab is made of: names, addresses and ids, fixed when it is created and kept in ``lab.json``."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Literal

import msgspec

from podidentity.config.errors import ConfigError
from podidentity.lab.layout import write_atomically

FABRIC_ADDRESS = "10.240.0.1"
CLOUD_ADDRESS = "10.240.0.2"
IMDS_ADDRESS = "169.254.169.254"
MAX_NODES = 50
SECONDS_A_NODE = 3
"""How much longer a start may take for each node, on a machine with two busy cores."""
SCALE_SET = "aks-nodepool1-31459265-vmss"
LOCATION = "westeurope"
Network = Literal["bridge", "routed"]
ApiServer = Literal["embedded", "real"]
"""The lab's own API server, or Kubernetes' kube-apiserver with etcd behind it."""


class NodeSpec(msgspec.Struct, frozen=True):
    """One node: its address on the fabric, the range of its pods, its ARM id."""

    name: str
    address: str
    pod_cidr: str
    resource_id: str

    @property
    def provider_id(self) -> str:
        """``spec.providerID`` of the Node."""
        return f"azure://{self.resource_id}"


class LabSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A lab's fixed facts. Ids are random per lab, so two labs never share an identity."""

    version: int = 1
    node_count: int
    network: Network
    api_server: ApiServer = "embedded"
    port: int
    subscription_id: str
    tenant_id: str
    owner_client_id: str
    control_plane_principal_id: str
    kubelet_client_id: str
    kubelet_principal_id: str
    cluster: str = "aks-terraaksclus"
    resource_group: str = "rsg-dfitcfr-dev-aks"
    node_resource_group: str = "rsg-dfitcfr-dev-aks-aksobjects"
    rotation_interval: float = 2.0
    pod_prefix: int = 24
    """Length of a node's range of pod addresses: with a long one they come back soon."""
    vault: str
    """The name a vault made in this lab can have: pods find vaults through a hosts file, which has no wildcards."""

    @property
    def subscription_scope(self) -> str:
        """The ARM scope the walkthrough's role assignments are made at."""
        return f"/subscriptions/{self.subscription_id}"

    @property
    def node_group_scope(self) -> str:
        """ARM id of the node resource group."""
        return f"{self.subscription_scope}/resourceGroups/{self.node_resource_group}"

    @property
    def scale_set_id(self) -> str:
        """ARM id of the node pool's scale set."""
        return f"{self.node_group_scope}/providers/Microsoft.Compute/virtualMachineScaleSets/{SCALE_SET}"

    @property
    def kubelet_identity_id(self) -> str:
        """ARM id of the kubelet identity, which mic works as."""
        return identity_id(self, self.node_resource_group, f"{self.cluster}-agentpool")

    @property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """The nodes, in order."""
        return tuple(
            NodeSpec(
                name=f"{SCALE_SET}{index:06d}",
                address=f"10.240.0.{index + 4}",
                pod_cidr=f"10.244.{index}.0/{self.pod_prefix}",
                resource_id=f"{self.scale_set_id}/virtualMachines/{index}",
            )
            for index in range(self.node_count)
        )


def identity_id(spec: LabSpec, group: str, name: str) -> str:
    """ARM id of a user-assigned identity ``name`` in resource group ``group``."""
    scope = f"{spec.subscription_scope}/resourceGroups/{group}"
    return f"{scope}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"


def new_spec(*, node_count: int, network: Network, port: int, api_server: ApiServer = "embedded") -> LabSpec:
    """A new lab's facts; raises ConfigError for a number of nodes that has no addresses."""
    if not 1 <= node_count <= MAX_NODES:
        raise ConfigError(f"--nodes: {node_count} is out of range; say 1 to {MAX_NODES}")
    ids = [str(uuid.uuid4()) for _ in range(6)]
    return LabSpec(
        node_count=node_count,
        network=network,
        api_server=api_server,
        port=port,
        subscription_id=ids[0],
        tenant_id=ids[1],
        owner_client_id=ids[2],
        control_plane_principal_id=ids[3],
        kubelet_client_id=ids[4],
        kubelet_principal_id=ids[5],
        vault=f"akvlab{ids[0].replace('-', '')[:10]}",
    )


def load_spec(path: Path) -> LabSpec | None:
    """The spec of an existing lab, None where there is none; ConfigError names what is wrong with the file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabSpec)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a directory you own") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: not a lab's description ({error}); remove the directory or name another") from None


def save_spec(path: Path, spec: LabSpec) -> None:
    """Write the spec, whole or not at all: without it a lab's other files are of no use."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(spec)).decode())
