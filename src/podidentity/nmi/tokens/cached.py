"""Tokens kept in memory: bounded, refreshed before they are needed, never handed out expired."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from podidentity.aio.clock import Clock
from podidentity.nmi.tokens.shelf import Shelf
from podidentity.nmi.tokens.source import Token, TokenRefused, TokenRequest, TokenSource

NOT_FOUND: Final = "identity not found"
"""What IMDS says, in any case, of an identity that is no longer on the machine."""

_STEP_SECONDS: Final = 60.0
"""A wall clock that went this much faster than the monotonic one was set, or the machine slept."""

_OVERHEAD: Final = 2048
"""Bytes a kept token costs beside its text, which is held up to three times: token, answer, answer as sent."""


@dataclass(slots=True)
class _Entry:
    token: Token
    came: float
    refresh_at: float
    ends_at: float
    offset: float
    refreshing: bool = False


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Bounds of the cache: tokens, their bytes, and tokens that one caller's requests brought."""

    most: int = 4096
    most_bytes: int = 16 * 1024 * 1024
    most_per_caller: int = 128


class Cached:
    """A :class:`TokenSource` in front of another.

    A token is refreshed when half of the life it had when it came is over (up to a tenth later, at random, so that
    nodes started together do not ask together), in the background and only when somebody asks for it; should that
    fail, the old one serves until ``margin`` seconds before its end. Ends are counted on the monotonic clock by the
    issuer's own count, so that a wall clock set back makes no token live longer; one set forward, as after a sleep of
    the machine, makes every token be asked for again. A caller that wants to bypass the cache gets a token that is at
    most ``fresh`` seconds old. ``run`` does the refreshing and must be running.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        clock: Clock,
        rng: random.Random,
        limits: CacheLimits | None = None,
        margin: float = 60.0,
        pause: float = 60.0,
        fresh: float = 5.0,
        refreshers: int = 4,
    ) -> None:
        limits = limits or CacheLimits()
        self._source = source
        self._clock = clock
        self._rng = rng
        self._margin = margin
        self._pause = pause
        self._fresh = fresh
        self._refreshers = refreshers
        self._shelf: Shelf[TokenRequest, _Entry] = Shelf(
            most=limits.most, most_bytes=limits.most_bytes, most_per_owner=limits.most_per_caller
        )
        self._due: asyncio.Queue[TokenRequest] = asyncio.Queue()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        """How many tokens are kept."""
        return len(self._shelf)

    @property
    def secrets(self) -> set[str]:
        """The Secrets whose tokens are kept."""
        return {request.secret for request in self._shelf if request.secret}

    def peek(self, request: TokenRequest) -> Token | None:
        """Return the cached token if it is good, without waiting."""
        entry = self._shelf.get(request)
        if entry is None:
            return None
        now = self._clock.monotonic()
        if now >= entry.ends_at or self._clock.wall() - now - entry.offset > _STEP_SECONDS:
            return None
        if request.bypass and now - entry.came >= self._fresh:
            return None
        if now >= entry.refresh_at and not entry.refreshing:
            entry.refreshing = True
            self._due.put_nowait(replace(request, urgent=False, bypass=False))
        self.hits += 1
        return entry.token

    async def token(self, request: TokenRequest) -> Token:
        """Return the cached token, or ask the source."""
        token = self.peek(request)
        if token is not None:
            return token
        self.misses += 1
        return await self._fetch(request)

    def evict(self, unwanted: Callable[[TokenRequest], bool]) -> int:
        """Forget the tokens of the requests that are unwanted now; return how many."""
        return self._shelf.drop_where(unwanted)

    async def run(self) -> None:
        """Refresh tokens that are due, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._refreshers):
                group.create_task(self._refresh_forever())

    async def _refresh_forever(self) -> None:
        while True:
            request = await self._due.get()
            try:
                await self._fetch(request)
            except Exception:  # noqa: BLE001 - must not end nmi; whoever asks in the foreground meets it, and it is logged
                self._try_later(request)

    def _try_later(self, request: TokenRequest) -> None:
        entry = self._shelf.get(request)
        if entry is not None:
            entry.refreshing = False
            entry.refresh_at = self._clock.monotonic() + self._pause

    async def _fetch(self, request: TokenRequest) -> Token:
        try:
            token = await self._source.token(request)
        except TokenRefused as refused:
            if refused.description.strip().casefold() == NOT_FOUND:
                self._shelf.drop(request)
            raise
        now, wall = self._clock.monotonic(), self._clock.wall()
        life = _life(token, wall)
        if life > self._margin:
            refresh_at = now + max(life * (0.5 + self._rng.random() / 10), min(self._pause, life))
            entry = _Entry(token, now, refresh_at, now + life - self._margin, wall - now)
            size = _OVERHEAD + 3 * len(token.access_token)
            self._shelf.put(request, entry, owner=request.caller, size=size)
        else:
            self._shelf.drop(request)
        return token


def _life(token: Token, wall: float) -> float:
    """Return the seconds a token has left: by its issuer's count, and by our clock unless that is far off."""
    left = token.expires_on - wall
    return min(token.life, left) if token.life > 0 and left > 0 else max(token.life, left)
