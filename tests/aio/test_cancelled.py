"""Cancellation that a task group forgot."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from podidentity.aio.cancelled import raise_if_cancelled


async def failing_when_cancelled() -> None:
    """Fail instead of ending."""
    try:
        await asyncio.sleep(1000)
    finally:
        raise RuntimeError


async def test_a_forgotten_cancellation_is_raised_again() -> None:
    """A task that goes on after the failure of its group, and was cancelled meanwhile, ends as cancelled."""

    async def work() -> None:
        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(failing_when_cancelled())
        raise_if_cancelled()
        await asyncio.sleep(1000)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_a_task_nobody_cancelled_goes_on() -> None:
    """Without a cancellation nothing is raised."""
    raise_if_cancelled()
