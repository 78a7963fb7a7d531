"""How long to wait before the next attempt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting times: ``initial * factor**attempt``, at most ``maximum`` (all in seconds).

    ``jitter`` is the part of a delay that is random: each delay lies between ``(1 - jitter)`` times it and it, so no
    delay is ever longer than ``maximum`` and those at the maximum still spread.
    """

    initial: float = 0.5
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.2

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after the failed attempt number ``attempt`` (from 0)."""
        try:
            grown = self.initial * self.factor**attempt
        except OverflowError:
            grown = self.maximum
        return min(grown, self.maximum) * (1 - self.jitter * rng.random())
