"""The pace of requests: what the API server bears, found by its refusals."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from podidentity.aio.clock import loop_clock
from podidentity.kube.pace import Pace

pytestmark = pytest.mark.looptime


async def test_never_more_turns_than_the_limit_and_in_order() -> None:
    """The server is never asked more at a time than it bears, and who came first is served first."""
    pace, running, served = Pace(3, loop_clock()), [0, 0], list[int]()

    async def one(number: int) -> None:
        async with pace.turn():
            served.append(number)
            running[0] += 1
            running[1] = max(running)
            await asyncio.sleep(1)
            running[0] -= 1

    await asyncio.gather(*(one(number) for number in range(10)))
    assert served == list(range(10))
    assert running == [0, 3]


async def test_halved_once_a_second_and_recovered_by_answers() -> None:
    """A burst of refusals is one step back; good answers bring the pace back up, never above the most."""
    pace = Pace(24, loop_clock())
    for _ in range(24):
        pace.refused()
    assert pace.limit == 12
    for limit in (6, 3, 1, 1):
        await asyncio.sleep(1)
        pace.refused()
        assert pace.limit == limit
    pace.answered()
    assert pace.limit == 2
    for _ in range(1000):
        pace.answered()
    assert pace.limit == 24


async def test_a_lower_limit_holds_for_those_that_wait() -> None:
    """After a refusal the next one goes only when as many have ended as are now too many."""
    pace = Pace(4, loop_clock())
    async with AsyncExitStack() as turns, asyncio.TaskGroup() as tasks:
        inner = [AsyncExitStack() for _ in range(4)]
        for stack in inner:
            await turns.enter_async_context(stack)
            await stack.enter_async_context(pace.turn())
        pace.refused()
        waiting = tasks.create_task(_turn(pace))
        for number in (0, 1):
            await inner[number].aclose()
            await asyncio.sleep(0.1)
            assert not waiting.done()
        await inner[2].aclose()
        await asyncio.sleep(0.1)
        assert waiting.done()


async def test_who_gives_up_takes_no_turn_along() -> None:
    """A cancelled request, waiting or just let in, leaves its turn to the next."""
    pace = Pace(1, loop_clock())
    async with asyncio.TaskGroup() as tasks:
        async with pace.turn():
            given_up, let_in, last = (tasks.create_task(_turn(pace)) for _ in range(3))
            await asyncio.sleep(0.1)
            given_up.cancel()
            await asyncio.sleep(0.1)
        let_in.cancel()
        await asyncio.wait([last], timeout=1)
        assert last.done()
    async with asyncio.timeout(1):
        await _turn(pace)


async def _turn(pace: Pace) -> None:
    async with pace.turn():
        pass
