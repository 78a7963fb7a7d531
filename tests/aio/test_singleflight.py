"""SingleFlight."""

from __future__ import annotations

import asyncio

import pytest

from podidentity.aio.singleflight import FlightsClosedError, SingleFlight


class Call:
    """A call that counts itself and ends when it is told to."""

    def __init__(self) -> None:
        self.started = self.cancelled = 0
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        """Wait for the outcome."""
        self.started += 1
        try:
            return await asyncio.shield(self.outcome)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def settle() -> None:
    """Let every ready task run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_of_one_key_share_a_call() -> None:
    """Ten callers at once cause one call and get its result; another key has its own; the next caller a new one."""
    flights, call, other = SingleFlight[str, str](), Call(), Call()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flights.do("a", call)) for _ in range(10)]
        lone = group.create_task(flights.do("b", other))
        await settle()
        assert len(flights) == 2
        call.outcome.set_result("x")
        other.outcome.set_result("y")
    assert {task.result() for task in tasks} == {"x"}
    assert (lone.result(), call.started) == ("y", 1)
    assert await flights.do("a", call) == "x"
    assert (call.started, len(flights)) == (2, 0)


async def test_an_error_reaches_every_caller_and_is_not_kept() -> None:
    """A failed call fails all who wait for it, and the next caller tries anew."""
    flights, call = SingleFlight[str, str](), Call()
    tasks = [asyncio.ensure_future(flights.do("a", call)) for _ in range(3)]
    await settle()
    call.outcome.set_exception(LookupError("gone"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [LookupError] * 3
    fresh = Call()
    fresh.outcome.set_result("x")
    assert await flights.do("a", fresh) == "x"


async def test_one_callers_cancellation_leaves_the_call_to_the_others() -> None:
    """A caller that gives up does not take the call from those who still wait."""
    flights, call = SingleFlight[str, str](), Call()
    first, second = (asyncio.ensure_future(flights.do("a", call)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert call.cancelled == 0
    call.outcome.set_result("x")
    assert await second == "x"


async def test_the_last_callers_cancellation_ends_the_call() -> None:
    """A call nobody waits for is cancelled, its end awaited, and the next caller starts a new one."""
    flights, call = SingleFlight[str, str](), Call()
    tasks = [asyncio.ensure_future(flights.do("a", call)) for _ in range(2)]
    await settle()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert (call.cancelled, len(flights)) == (1, 0)
    call.outcome.set_result("x")
    assert await flights.do("a", call) == "x"


async def test_an_error_nobody_waits_for_is_not_complained_about() -> None:
    """A call that answers its cancellation with an error disturbs nobody."""
    flights = SingleFlight[str, None]()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError("on the way out") from None

    task = asyncio.ensure_future(flights.do("a", stubborn))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_close_cancels_calls_and_refuses_new_ones() -> None:
    """Closing ends the calls under way; their callers and later ones hear why, which is not their own cancellation."""
    flights, call = SingleFlight[str, str](), Call()
    waiting = asyncio.ensure_future(flights.do("a", call))
    await settle()
    await flights.close()
    assert call.cancelled == 1
    with pytest.raises(FlightsClosedError):
        await waiting
    with pytest.raises(FlightsClosedError):
        await flights.do("a", call)
    await flights.close()


async def test_a_new_call_outlives_the_end_of_an_older_one() -> None:
    """The slow end of an abandoned call does not make its successor for the same key invisible."""
    flights, call = SingleFlight[str, str](), Call()
    release = asyncio.Event()

    async def slow_to_end() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
        return ""

    first = asyncio.ensure_future(flights.do("a", slow_to_end))
    await settle()
    first.cancel()
    await settle()
    second = asyncio.ensure_future(flights.do("a", call))
    await settle()
    release.set()
    await asyncio.wait((first,))
    await settle()
    assert len(flights) == 1
    call.outcome.set_result("x")
    assert await second == "x"
