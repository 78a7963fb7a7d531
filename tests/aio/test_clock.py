"""Clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from podidentity.aio.clock import Clock, loop_clock


def test_real_clock_reads_the_machine() -> None:
    """Without arguments a clock is the machine's."""
    clock = Clock()
    assert clock.monotonic() <= time.monotonic()
    assert abs(clock.wall() - time.time()) < 5


@pytest.mark.looptime
async def test_loop_clock_follows_virtual_time() -> None:
    """Under a virtual loop both readings advance with the loop and with nothing else."""
    clock = loop_clock(1000.0)
    before = clock.monotonic()
    await asyncio.sleep(3600)
    assert clock.monotonic() - before == pytest.approx(3600)
    assert clock.wall() == pytest.approx(4600)


def test_loop_clock_needs_a_loop() -> None:
    """Outside a loop there is no time to follow, and that is said at once."""
    with pytest.raises(RuntimeError):
        loop_clock()
