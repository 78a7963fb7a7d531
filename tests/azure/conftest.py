"""What the Azure clients are tested with: stand-ins on real sockets, credentials and metrics that remember."""

from __future__ import annotations

import importlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from tests.azure.servers import Fake, fake_server

from podidentity.aio.backoff import Backoff
from podidentity.azure.arm import ComputeClient, Deadlines
from podidentity.azure.cloud import PUBLIC
from podidentity.azure.credentials import AccessToken
from podidentity.azure.errors import AzureError
from podidentity.config.redact import SecretText
from podidentity.rules.resource_id import HostId

VM = HostId("sub-1", "RG.one(1)", "virtualMachines", "vm0")
VMSS = HostId("sub-1", "RG.one(1)", "virtualMachineScaleSets", "pool")
AGENT = "aad-pod-identity/MIC/v0.1.0/abc/2026-01-01 custom"


@dataclass
class FixedCredential:
    """Gives one token, or raises."""

    error: AzureError | None = None
    asked: list[str] = field(default_factory=list)

    async def token(self, resource: str) -> AccessToken:
        """See Credential."""
        self.asked.append(resource)
        if self.error is not None:
            raise self.error
        return AccessToken(SecretText("arm-token"), int(time.time()) + 3600, resource)

    async def close(self) -> None:
        """See Credential."""


@dataclass
class Arm:
    """A compute client and the ARM it talks to."""

    fake: Fake
    client: ComputeClient
    credential: FixedCredential
    metrics: list[tuple[str, AzureError | None]]


@pytest.fixture
async def arm() -> AsyncIterator[Arm]:
    """A compute client that retries quickly."""
    importlib.import_module("podidentity.azure.arm_pipeline")  # slow, and no part of a call's deadline
    metrics: list[tuple[str, AzureError | None]] = []
    credential = FixedCredential()
    async with fake_server() as fake:
        client = ComputeClient(
            PUBLIC,
            credential,
            user_agent=AGENT,
            base_url=fake.url,
            metrics=lambda name, _seconds, error: metrics.append((name, error)),
            backoff=Backoff(initial=0.01, maximum=0.02),
            deadlines=Deadlines(attempt=0.5, call=1.5, operation=2.0),
            environ={},
        )
        try:
            yield Arm(fake, client, credential, metrics)
        finally:
            await client.close()
