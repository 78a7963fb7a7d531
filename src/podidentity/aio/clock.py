"""Time as a value that is handed in, so that a test can bring its own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Clock:
    """Two readings of time; ``Clock()`` is the machine's own.

    ``monotonic``: seconds from an arbitrary point, never backwards: for ages, deadlines and budgets.
    ``wall``: seconds since the epoch, may jump: for stamps others read.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


def loop_clock(start_wall: float = 0.0) -> Clock:
    """Give a clock that follows the running loop's time: under a virtual loop it is virtual too.

    ``start_wall``: what ``wall()`` says now, in seconds since the epoch. RuntimeError outside a running loop.
    """
    loop = asyncio.get_running_loop()
    origin = loop.time()
    return Clock(monotonic=loop.time, wall=lambda: start_wall + loop.time() - origin)
