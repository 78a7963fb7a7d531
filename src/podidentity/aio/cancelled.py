"""Cancellation that a task group forgot."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raise CancelledError when the running task was cancelled and has not been told so.

    A task group that is cancelled while one of its tasks fails raises the failure alone: whoever goes on after catching
    it asks here, or the cancellation (SIGTERM, the end of leading) is lost.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
