"""The simulated Azure's state and the questions asked of it. Changes go through `commit`, which keeps them first."""

import ipaddress
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.model import (
    Directory,
    Host,
    Identity,
    Nic,
    Operation,
    ResourceGroup,
    RoleAssignment,
    Secret,
    ServicePrincipal,
    Vault,
    VaultCertificate,
    VaultKey,
)
from podidentity.lab.cloud.roles import Grant
from podidentity.lab.cloud.store import Change, Store, Table

_THE_DIRECTORY = "directory"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def random_guid() -> str:
    """An id nobody has seen before."""
    return str(uuid.uuid4())


class World:
    """All tables. Keys: hosts, identities, groups and vault resources by folded id or name, the rest by their own id.

    `wall` gives seconds since the epoch, `new_guid` fresh ids; both are injected so that tests decide them.
    """

    def __init__(self, directory: Path, *, wall: Callable[[], float], new_guid: Callable[[], str]) -> None:
        self.now = wall
        self.new_guid = new_guid
        self._store = Store(directory)
        self.directories = Table("directory", Directory)
        self.groups = Table("group", ResourceGroup)
        self.identities = Table("identity", Identity)
        self.hosts = Table("host", Host)
        self.operations = Table("operation", Operation)
        self.assignments = Table("roleAssignment", RoleAssignment)
        self.vaults = Table("vault", Vault)
        self.secrets = Table("secret", Secret)
        self.keys = Table("key", VaultKey)
        self.certificates = Table("certificate", VaultCertificate)
        self.principals = Table("servicePrincipal", ServicePrincipal)
        self.nics = Table("nic", Nic)
        for table in self.tables():
            self._store.load(table)
        self._networks = self._sorted_networks()

    def tables(self) -> tuple[Table[object], ...]:
        """Every table, for loading and for a snapshot."""
        tables = (self.directories, self.groups, self.identities, self.hosts, self.operations, self.assignments)
        return (*tables, self.vaults, self.secrets, self.keys, self.certificates, self.principals, self.nics)  # type: ignore[return-value]  # read only

    def commit(self, *changes: Change) -> None:
        """Keep all changes, or none."""
        self._store.commit(*changes)
        if any(change.table is self.nics for change in changes):
            self._networks = self._sorted_networks()

    def close(self) -> None:
        """Close the state directory."""
        self._store.close()

    @property
    def directory(self) -> Directory:
        """The tenant; there is one as soon as a seed was planted."""
        return self.directories[_THE_DIRECTORY]

    @property
    def planted(self) -> bool:
        """Whether this state directory has been used before."""
        return _THE_DIRECTORY in self.directories

    def put_directory(self, directory: Directory) -> Change:
        """The change that sets the tenant."""
        return self.directories.put(_THE_DIRECTORY, directory)

    def subscriptions(self) -> tuple[str, ...]:
        """The ids of all subscriptions: the default one first."""
        found = {self.directory.subscription_id.casefold(): self.directory.subscription_id}
        for group in self.groups.values():
            subscription = ids.subscription_of(group.id)
            found.setdefault(subscription.casefold(), subscription)
        return tuple(found.values())

    def host(self, arm_id: str) -> Host | None:
        """A host with its finished operation carried out; None when there is none."""
        host = self.hosts.get(ids.fold(arm_id))
        if host is None or not host.operation:
            return host
        operation = self.operations[host.operation]
        if self.now() < operation.ends:
            return host
        return self._settle(host, operation)

    def _settle(self, host: Host, operation: Operation) -> Host:
        if operation.error_code:
            settled = msgspec.structs.replace(host, identity=host.effective, provisioning_state="Failed", operation="")
        else:
            settled = msgspec.structs.replace(
                host, effective=host.identity, provisioning_state="Succeeded", operation=""
            )
        self.commit(self.hosts.put(host.key, settled))
        return settled

    def grants(self, principal_id: str) -> Iterator[Grant]:
        """The roles that a principal has by now."""
        for assignment in self.assignments.values():
            if assignment.principal_id == principal_id and assignment.effective_from <= self.now():
                yield Grant(assignment.scope, assignment.role)

    def nic(self, peer: str) -> Nic | None:
        """Whose address this is: the narrowest network that holds it."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return next((nic for network, nic in self._networks if address in network), None)

    def _sorted_networks(self) -> list[tuple[Network, Nic]]:
        networks = [(ipaddress.ip_network(nic.cidr, strict=False), nic) for nic in self.nics.values()]
        return sorted(networks, key=lambda pair: -pair[0].prefixlen)

    def object_id_of(self, client_id: str) -> str | None:
        """The principal behind a client id: a service principal, an identity, or a host's own identity."""
        wanted = client_id.casefold()
        principal = self.principals.get(wanted)
        if principal is not None:
            return principal.object_id
        for identity in self.identities.values():
            if identity.client_id.casefold() == wanted:
                return identity.principal_id
        for host in self.hosts.values():
            if host.identity.system and host.identity.system_client.casefold() == wanted:
                return host.identity.system
        return None

    def knows_principal(self, object_id: str) -> bool:
        """Whether the directory holds an object of this id."""
        wanted = object_id.casefold()
        return (
            any(p.object_id.casefold() == wanted for p in self.principals.values())
            or any(i.principal_id.casefold() == wanted for i in self.identities.values())
            or any(h.identity.system.casefold() == wanted for h in self.hosts.values())
        )

    def secret(self, vault: str, name: str) -> Secret | None:
        """A secret by vault and name, in any case; also a deleted one."""
        return self.secrets.get(self.secret_key(vault, name))

    @staticmethod
    def secret_key(vault: str, name: str) -> str:
        """The key of a secret in its table."""
        return f"{vault}/{name}".casefold()
