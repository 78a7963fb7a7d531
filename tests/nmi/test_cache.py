"""Which tokens are kept, for how long, and when they are asked for again, in virtual time."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from tests.nmi.chain import Chain, wanted

from podidentity.aio.clock import Clock, loop_clock
from podidentity.azure.errors import TokenError
from podidentity.nmi.tokens.cached import Cached, CacheLimits
from podidentity.nmi.tokens.compose import Briefly
from podidentity.nmi.tokens.shelf import Shelf
from podidentity.nmi.tokens.source import Token, TokenRefused, TokenRequest

pytestmark = pytest.mark.looptime
HOUR = 3600.0


@dataclass
class EverySecond:
    """A source that refuses every second token and keeps nothing."""

    clock: Clock
    asked: int = 0

    async def token(self, request: TokenRequest) -> Token:
        """Refuse, or give a token of a usual length."""
        self.asked += 1
        if self.asked % 2:
            raise TokenRefused(400, f"no resource {request.resource}", code="invalid_resource")
        ends = int(self.clock.wall() + HOUR)
        return Token(f"{self.asked:01600}", ends, request.resource, client_id=request.client_id)


async def test_d1_a_token_costs_imds_one_call_however_many_ask() -> None:
    """A hundred pods that ask at once, and a thousand requests afterwards, cost IMDS one call."""
    chain = Chain()
    tokens = await asyncio.gather(*(chain.cached.token(wanted(caller=f"pod{n}")) for n in range(100)))
    assert len({id(token) for token in tokens}) == 1
    for n in range(1000):
        assert await chain.cached.token(wanted(caller=f"pod{n}")) is tokens[0]
    assert len(chain.imds.calls) == 1
    assert (chain.cached.hits, chain.cached.misses) == (1000, 100)


async def test_token_is_refreshed_ahead_in_the_background() -> None:
    """After half of its life a token that is asked for is renewed while the old one is still served."""
    chain = Chain()
    chain.imds.life = 10 * HOUR
    refresher = asyncio.ensure_future(chain.cached.run())
    first = await chain.cached.token(wanted())
    await asyncio.sleep(4.9 * HOUR)
    assert chain.cached.peek(wanted()) is first
    await asyncio.sleep(1.2 * HOUR)
    assert chain.cached.peek(wanted()) is first
    await asyncio.sleep(1)
    assert chain.cached.peek(wanted()) is not first
    assert len(chain.imds.calls) == 2
    refresher.cancel()


async def test_refreshes_of_many_nodes_are_spread() -> None:
    """Agents that got their tokens at the same moment do not ask again at the same moment."""
    moments = set()
    for seed in range(20):
        chain = Chain(seed=seed)
        chain.imds.life = 10 * HOUR
        refresher = asyncio.ensure_future(chain.cached.run())
        await chain.cached.token(wanted())
        minutes = 0
        while len(chain.imds.calls) == 1:
            chain.cached.peek(wanted())
            await asyncio.sleep(60)
            minutes += 1
        assert 300 <= minutes <= 362
        moments.add(minutes)
        refresher.cancel()
    assert len(moments) > 10


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
    with pytest.raises(TokenRefused) as refused:
        await chain.cached.token(wanted())
    assert (refused.value.status, 0 < (refused.value.retry_after or 0) <= 600) == (429, True)
    refresher.cancel()


async def test_refresh_outlives_a_fault_of_ours() -> None:
    """An exception nobody expected while refreshing leaves the old token in place, and the next refresh works."""
    chain = Chain(pause=60.0)
    chain.imds.life = 10 * HOUR
    refresher = asyncio.ensure_future(chain.cached.run())
    first = await chain.cached.token(wanted())
    chain.imds.errors = [RuntimeError("surprise")]
    await asyncio.sleep(6.1 * HOUR)
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


async def test_clock_set_back_makes_no_token_live_longer() -> None:
    """Two hours back on the wall clock: a token of one hour is still asked for anew after that hour."""
    chain = Chain()
    chain.imds.life = HOUR
    first = await chain.cached.token(wanted())
    chain.set_forward = -2 * HOUR
    await asyncio.sleep(0.4 * HOUR)
    assert await chain.cached.token(wanted()) is first
    await asyncio.sleep(0.6 * HOUR)
    assert await chain.cached.token(wanted()) is not first


async def test_clock_set_forward_costs_one_call_a_token() -> None:
    """Two hours forward: each token is asked for once, is then kept by IMDS's count, and never in a storm."""
    chain = Chain()
    chain.imds.life = HOUR
    await chain.cached.token(wanted())
    chain.set_forward = 2 * HOUR
    tokens = [await chain.cached.token(wanted()) for _ in range(100)]
    assert len({id(token) for token in tokens}) == 1
    assert len(chain.imds.calls) == 2


async def test_cache_is_bounded() -> None:
    """However many resources a pod invents, the cache keeps its size, the latest used first."""
    chain = Chain(limits=CacheLimits(most=3))
    for name in "abcad":
        await chain.cached.token(wanted(resource=name))
    assert len(chain.cached) == 3
    assert [chain.cached.peek(wanted(resource=name)) is not None for name in "abcd"] == [True, False, True, True]


async def test_a_pod_with_many_resources_pushes_out_its_own_only() -> None:
    """One pod's thousand resources leave another pod's token where it is."""
    chain = Chain(limits=CacheLimits(most=50, most_per_caller=10))
    kept = await chain.cached.token(wanted("mine", caller="quiet"))
    for number in range(200):
        await chain.cached.token(wanted(resource=f"r{number}", caller="flood"))
    assert chain.cached.peek(wanted("mine", caller="quiet")) is kept
    assert len(chain.cached) == 11


