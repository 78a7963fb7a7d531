"""Ending on a signal as if the work had ended by itself."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def until_signal(main: Awaitable[None]) -> None:
    """Run ``main`` as a task to its end; SIGTERM or SIGINT cancels it and this returns normally.

    ``main`` tidies up in its own ``finally`` blocks and this waits for them; each further signal cancels it again, so
    that an impatient person wins. Errors of ``main`` are raised, also those of its tidying up. Call it on the main
    thread: the signals belong to it meanwhile, and have Python's default handling afterwards.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        signalled = True
        task.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
