"""Who may do what at ARM, and how often."""

from typing import Any

import pytest
from tests.lab.cloud.conftest import APP1, APP2, ARM, CONTROLLER, GROUP, SUB, VAULT, VM, VMSS, Azure

from podidentity.lab.cloud import ArmLimits, Faults


def attach(*identities: str) -> dict[str, Any]:
    """A PATCH body."""
    users: dict[str, object] = {identity: {} for identity in identities}
    return {"identity": {"type": "UserAssigned", "userAssignedIdentities": users}}


async def get(azure: Azure, authorization: str | None) -> tuple[int, dict[str, Any], str]:
    """Status, error and challenge of a GET of the VM."""
    headers = {} if authorization is None else {"Authorization": authorization}
    url = f"{azure.running.arm_url}{VM}?api-version=2024-07-01"
    async with azure.session.get(url, headers=headers) as reply:
        return reply.status, (await reply.json())["error"], reply.headers.get("WWW-Authenticate", "")


async def test_no_token_is_challenged(azure: Azure) -> None:
    """Protects the 401 from which clients learn the authority."""
    status, error, challenge = await get(azure, None)
    assert (status, error["code"]) == (401, "AuthenticationFailed")
    assert 'authorization_uri="https://login.windows.net/' in challenge


async def test_tokens_that_are_not_for_arm(azure: Azure) -> None:
    """Protects signature, audience and expiry at the front door."""
    mint = azure.running.admin.mint_token
    expired, vault = mint(ARM, lifetime=-1), mint(VAULT)
    expected = {
        "Bearer nonsense": "InvalidAuthenticationToken",
        f"Bearer {expired}": "ExpiredAuthenticationToken",
        f"Bearer {vault}": "InvalidAuthenticationTokenAudience",
        "Basic eDp5": "AuthenticationFailed",
    }
    for authorization, code in expected.items():
        status, error, _ = await get(azure, authorization)
        assert (status, error["code"]) == (401, code)


@pytest.mark.parametrize("audience", ["https://management.azure.com", "https://management.core.windows.net/"])
async def test_both_names_of_arm_are_accepted(azure: Azure, audience: str) -> None:
    """Protects clients that use the older resource name or no slash."""
    headers = azure.bearer(CONTROLLER, audience)
    async with azure.session.get(f"{azure.running.arm_url}{VM}?api-version=2024-07-01", headers=headers) as reply:
        assert reply.status == 200


async def test_without_a_role_on_the_host(azure: Azure) -> None:
    """Protects AuthorizationFailed with its action and scope."""
    client = azure.client_id(APP1)
    status, answer, _ = await azure.arm("PATCH", VM, attach(APP1), client=client)
    assert (status, answer["error"]["code"]) == (403, "AuthorizationFailed")
    oid = azure.running.world.object_id_of(client)
    assert answer["error"]["message"] == (
        f"The client '{client}' with object id '{oid}' does not have authorization to perform action "
        f"'Microsoft.Compute/virtualMachines/write' over scope '{VM}' or the scope is invalid. If access was recently "
        "granted, please refresh your credentials."
    )


async def test_without_a_role_on_an_identity(azure: Azure) -> None:
    """Protects LinkedAuthorizationFailed: it names exactly the identities that lack the role, and nothing happens."""
    status, answer, _ = await azure.arm("PATCH", VMSS, attach(APP1, APP2), client=CONTROLLER)
    assert (status, answer["error"]["code"]) == (403, "LinkedAuthorizationFailed")
    assert f"on the linked scope(s) '{APP2}' or the linked scope(s) are invalid." in answer["error"]["message"]
    assert f"on scope '{VMSS}'; however" in answer["error"]["message"]
    status, _, _ = await azure.arm("PATCH", VMSS, attach(APP1), client=CONTROLLER)
    assert status == 200


async def test_removing_needs_no_role_on_the_identity(azure: Azure) -> None:
    """Protects cleaning up after an identity's role, or the identity itself, is gone."""
    await azure.attach(VM, APP2)
    body = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {APP2: None}}}
    status, _, _ = await azure.arm("PATCH", VM, body, client=CONTROLLER)
    assert status == 200