async def test_memory_is_bounded_at_100_000_distinct_resources() -> None:
    """A hundred pods that invent a thousand resources each: kept tokens and refusals stay below 16 MiB together."""
    clock = loop_clock(start_wall=1_000_000.0)
    refusals = Briefly(EverySecond(clock), clock=clock)
    cached = Cached(refusals, clock=clock, rng=random.Random(1))
    tracemalloc.start()
    try:
        for number in range(100_000):
            request = wanted(resource=f"https://{number}.example/{'x' * 100}", caller=f"pod{number % 100}")
            with suppress(TokenRefused):
                await cached.token(request)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cached) > 2000
    assert len(refusals) > 500
    assert kept < 16 * 1024 * 1024


def test_shelf_counts_bytes() -> None:
    """Big values push out old ones before the count does, a replaced one is not counted twice, all can go."""
    shelf: Shelf[str, int] = Shelf(most=10, most_bytes=100, most_per_owner=10)
    for number, name in enumerate("abc"):
        shelf.put(name, number, owner="o", size=40)
    assert (list(shelf), shelf.size) == (["b", "c"], 80)
    shelf.put("c", 9, owner="p", size=60)
    assert (list(shelf), shelf.size, shelf.get("c")) == (["b", "c"], 100, 9)
    shelf.put("d", 1, owner="o", size=101)
    assert (len(shelf), shelf.size) == (0, 0)
    shelf.put("e", 1, owner="o", size=1)
    assert shelf.drop_where(lambda key: key == "e") == 1
    shelf.drop("e")
    assert (len(shelf), shelf.size) == (0, 0)


async def test_bypass_gets_a_new_token_from_imds_too() -> None:
    """bypass_cache=true passes our cache and IMDS's, and others get the new token from then on."""
    chain = Chain()
    first = await chain.cached.token(wanted())
    await asyncio.sleep(6)
    second = await chain.cached.token(wanted(bypass=True))
    assert second is not first
    assert [call.get("bypass_cache") for call in chain.imds.calls] == [None, "true"]
    assert await chain.cached.token(wanted()) is second


async def test_bypass_again_and_again_costs_little() -> None:
    """A pod that always bypasses the cache causes a call each 5 seconds, not one a request."""
    chain = Chain()
    for _ in range(100):
        await chain.cached.token(wanted(bypass=True))
        await asyncio.sleep(0.1)
    assert len(chain.imds.calls) == 2


async def test_a_bypass_does_not_join_a_call_that_does_not() -> None:
    """A caller who has seen the kept token is not given it through another caller's flight."""
    chain = Chain()
    chain.imds.gate.clear()
    both = [asyncio.ensure_future(chain.cached.token(wanted(bypass=bypass))) for bypass in (False, True)]
    await asyncio.sleep(1)
    chain.imds.gate.set()
    plain, bypassing = await asyncio.gather(*both)
    assert plain is not bypassing


async def test_a_refusal_is_remembered_briefly() -> None:
    """A pod that asks for what it cannot have costs IMDS one call each two seconds."""
    chain = Chain()
    chain.imds.errors = [TokenError(400, "invalid_resource", "no such resource", None) for _ in range(99)]
    for _ in range(39):
        with pytest.raises(TokenRefused, match="no such resource"):
            await chain.cached.token(wanted())
        await asyncio.sleep(0.1)
    assert len(chain.imds.calls) == 2
    await asyncio.sleep(2)
    chain.imds.errors.clear()
    await chain.cached.token(wanted())
    assert len(chain.briefly) == 0


async def test_remembered_refusals_are_bounded() -> None:
    """A pod cannot fill memory with requests that are refused."""
    chain = Chain()
    chain.imds.errors = [TokenError(400, "invalid_resource", "no such resource", None) for _ in range(2000)]
    for number in range(1500):
        with pytest.raises(TokenRefused):
            await chain.cached.token(wanted(resource=f"r{number}"))
    assert len(chain.briefly) == 1024


async def test_a8_identity_that_imds_no_longer_knows_loses_its_token() -> None:
    """Told "Identity not found", a refresh evicts the token: its identity is no longer on the host."""
    chain = Chain()
    chain.imds.life = 10 * HOUR
    refresher = asyncio.ensure_future(chain.cached.run())
    await chain.cached.token(wanted())
    await asyncio.sleep(6.1 * HOUR)
    chain.imds.errors = [TokenError(400, "invalid_request", "Identity not found", None)]
    assert chain.cached.peek(wanted()) is not None
    await asyncio.sleep(1)
    assert chain.cached.peek(wanted()) is None
    refresher.cancel()


async def test_eviction_takes_what_is_named_and_nothing_else() -> None:
    """The tokens of a changed identity go, others stay."""
    chain = Chain()
    for client in "ab":
        await chain.cached.token(wanted(client))
    assert chain.cached.evict(lambda request: request.client_id == "a") == 1
    assert chain.cached.peek(wanted("a")) is None
    assert chain.cached.peek(wanted("b")) is not None


async def test_token_of_another_identity_is_thrown_away() -> None:
    """A reply with another client id gives nothing, is told of, and is not kept."""
    chain = Chain()
    chain.imds.answer_client_id = "somebody-else"
    with pytest.raises(TokenRefused, match="another identity"):
        await chain.cached.token(wanted())
    assert (chain.seen.foreign, len(chain.cached)) == (["somebody-else"], 0)


async def test_token_without_a_client_id_is_accepted_and_counted() -> None:
    """An IMDS that does not say whose token it is serves all the same; a metric tells."""
    chain = Chain()
    chain.imds.answer_client_id = ""
    assert (await chain.cached.token(wanted())).access_token
    assert chain.seen.unnamed == 1
    await chain.cached.token(replace(wanted("", "other")))
    assert chain.seen.unnamed == 1
