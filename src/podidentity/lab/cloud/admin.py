"""What the lab's owner may do that no cloud offers: look at everything, break things, take identities off by hand.

Over the Unix socket, HTTP with JSON:

| request | body | answer |
|---|---|---|
| GET /counters | | see `Counters.snapshot` |
| POST /counters/reset | | {} |
| GET, DELETE /faults | | the switches (`faults.Faults`), after DELETE the initial ones |
| PUT /faults | the switches to change | the switches |
| POST /identities/attach, .../detach | {"host": id, "identity": id} | the host's identity |
| PUT /vaults/{vault}/secrets/{name} | {"value", contentType?, kid?, enabled?} | {"id", "version"} |
| PUT /service-principals/{clientId} | {"secrets": [..], "certificates": [..]} | {} |
| POST /tokens | {"resource", clientId?, lifetime? (seconds)} | {"access_token", "token_type", "expires_in"} |
| GET /state | | every row by kind, without keys and secrets' values |
| PUT /nics | [{"cidr", "resourceId", "kind"}], all of them | {} |
| POST /seed | a seed (seed.py): what it names is added, hosts keep their identities | {} |
| POST /hosts/delete | {"host": id} | {} |

A request with one of Azure's host names in its Host header reaches that service: ARM for those outside the network.

Counters and faults begin anew with the process; everything else is kept.
"""

from collections.abc import Callable, Sequence

import msgspec

from podidentity.lab.cloud import ids
from podidentity.lab.cloud.arm.compute import render_identity
from podidentity.lab.cloud.buckets import Buckets
from podidentity.lab.cloud.counters import Counters
from podidentity.lab.cloud.faults import Faults, FaultsError, FaultSwitch
from podidentity.lab.cloud.keyvault import KeyVault
from podidentity.lab.cloud.model import Attached, Host, Nic, SecretVersion
from podidentity.lab.cloud.planting import nic_changes, plant
from podidentity.lab.cloud.seed import NicSeed, Seed, SeedError
from podidentity.lab.cloud.tokens import Issuer, Subject
from podidentity.lab.cloud.wire import Call, MethodError, Reply, Route, Routes, ServiceError
from podidentity.lab.cloud.world import World


class AdminError(Exception):
    """The request cannot be carried out; the text is one line."""


class _Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str
    identity: str


class _HostBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: str


class _SecretBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    value: str
    content_type: str = ""
    kid: str = ""
    enabled: bool = True


class _TokenBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    resource: str
    client_id: str = ""
    lifetime: int = 3600


