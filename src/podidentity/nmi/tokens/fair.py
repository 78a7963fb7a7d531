"""A budget shared fairly: so many a second, so many at once, and each caller its turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock

_TICK_SECONDS: Final = 0.001
"""Shortest wait: a rounding error must not become a busy loop."""


class BudgetSpent(Exception):  # noqa: N818 - a state of the budget, not a fault
    """Too many are waiting already; ``retry_after`` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many requests are waiting")
        self.retry_after = retry_after


class FairBudget:
    """Admits ``rate`` turns a second and ``concurrent`` at once; callers are served in rotation, one turn each.

    A caller may have ``per_caller`` turns waiting, all together ``total``; more raises :class:`BudgetSpent`.
    """

    def __init__(
        self,
        *,
        rate: float,
        concurrent: int,
        clock: Clock,
        per_caller: int = 32,
        total: int = 1024,
    ) -> None:
        self._bucket = TokenBucket(rate, max(1.0, float(concurrent)), clock)
        self._clock = clock
        self._rate = rate
        self._free = concurrent
        self._per_caller = per_caller
        self._total = total
        self._waiting = 0
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._paused_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Wait for this caller's turn and hold it."""
        await self._enter(caller)
        try:
            yield
        finally:
            self._free += 1
            self._admit()

    def pause(self, seconds: float) -> None:
        """Admit nobody for so long: the other side asked for it."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    async def _enter(self, caller: str) -> None:
        line = self._lines.get(caller)
        if self._waiting >= self._total or (line is not None and len(line) >= self._per_caller):
            raise BudgetSpent(max(1.0, self._waiting / self._rate))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if line is None:
            line = self._lines[caller] = deque()
        line.append(future)
        self._waiting += 1
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._leave(caller, future)
            else:
                self._free += 1
                self._admit()
            raise

    def _leave(self, caller: str, future: asyncio.Future[None]) -> None:
        line = self._lines.get(caller)
        if line is not None and future in line:
            line.remove(future)
            self._waiting -= 1
            if not line:
                del self._lines[caller]

    def _admit(self) -> None:
        """Give turns while there are some; otherwise look again when the next is due."""
        while self._lines and self._free > 0:
            wait = self._paused_until - self._clock.monotonic()
            if wait <= 0:
                wait = self._bucket.try_take()
            if wait > 0:
                self._look_again(wait)
                return
            caller, line = self._lines.popitem(last=False)
            future = line.popleft()
            self._waiting -= 1
            if line:
                self._lines[caller] = line
            if future.cancelled():
                continue
            self._free -= 1
            future.set_result(None)

    def _look_again(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(seconds, _TICK_SECONDS), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._admit()
