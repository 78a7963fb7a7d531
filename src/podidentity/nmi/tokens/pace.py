"""How fast to ask: a rate that halves when the other side throttles, and climbs back while it is quiet."""

from __future__ import annotations

from typing import Final

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock

_SAME_TROUBLE_SECONDS: Final = 1.0
"""Refusals this close together are one: they answer calls made at the same rate."""

_STEP_SECONDS: Final = 10.0
_STEP: Final = 1.0
_LOWEST: Final = 1.0


class Pace:
    """``most`` calls a second, ``burst`` at once: additive increase, multiplicative decrease.

    ``slow_down`` halves the rate, down to one a second (or ``most`` if that is less); each 10 s without it give one
    a second back.
    """

    def __init__(self, most: float, burst: float, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._bucket = TokenBucket(most, max(1.0, burst), clock)
        self._base = most
        self._since = clock.monotonic()
        self._slowed = False

    @property
    def rate(self) -> float:
        """Calls a second now."""
        if not self._slowed:
            return self._most
        steps = (self._clock.monotonic() - self._since) // _STEP_SECONDS
        rate = min(self._most, self._base + steps * _STEP)
        self._slowed = rate < self._most
        return rate

    def try_take(self) -> float:
        """Take a call and return 0.0, or return the seconds until there is one."""
        self._bucket.set_rate(self.rate)
        return self._bucket.try_take()

    def slow_down(self) -> None:
        """Halve the rate: the other side said 429."""
        now = self._clock.monotonic()
        if self._slowed and now - self._since < _SAME_TROUBLE_SECONDS:
            return
        self._base = max(min(_LOWEST, self._most), self.rate / 2)
        self._since = now
        self._slowed = True
