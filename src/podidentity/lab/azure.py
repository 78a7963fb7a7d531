"""What a person does with ``az`` in the walkthrough, done to the simulated Azure through its public REST interface.

Every call goes to ``management.azure.com`` as the subscription's owner, through the lab's admin socket only for
what Azure has no interface for (an owner's token, counters).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from podidentity.lab.spec import LOCATION, LabSpec, identity_id

ROLES: Mapping[str, str] = {
    "Managed Identity Operator": "f1a07417-d97a-45cb-824c-7a7467783830",
    "Virtual Machine Contributor": "9980e02c-c2be-4d73-94e8-173b1dc7cf3c",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
}
ARM = "https://management.azure.com"
VAULT = "https://vault.azure.net"
SECRET_READER: Mapping[str, Sequence[str]] = {"secrets": ("get",)}


class AzureError(Exception):
    """The simulated Azure refused: status and message."""


class IdentityProperties(msgspec.Struct, frozen=True, rename="camel"):
    """``properties`` of a user-assigned identity."""

    client_id: str
    principal_id: str


class UserAssignedIdentity(msgspec.Struct, frozen=True):
    """What ``az identity create`` answers."""

    id: str
    name: str
    properties: IdentityProperties


class ArmCounters(msgspec.Struct, frozen=True):
    """Requests by operation, such as ``PATCH Microsoft.Compute/virtualMachineScaleSets``."""

    operations: Mapping[str, int] = {}


class ImdsCounters(msgspec.Struct, frozen=True):
    """Requests by who sent them (``node``, ``pod``, ``unknown``) and path."""

    kinds: Mapping[str, Mapping[str, int]] = {}


class Counters(msgspec.Struct, frozen=True):
    """What the simulated Azure was asked."""

    arm: ArmCounters
    imds: ImdsCounters

    def imds_requests(self, kind: str) -> int:
        """Requests to the metadata service from nodes or from pods."""
        return sum(self.imds.kinds.get(kind, {}).values())

    @property
    def arm_patches(self) -> int:
        """PATCHes of VMs and scale sets."""
        return sum(count for name, count in self.arm.operations.items() if name.startswith("PATCH Microsoft.Compute/"))

    def describe(self) -> str:
        """One line a figure."""
        return (
            f"requests to the metadata service from nodes: {self.imds_requests('node')}\n"
            f"requests to the metadata service from pods: {self.imds_requests('pod')}\n"
            f"PATCHes of the scale set: {self.arm_patches}"
        )


class LabAzure:
    """The owner's view of the simulated Azure; ``admin_socket`` is the cloud's Unix socket."""

    def __init__(self, spec: LabSpec, admin_socket: Path) -> None:
        self._spec = spec
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin_socket)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> dict[str, object]:
        """One request over the admin socket; the Host header chooses the service."""
        data = None if body is None else json.dumps(body)
        if data is not None:
            headers["Content-Type"] = "application/json"
        async with self._session.request(method, f"http://lab{path}", data=data, headers=headers) as response:
            text = await response.text()
            if response.status >= 400:  # noqa: PLR2004 - HTTP's first error status
                raise AzureError(f"{method} {path}: {response.status} {text[:500]}")
            answer = json.loads(text) if text else {}
        return answer if isinstance(answer, dict) else {"value": answer}

    async def arm(self, method: str, path: str, version: str, body: object = None) -> dict[str, object]:
        """One ARM call as the owner."""
        minted = await self.call("POST", "/tokens", {"clientId": self._spec.owner_client_id, "resource": f"{ARM}/"})
        headers = {"Host": "management.azure.com", "Authorization": f"Bearer {minted['access_token']}"}
        return await self.call(method, f"{path}?api-version={version}", body, **headers)

    async def assign_role(self, principal_id: str, role: str, scope: str) -> str:
        """``az role assignment create``; returns the assignment's ARM id. ``role`` is a name of ROLES."""
        definition = f"{self._spec.subscription_scope}/providers/Microsoft.Authorization/roleDefinitions/{ROLES[role]}"
        name = uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}{principal_id}{role}")
        answer = await self.arm(
            "PUT",
            f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}",
            "2022-04-01",
            {
                "properties": {
                    "roleDefinitionId": definition,
                    "principalId": principal_id,
                    "principalType": "ServicePrincipal",
                }
            },
        )
        return str(answer["id"])

    async def create_identity(self, name: str, group: str) -> UserAssignedIdentity:
        """``az identity create``."""
        answer = await self.arm("PUT", identity_id(self._spec, group, name), "2024-11-30", {"location": LOCATION})
        return msgspec.convert(answer, UserAssignedIdentity)

    async def create_vault(
        self, name: str, group: str, *readers: str, rights: Mapping[str, Sequence[str]] = SECRET_READER
    ) -> None:
        """``az keyvault create`` and ``set-policy``: ``readers`` (object ids) have ``rights`` on the collections."""
        vaults = f"{self._spec.subscription_scope}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults"
        tenant = self._spec.tenant_id
        policies = [{"tenantId": tenant, "objectId": oid, "permissions": rights} for oid in readers]
        sku = {"family": "A", "name": "standard"}
        body = {"location": LOCATION, "properties": {"tenantId": tenant, "sku": sku, "accessPolicies": policies}}
        await self.arm("PUT", f"{vaults}/{name}", "2023-07-01", body)

    async def vault_call(self, vault: str, method: str, path: str, body: object = None) -> dict[str, object]:
        """One call of a vault's data plane as the owner."""
        minted = await self.call("POST", "/tokens", {"clientId": self._spec.owner_client_id, "resource": VAULT})
        headers = {"Host": f"{vault}.vault.azure.net", "Authorization": f"Bearer {minted['access_token']}"}
        return await self.call(method, f"{path}?api-version=7.4", body, **headers)

    async def set_secret(self, vault: str, name: str, value: str) -> str:
        """``az keyvault secret set``; returns the new version."""
        answer = await self.call("PUT", f"/vaults/{vault}/secrets/{name}", {"value": value})
        return str(answer["version"])

    async def counters(self) -> Counters:
        """What the simulated Azure was asked since it started."""
        return msgspec.convert(await self.call("GET", "/counters"), Counters)
