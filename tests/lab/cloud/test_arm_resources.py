"""Identities, groups, role assignments and vaults through ARM."""

from typing import Any

import pytest
from tests.lab.cloud.conftest import APP1, CONTROLLER, GROUP, SUB, TENANT, VM, Azure

READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
NAME = "44444444-4444-4444-4444-444444444444"
APPS = f"/subscriptions/{SUB}/resourceGroups/rg-apps"
ROLES = "providers/Microsoft.Authorization/roleAssignments"
DEFINITIONS = f"/subscriptions/{SUB}/providers/Microsoft.Authorization/roleDefinitions"


def assignment(principal: str, role: str = READER, **more: str) -> dict[str, Any]:
    """A role assignment's body."""
    return {"properties": {"roleDefinitionId": f"{DEFINITIONS}/{role}", "principalId": principal, **more}}


async def test_an_identity_from_creation_to_deletion(azure: Azure) -> None:
    """Protects PUT 201 and 200, the id's lower-case segment, and DELETE 200 and 204."""
    path = f"{APPS}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app3"
    status, made, _ = await azure.arm("PUT", path, {"location": "westeurope", "tags": {"a": "b"}}, api="2024-11-30")
    assert status == 201
    assert made["id"] == path.replace("resourceGroups", "resourcegroups")
    assert made["properties"]["tenantId"] == TENANT
    status, again, _ = await azure.arm("PUT", path, {"location": "westeurope"}, api="2024-11-30")
    assert (status, again["properties"]) == (200, made["properties"])
    _, listed, _ = await azure.arm("GET", path.rpartition("/")[0])
    assert [one["name"] for one in listed["value"]] == ["app1", "app2", "app3"]
    assert (await azure.arm("DELETE", path))[0] == 200
    assert (await azure.arm("DELETE", path))[0] == 204
    assert (await azure.arm("GET", path))[0] == 404


async def test_an_identity_created_anew_has_new_ids(azure: Azure) -> None:
    """Protects the trap that a resource id outlives its client id, and that hosts keep the old one."""
    await azure.attach(VM, APP1)
    old = azure.client_id(APP1)
    await azure.arm("DELETE", APP1)
    await azure.arm("PUT", APP1, {})
    assert azure.client_id(APP1) != old
    _, host, _ = await azure.arm("GET", VM)
    shown = {key.casefold(): value for key, value in host["identity"]["userAssignedIdentities"].items()}
    assert shown[APP1.casefold()]["clientId"] == old


async def test_an_identity_needs_its_group(azure: Azure) -> None:
    """Protects the order of things in a new subscription."""
    path = f"/subscriptions/{SUB}/resourceGroups/none/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x"
    assert (await azure.arm("PUT", path, {}))[1]["error"]["code"] == "ResourceGroupNotFound"


async def test_groups(azure: Azure) -> None:
    """Protects resource groups: made once, found in any case, with a location that stays."""
    path = f"/subscriptions/{SUB}/resourceGroups/rg-new"
    assert (await azure.arm("PUT", path, {}))[1]["error"]["code"] == "LocationRequired"
    assert (await azure.arm("PUT", path, {"location": "westeurope"}))[0] == 201
    assert (await azure.arm("PUT", path.upper().replace("/SUB", "/sub"), {"location": "westeurope"}))[0] == 200
    assert (await azure.arm("PUT", path, {"location": "elsewhere"}))[0] == 409
    assert (await azure.arm("GET", path.lower()))[1]["name"] == "rg-new"
    _, listed, _ = await azure.arm("GET", f"/subscriptions/{SUB}/resourceGroups")
    assert [one["name"] for one in listed["value"]] == ["rg-Nodes", "rg-apps", "rg-new"]


async def test_subscriptions_a_principal_can_see(azure: Azure) -> None:
    """Protects what `az login --identity` asks first: only those with a role somewhere in them see a subscription."""
    for client, expected in ((CONTROLLER, [SUB]), (azure.client_id(APP1), [])):
        status, answer, _ = await azure.arm("GET", "/subscriptions", client=client, api="2022-12-01")
        assert (status, [one["subscriptionId"] for one in answer["value"]]) == (200, expected)
    assert (await azure.arm("GET", f"/subscriptions/{SUB}", client=azure.client_id(APP1)))[0] == 403


