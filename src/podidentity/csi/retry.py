"""What is tried again before a mount fails: short troubles of Azure, within what a mount may wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from podidentity.azure.errors import AuthenticationFailed, AzureError, AzureStatusError, AzureUnavailable, TokenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
ATTEMPTS: Final = 3
PAUSE: Final = 0.5
LONGEST_WAIT: Final = 5.0
"""Seconds; a service that wants us to wait longer is left to the kubelet's next try."""
_AGAIN: Final = frozenset({408, 410, 429, 500, 502, 503, 504})


async def retried(call: Callable[[], Awaitable[T]]) -> T:
    """The call's result; it is made at most three times. Raises AzureError."""
    attempt = 1
    while True:
        try:
            return await call()
        except AzureError as error:
            wait = PAUSE * attempt if error.retry_after is None else error.retry_after
            if attempt >= ATTEMPTS or wait > LONGEST_WAIT or not _passing(error):
                raise
        attempt += 1
        await asyncio.sleep(wait)


async def observed(call: Callable[[], Awaitable[T]], observe: Callable[[float, str], None] | None) -> T:
    """The call's result; ``observe`` gets its seconds and its error. Raises AzureError.

    The error is empty, a status, ``unavailable`` or ``canceled``: a metric's label must not grow with what users write.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    word = "canceled"
    try:
        result = await call()
        word = ""
    except AzureError as error:
        word = str(error.status) if isinstance(error, AzureStatusError) else "unavailable"
        raise
    finally:
        if observe is not None:
            observe(loop.time() - start, word)
    return result


def _passing(error: AzureError) -> bool:
    """Whether trying again may help."""
    if isinstance(error, AzureStatusError | TokenError):
        return error.status in _AGAIN and not isinstance(error, AuthenticationFailed)
    return isinstance(error, AzureUnavailable)
