"""Identities of VMs and scale sets through ARM."""

from typing import Any

import pytest
from tests.lab.cloud.conftest import APP1, APP2, GROUP, KUBELET, SUB, TENANT, VM, VMSS, Azure

from podidentity.lab.cloud.seed import ScaleSetSeed, Seed


def patch(kind: str, **users: dict[str, object] | None) -> dict[str, Any]:
    """A PATCH body for identities by their short names."""
    known = {"app1": APP1, "app2": APP2, "kubelet": KUBELET}
    return {"identity": {"type": kind, "userAssignedIdentities": {known[name]: user for name, user in users.items()}}}


async def settle(azure: Azure, host: str, body: dict[str, Any]) -> dict[str, Any]:
    """PATCH, wait, and the identity GET shows then."""
    status, answer, _ = await azure.arm("PATCH", host, body)
    assert (status, answer["properties"]["provisioningState"]) == (200, "Updating")
    azure.time.now += 1
    status, answer, _ = await azure.arm("GET", host)
    assert (status, answer["properties"]["provisioningState"]) == (200, "Succeeded")
    return answer.get("identity", {"type": "None"})


def names(identity: dict[str, Any]) -> set[str]:
    """The last segments of the user-assigned identities."""
    return {key.rpartition("/")[2] for key in identity.get("userAssignedIdentities", {})}


async def test_adding_leaves_what_is_not_listed(azure: Azure) -> None:
    """Protects identities that the cluster never assigned."""
    identity = await settle(azure, VM, patch("UserAssigned", app1={}))
    assert (identity["type"], names(identity)) == ("UserAssigned", {"kubelet", "app1"})
    identity = await settle(azure, VM, patch("UserAssigned", app1=None, app2={}))
    assert names(identity) == {"kubelet", "app2"}


async def test_type_system_assigned_alone_drops_the_rest(azure: Azure) -> None:
    """Protects against the mistake that ARM punishes: the type decides over the list."""
    _, before, _ = await azure.arm("GET", VMSS)
    await settle(azure, VMSS, patch("SystemAssigned, UserAssigned", app1={}, app2={}))
    identity = await settle(azure, VMSS, patch("SystemAssigned"))
    assert identity == {
        "type": "SystemAssigned",
        "principalId": before["identity"]["principalId"],
        "tenantId": TENANT,
    }


async def test_type_none_drops_everything(azure: Azure) -> None:
    """Protects the removal of the last identity; the field is then gone, as in Azure."""
    assert await settle(azure, VM, {"identity": {"type": "None", "userAssignedIdentities": None}}) == {"type": "None"}
    _, answer, _ = await azure.arm("GET", VM)
    assert "identity" not in answer


async def test_user_assigned_drops_the_system_assigned(azure: Azure) -> None:
    """Protects the host's own identity by showing what a wrong type does to it, for good."""
    _, before, _ = await azure.arm("GET", VMSS)
    await settle(azure, VMSS, patch("UserAssigned", app1={}))
    again = await settle(azure, VMSS, patch("SystemAssigned, UserAssigned"))
    assert again["principalId"] != before["identity"]["principalId"]


async def test_user_assigned_with_none_left_is_refused(azure: Azure) -> None:
    """Protects the rule that the last removal must change the type."""
    status, answer, _ = await azure.arm("PATCH", VM, patch("UserAssigned", kubelet=None))
    assert (status, answer["error"]["code"]) == (400, "InvalidParameter")


async def test_keys_are_spelled_otherwise_than_ids(azure: Azure) -> None:
    """Protects clients that must compare ids in any case."""
    for host in (VM, VMSS):
        await settle(azure, host, patch("UserAssigned", kubelet={}))
        _, answer, _ = await azure.arm("GET", host)
        keys = list(answer["identity"]["userAssignedIdentities"])
        assert KUBELET not in keys
        assert KUBELET.casefold() in {key.casefold() for key in keys}


async def test_hosts_are_found_in_any_case(azure: Azure) -> None:
    """Protects case-insensitive paths; the answer carries the spelling of creation."""
    for spelled in (VM.upper(), VM.lower(), VM + "/"):
        status, answer, _ = await azure.arm("GET", spelled)
        assert (status, answer["id"]) == (200, VM)


async def test_the_operation_is_polled_to_its_end(azure: Azure) -> None:
    """Protects the long-running operation's headers and bodies as recorded."""
    _, _, headers = await azure.arm("PATCH", VMSS, patch("SystemAssigned, UserAssigned", app1={}))
    link = headers["azure-asyncoperation"]
    assert "Location" not in headers
    assert f"/subscriptions/{SUB}/providers/Microsoft.Compute/locations/westeurope/operations/" in link
    assert headers["x-ms-ratelimit-remaining-resource"] == (
        "Microsoft.Compute/UpdateVMScaleSetResource;11,Microsoft.Compute/UpdateVMScaleSetSubscriptionMaximum;1499"
    )
    assert headers["x-ms-ratelimit-remaining-subscription-writes"] == "199"

    async def poll() -> dict[str, Any]:
        async with azure.session.get(link, headers=azure.bearer()) as reply:
            assert reply.status == 200
            return await reply.json()

    assert (await poll())["status"] == "InProgress"
    azure.time.now += 0.49
    assert (await poll())["status"] == "InProgress"
    azure.time.now += 0.01
    done = await poll()
    assert done["status"] == "Succeeded"
    assert done["name"] in link
    assert done["endTime"]


