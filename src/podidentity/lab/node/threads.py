"""Blocking calls that are not left in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def to_the_end(call: Callable[[], None], ended: Callable[[BaseException | None], None]) -> None:
    """Run ``call`` in a thread and raise what it raises; ``ended`` is told of it first, None for nothing.

    A thread goes on when its task is cancelled: ``ended`` is told then too, before the cancellation is passed on.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(running)
    finally:
        if not running.done():  # to wait for what is done would be one more moment to be cancelled in, and unheard
            await asyncio.wait({running})
        ended(running.exception())
