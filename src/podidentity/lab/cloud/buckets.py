"""Token buckets, many of them by name, refilled by an injected clock."""

import math
from collections.abc import Callable

_ROUNDING = 1e-6


class Buckets:
    """Buckets that start full. `monotonic` gives seconds; a name is a bucket for as long as it is asked for."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, name: str, capacity: float, per_second: float) -> tuple[int, float]:
        """Take one. (how many are left, 0.0), or (0, seconds until there is one) and nothing was taken."""
        now = self._monotonic()
        level, then = self._levels.get(name, (capacity, now))
        level = min(capacity, level + (now - then) * per_second)
        if level < 1 - _ROUNDING:
            self._levels[name] = (level, now)
            return 0, (1 - level) / per_second if per_second else math.inf
        self._levels[name] = (max(0.0, level - 1), now)
        return int(level - 1 + _ROUNDING), 0.0

    def clear(self) -> None:
        """Fill all of them."""
        self._levels.clear()
