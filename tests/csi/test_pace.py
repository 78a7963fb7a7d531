"""The pace of each vault by itself."""

from __future__ import annotations

import asyncio

import pytest

from podidentity.azure.errors import Throttled
from podidentity.csi.pace import LONGEST_PAUSE, Paces

pytestmark = pytest.mark.looptime


async def _fine() -> str:
    return "fine"


async def test_vaults_are_forgotten() -> None:
    """What is remembered does not grow with the vaults that classes name; a pause is remembered until it is over."""
    paces = Paces()

    async def throttled() -> str:
        raise Throttled(429, "Throttled", "", retry_after=1e9)

    for number in range(100):
        assert await paces.ask(f"https://kv{number}", _fine) == "fine"
    assert len(paces) == 0
    with pytest.raises(Throttled):
        await paces.ask("https://busy", throttled)
    assert await paces.ask("https://other", _fine) == "fine"
    assert len(paces) == 1
    await asyncio.sleep(LONGEST_PAUSE)
    assert await paces.ask("https://busy", _fine) == "fine"
    assert len(paces) == 0


async def test_a_turn_is_given_back() -> None:
    """A call that fails or is cancelled, running or waiting, takes no turn with it."""
    paces = Paces(per_vault=1)

    async def broken() -> str:
        raise Throttled(429, "Throttled", "")

    with pytest.raises(Throttled):
        await paces.ask("https://kv", broken)
    hanging = [asyncio.create_task(paces.ask("https://kv", asyncio.Event().wait)) for _ in range(3)]
    await asyncio.sleep(1)
    for task in reversed(hanging):
        task.cancel()
    await asyncio.wait(hanging)
    assert await paces.ask("https://kv", _fine) == "fine"
    assert len(paces) == 0
