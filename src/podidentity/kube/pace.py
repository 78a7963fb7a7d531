"""How many requests are in flight at a time: fewer after each 429, slowly more again. The API server sets the pace.

The server's priority and fairness knows better than any fixed number what it can bear; a 429 is how it says so.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from podidentity.aio.clock import Clock

ONE_STEP: Final = 1.0
"""Seconds within which refusals count as one: they were all sent at the same pace."""


class Pace:
    """At most ``most`` turns at a time, given in the order they were asked for.

    Halved by ``refused``, one more after as many ``answered`` as there may be at a time.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self.limit = most
        self._most = most
        self._clock = clock
        self._taken = 0
        self._good = 0
        self._refused_at = -math.inf
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it within the block."""
        if self._taken < self.limit and not self._waiting:
            self._taken += 1
        else:
            await self._wait()
        try:
            yield
        finally:
            self._taken -= 1
            self._pass_on()

    def refused(self) -> None:
        """The server has too many requests."""
        now = self._clock.monotonic()
        if now - self._refused_at >= ONE_STEP:
            self._refused_at = now
            self.limit = max(1, self.limit // 2)
        self._good = 0

    def answered(self) -> None:
        """The server bears this."""
        self._good += 1
        if self._good >= self.limit < self._most:
            self._good = 0
            self.limit += 1
            self._pass_on()

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._taken -= 1
            self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting and self._taken < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)