class _CredentialsBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    secrets: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class Admin:
    """The same as methods, for whoever runs the simulated Azure in their own process."""

    def __init__(
        self,
        *,
        world: World,
        issuer: Issuer,
        faults: FaultSwitch,
        counters: Counters,
        vaults: KeyVault,
        buckets: Buckets,
    ) -> None:
        self._world = world
        self._issuer = issuer
        self._faults = faults
        self._counters = counters
        self._vaults = vaults
        self._buckets = buckets

    def counters(self) -> dict[str, object]:
        """What was asked so far: `Counters.snapshot`."""
        return self._counters.snapshot()

    def reset_counters(self) -> None:
        """Count from nothing."""
        self._counters.reset()

    @property
    def faults(self) -> Faults:
        """The switches as they are."""
        return self._faults.now

    def set_faults(self, **switches: object) -> None:
        """Change the switches named; FaultsError when one is not known or its value is wrong."""
        self._faults.merge(msgspec.json.encode(switches))

    def reset_faults(self) -> None:
        """Back to the switches of the start, every budget full."""
        self._faults.reset()
        self._buckets.clear()

    def _host(self, arm_id: str) -> Host:
        host = self._world.host(arm_id)
        if host is None:
            raise AdminError(f'there is no host "{arm_id}"')
        return host

    def attach(self, host_id: str, identity_id: str) -> None:
        """Put an identity on a host at once, as someone with the portal would."""
        identity = self._world.identities.get(ids.fold(identity_id))
        if identity is None:
            raise AdminError(f'there is no identity "{identity_id}"')
        added = Attached(id=identity.id, client_id=identity.client_id, principal_id=identity.principal_id)
        self._set_user(self._host(host_id), ids.fold(identity_id), added)

    def detach(self, host_id: str, identity_id: str) -> None:
        """Take an identity off a host by hand, at once; nothing happens when it is not there."""
        self._set_user(self._host(host_id), ids.fold(identity_id), None)

    def _set_user(self, host: Host, key: str, attached: Attached | None) -> None:
        changed = []
        for identity in (host.identity, host.effective):
            users = {known: user for known, user in identity.user.items() if known != key}
            if attached:
                users[key] = attached
            changed.append(msgspec.structs.replace(identity, user=users))
        row = msgspec.structs.replace(host, identity=changed[0], effective=changed[1])
        self._world.commit(self._world.hosts.put(host.key, row))

    def identities_on(self, host_id: str) -> dict[str, object]:
        """The `identity` of a host as ARM shows it."""
        return render_identity(self._host(host_id), self._world.directory.tenant_id)

    def delete_host(self, host_id: str) -> None:
        """Remove a VM or a scale set, and its NICs."""
        host = self._host(host_id)
        nics = [nic for nic in self._world.nics.values() if ids.host_of(nic.resource_id) == host.key]
        self._world.commit(self._world.hosts.drop(host.key), *(self._world.nics.drop(nic.cidr) for nic in nics))

    def set_secret(
        self, vault: str, name: str, value: str, *, content_type: str = "", kid: str = "", enabled: bool = True
    ) -> str:
        """A new latest version of a secret; its version id."""
        row = self._world.vaults.get(vault.casefold())
        if row is None:
            raise AdminError(f'there is no vault "{vault}"')
        version = SecretVersion(
            version=self._world.new_guid().replace("-", ""),
            value=value,
            created=self._world.now(),
            content_type=content_type,
            kid=kid,
            enabled=enabled,
        )
        try:
            self._vaults.add_version(row, name, version)
        except ServiceError as refusal:
            raise AdminError(f"{vault}/{name}: it is deleted and can be recovered") from refusal
        return version.version

    def set_credentials(self, client_id: str, secrets: Sequence[str], certificates: Sequence[str] = ()) -> None:
        """Replace what a service principal proves itself with: how a secret is rotated."""
        principal = self._world.principals.get(client_id.casefold())
        if principal is None:
            raise AdminError(f'there is no service principal "{client_id}"')
        row = msgspec.structs.replace(principal, secrets=tuple(secrets), certificates=tuple(certificates))
        self._world.commit(self._world.principals.put(client_id.casefold(), row))

    def mint_token(self, resource: str, *, client_id: str = "", lifetime: int = 3600) -> str:
        """A token for any client id the directory knows, the owner's by default. `lifetime` in seconds."""
        client = client_id or self._world.directory.owner_client_id
        object_id = self._world.object_id_of(client)
        if object_id is None:
            raise AdminError(f'there is no principal with client id "{client}"')
        now, token_id = self._world.now(), self._world.new_guid()
        return self._issuer.mint(Subject(client, object_id), resource, now=now, lifetime=lifetime, token_id=token_id)

    def set_nics(self, nics: Sequence[NicSeed]) -> None:
        """Replace the table of who has which address; SeedError for a machine that is not there."""
        rows = tuple(Nic(cidr=nic.cidr, resource_id=nic.resource_id, kind=nic.kind) for nic in nics)
        hosts = {host.key: host for host in self._world.hosts.values()}
        self._world.commit(*nic_changes(self._world, rows, hosts))

    def plant(self, seed: Seed) -> None:
        """Add what a seed names."""
        plant(self._world, seed)

    def state(self) -> dict[str, object]:
        """Every row by kind, without signing keys, credentials and the values of secrets."""
        for host in self._world.hosts.values():
            self._world.host(host.id)
        hidden = {"signing_key", "secrets", "certificates", "value"}
        rows: dict[str, object] = {
            table.kind: [msgspec.to_builtins(row) for row in table.values()] for table in self._world.tables()
        }
        for kind in ("directory", "servicePrincipal", "secret"):
            rows[kind] = _without(rows[kind], hidden)
        return rows


