"""Sources made of sources: one flight for equal requests, refusals remembered briefly, one source for each type."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from podidentity.aio.clock import Clock
from podidentity.aio.singleflight import SingleFlight
from podidentity.nmi.tokens.source import Token, TokenRefused, TokenRequest, TokenSource, TurnRefused

FlightKey = tuple[TokenRequest, bool]
"""A request, and whether it bypasses caches: a kept token would not do for one that does."""


class OneFlight:
    """A :class:`TokenSource`: callers who ask for the same at the same time share one request."""

    def __init__(self, source: TokenSource, flights: SingleFlight[FlightKey, Token]) -> None:
        self._source = source
        self._flights = flights

    async def token(self, request: TokenRequest) -> Token:
        """Join the flight of this request, or start it; one that only lost its starter's turn is started anew."""
        try:
            return await self._fly(request)
        except TurnRefused as refused:
            if refused.caller == request.caller:
                raise
        return await self._fly(request)

    async def _fly(self, request: TokenRequest) -> Token:
        return await self._flights.do((request, request.bypass), lambda: self._source.token(request))


_LONGEST_SECONDS: Final = 60.0
_MOST_REFUSALS: Final = 1024


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: TokenRefused
    until: float


class Briefly:
    """A :class:`TokenSource` that remembers refusals: for their Retry-After, else ``seconds``, never over a minute.

    A caller who asks again and again costs nothing meanwhile. What was refused for want of a turn is not remembered:
    it is about the caller, not about the token.
    """

    def __init__(self, source: TokenSource, *, clock: Clock, seconds: float = 2.0) -> None:
        self._source = source
        self._clock = clock
        self._seconds = seconds
        self._refusals: OrderedDict[TokenRequest, _Refusal] = OrderedDict()

    def __len__(self) -> int:
        """How many refusals are remembered."""
        return len(self._refusals)

    async def token(self, request: TokenRequest) -> Token:
        """Repeat a refusal of just now, or ask."""
        known = self._refusals.get(request)
        now = self._clock.monotonic()
        if known is not None and now < known.until:
            raise known.error.again(known.until - now)
        try:
            token = await self._source.token(request)
        except TurnRefused:
            raise
        except TokenRefused as refused:
            self._remember(request, refused)
            raise
        self._refusals.pop(request, None)
        return token

    def _remember(self, request: TokenRequest, refused: TokenRefused) -> None:
        seconds = min(refused.retry_after or self._seconds, _LONGEST_SECONDS)
        self._refusals.pop(request, None)
        self._refusals[request] = _Refusal(refused.again(seconds), self._clock.monotonic() + seconds)
        while len(self._refusals) > _MOST_REFUSALS:
            self._refusals.popitem(last=False)


class ByType:
    """A :class:`TokenSource` that asks the source of the identity's type; a type without one is refused."""

    def __init__(self, sources: Mapping[int, TokenSource]) -> None:
        self._sources = sources

    async def token(self, request: TokenRequest) -> Token:
        """Ask the source of ``request.type``."""
        source = self._sources.get(request.type)
        if source is None:
            raise TokenRefused(403, f"unsupported identity type {request.type}", code="unsupported_identity_type")
        return await source.token(request)
