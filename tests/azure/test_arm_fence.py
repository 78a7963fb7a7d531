"""The compute client behind a fence: a PATCH waits for tokens and for retries, and leadership may end meanwhile."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web
from tests.azure.conftest import AGENT, VM, FixedCredential
from tests.azure.servers import Fake, Request, answer, fake_server

from podidentity.aio.backoff import Backoff
from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence, FenceClosedError
from podidentity.azure.arm import ComputeClient, IdentityPatch
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.credentials import AccessToken

ADD = IdentityPatch("UserAssigned", add=frozenset({"/subscriptions/s/resourcegroups/g/x/uai1"}))


class SlowCredential(FixedCredential):
    """Leadership ends while Entra ID is asked, when told so."""

    def __init__(self, fence: Fence) -> None:
        super().__init__()
        self.fence = fence
        self.too_slow = False

    async def token(self, resource: str) -> AccessToken:
        """See Credential."""
        if self.too_slow:
            self.fence.close()
        return await super().token(resource)


@dataclass
class Fenced:
    """A compute client, its fence, and the ARM it talks to."""

    fake: Fake
    client: ComputeClient
    fence: Fence
    credential: SlowCredential


@pytest.fixture
async def arm() -> AsyncIterator[Fenced]:
    """Leading."""
    fence = Fence(Clock(), delivery=1.0)
    fence.open_until(math.inf)
    credential = SlowCredential(fence)
    async with fake_server() as fake:
        client = ComputeClient(
            PUBLIC,
            credential,
            user_agent=AGENT,
            base_url=fake.url,
            backoff=Backoff(initial=0.01, maximum=0.02),
            environ={},
            fence=fence,
        )
        try:
            yield Fenced(fake, client, fence, credential)
        finally:
            await client.close()


async def test_leadership_ends_while_a_token_is_fetched(arm: Fenced) -> None:
    """A PATCH that waited for its token is not sent by a process that leads no more."""
    arm.credential.too_slow = True
    with pytest.raises(FenceClosedError):
        await arm.client.patch(VM, ADD)
    assert arm.fake.asked == []


async def test_leadership_ends_before_a_retry(arm: Fenced) -> None:
    """A PATCH that ARM answered with 503 is not sent again once the leadership is over."""

    def refused(_: Request) -> web.Response:
        arm.fence.close()
        return web.Response(status=503)

    arm.fake.default = refused
    with pytest.raises(FenceClosedError):
        await arm.client.patch(VM, ADD)
    assert [request.method for request in arm.fake.asked] == ["PATCH"]


async def test_a_started_change_is_followed_to_its_end(arm: Fenced) -> None:
    """Polling is reading: the outcome of what was begun in time is still learned, and reads need no leadership."""

    def begun(request: Request) -> web.Response:
        arm.fence.close()
        link = f"{arm.fake.url}/subscriptions/s/operations/1"
        return web.json_response(
            {"properties": {"provisioningState": "Updating"}}, headers={"azure-asyncoperation": link}
        )

    arm.fake.add(begun, answer(200, {"status": "Succeeded"}), answer(200, {"id": "x"}))
    await arm.client.patch(VM, ADD)
    await arm.client.get(VM)
    assert [request.method for request in arm.fake.asked] == ["PATCH", "GET", "GET"]