def _without(node: object, hidden: set[str]) -> object:
    if isinstance(node, dict):
        return {key: _without(value, hidden) for key, value in node.items() if key not in hidden}
    return [_without(item, hidden) for item in node] if isinstance(node, (list, tuple)) else node


_Handler = Callable[[Call, dict[str, str]], object]


class AdminService:
    """The routes of the module's table; 400 with {"error"} for what cannot be done."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._routes: Routes[_Handler] = Routes(
            (
                Route("GET", "/counters", lambda _call, _params: admin.counters()),
                Route("POST", "/counters/reset", self._reset_counters),
                Route("GET", "/faults", lambda _call, _params: admin.faults),
                Route("PUT", "/faults", self._put_faults),
                Route("DELETE", "/faults", self._reset_faults),
                Route("POST", "/identities/attach", self._attach),
                Route("POST", "/identities/detach", self._detach),
                Route("PUT", "/vaults/{vault}/secrets/{name}", self._put_secret),
                Route("PUT", "/service-principals/{client}", self._put_credentials),
                Route("POST", "/tokens", self._token),
                Route("GET", "/state", lambda _call, _params: admin.state()),
                Route("PUT", "/nics", self._put_nics),
                Route("POST", "/seed", self._plant),
                Route("POST", "/hosts/delete", self._delete_host),
            )
        )

    def handle(self, call: Call) -> Reply:
        """The answer to a request over the socket."""
        try:
            found = self._routes.find(call.method, call.path)
        except MethodError:
            return Reply(405, {"error": f"{call.path} does not take {call.method}"})
        if found is None:
            return Reply(404, {"error": f"there is no {call.path}"})
        route, params = found
        try:
            return Reply(200, route.handler(call, params))
        except (AdminError, SeedError, FaultsError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return Reply(400, {"error": str(error)})

    def _reset_counters(self, _call: Call, _params: dict[str, str]) -> object:
        self._admin.reset_counters()
        return {}

    def _put_faults(self, call: Call, _params: dict[str, str]) -> object:
        self._admin.set_faults(**msgspec.json.decode(call.body, type=dict[str, object]))
        return self._admin.faults

    def _reset_faults(self, _call: Call, _params: dict[str, str]) -> object:
        self._admin.reset_faults()
        return self._admin.faults

    def _attach(self, call: Call, _params: dict[str, str]) -> object:
        body = msgspec.json.decode(call.body, type=_Pair)
        self._admin.attach(body.host, body.identity)
        return self._admin.identities_on(body.host)

    def _detach(self, call: Call, _params: dict[str, str]) -> object:
        body = msgspec.json.decode(call.body, type=_Pair)
        self._admin.detach(body.host, body.identity)
        return self._admin.identities_on(body.host)

    def _put_secret(self, call: Call, params: dict[str, str]) -> object:
        body = msgspec.json.decode(call.body, type=_SecretBody)
        vault, name = params["vault"], params["name"]
        version = self._admin.set_secret(
            vault, name, body.value, content_type=body.content_type, kid=body.kid, enabled=body.enabled
        )
        return {"id": f"https://{vault}.vault.azure.net/secrets/{name}/{version}", "version": version}

    def _put_credentials(self, call: Call, params: dict[str, str]) -> object:
        body = msgspec.json.decode(call.body, type=_CredentialsBody)
        self._admin.set_credentials(params["client"], body.secrets, body.certificates)
        return {}

    def _token(self, call: Call, _params: dict[str, str]) -> object:
        body = msgspec.json.decode(call.body, type=_TokenBody)
        token = self._admin.mint_token(body.resource, client_id=body.client_id, lifetime=body.lifetime)
        return {"access_token": token, "token_type": "Bearer", "expires_in": body.lifetime}

    def _put_nics(self, call: Call, _params: dict[str, str]) -> object:
        self._admin.set_nics(msgspec.json.decode(call.body, type=tuple[NicSeed, ...]))
        return {}

    def _plant(self, call: Call, _params: dict[str, str]) -> object:
        self._admin.plant(msgspec.json.decode(call.body, type=Seed))
        return {}

    def _delete_host(self, call: Call, _params: dict[str, str]) -> object:
        self._admin.delete_host(msgspec.json.decode(call.body, type=_HostBody).host)
        return {}
