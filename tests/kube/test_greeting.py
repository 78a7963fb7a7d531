"""The first words with an API server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from podidentity.kube.client import KubeClient
from podidentity.kube.greeting import Greeting

if TYPE_CHECKING:
    from tests.kube.conftest import FakeApi, Served


def version(api: FakeApi, text: str) -> None:
    """Answer the next request with this version."""
    api.answer(lambda: web.json_response({"gitVersion": text}))


async def test_an_old_server_is_named_until_it_is_upgraded(served: Served) -> None:
    """Too old is said, with the version and what to do, and taken back when the server is another one."""
    version(served.api, "v1.15.12")
    version(served.api, "v1.15.12")
    async with KubeClient(served.settings, user_agent="t") as client:
        greeting = Greeting(client)
        await greeting.once()
        assert greeting.complaint.startswith("Kubernetes v1.15.12 is too old: ")
        async with asyncio.timeout(5):
            await greeting.run(again=0.01)
    assert greeting.complaint == ""
    assert served.api.requests == ["GET /version"] * 3


async def test_a_server_that_is_away_is_asked_again(served: Served) -> None:
    """A version that could not be read at the start is read later; nothing is complained of meanwhile."""
    for _ in range(4):
        served.api.fail(404)
    async with KubeClient(served.settings, user_agent="t") as client:
        greeting = Greeting(client)
        await greeting.once()
        assert greeting.complaint == ""
        async with asyncio.timeout(5):
            await greeting.run(again=0.01)
    assert len(served.api.requests) == 5
