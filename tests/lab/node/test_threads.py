"""Threads of a kubelet whose tasks are cancelled."""

from __future__ import annotations

import asyncio
import time

import pytest

from podidentity.lab.node.threads import to_the_end


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("last", [0.0, 0.01])
async def test_a_call_is_known_to_have_ended_in_whatever_turn_it_is_cancelled(turns: int, last: float) -> None:
    """Protects the pod's network: attached unheard, because the end of it came in one turn of the loop, it stayed."""
    called: list[str] = []
    told: list[BaseException | None] = []

    def call() -> None:
        time.sleep(last)
        called.append("it")

    task = asyncio.ensure_future(to_the_end(call, told.append))
    for _ in range(turns):
        await asyncio.sleep(0 if last else 0.001)
    task.cancel()
    await asyncio.wait({task})
    assert told == [None] * len(called)


async def test_every_turn_between_the_thread_and_its_task() -> None:
    """Protects the same where it went wrong: the thread has ended, its task has yet to hear of it."""
    for turns in range(8):
        told: list[BaseException | None] = []
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def call(loop: asyncio.AbstractEventLoop = loop, over: asyncio.Event = over) -> None:
            loop.call_soon_threadsafe(over.set)

        task = asyncio.ensure_future(to_the_end(call, told.append))
        await over.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert told == [None], turns


async def test_a_failure_is_told_and_raised() -> None:
    """Protects the address: it goes back to the pool when the attaching failed."""
    told: list[BaseException | None] = []

    def call() -> None:
        raise OSError("no more veth")

    with pytest.raises(OSError, match="no more veth"):
        await to_the_end(call, told.append)
    assert [str(error) for error in told] == ["no more veth"]
