"""Whose request is begun next: no source has more than its share of one turn of the loop while others wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

SHARE: Final = 32
"""Requests of one source in one turn: half a millisecond."""


class Turns:
    """Round-robin between sources. Who is told to wait is called in a later turn, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, share: int = SHARE) -> None:
        self._loop = loop
        self._share = share
        self._taken: dict[str, int] = {}
        self._late: dict[str, deque[Callable[[], None]]] = {}
        self._scheduled = False

    def take(self, source: str, later: Callable[[], None]) -> bool:
        """Whether a request of ``source`` may begin now; if not, ``later`` is called when it may."""
        self._schedule()
        if source not in self._late:
            taken = self._taken.get(source, 0)
            if taken < self._share:
                self._taken[source] = taken + 1
                return True
        self._late.setdefault(source, deque()).append(later)
        return False

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._taken.clear()
        late, self._late = self._late, {}
        for source, waiting in late.items():
            called = min(self._share, len(waiting))
            self._taken[source] = called
            for _ in range(called):
                waiting.popleft()()
            if waiting:
                waiting.extend(self._late.get(source, ()))
                self._late[source] = waiting
        if late:  # their share of this turn is counted: it ends with it
            self._schedule()
