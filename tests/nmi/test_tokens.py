"""Caching, budget and fairness of tokens, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from tests.nmi.conftest import FakeImds, Make, jwt

from podidentity.aio.clock import loop_clock
from podidentity.aio.singleflight import SingleFlight
from podidentity.azure.errors import TokenError
from podidentity.nmi.grants import object_id_of, request_for
from podidentity.nmi.tokens.cached import Cached
from podidentity.nmi.tokens.compose import OneFlight
from podidentity.nmi.tokens.fair import BudgetSpent, FairBudget
from podidentity.nmi.tokens.imds import Imds, Throttled
from podidentity.nmi.tokens.source import Token, TokenRefused, TokenRequest

pytestmark = pytest.mark.looptime
HOUR = 3600.0


class Chain:
    """``Cached(OneFlight(Throttled(Imds)))`` in front of a fake IMDS, on the loop's clock."""

    def __init__(self, **options: float) -> None:
        self.clock = loop_clock(start_wall=1_000_000.0)
        self.imds = FakeImds(clock=self.clock)
        self.budget = FairBudget(rate=20, concurrent=5, clock=self.clock)
        self.flights: SingleFlight[TokenRequest, Token] = SingleFlight()
        throttled = Throttled(Imds(self.imds), self.budget)
        self.cached = Cached(OneFlight(throttled, self.flights), clock=self.clock, **options)  # type: ignore[arg-type]


def wanted(client: str = "a", resource: str = "r", caller: str = "pod") -> TokenRequest:
    """Return a request."""
    return TokenRequest(resource, client_id=client, caller=caller)


async def test_equal_requests_share_one_call() -> None:
    """A hundred pods that ask for the same token at once cost IMDS one call."""
    chain = Chain()
    tokens = await asyncio.gather(*(chain.cached.token(wanted(caller=f"pod{n}")) for n in range(100)))
    assert len({id(token) for token in tokens}) == 1
    assert len(chain.imds.calls) == 1


async def test_token_is_refreshed_ahead_in_the_background() -> None:
    """At half of its life a token that is asked for is renewed while the old one is still served."""
    chain = Chain()
    chain.imds.life = 10 * HOUR
    refresher = asyncio.ensure_future(chain.cached.run())
    first = await chain.cached.token(wanted())
    await asyncio.sleep(4.9 * HOUR)
    assert chain.cached.peek(wanted()) is first
    await asyncio.sleep(0.2 * HOUR)
    assert chain.cached.peek(wanted()) is first
    await asyncio.sleep(1)
    assert chain.cached.peek(wanted()) is not first
    assert len(chain.imds.calls) == 2
    refresher.cancel()


async def test_failing_refresh_serves_the_old_token_to_its_end() -> None:
    """While IMDS refuses, the old token serves until a minute before it expires, then the refusal is told."""
    chain = Chain()
    chain.imds.life = 2 * HOUR
    refresher = asyncio.ensure_future(chain.cached.run())
    first = await chain.cached.token(wanted())
    chain.imds.errors = [TokenError(429, "throttled", "slow down", 600.0) for _ in range(999)]
    for _ in range(118):
        await asyncio.sleep(60)
        assert await chain.cached.token(wanted()) is first
    await asyncio.sleep(120)
    with pytest.raises(TokenRefused, match="slow down"):
        await chain.cached.token(wanted())
    refresher.cancel()


async def test_fault_in_the_background_does_not_end_the_refresher() -> None:
    """An exception nobody expected while refreshing leaves the old token in place, and the next refresh works."""
    chain = Chain(pause=60.0)
    chain.imds.life = 10 * HOUR
    refresher = asyncio.ensure_future(chain.cached.run())
    first = await chain.cached.token(wanted())
    chain.imds.errors = [RuntimeError("surprise")]
    await asyncio.sleep(5 * HOUR)
    assert chain.cached.peek(wanted()) is first
    await asyncio.sleep(61)
    assert chain.cached.peek(wanted()) is first
    await asyncio.sleep(1)
    assert chain.cached.peek(wanted()) is not first
    refresher.cancel()


async def test_token_about_to_expire_is_not_kept() -> None:
    """A token with less than a minute to live is handed out but never cached."""
    chain = Chain()
    chain.imds.life = 30
    await chain.cached.token(wanted())
    await chain.cached.token(wanted())
    assert (len(chain.imds.calls), len(chain.cached)) == (2, 0)


async def test_cache_is_bounded() -> None:
    """However many resources a pod invents, the cache keeps its size, the latest used first."""
    chain = Chain(size=3)
    for name in "abcad":
        await chain.cached.token(wanted(resource=name))
    assert len(chain.cached) == 3
    assert [chain.cached.peek(wanted(resource=name)) is not None for name in "abcd"] == [True, False, True, True]


async def test_budget_of_imds_is_kept() -> None:
    """Never more than 5 at once, nor more than 20 a second after the first 5."""
    clock = loop_clock()
    budget = FairBudget(rate=20, concurrent=5, clock=clock, total=500, per_caller=500)
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
    budget = FairBudget(rate=20, concurrent=1, clock=loop_clock(), per_caller=100)
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
    budget = FairBudget(rate=1000, concurrent=1, clock=loop_clock())
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
    budget = FairBudget(rate=1, concurrent=1, clock=loop_clock(), per_caller=2, total=3)
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


async def test_retry_after_of_imds_holds_for_everybody() -> None:
    """A 429 stops all calls for its Retry-After, not only the caller's own."""
    chain = Chain()
    chain.imds.errors = [TokenError(429, "throttled", "", 30.0)]
    with pytest.raises(TokenRefused):
        await chain.cached.token(wanted("a"))
    start = chain.clock.monotonic()
    await chain.cached.token(wanted("b"))
    assert chain.clock.monotonic() - start >= 29.9


async def test_answer_counts_down_and_hides_the_token() -> None:
    """expires_in is counted from now on each answer; the token's text form shows nothing."""
    token = Token("secret-token", 2000, "r", client_id="c", ext_expires_in=0)
    assert b'"expires_in":"1000"' in token.answer(1000.2).body
    assert token.answer(1000.9) is token.answer(1000.3)
    assert b'"expires_in":"990"' in token.answer(1010).body
    assert b'"expires_in":"0"' in token.answer(3000).body
    assert "secret" not in f"{token!r}{token}"


async def test_identity_that_names_nothing_is_not_the_nodes_own() -> None:
    """An AzureIdentity without ids never becomes a request for the node's default identity."""
    identity = Make.identity(client_id="")
    bare = type(identity)(metadata=identity.metadata)
    assert request_for(bare, "r", "pod") is None
    found = request_for(identity, "r", "pod")
    assert found is not None
    assert found.resource_id


@pytest.mark.parametrize("text", ["", "a.b", "a.!!.c", "a.e30.c", "a.W10.c", "a.bnVsbA.c", "x" * 9000])
async def test_object_id_of_odd_tokens(text: str) -> None:
    """A token that is no JWT, or has no oid, has an empty object id."""
    assert object_id_of(text) == ""
    assert object_id_of(jwt(oid="ABC")) == "abc"
