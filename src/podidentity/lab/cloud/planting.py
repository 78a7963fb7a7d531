"""From a seed to rows: the first time all of it, later what is new (hosts keep the identities they have)."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm.identities import TYPE as IDENTITY_TYPE
from podidentity.lab.cloud.arm.vaults import TYPE as VAULT_TYPE
from podidentity.lab.cloud.keyvault import new_version_name
from podidentity.lab.cloud.model import (
    AccessPolicy,
    Attached,
    Directory,
    Host,
    HostIdentity,
    Identity,
    Nic,
    ResourceGroup,
    RoleAssignment,
    Secret,
    SecretVersion,
    ServicePrincipal,
    Vault,
)
from podidentity.lab.cloud.roles import find_role
from podidentity.lab.cloud.seed import (
    AccessPolicySeed,
    GroupSeed,
    RoleAssignmentSeed,
    ScaleSetSeed,
    SecretSeed,
    Seed,
    SeedError,
    VaultSeed,
    VmSeed,
)
from podidentity.lab.cloud.store import Change
from podidentity.lab.cloud.tokens import new_key
from podidentity.lab.cloud.world import World


def plant(world: World, seed: Seed, make_key: Callable[[], str] = new_key) -> None:
    """Put everything the seed names into the world, in one commit; SeedError when it contradicts itself.

    `make_key` gives the PEM of the tenant's signing key, asked for the first time only.
    """
    world.commit(*_Planting(world, seed, make_key).changes())


class _Planting:
    """One planting: rows made so far, so that later parts of the seed find the earlier ones by name."""

    def __init__(self, world: World, seed: Seed, make_key: Callable[[], str]) -> None:
        self._world = world
        self._seed = seed
        self._directory = self._make_directory(make_key)
        self._groups = {ids.fold(group.id): group for group in world.groups.values()}
        self._identities = {ids.fold(row.id): row for row in world.identities.values()}
        self._hosts = {row.key: row for row in world.hosts.values()}
        self._principals = {row.client_id.casefold(): row for row in world.principals.values()}

    def changes(self) -> list[Change]:
        """Every row of the seed, as changes."""
        world = self._world
        changes = [world.put_directory(self._directory)]
        for group in self._seed.resource_groups:
            self._group(group if isinstance(group, GroupSeed) else GroupSeed(name=group))
        for identity in self._seed.identities:
            self._identity(identity.name, identity.resource_group, identity.subscription_id, identity)
        for machine in (*self._seed.vms, *self._seed.scale_sets):
            self._host(machine)
        self._applications()
        changes += [world.groups.put(key, group) for key, group in self._groups.items()]
        changes += [world.identities.put(key, identity) for key, identity in self._identities.items()]
        changes += [world.hosts.put(key, host) for key, host in self._hosts.items()]
        changes += [world.principals.put(key, principal) for key, principal in self._principals.items()]
        changes += [self._assignment(part) for part in self._seed.role_assignments]
        for vault in self._seed.vaults:
            changes += self._vault(vault)
        return changes + list(nic_changes(world, self._nics(), self._hosts))

    def _make_directory(self, make_key: Callable[[], str]) -> Directory:
        seed, world = self._seed, self._world
        if world.planted:
            known = world.directory
            return msgspec.structs.replace(known, audiences=tuple(dict.fromkeys(known.audiences + seed.audiences)))
        owner = seed.owner_client_id or ids.guid(seed.id, "owner", "client")
        listed = next((p.object_id for p in seed.service_principals if p.client_id.casefold() == owner.casefold()), "")
        return Directory(
            seed_id=seed.id,
            tenant_id=seed.tenant_id or ids.guid(seed.id, "tenant"),
            subscription_id=seed.subscription_id or ids.guid(seed.id, "subscription"),
            location=seed.location,
            owner_client_id=owner,
            owner=listed or ids.guid(seed.id, "object", owner),
            signing_key=make_key(),
            audiences=seed.audiences,
        )

    def _guid(self, *parts: str) -> str:
        return ids.guid(self._directory.seed_id, *parts)

    def _subscription(self, given: str) -> str:
        return given or self._directory.subscription_id

    def _group(self, part: GroupSeed) -> ResourceGroup:
        arm_id = ids.group_id(self._subscription(part.subscription_id), part.name)
        made = ResourceGroup(id=arm_id, name=part.name, location=part.location or self._directory.location)
        return self._groups.setdefault(ids.fold(arm_id), made)

    def _in_group(self, subscription: str, group: str, provider_type: str, name: str) -> tuple[str, str]:
        """Id and location of a resource; the group is made when the seed does not list it."""
        made = self._group(GroupSeed(name=group, subscription_id=subscription))
        return ids.resource_id(self._subscription(subscription), made.name, provider_type, name), made.location

    def _identity(self, name: str, group: str, subscription: str, part: object) -> None:
        arm_id, location = self._in_group(subscription, group, IDENTITY_TYPE, name)
        client = getattr(part, "client_id", "") or self._guid("client", ids.fold(arm_id))
        principal = getattr(part, "principal_id", "") or self._guid("principal", ids.fold(arm_id))
        made = Identity(id=arm_id, name=name, location=location, client_id=client, principal_id=principal)
        self._identities.setdefault(ids.fold(arm_id), made)

    def _find_identity(self, text: str) -> Identity | None:
        if text.startswith("/"):
            return self._identities.get(ids.fold(text))
        group, _, name = text.rpartition("/")
        found = [
            row
            for row in self._identities.values()
            if row.name.casefold() == name.casefold() and group.casefold() in ("", ids.group_of(row.id).casefold())
        ]
        if len(found) > 1:
            raise SeedError(f'seed: identity "{text}" is in several resource groups; write "group/{text}" or its id')
        return found[0] if found else None

    def _host(self, part: VmSeed) -> None:
        kind = ids.VMSS if isinstance(part, ScaleSetSeed) else ids.VM
        arm_id, location = self._in_group(
            part.subscription_id, part.resource_group, f"Microsoft.Compute/{kind}", part.name
        )
        known = self._hosts.get(ids.fold(arm_id))
        identity = self._host_identity(part, ids.fold(arm_id), known.identity if known else HostIdentity())
        host = known or Host(
            id=arm_id,
            name=part.name,
            kind=ids.VMSS if isinstance(part, ScaleSetSeed) else ids.VM,
            location=location,
            identity=identity,
            effective=identity,
            orchestration_mode=part.orchestration_mode if isinstance(part, ScaleSetSeed) else "",
            unique_id=self._guid("vm", ids.fold(arm_id)),
        )
        instances = part.instances if isinstance(part, ScaleSetSeed) else 1
        effective = host.effective if host.operation else identity
        self._hosts[host.key] = msgspec.structs.replace(
            host, identity=identity, effective=effective, instances=instances
        )

    def _host_identity(self, part: VmSeed, key: str, known: HostIdentity) -> HostIdentity:
        users = dict(known.user)
        for text in part.identities:
            row = self._find_identity(text)
            if row is None:
                raise SeedError(f'seed: {part.name}: there is no identity "{text}"')
            attached = Attached(id=row.id, client_id=row.client_id, principal_id=row.principal_id)
            users.setdefault(ids.fold(row.id), attached)
        system, client = known.system, known.system_client
        if part.system_assigned and not system:
            system, client = self._guid("system", key), self._guid("system client", key)
        return HostIdentity(system=system, system_client=client, user=users)

    def _applications(self) -> None:
        for part in self._seed.service_principals:
            object_id = part.object_id or self._guid("object", part.client_id)
            self._principals[part.client_id.casefold()] = ServicePrincipal(
                client_id=part.client_id,
                object_id=object_id,
                secrets=(part.secret,) if part.secret else (),
                certificates=part.certificates,
            )
        owner = self._directory.owner_client_id
        made = ServicePrincipal(client_id=owner, object_id=self._directory.owner)
        self._principals.setdefault(owner.casefold(), made)

    def _principal(self, text: str) -> tuple[str, str]:
        """The object id that a seed's `principal` means."""
        if text.startswith("system:"):
            wanted = text.removeprefix("system:").casefold()
            found = [h for h in self._hosts.values() if wanted in (h.name.casefold(), h.key) and h.identity.system]
            if len(found) != 1:
                raise SeedError(f'seed: "{text}" is not one host with a system-assigned identity')
            return found[0].identity.system, "ServicePrincipal"
        identity = self._find_identity(text)
        if identity is not None:
            return identity.principal_id, "ServicePrincipal"
        application = self._principals.get(text.casefold())
        if application is not None:
            return application.object_id, "ServicePrincipal"
        for row in self._identities.values():
            if row.client_id.casefold() == text.casefold():
                return row.principal_id, "ServicePrincipal"
        if ids.is_guid(text):
            return text, "User"
        raise SeedError(f'seed: there is no principal "{text}"')

    def _assignment(self, part: RoleAssignmentSeed) -> Change:
        role = find_role(part.role)
        if role is None:
            raise SeedError(f'seed: there is no role "{part.role}"')
        principal, kind = self._principal(part.principal)
        scope = self._scope(part.scope)
        name = self._guid("assignment", principal, role.id, ids.fold(scope))
        row = RoleAssignment(
            id=f"{scope.rstrip('/')}/providers/Microsoft.Authorization/roleAssignments/{name}",
            name=name,
            scope=scope,
            role=role.id,
            principal_id=principal,
            principal_type=kind,
            created=self._world.now(),
            effective_from=0,
            created_by=self._directory.owner,
        )
        return self._world.assignments.put(ids.fold(row.id), row)

    def _scope(self, text: str) -> str:
        if text.startswith("/"):
            return text
        subscription = self._directory.subscription_id
        return ids.group_id(subscription, text) if text else f"/subscriptions/{subscription}"

    def _vault(self, part: VaultSeed) -> Iterator[Change]:
        arm_id, location = self._in_group(part.subscription_id, part.resource_group, VAULT_TYPE, part.name)
        policies = tuple(self._policy(policy) for policy in part.access_policies)
        vault = Vault(id=arm_id, name=part.name, location=location, rbac=part.rbac, policies=policies)
        group = self._groups[ids.fold(arm_id.rpartition("/providers/")[0])]
        yield self._world.groups.put(ids.fold(group.id), group)
        yield self._world.vaults.put(part.name.casefold(), vault)
        for name, given in part.secrets.items():
            if self._world.secret(part.name, name) is not None:
                continue
            bundle = SecretSeed(value=given) if isinstance(given, str) else given
            row = SecretVersion(
                version=bundle.version or new_version_name(self._directory.seed_id, part.name, name),
                value=bundle.value,
                created=self._world.now(),
                content_type=bundle.content_type,
                kid=bundle.kid,
                enabled=bundle.enabled,
            )
            secret = Secret(vault=part.name, name=name, versions=(row,))
            yield self._world.secrets.put(self._world.secret_key(part.name, name), secret)

    def _policy(self, part: AccessPolicySeed) -> AccessPolicy:
        principal, _ = self._principal(part.principal)
        return AccessPolicy(object_id=principal, tenant_id=self._directory.tenant_id, secrets=part.secrets)

    def _nics(self) -> tuple[Nic, ...]:
        known = {nic.cidr: nic for nic in self._world.nics.values()}
        new = {n.cidr: Nic(cidr=n.cidr, resource_id=n.resource_id, kind=n.kind) for n in self._seed.nics}
        return tuple((known | new).values())


def nic_changes(world: World, nics: tuple[Nic, ...], hosts: Mapping[str, Host]) -> Iterator[Change]:
    """The changes that make these all the NICs there are; SeedError for one that belongs to no host."""
    for nic in nics:
        try:
            ipaddress.ip_network(nic.cidr, strict=False)
        except ValueError as error:
            raise SeedError(f"nics: {error}") from error
        if ids.host_of(nic.resource_id) not in hosts:
            raise SeedError(f'nics: {nic.cidr}: there is no machine "{nic.resource_id}"')
        instance = ids.instance_of(nic.resource_id)
        if instance and not instance.isdecimal():
            raise SeedError(f'nics: {nic.cidr}: "{instance}" is not the number of an instance')
        yield world.nics.put(nic.cidr, nic)
    wanted = {nic.cidr for nic in nics}
    yield from (world.nics.drop(nic.cidr) for nic in world.nics.values() if nic.cidr not in wanted)