async def test_a_write_during_a_write_is_a_conflict(azure: Azure) -> None:
    """Protects the 409 in both spellings, and that it changes nothing."""
    await azure.arm("PATCH", VMSS, patch("UserAssigned", app1={}))
    status, answer, _ = await azure.arm("PATCH", VMSS, patch("UserAssigned", app2={}))
    assert (status, answer["error"]["code"]) == (409, "ConflictingConcurrentWriteNotAllowed")
    azure.running.admin.set_faults(arm_conflict_code="Conflict")
    _, answer, _ = await azure.arm("PATCH", VMSS, patch("UserAssigned", app2={}))
    assert answer["error"]["code"] == "Conflict"
    assert "conflict with a concurrent request" in answer["error"]["message"]
    azure.time.now += 1
    _, answer, _ = await azure.arm("GET", VMSS)
    assert names(answer["identity"]) == {"app1"}


async def test_an_identity_that_does_not_exist(azure: Azure) -> None:
    """Protects the error that names the bad identity, and that no other of the request is attached."""
    body = patch("UserAssigned", app1={})
    body["identity"]["userAssignedIdentities"][APP1 + "x"] = {}
    status, answer, _ = await azure.arm("PATCH", VM, body)
    assert (status, answer["error"]["code"]) == (400, "FailedIdentityOperation")
    assert f"Resource '{APP1}x' was not found." in answer["error"]["message"]
    _, answer, _ = await azure.arm("GET", VM)
    assert names(answer["identity"]) == {"kubelet"}


async def test_an_operation_that_fails_in_the_end(azure: Azure) -> None:
    """Protects clients from believing an accepted PATCH: the operation may fail and the host go back."""
    azure.running.admin.set_faults(arm_operation_error="FailedIdentityOperation: it broke")
    _, _, headers = await azure.arm("PATCH", VM, patch("UserAssigned", app1={}))
    azure.time.now += 1
    async with azure.session.get(headers["azure-asyncoperation"], headers=azure.bearer()) as reply:
        done = await reply.json()
    assert done["status"] == "Failed"
    assert done["error"] == {"code": "FailedIdentityOperation", "message": "it broke"}
    _, answer, _ = await azure.arm("GET", VM)
    assert answer["properties"]["provisioningState"] == "Failed"
    assert names(answer["identity"]) == {"kubelet"}


async def test_instances_of_a_scale_set(azure: Azure) -> None:
    """Protects the instance view that tells how many nodes a pool has."""
    status, answer, _ = await azure.arm("GET", f"{VMSS}/virtualMachines/1")
    assert (status, answer["instanceId"], answer["name"]) == (200, "1", "pool_1")
    status, answer, _ = await azure.arm("GET", f"{VMSS}/virtualMachines/2")
    assert (status, answer["error"]["code"]) == (404, "ResourceNotFound")
    _, answer, _ = await azure.arm("GET", f"{VMSS}/virtualMachines")
    assert [one["instanceId"] for one in answer["value"]] == ["0", "1"]


async def test_a_flexible_scale_set_takes_user_assigned_only(azure: Azure) -> None:
    """Protects the difference between the two kinds of scale sets."""
    part = ScaleSetSeed(name="flex", resource_group="rg-Nodes", orchestration_mode="Flexible")
    azure.running.admin.plant(Seed(scale_sets=(part,)))
    status, answer, _ = await azure.arm("PATCH", VMSS.replace("pool", "flex"), patch("SystemAssigned"))
    assert (status, answer["error"]["target"]) == (400, "identity.type")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{GROUP}/providers/Microsoft.Compute/virtualMachines/none", "ResourceNotFound"),
        (f"{GROUP}/providers/Microsoft.Compute/nothings/x", "InvalidResourceType"),
        (VM.replace(SUB, TENANT), "SubscriptionNotFound"),
        ("/providers/x", "NotFound"),
    ],
)
async def test_what_is_not_there(azure: Azure, path: str, code: str) -> None:
    """Protects the codes by which a client tells a missing host from a missing subscription."""
    status, answer, _ = await azure.arm("GET", path)
    assert (status, answer["error"]["code"]) == (404, code)


async def test_lists_of_a_group_and_a_subscription(azure: Azure) -> None:
    """Protects the lists that a doctor or a role check walks."""
    for scope in (GROUP, f"/subscriptions/{SUB}"):
        _, answer, _ = await azure.arm("GET", f"{scope}/providers/Microsoft.Compute/virtualMachines")
        assert [one["name"] for one in answer["value"]] == ["vm0"]


async def test_old_operations_are_forgotten(azure: Azure) -> None:
    """Protects the state from growing with every PATCH."""
    azure.running.admin.set_faults(arm_limits=None, arm_delay_vm=0)
    for _ in range(25):
        await azure.arm("PATCH", VM, patch("UserAssigned", app1={}))
    assert len(azure.running.world.operations) == 20
