"""until_signal."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from podidentity.aio.signals import until_signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_work_after_its_tidying_up(number: signal.Signals) -> None:
    """The work is cancelled, may still await in its finally block, and the caller sees a normal end."""
    steps: list[str] = []

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            steps.append("tidied")

    await until_signal(work())
    assert steps == ["tidied"]


async def test_the_end_and_the_errors_of_the_work_are_its_own() -> None:
    """Without a signal the work ends by itself or raises, and a cancellation from outside stays one."""

    async def fails() -> None:
        raise LookupError

    await until_signal(asyncio.sleep(0))
    with pytest.raises(LookupError):
        await until_signal(fails())
    outer = asyncio.ensure_future(until_signal(asyncio.sleep(30)))
    await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_a_failure_of_the_tidying_up_is_raised() -> None:
    """An error on the way out after a signal is not swallowed."""

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(30)
        finally:
            raise LookupError

    with pytest.raises(LookupError):
        await until_signal(work())


async def test_it_may_be_nested() -> None:
    """An inner one takes the signal, and both end normally."""

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(30)

    await until_signal(until_signal(work()))
