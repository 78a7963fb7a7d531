"""A budget of calls in which some go first."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from podidentity.aio.bucket import TokenBucket

_TICK: Final = 0.005
"""Seconds; a wait shorter than a clock can tell apart would be no wait at all."""
_Turn = tuple[int, int, asyncio.Event]


class RankedBucket:
    """Gives the tokens of ``bucket`` to the waiting taker of the lowest rank; within a rank in the order they came."""

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self._waiting: list[_Turn] = []
        self._numbers = count()

    async def take(self, rank: int = 0) -> None:
        """Take one token, waiting for it; cancelled while waiting: takes none."""
        turn = (rank, next(self._numbers), asyncio.Event())
        heapq.heappush(self._waiting, turn)
        try:
            while True:
                if self._waiting[0] is not turn:
                    turn[2].clear()
                    await turn[2].wait()
                elif (wait := self.bucket.try_take()) > 0:
                    await asyncio.sleep(max(wait, _TICK))
                else:
                    return
        finally:
            self._waiting.remove(turn)
            heapq.heapify(self._waiting)
            if self._waiting:
                self._waiting[0][2].set()