async def test_a_role_assignment_from_creation_to_deletion(azure: Azure) -> None:
    """Protects PUT 201 and 200, the 409 for the same one under another name, DELETE 200 and 204."""
    principal = str(azure.running.world.object_id_of(CONTROLLER))
    path = f"{GROUP}/{ROLES}/{NAME}"
    status, made, _ = await azure.arm("PUT", path, assignment(principal), api="2022-04-01")
    assert (status, made["properties"]["scope"]) == (201, GROUP)
    assert (await azure.arm("PUT", path, assignment(principal)))[0] == 200
    other = path.replace(NAME, NAME.replace("4", "5"))
    status, answer, _ = await azure.arm("PUT", other, assignment(principal))
    assert (status, answer["error"]["code"]) == (409, "RoleAssignmentExists")
    assert NAME.replace("-", "") in answer["error"]["message"]
    changed = assignment(principal, "9980e02c-c2be-4d73-94e8-173b1dc7cf3c".replace("c3c", "c3c"))
    assert (await azure.arm("PUT", path.replace(GROUP, VM), changed))[0] == 201
    assert (await azure.arm("DELETE", path))[0] == 200
    assert (await azure.arm("DELETE", path))[0] == 204


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("not-a-guid", assignment(TENANT), "InvalidRoleAssignmentId"),
        (NAME, assignment(TENANT, NAME), "RoleDefinitionDoesNotExist"),
        (NAME, assignment(TENANT), "PrincipalNotFound"),
        (NAME, {}, "InvalidRequestContent"),
    ],
)
async def test_role_assignments_that_are_refused(azure: Azure, name: str, body: dict[str, Any], code: str) -> None:
    """Protects `roles apply` from a simulator that takes what Azure refuses."""
    status, answer, _ = await azure.arm("PUT", f"{GROUP}/{ROLES}/{name}", body)
    assert (status, answer["error"]["code"]) == (400, code)


async def test_a_principal_just_created_is_taken_with_its_type(azure: Azure) -> None:
    """Protects the way around replication: with principalType the directory is not asked."""
    body = assignment(TENANT, principalType="ServicePrincipal")
    assert (await azure.arm("PUT", f"{GROUP}/{ROLES}/{NAME}", body))[0] == 201


async def test_lists_of_role_assignments(azure: Azure) -> None:
    """Protects the filters: at a scope with what is inherited, below it too without atScope(), by principal."""
    principal = str(azure.running.world.object_id_of(CONTROLLER))

    async def scopes(scope: str, filtered: str = "") -> set[str]:
        query = f"?$filter={filtered}" if filtered else ""
        status, answer, _ = await azure.arm("GET", f"{scope}/{ROLES}{query}", api="2022-04-01")
        assert status == 200, answer
        return {one["properties"]["scope"] for one in answer["value"]}

    subscription = f"/subscriptions/{SUB}"
    assert await scopes(subscription) == {GROUP, APP1, subscription}
    assert await scopes(subscription, "atScope()") == {subscription}
    assert await scopes(APP1, "atScope()") == {APP1, subscription}
    assert await scopes(subscription, f"principalId eq '{principal}'") == {GROUP, APP1}
    assert await scopes(APP1, f"atScope() and assignedTo('{principal}')") == {APP1}
    status, _, _ = await azure.arm("GET", f"{subscription}/{ROLES}?$filter=color eq 'red'")
    assert status == 400


async def test_role_definitions_by_id_and_by_name(azure: Azure) -> None:
    """Protects how tools turn a role's name into its id, and back."""
    _, listed, _ = await azure.arm("GET", f"{DEFINITIONS}?$filter=roleName eq 'Managed Identity Operator'")
    assert [one["name"] for one in listed["value"]] == ["f1a07417-d97a-45cb-824c-7a7467783830"]
    _, one, _ = await azure.arm("GET", f"{DEFINITIONS}/{READER}")
    assert one["properties"]["roleName"] == "Reader"
    assert one["properties"]["permissions"][0]["actions"] == ["*/read"]
    assert (await azure.arm("GET", f"{DEFINITIONS}/{NAME}"))[0] == 404


async def test_a_vault_and_its_policies(azure: Azure) -> None:
    """Protects vaults: PUT, add and remove of policies, names taken everywhere, DELETE."""
    path = f"{APPS}/providers/Microsoft.KeyVault/vaults/kv3"
    policy = {"tenantId": TENANT, "objectId": NAME, "permissions": {"secrets": ["Get"]}}
    properties: dict[str, Any] = {"tenantId": TENANT, "sku": {"family": "A", "name": "standard"}, "accessPolicies": []}
    status, made, _ = await azure.arm("PUT", path, {"location": "westeurope", "properties": properties})
    assert (status, made["properties"]["vaultUri"]) == (201, "https://kv3.vault.azure.net/")
    status, _, _ = await azure.arm("PUT", path.replace("rg-apps", "rg-Nodes"), {"properties": properties})
    assert status == 409
    for operation, left in (("add", [NAME]), ("remove", [])):
        body = {"properties": {"accessPolicies": [policy]}}
        status, _, _ = await azure.arm("PUT", f"{path}/accessPolicies/{operation}", body)
        assert status == 200
        _, shown, _ = await azure.arm("GET", path)
        assert [one["objectId"] for one in shown["properties"]["accessPolicies"]] == left
    assert (await azure.arm("DELETE", path))[0] == 200
    assert (await azure.arm("DELETE", path))[0] == 204
