"""A gate for writes that closes by itself: asked synchronously, right before the bytes of a write leave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podidentity.aio.clock import Clock


class FenceClosedError(Exception):
    """A write was held back: it was not sent, and nobody knows whether it still may be."""


class Fence:
    """Open until a deadline on the monotonic clock, closed at first.

    A process that was frozen finds it closed when it wakes, whatever its timers and tasks believed before.
    ``delivery``: seconds that a write begun before the deadline may still be on its way (see ``fenced_request``). A
    machine that was paused may wake with a monotonic clock that stood still; it shows in a wall clock that has gone
    forward by more than ``delivery`` in addition, and the fence is closed until it is opened anew.
    """

    def __init__(self, clock: Clock, *, delivery: float = 0.0) -> None:
        self.delivery = delivery
        self._clock = clock
        self._until = -math.inf
        self._offset = 0.0

    def open_until(self, deadline: float) -> None:
        """Let writes begin before ``deadline``, in monotonic seconds; an earlier call counts no more."""
        self._until = deadline
        self._offset = self._apart()

    def close(self) -> None:
        """Let no write begin from now on."""
        self._until = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether a write may begin now."""
        stood_still = self.delivery > 0 and self._apart() - self._offset >= self.delivery
        return self._clock.monotonic() < self._until and not stood_still

    def _apart(self) -> float:
        return self._clock.wall() - self._clock.monotonic()

    def check(self) -> None:
        """Raise FenceClosedError unless a write may begin now."""
        if not self.is_open:
            raise FenceClosedError("held back: this process does not lead, or its leadership is in doubt")
