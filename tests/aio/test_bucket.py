"""TokenBucket."""

from __future__ import annotations

import asyncio

import pytest

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock, loop_clock


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock(monotonic=lambda: self.now)


def test_burst_then_rate() -> None:
    """A full bucket gives its burst at once, then says how long the next token takes."""
    hand = Hand()
    bucket = TokenBucket(2, 3, hand.clock)
    assert [bucket.try_take() for _ in range(4)] == [0, 0, 0, 0.5]
    hand.now = 0.5
    assert bucket.try_take() == 0
    assert bucket.try_take(3) == pytest.approx(1.5)


def test_refill_stops_at_the_burst_and_time_never_runs_back() -> None:
    """A long pause fills the bucket once, and a clock that goes back takes nothing away."""
    hand = Hand()
    bucket = TokenBucket(1, 2, hand.clock)
    hand.now = 1000.0
    assert bucket.try_take(2) == 0
    hand.now = 0.0
    assert bucket.try_take() == 1


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_senseless_buckets_are_refused(rate: float, burst: float) -> None:
    """A bucket that could never give a token is an error where it is made."""
    with pytest.raises(ValueError, match="positive"):
        TokenBucket(rate, burst, Clock())


def test_more_than_the_burst_is_refused() -> None:
    """Asking for what can never be there is an error, not an endless wait."""
    with pytest.raises(ValueError, match="never fit"):
        TokenBucket(1, 2, Clock()).try_take(3)


@pytest.mark.looptime
async def test_takers_are_served_in_order() -> None:
    """Waiting takers get their tokens in the order they came, and a try in between does not overtake them."""
    bucket = TokenBucket(1, 1, loop_clock())
    loop, served = asyncio.get_running_loop(), list[tuple[str, float]]()

    async def taker(name: str) -> None:
        await bucket.take()
        served.append((name, round(loop.time(), 3)))

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(taker(name))
        await asyncio.sleep(0.5)
        assert bucket.try_take() == pytest.approx(2.5)
    assert served == [("a", 0), ("b", 1), ("c", 2)]


@pytest.mark.looptime
async def test_a_cancelled_taker_takes_nothing() -> None:
    """Who gives up waiting leaves its tokens to the others."""
    bucket = TokenBucket(1, 1, loop_clock())
    await bucket.take()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await bucket.take()
    assert bucket.try_take() == pytest.approx(0.5)


def test_others_take_from_the_same_budget() -> None:
    """What a server says is left lowers the bucket, never raises it; it refills from there."""
    hand = Hand()
    bucket = TokenBucket(1, 10, hand.clock)
    assert bucket.full
    bucket.lower_to(3)
    bucket.lower_to(7)
    assert (bucket.left, bucket.full) == (3, False)
    hand.now = 20.0
    assert (bucket.left, bucket.full) == (10, True)
