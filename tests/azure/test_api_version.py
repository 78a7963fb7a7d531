"""The api-version of compute: configured, and what Azure says of one that it does not take."""

from __future__ import annotations

import pytest
from tests.azure.conftest import AGENT, VM, Arm, FixedCredential
from tests.azure.servers import answer, fake_server
from tests.azure.test_arm import ADD, DONE, error

from podidentity.azure.arm import ComputeClient
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.errors import ApiVersionRefused


@pytest.mark.parametrize(
    ("code", "message", "supported"),
    [
        (
            "NoRegisteredProviderFound",
            "No registered provider. The supported api-versions are '2015-05-01-preview, 2024-07-01, 2023-03-01'.",
            ("2015-05-01-preview", "2023-03-01", "2024-07-01"),
        ),
        ("InvalidApiVersionParameter", "The api-version '2019-12-01' is invalid. Sorry.", ()),
    ],
)
async def test_a_refused_api_version_names_those_that_are_taken(
    arm: Arm, code: str, message: str, supported: tuple[str, ...]
) -> None:
    """The refusal is no fault of an identity or host, and says what to configure."""
    arm.fake.add(answer(400, error(code, message)))
    with pytest.raises(ApiVersionRefused) as caught:
        await arm.client.get(VM)
    assert caught.value.supported == supported


async def test_the_api_version_is_configured() -> None:
    """Every request about a host carries the version that was asked for."""
    async with fake_server() as fake:
        fake.default = answer(200, DONE)
        client = ComputeClient(
            PUBLIC, FixedCredential(), user_agent=AGENT, base_url=fake.url, api_version="2024-07-01", environ={}
        )
        await client.get(VM)
        await client.patch(VM, ADD)
        await client.close()
        assert [one.target.partition("?")[2] for one in fake.asked] == ["api-version=2024-07-01"] * 2