async def test_a_role_granted_takes_effect_when_it_has_spread(azure: Azure) -> None:
    """Protects the retry that real role assignments need: they are honoured only after a while."""
    azure.running.admin.set_faults(role_delay=60)
    oid = azure.running.world.object_id_of(CONTROLLER)
    name = "44444444-4444-4444-4444-444444444444"
    role = "f1a07417-d97a-45cb-824c-7a7467783830"
    properties = {"roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{role}", "principalId": oid}
    path = f"{APP2}/providers/Microsoft.Authorization/roleAssignments/{name}"
    status, _, _ = await azure.arm("PUT", path, {"properties": properties}, api="2022-04-01")
    assert status == 201
    assert (await azure.arm("PATCH", VM, attach(APP2), client=CONTROLLER))[0] == 403
    azure.time.now += 60
    assert (await azure.arm("PATCH", VM, attach(APP2), client=CONTROLLER))[0] == 200


async def test_a_version_is_required(azure: Azure) -> None:
    """Protects clients that forget the api-version, or ask for one without user-assigned identities."""
    async with azure.session.get(f"{azure.running.arm_url}{VM}", headers=azure.bearer()) as reply:
        assert (await reply.json())["error"]["code"] == "MissingApiVersionParameter"
    async with azure.session.get(
        f"{azure.running.arm_url}{VM}?api%2Dversion=2024-07-01", headers=azure.bearer()
    ) as reply:
        assert reply.status == 200
    assert (await azure.arm("GET", VM, api="latest"))[1]["error"]["code"] == "InvalidApiVersionParameter"
    assert (await azure.arm("PATCH", VM, attach(APP1), api="2017-12-01"))[1]["error"]["target"] == "api-version"


async def test_a_method_that_is_not_served(azure: Azure) -> None:
    """Protects the difference between a wrong method and a wrong path."""
    assert (await azure.arm("DELETE", VM))[0] == 405


class TestBudgets:
    """Throttling with small budgets."""

    @pytest.fixture
    def faults(self) -> Faults:
        """Two updates of a host, three reads of the subscription."""
        limits = ArmLimits(host_update=(2, 4), reads=(3, 0.5), operation_poll=(1, 6))
        return Faults(arm_limits=limits, arm_delay_vm=0)

    async def test_a_host_written_too_often(self, azure: Azure) -> None:
        """Protects compute's 429: its codes, its Retry-After, and that another host is not affected."""
        for left in ("1", "0"):
            _, _, headers = await azure.arm("PATCH", VM, attach(APP1))
            assert headers["x-ms-ratelimit-remaining-resource"].startswith(
                f"Microsoft.Compute/UpdateVMResource;{left},"
            )
        status, answer, headers = await azure.arm("PATCH", VM, attach(APP1))
        assert (status, headers["Retry-After"]) == (429, "15")
        assert answer["error"]["code"] == "OperationNotAllowed"
        assert answer["error"]["details"][0]["code"] == "TooManyRequests"
        assert (await azure.arm("PATCH", VMSS, attach(APP1)))[0] == 200
        azure.time.now += 15
        assert (await azure.arm("PATCH", VM, attach(APP1)))[0] == 200

    async def test_a_principal_reading_too_often(self, azure: Azure) -> None:
        """Protects ARM's own 429, a bucket for each principal."""
        for left in ("2", "1", "0"):
            _, _, headers = await azure.arm("GET", GROUP)
            assert headers["x-ms-ratelimit-remaining-subscription-reads"] == left
        status, answer, headers = await azure.arm("GET", GROUP)
        assert (status, answer["error"]["code"], headers["Retry-After"]) == (429, "SubscriptionRequestsThrottled", "2")
        assert (await azure.arm("GET", VM, client=CONTROLLER))[0] == 200

    async def test_an_operation_polled_too_often(self, azure: Azure) -> None:
        """Protects the budget of polls, which fast clients exhaust first."""
        _, _, headers = await azure.arm("PATCH", VM, attach(APP1))
        for expected in (200, 429):
            async with azure.session.get(headers["azure-asyncoperation"], headers=azure.bearer()) as reply:
                assert reply.status == expected

    async def test_budgets_can_be_switched_off(self, azure: Azure) -> None:
        """Protects tests that are about something else."""
        azure.running.admin.set_faults(arm_limits=None)
        for _ in range(8):
            assert (await azure.arm("GET", f"/subscriptions/{SUB}"))[0] == 200
