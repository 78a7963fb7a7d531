"""What the simulated Azure remembers: one frozen struct a kind of thing. Times are seconds since the epoch."""

from typing import Literal

import msgspec

from podidentity.lab.cloud.ids import VM, fold


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that is kept."""


class Directory(Row, frozen=True, kw_only=True):
    """The tenant: one a simulated Azure. `signing_key` is PEM; `owner` an object id that may do everything."""

    seed_id: str
    tenant_id: str
    subscription_id: str
    location: str
    owner_client_id: str
    owner: str
    signing_key: str
    audiences: tuple[str, ...] = ()


class ResourceGroup(Row, frozen=True, kw_only=True):
    """A resource group."""

    id: str
    name: str
    location: str
    tags: dict[str, str] = {}


class Identity(Row, frozen=True, kw_only=True):
    """A user-assigned identity; a new client id each time it is created anew."""

    id: str
    name: str
    location: str
    client_id: str
    principal_id: str
    tags: dict[str, str] = {}


class Attached(Row, frozen=True, kw_only=True):
    """A user-assigned identity as a host knows it: its ids at the time it was attached."""

    id: str
    client_id: str
    principal_id: str


class HostIdentity(Row, frozen=True, kw_only=True):
    """The identities of a host: the system-assigned principal ("" = none) and the user-assigned ones by folded id."""

    system: str = ""
    system_client: str = ""
    user: dict[str, Attached] = {}

    @property
    def type(self) -> str:
        """ARM's word for it."""
        kinds = (["SystemAssigned"] if self.system else []) + (["UserAssigned"] if self.user else [])
        return ", ".join(kinds) or "None"


class Host(Row, frozen=True, kw_only=True):
    """A VM or a scale set. `identity` is what ARM shows, `effective` what IMDS serves: equal when nothing runs.

    `operation` is the one that runs ("" = none), `history` the last ones, it included, oldest first.
    """

    id: str
    name: str
    kind: Literal["virtualMachines", "virtualMachineScaleSets"]
    location: str
    identity: HostIdentity
    effective: HostIdentity
    instances: int = 0
    orchestration_mode: str = "Uniform"
    provisioning_state: str = "Succeeded"
    operation: str = ""
    history: tuple[str, ...] = ()
    unique_id: str = ""
    tags: dict[str, str] = {}

    @property
    def key(self) -> str:
        """The folded id."""
        return fold(self.id)

    @property
    def is_vm(self) -> bool:
        """A virtual machine, not a scale set."""
        return self.kind == VM


class Operation(Row, frozen=True, kw_only=True):
    """A long-running operation on a host; it has ended once the clock is past `ends`."""

    id: str
    host: str
    starts: float
    ends: float
    error_code: str = ""
    error_message: str = ""


class RoleAssignment(Row, frozen=True, kw_only=True):
    """A role (a definition's GUID) of a principal (an object id) at a scope, from `effective_from` on."""

    id: str
    name: str
    scope: str
    role: str
    principal_id: str
    principal_type: str
    created: float
    effective_from: float
    created_by: str = ""


class AccessPolicy(Row, frozen=True, kw_only=True):
    """A key vault's own list of who may do what."""

    object_id: str
    tenant_id: str
    secrets: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class Vault(Row, frozen=True, kw_only=True):
    """A key vault; its name is unique in the whole of Azure."""

    id: str
    name: str
    location: str
    rbac: bool
    policies: tuple[AccessPolicy, ...] = ()
    tags: dict[str, str] = {}


class SecretVersion(Row, frozen=True, kw_only=True):
    """One version of a secret."""

    version: str
    value: str
    created: float
    content_type: str = ""
    kid: str = ""
    enabled: bool = True
    tags: dict[str, str] = {}


class Secret(Row, frozen=True, kw_only=True):
    """A secret: versions, oldest first; `deleted` is a time, 0 while it exists."""

    vault: str
    name: str
    versions: tuple[SecretVersion, ...]
    deleted: float = 0


class KeyVersion(Row, frozen=True, kw_only=True):
    """One version of a key: its public half as a JSON Web Key, and the certificate's DER when one belongs to it."""

    version: str
    jwk: dict[str, str]
    created: float
    der: bytes = b""
    enabled: bool = True


class VaultKey(Row, frozen=True, kw_only=True):
    """A key: versions, oldest first."""

    vault: str
    name: str
    versions: tuple[KeyVersion, ...]


class VaultCertificate(Row, frozen=True, kw_only=True):
    """A certificate: versions, oldest first, each of the key's version of the same name."""

    vault: str
    name: str
    versions: tuple[KeyVersion, ...]


class ServicePrincipal(Row, frozen=True, kw_only=True):
    """An application's principal and its credentials."""

    client_id: str
    object_id: str
    secrets: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class Nic(Row, frozen=True, kw_only=True):
    """A network that belongs to one machine."""

    cidr: str
    resource_id: str
    kind: Literal["node", "pod"]
