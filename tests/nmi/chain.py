"""The sources of tokens as nmi composes them, on a virtual clock, in front of a fake IMDS."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.nmi.fakes import FakeImds

from podidentity.aio.clock import Clock, loop_clock
from podidentity.aio.singleflight import SingleFlight
from podidentity.azure.errors import AzureError
from podidentity.nmi.tokens.cached import Cached, CacheLimits
from podidentity.nmi.tokens.compose import Briefly, FlightKey, OneFlight
from podidentity.nmi.tokens.fair import FairBudget
from podidentity.nmi.tokens.imds import Imds, Throttled
from podidentity.nmi.tokens.pace import Pace
from podidentity.nmi.tokens.source import Token, TokenRequest


@dataclass
class Seen:
    """What was told of calls to IMDS."""

    calls: int = 0
    unnamed: int = 0
    foreign: list[str] = field(default_factory=list)

    def imds(self, request: TokenRequest, seconds: float, failure: AzureError | None) -> None:
        """Count a call."""
        del request, seconds, failure
        self.calls += 1

    def imds_unnamed(self, request: TokenRequest) -> None:
        """Count a token without a client id."""
        del request
        self.unnamed += 1

    def imds_foreign(self, request: TokenRequest, client_id: str) -> None:
        """Remember whose token came."""
        del request
        self.foreign.append(client_id)


def fair(
    clock: Clock,
    *,
    rate: float,
    concurrent: int,
    burst: float = 0,
    per_caller: int = 2,
    total: int = 1024,
    reserved: int = 0,
) -> FairBudget:
    """Return a budget; its burst is as many as may run at once unless given."""
    pace = Pace(rate, burst or concurrent, clock)
    return FairBudget(pace, concurrent=concurrent, clock=clock, per_caller=per_caller, total=total, reserved=reserved)


class Chain:
    """``Cached(Briefly(OneFlight(Throttled(Imds))))`` in front of a fake IMDS, on the loop's clock."""

    def __init__(self, *, limits: CacheLimits | None = None, pause: float = 60.0, seed: int = 1) -> None:
        loop = loop_clock(start_wall=1_000_000.0)
        self.set_forward = 0.0
        self.clock = Clock(monotonic=loop.monotonic, wall=lambda: loop.wall() + self.set_forward)
        self.imds = FakeImds(clock=loop)
        self.seen = Seen()
        self.budget = fair(self.clock, rate=20, concurrent=5)
        self.flights: SingleFlight[FlightKey, Token] = SingleFlight()
        throttled = Throttled(Imds(self.imds, self.seen), self.budget)
        self.briefly = Briefly(OneFlight(throttled, self.flights), clock=self.clock)
        self.cached = Cached(self.briefly, clock=self.clock, rng=random.Random(seed), limits=limits, pause=pause)


def wanted(client: str = "a", resource: str = "r", caller: str = "pod", *, bypass: bool = False) -> TokenRequest:
    """Return a request."""
    return TokenRequest(resource, client_id=client, caller=caller, bypass=bypass)
