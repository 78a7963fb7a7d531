"""A budget shared fairly: so many a second, so many at once, each caller its turn, slower when told off."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from podidentity.aio.clock import Clock
from podidentity.nmi.tokens.pace import Pace

_TICK_SECONDS: Final = 0.001
"""Shortest wait: a rounding error must not become a busy loop."""

_Line = deque[asyncio.Future[None]]


class BudgetSpent(Exception):  # noqa: N818 - a state of the budget, not a fault
    """No turn within the patience, or too many are waiting already; ``retry_after`` in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FairBudget:
    """Admits turns at a ``pace`` and ``concurrent`` at once; callers are served in rotation, one turn each.

    ``reserved`` of the concurrent turns are for what is urgent only. A caller may have ``per_caller`` turns of each
    kind waiting, all together ``total``. Who could not be served within ``patience`` seconds is not made to wait:
    :class:`BudgetSpent` says when to come back.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        concurrent: int,
        clock: Clock,
        reserved: int = 0,
        per_caller: int = 2,
        total: int = 1024,
        patience: float = 8.0,
    ) -> None:
        self.pace = pace
        self._clock = clock
        self._free = concurrent
        self._reserved = min(reserved, concurrent - 1)
        self._per_caller = per_caller
        self._total = total
        self._patience = patience
        self._waiting = 0
        self._lines: OrderedDict[tuple[str, bool], _Line] = OrderedDict()
        self._paused_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return self._waiting

    @asynccontextmanager
    async def turn(self, caller: str, *, urgent: bool = True) -> AsyncIterator[None]:
        """Wait for this caller's turn and hold it. Raises :class:`BudgetSpent`."""
        await self._enter((caller, urgent))
        try:
            yield
        finally:
            self._free += 1
            self._admit()

    def pause(self, seconds: float) -> None:
        """Admit nobody for so long: the other side asked for it. Who waits in vain is told at once."""
        self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)
        left = self.pause_left
        if left <= self._patience:
            return
        for line in self._lines.values():
            for future in line:
                if not future.done():
                    future.set_exception(_paused(left))
        self._lines.clear()
        self._waiting = 0

    @property
    def pause_left(self) -> float:
        """For how many seconds yet nobody is admitted."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    async def _enter(self, key: tuple[str, bool]) -> None:
        self._refuse_hopeless(key)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(key, deque()).append(future)
        self._waiting += 1
        self._admit()
        try:
            async with asyncio.timeout(self._patience):
                await future
        except (asyncio.CancelledError, TimeoutError) as end:
            if future.cancelled() or not future.done():
                self._leave(key, future)
            elif future.exception() is None:
                self._free += 1
                self._admit()
            if isinstance(end, TimeoutError):
                raise BudgetSpent("too many token requests are waiting", 1.0) from end
            raise

    def _refuse_hopeless(self, key: tuple[str, bool]) -> None:
        left = self.pause_left
        if left > self._patience:
            raise _paused(left)
        own = len(self._lines.get(key, ()))
        # Each round gives every caller one turn, so a short line is not delayed by the length of the others.
        ahead = min(self._waiting, (own + 1) * max(1, len(self._lines)))
        wait = left + ahead / self.pace.rate
        if self._waiting >= self._total or own >= self._per_caller or wait > self._patience:
            raise BudgetSpent("too many token requests are waiting", max(1.0, wait))

    def _leave(self, key: tuple[str, bool], future: asyncio.Future[None]) -> None:
        line = self._lines.get(key)
        if line is not None and future in line:
            line.remove(future)
            self._waiting -= 1
            if not line:
                del self._lines[key]

    def _admit(self) -> None:
        """Give turns while there are some; otherwise look again when the next is due."""
        while (key := self._next()) is not None:
            wait = self.pause_left or self.pace.try_take()
            if wait > 0:
                self._look_again(wait)
                return
            line = self._lines.pop(key)
            future = line.popleft()
            self._waiting -= 1
            if line:
                self._lines[key] = line
            if not future.done():
                self._free -= 1
                future.set_result(None)

    def _next(self) -> tuple[str, bool] | None:
        """Return whose turn it is: the first in the rotation, for whom a turn is free."""
        if self._free > self._reserved:
            return next(iter(self._lines), None)
        return next((key for key in self._lines if key[1]), None) if self._free > 0 else None

    def _look_again(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(seconds, _TICK_SECONDS), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._admit()


def _paused(left: float) -> BudgetSpent:
    return BudgetSpent("the metadata service asked for a pause", max(1.0, left))
