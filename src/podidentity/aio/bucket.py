"""A budget of calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from podidentity.aio.clock import Clock


class TokenBucket:
    """At most ``burst`` tokens, refilled at ``rate`` tokens a second; full at the start.

    A waiting ``take`` has its tokens already reserved (the balance goes below zero), so takers are served in the order
    they came and a later ``try_take`` cannot overtake them. ValueError unless ``rate`` and ``burst`` are positive, or
    when more than ``burst`` is asked for at once.
    """

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        if rate <= 0 or burst <= 0:
            raise ValueError(f"a token bucket needs a positive rate and burst, not {rate} and {burst}")
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._balance = burst
        self._filled_at = clock.monotonic()

    def try_take(self, n: float = 1) -> float:
        """Take ``n`` tokens and return 0.0, or take none and return the seconds until they would be there."""
        missing = self._missing(n)
        if missing <= 0:
            self._balance -= n
            return 0.0
        return missing / self._rate

    @property
    def left(self) -> float:
        """The tokens that can be taken now; below zero when some are promised to those that wait."""
        return -self._missing(0)

    @property
    def full(self) -> bool:
        """Whether nothing was taken that is not refilled."""
        return self.left >= self._burst

    def lower_to(self, left: float) -> None:
        """Have at most ``left`` tokens now: somebody else takes from the same budget."""
        self._missing(0)
        self._balance = min(self._balance, left)

    def set_rate(self, rate: float) -> None:
        """Refill at ``rate`` tokens a second from now on. ValueError unless it is positive."""
        if rate <= 0:
            raise ValueError(f"a token bucket needs a positive rate, not {rate}")
        if rate != self._rate:
            self._missing(0)
            self._rate = rate

    async def take(self, n: float = 1) -> None:
        """Take ``n`` tokens, waiting for them behind whoever came before; cancelled while waiting: takes none."""
        wait = self._missing(n) / self._rate
        self._balance -= n
        if wait <= 0:
            return
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self._balance += n
            raise

    def _missing(self, n: float) -> float:
        """Refill, then say how many of ``n`` tokens are not there yet."""
        if n > self._burst:
            raise ValueError(f"{n} tokens never fit into a bucket of {self._burst}")
        now = self._clock.monotonic()
        self._balance = min(self._burst, self._balance + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = now
        return n - self._balance
