"""A small simulated Azure for the tests: one VM, one scale set, two identities, two vaults."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from podidentity.lab.cloud import CloudConfig, Faults, Running, Seed, parse_seed, serve
from podidentity.lab.cloud.tokens import new_key

SUB = "11111111-1111-1111-1111-111111111111"
TENANT = "22222222-2222-2222-2222-222222222222"
CONTROLLER = "33333333-3333-3333-3333-333333333333"
ARM = "https://management.azure.com/"
VAULT = "https://vault.azure.net"
GROUP = f"/subscriptions/{SUB}/resourceGroups/rg-Nodes"
VM = f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm0"
VMSS = f"{GROUP}/providers/Microsoft.Compute/virtualMachineScaleSets/pool"
_IDENTITY = "providers/Microsoft.ManagedIdentity/userAssignedIdentities"
KUBELET = f"{GROUP}/{_IDENTITY}/kubelet"
APP1 = f"/subscriptions/{SUB}/resourceGroups/rg-apps/{_IDENTITY}/app1"
APP2 = f"/subscriptions/{SUB}/resourceGroups/rg-apps/{_IDENTITY}/app2"

SEED = f"""{{
  "id": "test", "tenantId": "{TENANT}", "subscriptionId": "{SUB}",
  "resourceGroups": ["rg-Nodes", "rg-apps"],
  "identities": [
    {{"name": "kubelet", "resourceGroup": "rg-Nodes"}},
    {{"name": "app1", "resourceGroup": "rg-apps"}},
    {{"name": "app2", "resourceGroup": "rg-apps"}}
  ],
  "vms": [{{"name": "vm0", "resourceGroup": "rg-Nodes", "identities": ["kubelet"]}}],
  "scaleSets": [{{"name": "pool", "resourceGroup": "rg-Nodes", "instances": 2, "systemAssigned": true}}],
  "servicePrincipals": [{{"clientId": "{CONTROLLER}", "secret": "s3cret"}}],
  "roleAssignments": [
    {{"principal": "{CONTROLLER}", "role": "Virtual Machine Contributor", "scope": "rg-Nodes"}},
    {{"principal": "{CONTROLLER}", "role": "Managed Identity Operator", "scope": "{APP1}"}},
    {{"principal": "app2", "role": "Key Vault Secrets User", "scope": ""}}
  ],
  "vaults": [
    {{"name": "kv1", "resourceGroup": "rg-apps",
      "accessPolicies": [{{"principal": "app1", "secrets": ["get", "list"]}}],
      "secrets": {{"kvs-test01": "e+9qBwdjC<q6<P_n"}}}},
    {{"name": "kv2", "resourceGroup": "rg-apps", "rbac": true, "secrets": {{"s": "v"}}}}
  ],
  "nics": [
    {{"cidr": "127.0.0.1/32", "resourceId": "{VM}", "kind": "node"}},
    {{"cidr": "127.0.1.0/24", "resourceId": "{VM}", "kind": "pod"}},
    {{"cidr": "127.0.0.2/32", "resourceId": "{VMSS}/virtualMachines/1", "kind": "node"}}
  ]
}}"""


@dataclass
class Time:
    """A clock that only the test moves; both kinds of time at once."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@dataclass
class Azure:
    """The running services and a client for them."""

    running: Running
    session: aiohttp.ClientSession
    time: Time
    tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    def bearer(self, client_id: str = "", resource: str = ARM) -> dict[str, str]:
        """A header with a token of the client, the owner's by default."""
        return {"Authorization": f"Bearer {self.running.admin.mint_token(resource, client_id=client_id)}"}

    async def arm(
        self, method: str, path: str, body: object = None, *, client: str = "", api: str = "2024-07-01"
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body and headers of a call of ARM."""
        url = f"{self.running.arm_url}{path}{'&' if '?' in path else '?'}api-version={api}"
        async with self.session.request(method, url, json=body, headers=self.bearer(client)) as reply:
            return reply.status, await reply.json() if reply.content_length else None, reply.headers

    async def imds(
        self,
        query: str,
        *,
        path: str = "/metadata/identity/oauth2/token",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> tuple[int, Any]:
        """Status and body of a call of IMDS."""
        url = f"{self.running.imds_url}{path}?{query}"
        given = {"Metadata": "true"} if headers is None else headers
        async with self.session.request(method, url, headers=given) as reply:
            return reply.status, await reply.json(content_type=None)

    async def vault(
        self, vault: str, path: str, *, token: str | None = None, method: str = "GET", body: object = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, body and headers of a call of a vault."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"{self.running.vault_url(vault)}{path}{'&' if '?' in path else '?'}api-version=7.4"
        async with self.session.request(method, url, headers=headers, json=body) as reply:
            return reply.status, await reply.json(), reply.headers

    async def attach(self, host: str, *identities: str) -> None:
        """Attach identities through ARM as the owner and let the operation end."""
        users = {identity: {} for identity in identities}
        identity = {"type": "UserAssigned", "userAssignedIdentities": users}
        status, body, _ = await self.arm("PATCH", host, {"identity": identity})
        assert status == 200, body
        self.time.now += 1

    def client_id(self, identity: str) -> str:
        """The client id of an identity."""
        return self.running.world.identities[identity.casefold()].client_id


@pytest.fixture
def seed() -> Seed:
    """The seed of these tests."""
    return parse_seed(SEED)


@pytest.fixture(scope="session")
def signing_key() -> str:
    """One signing key for all: keys take a while to make."""
    return new_key()


@pytest.fixture
def faults() -> Faults:
    """Normal behaviour; a module overrides this."""
    return Faults()


@pytest.fixture
async def azure(tmp_path: Path, seed: Seed, faults: Faults, signing_key: str) -> AsyncIterator[Azure]:
    """The simulated Azure on loopback over plain HTTP."""
    time = Time()
    config = CloudConfig(
        state_dir=tmp_path / "state", seed=seed, faults=faults, wall=time, monotonic=time, new_key=lambda: signing_key
    )
    async with serve(config) as running, aiohttp.ClientSession() as session:
        yield Azure(running, session, time)
