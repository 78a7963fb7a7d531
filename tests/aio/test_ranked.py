"""RankedBucket."""

from __future__ import annotations

import asyncio

import pytest

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import loop_clock
from podidentity.aio.ranked import RankedBucket

pytestmark = pytest.mark.looptime


async def _served(*takers: tuple[float, int]) -> list[tuple[int, int]]:
    """Takers that come at these times with these ranks; (number, second it got its token) in the order of service."""
    bucket, served = RankedBucket(TokenBucket(1, 1, loop_clock())), list[tuple[int, int]]()
    start = asyncio.get_running_loop().time()

    async def take(number: int, at: float, rank: int) -> None:
        await asyncio.sleep(at)
        await bucket.take(rank)
        served.append((number, round(asyncio.get_running_loop().time() - start)))

    async with asyncio.TaskGroup() as tasks:
        for number, (at, rank) in enumerate(takers):
            tasks.create_task(take(number, at, rank))
    return served


async def test_lower_ranks_go_first_and_within_one_who_came_first() -> None:
    """What pods wait for overtakes what was asked for before but is less urgent; the rate holds throughout."""
    served = await _served((0.0, 1), (0.1, 2), (0.2, 1), (0.3, 1), (0.4, 0), (1.5, 0))
    assert served == [(0, 0), (4, 1), (5, 2), (2, 3), (3, 4), (1, 5)]


async def test_who_gives_up_takes_nothing() -> None:
    """A cancelled taker, at the head or behind, holds nobody up and costs no token."""
    bucket = RankedBucket(TokenBucket(1, 1, loop_clock()))
    await bucket.take()
    async with asyncio.TaskGroup() as tasks:
        head, behind, last = (tasks.create_task(bucket.take(rank)) for rank in (0, 1, 2))
        await asyncio.sleep(0.5)
        head.cancel()
        behind.cancel()
        await asyncio.wait([last], timeout=1)
        assert last.done()


async def test_a_wait_that_rounds_to_nothing_ends() -> None:
    """Tokens that are a rounding error away are waited for, not asked for again and again without end."""
    bucket = RankedBucket(TokenBucket(0.1, 1, loop_clock()))
    async with asyncio.timeout(40):
        for _ in range(4):
            await bucket.take()
            await asyncio.sleep(0.1)
