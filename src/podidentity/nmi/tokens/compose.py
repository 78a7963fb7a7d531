"""Sources made of sources: one flight for equal requests, and one source for each type of identity."""

from __future__ import annotations

from collections.abc import Mapping

from podidentity.aio.singleflight import SingleFlight
from podidentity.nmi.tokens.source import Token, TokenRefused, TokenRequest, TokenSource


class OneFlight:
    """A :class:`TokenSource`: callers who ask for the same at the same time share one request."""

    def __init__(self, source: TokenSource, flights: SingleFlight[TokenRequest, Token]) -> None:
        self._source = source
        self._flights = flights

    async def token(self, request: TokenRequest) -> Token:
        """Join the flight of this request, or start it."""
        return await self._flights.do(request, lambda: self._source.token(request))


class ByType:
    """A :class:`TokenSource` that asks the source of the identity's type; a type without one is refused."""

    def __init__(self, sources: Mapping[int, TokenSource]) -> None:
        self._sources = sources

    async def token(self, request: TokenRequest) -> Token:
        """Ask the source of ``request.type``."""
        source = self._sources.get(request.type)
        if source is None:
            raise TokenRefused(501, f"unsupported identity type {request.type}", code="unsupported_identity_type")
        return await source.token(request)
