"""The seed: what the simulated Azure holds when it first starts.

A JSON object; every field but those marked * may be left out, ids that are left out are generated from `id`
(the same seed gives the same ids). Unknown fields are refused.

    {
      "id": "lab",                              names the seed; generated ids depend on it
      "tenantId": "<guid>", "subscriptionId": "<guid>", "location": "westeurope",
      "ownerClientId": "<guid>",                may do everything; a service principal of this id is made if none is
      "resourceGroups": ["rg-nodes", {"name": "rg-two", "subscriptionId": "<guid>", "location": "northeurope"}],
      "vms": [{"name"*, "resourceGroup"*, "subscriptionId", "systemAssigned": false, "identities": ["kubelet"]}],
      "scaleSets": [{... as vms, "instances": 1, "orchestrationMode": "Uniform"}],
      "identities": [{"name"*, "resourceGroup"*, "subscriptionId", "clientId", "principalId"}],
      "roleAssignments": [{"principal"*, "role"*, "scope": ""}],
      "vaults": [{"name"*, "resourceGroup"*, "rbac": false,
                  "accessPolicies": [{"principal"*, "secrets": ["get", "list"]}],
                  "secrets": {"name": "value",
                              "other": {"value"*, "version", "contentType", "kid", "enabled": true}}}],
      "servicePrincipals": [{"clientId"*, "secret", "objectId", "certificates": ["PEM"]}],
      "nics": [{"cidr"*, "resourceId"*, "kind": "node" | "pod"}],
      "audiences": ["https://api.example"]      further resources that tokens may be asked for
    }

- `identities` of a host: names of seeded identities, or ids.
- `principal`: the name of a seeded identity, `system:<host>` for a host's own identity, a client id, or an object id.
- `role`: a name ("Virtual Machine Contributor") or a role definition's GUID.
- `scope`: an ARM id, the name of a resource group, or "" for the subscription.
- `resourceId` of a NIC: a VM, or an instance of a scale set (`.../virtualMachineScaleSets/x/virtualMachines/0`); the
  narrowest network that holds a peer's address decides which machine it is.
"""

from pathlib import Path
from typing import Literal

import msgspec


class SeedError(Exception):
    """The seed cannot be read or contradicts itself; the text is one line."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What all parts of a seed share: frozen, camelCase, no field that is not known."""


class GroupSeed(_Part, frozen=True, kw_only=True):
    """A resource group."""

    name: str
    subscription_id: str = ""
    location: str = ""


class VmSeed(_Part, frozen=True, kw_only=True):
    """A virtual machine; `identities` are attached before the lab starts (the kubelet's identity)."""

    name: str
    resource_group: str
    subscription_id: str = ""
    system_assigned: bool = False
    identities: tuple[str, ...] = ()


class ScaleSetSeed(VmSeed, frozen=True, kw_only=True):
    """A virtual machine scale set with instances 0 to `instances` - 1."""

    instances: int = 1
    orchestration_mode: Literal["Uniform", "Flexible"] = "Uniform"


class IdentitySeed(_Part, frozen=True, kw_only=True):
    """A user-assigned identity."""

    name: str
    resource_group: str
    subscription_id: str = ""
    client_id: str = ""
    principal_id: str = ""


class RoleAssignmentSeed(_Part, frozen=True, kw_only=True):
    """A role of a principal at a scope."""

    principal: str
    role: str
    scope: str = ""


class AccessPolicySeed(_Part, frozen=True, kw_only=True):
    """What a principal may do with a vault's secrets."""

    principal: str
    secrets: tuple[str, ...] = ("get",)


class SecretSeed(_Part, frozen=True, kw_only=True):
    """A version of a secret; `kid` marks it as a certificate's."""

    value: str
    version: str = ""
    content_type: str = ""
    kid: str = ""
    enabled: bool = True


class VaultSeed(_Part, frozen=True, kw_only=True):
    """A key vault; with `rbac` its access policies are not looked at."""

    name: str
    resource_group: str
    subscription_id: str = ""
    rbac: bool = False
    access_policies: tuple[AccessPolicySeed, ...] = ()
    secrets: dict[str, str | SecretSeed] = {}


class ServicePrincipalSeed(_Part, frozen=True, kw_only=True):
    """An application's principal: `secret` and the PEM `certificates` are its credentials."""

    client_id: str
    secret: str = ""
    object_id: str = ""
    certificates: tuple[str, ...] = ()


class NicSeed(_Part, frozen=True, kw_only=True):
    """A network whose addresses belong to one machine."""

    cidr: str
    resource_id: str
    kind: Literal["node", "pod"] = "node"


class Seed(_Part, frozen=True, kw_only=True):
    """The whole seed; the module's docstring says what the fields mean."""

    id: str = "lab"
    tenant_id: str = ""
    subscription_id: str = ""
    location: str = "westeurope"
    owner_client_id: str = ""
    resource_groups: tuple[str | GroupSeed, ...] = ()
    vms: tuple[VmSeed, ...] = ()
    scale_sets: tuple[ScaleSetSeed, ...] = ()
    identities: tuple[IdentitySeed, ...] = ()
    role_assignments: tuple[RoleAssignmentSeed, ...] = ()
    vaults: tuple[VaultSeed, ...] = ()
    service_principals: tuple[ServicePrincipalSeed, ...] = ()
    nics: tuple[NicSeed, ...] = ()
    audiences: tuple[str, ...] = ()


def parse_seed(data: bytes | str) -> Seed:
    """Read a seed from JSON; SeedError says where it is wrong."""
    try:
        return msgspec.json.decode(data, type=Seed)
    except msgspec.DecodeError as error:
        raise SeedError(f"seed: {error}") from error


def load_seed(path: Path) -> Seed:
    """Read a seed from a file; SeedError when it is missing or wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SeedError(f"seed: {path}: {error.strerror}") from error
    try:
        return parse_seed(data)
    except SeedError as error:
        raise SeedError(f"{path}: {error}") from error
