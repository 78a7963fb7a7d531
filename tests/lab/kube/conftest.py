"""A server on loopback and a plain client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.lab.kube.wire import Client, client_session

from podidentity.lab.kube import ApiConfig, Running, serve


@pytest.fixture
def api_config() -> ApiConfig:
    """Override to configure the server."""
    return ApiConfig()


@pytest.fixture
async def running(api_config: ApiConfig) -> AsyncIterator[Running]:
    """The server."""
    async with serve(api_config) as found:
        yield found


@pytest.fixture
async def api(running: Running) -> AsyncIterator[Client]:
    """An administrator's client."""
    async with client_session(running) as session:
        yield Client(session, running)
