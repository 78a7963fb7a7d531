"""The client behind a fence: a write waits for its budget and for retries, and leadership may end meanwhile."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from tests.kube.conftest import status

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence, FenceClosedError
from podidentity.api.core import ConfigMap
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import CONFIG_MAPS
from podidentity.kube.client import KubeClient

if TYPE_CHECKING:
    from tests.kube.conftest import Served

MADE = ConfigMap(metadata=ObjectMeta(name="c", namespace="ns"))


def leading() -> Fence:
    """An open fence."""
    fence = Fence(Clock(), delivery=1.0)
    fence.open_until(math.inf)
    return fence


async def test_leadership_ends_while_the_budget_is_waited_for(served: Served) -> None:
    """A write held back by --clientQps is not sent by a process that leads no more; reads still are."""
    fence = leading()
    async with KubeClient(served.settings, user_agent="t", qps=2, burst=1, fence=fence) as client:
        await client.create(CONFIG_MAPS, MADE)
        waiting = asyncio.create_task(client.delete(CONFIG_MAPS, "c", "ns"))
        await asyncio.sleep(0)
        fence.close()
        with pytest.raises(FenceClosedError):
            await waiting
        assert (await client.get(CONFIG_MAPS, "c", "ns")).name == "c"
    assert [line.partition(" ")[0] for line in served.api.requests] == ["POST", "GET"]


async def test_leadership_ends_before_a_retry(served: Served) -> None:
    """A write that the API refused for now is not sent again once the leadership is over."""
    fence = leading()

    async def busy(_: web.Request) -> web.StreamResponse:
        fence.close()
        return status(429, "TooManyRequests", headers={"Retry-After": "0"})

    served.api.hooks.append(busy)
    async with KubeClient(served.settings, user_agent="t", fence=fence) as client:
        with pytest.raises(FenceClosedError):
            await client.create(CONFIG_MAPS, MADE)
    assert len(served.api.requests) == 1
