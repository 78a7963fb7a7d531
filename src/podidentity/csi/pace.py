"""How fast a vault is asked: so many requests at a time, and none while it wants a pause."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from podidentity.azure.errors import Throttled
from podidentity.csi.retry import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
PER_MOUNT: Final = 24
"""Objects one mount has under way; a large class leaves the rest of ``PER_VAULT`` to the other mounts."""
PER_VAULT: Final = 40
"""Requests under way to one vault. Answers of 100 ms make that 400 a second, the limit of Key Vault for one vault."""
LONGEST_PAUSE: Final = 60.0
"""Seconds a vault's pause is kept at most, whatever its Retry-After says; Key Vault counts in windows of 10 s."""


@dataclass(slots=True)
class _Pace:
    """One vault: ``users`` are calls under way or waiting, ``until`` is the loop's time at which the pause ends."""

    turns: asyncio.Semaphore
    users: int = 0
    until: float = 0.0
    refusal: Throttled = field(default_factory=lambda: Throttled(429, "", ""))


class Paces:
    """The pace of each vault, shared by all mounts. A vault that is idle and wants no pause is forgotten."""

    def __init__(self, per_vault: int = PER_VAULT) -> None:
        self._per_vault = per_vault
        self._paces: dict[str, _Pace] = {}

    def __len__(self) -> int:
        """How many vaults are remembered."""
        return len(self._paces)

    async def ask(self, vault_url: str, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result, once it is its turn. Raises what it raises.

        A 429 with Retry-After holds up every call to this vault. One that would have to wait longer than
        ``LONGEST_WAIT`` raises the vault's Throttled with the seconds left, and the vault is not asked.
        """
        pace = self._pace(vault_url)
        pace.users += 1
        try:
            async with pace.turns:
                await _pause_over(pace)
                return await _noting(pace, call)
        finally:
            pace.users -= 1
            self._forget_idle()

    def _pace(self, vault_url: str) -> _Pace:
        if vault_url not in self._paces:
            self._paces[vault_url] = _Pace(asyncio.Semaphore(self._per_vault))
        return self._paces[vault_url]

    def _forget_idle(self) -> None:
        now = asyncio.get_running_loop().time()
        for url in [url for url, pace in self._paces.items() if not pace.users and pace.until <= now]:
            del self._paces[url]


async def _pause_over(pace: _Pace) -> None:
    """Wait for the pause's end, which may be put off meanwhile. Raises Throttled when it is too far away."""
    loop = asyncio.get_running_loop()
    while (left := pace.until - loop.time()) > 0:
        if left > LONGEST_WAIT:
            told = pace.refusal
            raise Throttled(told.status, told.code, told.message, retry_after=left, headers=told.headers)
        await asyncio.sleep(left)


async def _noting(pace: _Pace, call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except Throttled as error:
        if error.retry_after is not None:
            until = asyncio.get_running_loop().time() + min(error.retry_after, LONGEST_PAUSE)
            if until > pace.until:
                pace.until, pace.refusal = until, error
        raise
