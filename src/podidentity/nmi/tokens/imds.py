"""Tokens from the node's own metadata endpoint, within its budget."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from podidentity.azure.errors import AzureError, AzureUnavailable, TokenError
from podidentity.nmi.tokens.fair import BudgetSpent, FairBudget
from podidentity.nmi.tokens.source import (
    MAX_RETRY_AFTER_SECONDS,
    Token,
    TokenRefused,
    TokenRequest,
    TokenSource,
    TurnRefused,
)

_THROTTLED: Final = 429
_GONE: Final = 410
_SERVER_ERROR: Final = 500
_UNAVAILABLE: Final = 503
_CLIENT_ERROR: Final = 400


class ImdsAnswer(Protocol):
    """What IMDS sends for a token: all strings, times in epoch seconds."""

    @property
    def access_token(self) -> str:
        """The token."""
        ...

    @property
    def client_id(self) -> str:
        """The identity's client id."""
        ...

    @property
    def expires_in(self) -> str:
        """Seconds of life left."""
        ...

    @property
    def expires_on(self) -> str:
        """End, epoch seconds."""
        ...

    @property
    def ext_expires_in(self) -> str:
        """Seconds of extended life."""
        ...

    @property
    def not_before(self) -> str:
        """Start, epoch seconds."""
        ...

    @property
    def resource(self) -> str:
        """What it is for."""
        ...

    @property
    def token_type(self) -> str:
        """``Bearer``."""
        ...


class ImdsTokens(Protocol):
    """The part of ``azure.imds.ImdsClient`` used here."""

    async def token(
        self,
        resource: str,
        *,
        client_id: str = "",
        object_id: str = "",
        resource_id: str = "",
        bypass_cache: bool = False,
    ) -> ImdsAnswer:
        """Raise AzureError when there is no token."""
        ...


class ImdsObserver(Protocol):
    """Told of every call to IMDS."""

    def imds(self, request: TokenRequest, seconds: float, failure: AzureError | None) -> None:
        """Take note of a call, how long it took and its error."""
        ...

    def imds_unnamed(self, request: TokenRequest) -> None:
        """Take note of a token that came without a client id, and was accepted."""
        ...

    def imds_foreign(self, request: TokenRequest, client_id: str) -> None:
        """Take note of a token of another identity, which was thrown away."""
        ...


class Imds:
    """A :class:`TokenSource`: one request to IMDS each time.

    An identity that has both ids is asked for by its resource id, which alone is what was attached; a token of another
    client id than its own is thrown away: a clientID beside somebody else's resourceID gets nothing.
    """

    def __init__(self, client: ImdsTokens, observer: ImdsObserver) -> None:
        self._client = client
        self._observer = observer

    async def token(self, request: TokenRequest) -> Token:
        """Ask once."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        failure: AzureError | None = None
        try:
            answer = await self._ask(request)
        except AzureError as error:
            failure = error
            raise refusal_of(error) from error
        finally:
            self._observer.imds(request, loop.time() - start, failure)
        if request.client_id and not answer.client_id:
            self._observer.imds_unnamed(request)
        elif request.client_id and answer.client_id.casefold() != request.client_id:
            self._observer.imds_foreign(request, answer.client_id)
            raise TokenRefused(
                403, "the metadata endpoint answered for another identity than the clientID of the AzureIdentity"
            )
        return token_of(answer, request)

    async def _ask(self, request: TokenRequest) -> ImdsAnswer:
        bypass = request.bypass
        if request.resource_id:
            return await self._client.token(request.resource, resource_id=request.resource_id, bypass_cache=bypass)
        if request.client_id:
            return await self._client.token(request.resource, client_id=request.client_id, bypass_cache=bypass)
        return await self._client.token(request.resource, object_id=request.object_id, bypass_cache=bypass)


def token_of(answer: ImdsAnswer, request: TokenRequest) -> Token:
    """Return the token in an answer; raises TokenRefused when its times are no numbers."""
    try:
        expires_on = int(answer.expires_on)
        not_before = int(answer.not_before or 0)
        extended = int(answer.ext_expires_in or 0)
        life = int(answer.expires_in or 0)
    except ValueError as error:
        raise TokenRefused(502, "the metadata endpoint answered with times that are no numbers") from error
    return Token(
        answer.access_token,
        expires_on,
        answer.resource or request.resource,
        client_id=answer.client_id or request.client_id,
        not_before=not_before,
        ext_expires_in=extended,
        token_type=answer.token_type or "Bearer",
        life=life,
    )


def refusal_of(error: AzureError) -> TokenRefused:
    """Turn an error of Azure into what the caller reads; statuses of IMDS and Entra ID reach the SDK unchanged."""
    if isinstance(error, TokenError) and error.status >= _CLIENT_ERROR:
        retry_after = error.retry_after
        if error.status in (_THROTTLED, _UNAVAILABLE) and retry_after is None:
            retry_after = 1.0
        return TokenRefused(error.status, error.description or error.error, code=error.error, retry_after=retry_after)
    if isinstance(error, AzureUnavailable):
        return TokenRefused(503, "the token endpoint cannot be reached", retry_after=error.retry_after or 1.0)
    return TokenRefused(502, str(error), retry_after=error.retry_after)


class Throttled:
    """A :class:`TokenSource` that keeps a budget, fairly between callers, and tries again what may pass.

    429 slows everybody down, and pauses them for its ``Retry-After`` (1 s without one). Network errors, 410, 429 and
    5xx are tried again ``attempts`` times in all, unless the wait would pass ``patience`` seconds from the start: then
    the SDK is told, and told how long.
    """

    def __init__(
        self,
        source: TokenSource,
        budget: FairBudget,
        *,
        attempts: int = 3,
        pause: float = 1.0,
        patience: float = 8.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._budget = budget
        self._attempts = attempts
        self._pause = pause
        self._patience = patience
        self._sleep = sleep

    async def token(self, request: TokenRequest) -> Token:
        """Wait for a turn, then ask."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        for attempt in range(1, self._attempts + 1):
            try:
                async with self._budget.turn(request.caller, urgent=request.urgent):
                    return await self._source.token(request)
            except BudgetSpent as spent:
                raise TurnRefused(
                    _THROTTLED, str(spent), retry_after=spent.retry_after, caller=request.caller
                ) from spent
            except TokenRefused as refused:
                wait = self._wait_after(refused, attempt)
                if wait is None or loop.time() + wait > deadline:
                    raise
            await self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _wait_after(self, refused: TokenRefused, attempt: int) -> float | None:
        """Return seconds until the next attempt, None when there is to be none."""
        passing = refused.status in (_THROTTLED, _GONE) or refused.status >= _SERVER_ERROR
        if not passing:
            return None
        wait = refused.retry_after or self._pause * attempt
        if refused.status == _THROTTLED:
            self._budget.pace.slow_down()
            self._budget.pause(min(wait, MAX_RETRY_AFTER_SECONDS))
        return wait if attempt < self._attempts else None
