"""What the simulated Azure holds when a lab is created, and the ids the walkthrough then refers to."""

from __future__ import annotations

from podidentity.lab.spec import LOCATION, SCALE_SET, LabSpec


def cloud_seed(spec: LabSpec) -> dict[str, object]:
    """The node pool and the kubelet identity on it; no role assignment, no vault, no application's identity."""
    nics = [{"cidr": f"{node.address}/32", "resourceId": node.resource_id, "kind": "node"} for node in spec.nodes]
    nics += [{"cidr": node.pod_cidr, "resourceId": node.resource_id, "kind": "pod"} for node in spec.nodes]
    return {
        "tenantId": spec.tenant_id,
        "subscriptionId": spec.subscription_id,
        "location": LOCATION,
        "ownerClientId": spec.owner_client_id,
        "resourceGroups": [spec.resource_group, spec.node_resource_group],
        "identities": [
            {
                "name": f"{spec.cluster}-agentpool",
                "resourceGroup": spec.node_resource_group,
                "clientId": spec.kubelet_client_id,
                "principalId": spec.kubelet_principal_id,
            }
        ],
        "scaleSets": [
            {
                "name": SCALE_SET,
                "resourceGroup": spec.node_resource_group,
                "instances": spec.node_count,
                "identities": [spec.kubelet_identity_id],
            }
        ],
        "nics": nics,
    }


def azure_json(spec: LabSpec) -> dict[str, object]:
    """``/etc/kubernetes/azure.json`` as a node pool of AKS with a managed identity has it."""
    return {
        "cloud": "AzurePublicCloud",
        "tenantId": spec.tenant_id,
        "subscriptionId": spec.subscription_id,
        "resourceGroup": spec.node_resource_group,
        "location": LOCATION,
        "vmType": "vmss",
        "primaryScaleSetName": SCALE_SET,
        "useManagedIdentityExtension": True,
        "userAssignedIdentityID": spec.kubelet_client_id,
        "aadClientId": "msi",
        "aadClientSecret": "msi",
    }


def hosts_file(fabric: str, cloud: str, vaults: tuple[str, ...]) -> str:
    """The hosts file of every pod: Azure's names lead to the simulated Azure."""
    names = ["management.azure.com", "login.microsoftonline.com", "login.windows.net", "sts.windows.net"]
    names += [f"{vault}.vault.azure.net" for vault in vaults]
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"{fabric} kubernetes.default.svc kubernetes"]
    return "\n".join([*lines, *(f"{cloud} {name}" for name in names)]) + "\n"
