"""The budget of IMDS: its pace, fairness between pods, and what is told when it is spent, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from tests.nmi.chain import Chain, fair, wanted

from podidentity.aio.clock import loop_clock
from podidentity.azure.errors import TokenError
from podidentity.nmi.tokens.fair import BudgetSpent
from podidentity.nmi.tokens.pace import Pace
from podidentity.nmi.tokens.source import TokenRefused, TurnRefused

pytestmark = pytest.mark.looptime


async def test_budget_of_imds_is_kept() -> None:
    """Never more than 5 at once, nor more than 20 a second after the first 5."""
    clock = loop_clock()
    budget = fair(clock, rate=20, concurrent=5, total=500, per_caller=500)
    running, most, times = 0, 0, []

    async def one(number: int) -> None:
        nonlocal running, most
        async with budget.turn(f"pod{number % 7}"):
            running += 1
            most = max(most, running)
            times.append(clock.monotonic())
            await asyncio.sleep(0.01)
            running -= 1

    await asyncio.gather(*(one(n) for n in range(100)))
    assert most <= 5
    assert times[-1] - times[0] >= 95 / 20 - 0.001
    assert times[-1] - times[0] < 95 / 20 + 0.5


async def test_one_pod_does_not_starve_the_others() -> None:
    """A pod that floods waits behind a pod that asks once."""
    budget = fair(loop_clock(), rate=20, concurrent=1, per_caller=100)
    order: list[str] = []

    async def one(caller: str) -> None:
        async with budget.turn(caller):
            order.append(caller)
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(one("flood"))
        await asyncio.sleep(0.01)
        group.create_task(one("polite"))
    assert order.index("polite") <= 2


async def test_caller_that_gives_up_frees_its_turn() -> None:
    """A cancelled caller neither keeps a place in the line nor a turn it was just given."""
    budget = fair(loop_clock(), rate=1000, concurrent=1, per_caller=3)
    async with budget.turn("a"):
        tasks = [asyncio.ensure_future(budget.turn("b").__aenter__()) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    async with asyncio.timeout(1), budget.turn("c"):
        pass


async def test_line_is_bounded() -> None:
    """A pod with too many waiting calls is refused, with a time to come back."""
    budget = fair(loop_clock(), rate=1, concurrent=1, total=3)
    async with budget.turn("a"):
        tasks = [asyncio.ensure_future(budget.turn("a").__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BudgetSpent) as spent:
            await budget.turn("a").__aenter__()
        assert spent.value.retry_after >= 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("status", [410, 429, 500, 503])
async def test_passing_trouble_is_tried_again(status: int) -> None:
    """What may pass is tried again within the patience of an SDK."""
    chain = Chain()
    chain.imds.errors = [TokenError(status, "busy", "", None), TokenError(status, "busy", "", None)]
    assert (await chain.cached.token(wanted())).client_id == "a"
    assert chain.clock.monotonic() < 12


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_refusal_is_not_tried_again(status: int) -> None:
    """What a retry does not cure is told at once."""
    chain = Chain()
    chain.imds.errors = [TokenError(status, "invalid_request", "Identity not found", None)]
    with pytest.raises(TokenRefused) as refused:
        await chain.cached.token(wanted())
    assert (refused.value.status, len(chain.imds.calls)) == (status, 1)


async def test_long_retry_after_of_imds_is_passed_on_to_everybody() -> None:
    """A 429 with a long Retry-After is told at once to all who ask meanwhile, with what is left of it, uncalled."""
    chain = Chain()
    chain.imds.errors = [TokenError(429, "throttled", "", 30.0)]
    with pytest.raises(TokenRefused) as own:
        await chain.cached.token(wanted("a"))
    assert (own.value.status, own.value.retry_after) == (429, 30.0)
    await asyncio.sleep(10)
    with pytest.raises(TurnRefused) as other:
        await chain.cached.token(wanted("b"))
    assert other.value.retry_after == pytest.approx(20, abs=0.1)
    await asyncio.sleep(20.1)
    await chain.cached.token(wanted("b"))
    assert len(chain.imds.calls) == 2


async def test_who_waits_when_a_long_pause_begins_is_told() -> None:
    """Requests in line do not sit out a Retry-After that is longer than any client waits."""
    budget = fair(loop_clock(), rate=20, concurrent=1)
    async with budget.turn("a"):
        waiting = [asyncio.ensure_future(budget.turn(name).__aenter__()) for name in "bcd"]
        await asyncio.sleep(0.01)
        budget.pause(30)
        for one in waiting:
            with pytest.raises(BudgetSpent, match="pause") as spent:
                await one
            assert spent.value.retry_after == pytest.approx(30)
    assert budget.waiting == 0


async def test_who_would_wait_too_long_is_told_at_once() -> None:
    """With more in line than the patience allows for, the next one gets a time to come back, not a place."""
    budget = fair(loop_clock(), rate=1, concurrent=1, total=100)
    async with budget.turn("x"):
        waiting = [asyncio.ensure_future(budget.turn(f"pod{n}").__aenter__()) for n in range(9)]
        await asyncio.sleep(0)
        with pytest.raises(BudgetSpent) as spent:
            await budget.turn("late").__aenter__()
        assert spent.value.retry_after == pytest.approx(9, abs=1)
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)


async def test_nobody_waits_longer_than_the_patience() -> None:
    """When turns never come free (IMDS hangs), who waits is told after the patience, and the line is empty."""
    budget = fair(loop_clock(), rate=20, concurrent=1)
    async with budget.turn("hung"):
        start = asyncio.get_running_loop().time()
        with pytest.raises(BudgetSpent):
            await budget.turn("b").__aenter__()
        assert asyncio.get_running_loop().time() - start == pytest.approx(8, abs=0.1)
        assert budget.waiting == 0
    async with asyncio.timeout(1), budget.turn("c"):
        pass


async def test_one_turn_is_kept_for_first_tokens() -> None:
    """Refreshes never take the last turn: a pod without any token passes them."""
    budget = fair(loop_clock(), rate=100, concurrent=3, reserved=1)
    running: list[str] = []
    done = asyncio.Event()

    async def hold(caller: str, *, urgent: bool) -> None:
        async with budget.turn(caller, urgent=urgent):
            running.append(caller)
            await done.wait()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(hold(f"refresh{number}", urgent=False))
        await asyncio.sleep(1)
        assert running == ["refresh0", "refresh1"]
        group.create_task(hold("first", urgent=True))
        await asyncio.sleep(1)
        assert running[2:] == ["first"]
        done.set()
    assert len(running) == 5


async def test_turn_lost_by_who_started_the_flight_is_not_lost_for_others() -> None:
    """A pod whose line is full fails for itself: another one, joined to its call, gets the token."""
    chain = Chain()
    chain.imds.gate.clear()
    flood = [asyncio.ensure_future(chain.cached.token(wanted(resource=f"r{n}", caller="flood"))) for n in range(7)]
    await asyncio.sleep(0.01)
    both = [asyncio.ensure_future(chain.cached.token(wanted(resource="x", caller=name))) for name in ("flood", "b")]
    await asyncio.sleep(0.01)
    chain.imds.gate.set()
    mine, other = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(mine, TurnRefused)
    assert not isinstance(other, BaseException)
    await asyncio.gather(*flood)


async def test_pace_halves_and_climbs_back() -> None:
    """429 halves the rate, not twice within a second, never below one; each quiet ten seconds give one back."""
    clock = loop_clock()
    pace = Pace(10, 10, clock)
    rates = [pace.rate]
    for _ in range(2):
        pace.slow_down()
        rates.append(pace.rate)
    await asyncio.sleep(5)
    for _ in range(6):
        pace.slow_down()
        rates.append(pace.rate)
        await asyncio.sleep(2)
    assert rates == [10, 5, 5, 2.5, 1.25, 1, 1, 1, 1]
    await asyncio.sleep(8.1)
    assert pace.rate == 2
    await asyncio.sleep(200)
    assert pace.rate == 10


async def test_slow_pace_is_kept_by_the_budget() -> None:
    """After a 429 there really are half as many calls a second."""
    clock = loop_clock()
    budget = fair(clock, rate=10, concurrent=5, burst=1, per_caller=100)
    budget.pace.slow_down()
    async with budget.turn("a"):
        pass
    start = clock.monotonic()
    for _ in range(10):
        async with budget.turn("a"):
            pass
    assert clock.monotonic() - start == pytest.approx(2, abs=0.05)
