"""Role assignments over a real socket: pages, roles of one's own, answers that are no answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.azure.conftest import FixedCredential
from tests.azure.servers import Fake, answer, fake_server

from podidentity.aio.backoff import Backoff
from podidentity.azure.arm_call import ArmCaller
from podidentity.azure.authorization import AuthorizationClient
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.errors import AuthorizationFailed, AzureUnavailable
from podidentity.rules.role_needs import Need, Principal
from podidentity.rules.roles import IDENTITY_OPERATOR, VM_CONTRIBUTOR, Definition

SUB = "/subscriptions/s1"
SCOPE = f"{SUB}/resourceGroups/apps (one)"
ROLES = f"{SUB}/providers/Microsoft.Authorization/roleDefinitions"
NEED = Need(Principal("oid-1", "kubelet"), IDENTITY_OPERATOR, SCOPE, "why")


@dataclass
class Arm:
    """A client and the ARM it talks to."""

    fake: Fake
    client: AuthorizationClient


@pytest.fixture
async def arm() -> AsyncIterator[Arm]:
    """A patient client that waits little."""
    async with fake_server() as fake:
        caller = ArmCaller(
            PUBLIC,
            FixedCredential(),
            user_agent="test",
            base_url=fake.url,
            backoff=Backoff(initial=0.01, maximum=0.02),
            environ={},
            patient=True,
        )
        client = AuthorizationClient(caller)
        try:
            yield Arm(fake, client)
        finally:
            await client.close()


def row(role: str, scope: str, **more: object) -> dict[str, Any]:
    """A role assignment as ARM lists it."""
    return {
        "id": "x",
        "properties": {"roleDefinitionId": f"{ROLES}/{role}", "principalId": "g", "scope": scope, **more},
    }


async def test_pages_and_a_role_of_ones_own(arm: Arm) -> None:
    """All pages are read, a role that is not built in is looked up once, a group's role is its member's."""
    following = f"{arm.fake.url}{SCOPE}/providers/x?page=2"
    ours = {"id": "x", "name": "OURS", "properties": {"roleName": "Ours", "permissions": [{"actions": ["a/*"]}, {}]}}
    arm.fake.add(
        answer(200, {"value": [row(VM_CONTRIBUTOR.id.upper(), SCOPE)], "nextLink": following}),
        answer(200, {"value": [row("ours", SUB), row("ours", "/", condition="x")]}),
        answer(200, ours),
    )
    found = await arm.client.grants(SCOPE, "oid-1")
    mine = Definition("ours", "Ours", ("a/*",))
    assert [(one.principal_id, one.role, one.scope, one.conditional) for one in found] == [
        ("oid-1", VM_CONTRIBUTOR, SCOPE, False),
        ("oid-1", mine, SUB, False),
        ("oid-1", mine, "/", True),
    ]
    assert arm.fake.asked[0].target == (
        "/subscriptions/s1/resourceGroups/apps%20(one)/providers/Microsoft.Authorization/roleAssignments"
        "?api-version=2022-04-01&$filter=atScope()%20and%20assignedTo('oid-1')"
    )
    assert len(arm.fake.asked) == 3


async def test_a_page_elsewhere_is_not_asked_for(arm: Arm) -> None:
    """The token goes to ARM only, whatever an answer names."""
    arm.fake.add(answer(200, {"value": [], "nextLink": "https://evil.example/next"}))
    with pytest.raises(AzureUnavailable, match="foreign address"):
        await arm.client.grants(SCOPE, "oid-1")


async def test_assigning(arm: Arm) -> None:
    """The name of an assignment is made of what it says, so that a second PUT is the same one; a 429 is waited out."""
    exists = {"error": {"code": "RoleAssignmentExists", "message": "there"}}
    arm.fake.add(
        answer(429, {}, {"Retry-After": "0"}), answer(201, {}), answer(200, {}), answer(409, exists), answer(403, {})
    )
    assert [await arm.client.assign(NEED) for _ in range(3)] == [True, False, False]
    with pytest.raises(AuthorizationFailed):
        await arm.client.assign(NEED)
    assert len({request.target for request in arm.fake.asked}) == 1
    assert arm.fake.asked[0].json == {
        "properties": {
            "roleDefinitionId": f"{ROLES}/{IDENTITY_OPERATOR.id}",
            "principalId": "oid-1",
            "principalType": "ServicePrincipal",
        }
    }


@pytest.mark.parametrize("body", [b"<html>", json.dumps({"value": [{"properties": {}}]}).encode()])
async def test_what_is_no_answer(arm: Arm, body: bytes) -> None:
    """A proxy's page, or a list of something else, is an error that says so, not a missing role."""
    arm.fake.add(answer(200, body))
    with pytest.raises(AzureUnavailable, match="ARM's answer is not"):
        await arm.client.grants(SCOPE, "oid-1")
