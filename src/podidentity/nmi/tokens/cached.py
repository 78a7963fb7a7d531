"""Tokens kept in memory: bounded, refreshed before they are needed, never handed out expired."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from podidentity.aio.clock import Clock
from podidentity.nmi.tokens.source import Token, TokenRequest, TokenSource


@dataclass(slots=True)
class _Entry:
    token: Token
    refresh_at: float
    expires_at: float
    refreshing: bool = False


class Cached:
    """A :class:`TokenSource` in front of another.

    A token is refreshed when half of the life it had when it came is over, in the background and only when somebody
    asks for it; should that fail, the old one serves until ``margin`` seconds before its end. At most ``size`` tokens
    are kept, the least recently used goes first. ``run`` does the refreshing and must be running.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        clock: Clock,
        size: int = 4096,
        margin: float = 60.0,
        pause: float = 60.0,
        refreshers: int = 4,
    ) -> None:
        self._source = source
        self._clock = clock
        self._size = size
        self._margin = margin
        self._pause = pause
        self._refreshers = refreshers
        self._entries: OrderedDict[TokenRequest, _Entry] = OrderedDict()
        self._due: asyncio.Queue[TokenRequest] = asyncio.Queue()

    def __len__(self) -> int:
        """How many tokens are kept."""
        return len(self._entries)

    def peek(self, request: TokenRequest) -> Token | None:
        """Return the cached token if it is good, without waiting."""
        entry = self._entries.get(request)
        if entry is None:
            return None
        now = self._clock.wall()
        if now >= entry.expires_at:
            return None
        if now >= entry.refresh_at and not entry.refreshing:
            entry.refreshing = True
            self._due.put_nowait(request)
        self._entries.move_to_end(request)
        return entry.token

    async def token(self, request: TokenRequest) -> Token:
        """Return the cached token, or ask the source."""
        token = self.peek(request)
        return token if token is not None else await self._fetch(request)

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
        entry = self._entries.get(request)
        if entry is not None:
            entry.refreshing = False
            entry.refresh_at = self._clock.wall() + self._pause

    async def _fetch(self, request: TokenRequest) -> Token:
        token = await self._source.token(request)
        now = self._clock.wall()
        life = token.expires_on - now
        if life > self._margin:
            refresh_at = now + max(life / 2, min(self._pause, life))
            self._entries[request] = _Entry(token, refresh_at, token.expires_on - self._margin)
            self._entries.move_to_end(request)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return token
