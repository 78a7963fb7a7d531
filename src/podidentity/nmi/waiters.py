"""Requests that wait for news about a key: woken by the news, never by a clock, and never too many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class TooManyWaiting(Exception):  # noqa: N818 - a state, answered with 503
    """The bound for the key or for all keys is reached."""


class Waiters:
    """Who waits for what. At most ``per_key`` wait for one key and ``total`` for all keys."""

    def __init__(self, *, per_key: int, total: int) -> None:
        self._per_key = per_key
        self._total = total
        self._held = 0
        self._events: dict[str, list[asyncio.Event]] = {}

    @property
    def held(self) -> int:
        """How many wait now."""
        return self._held

    @contextmanager
    def hold(self, key: str) -> Iterator[News]:
        """Wait under ``key`` for the length of the block; raises :class:`TooManyWaiting`."""
        events = self._events.setdefault(key, [])
        if self._held >= self._total or len(events) >= self._per_key:
            if not events:
                del self._events[key]
            raise TooManyWaiting
        event = asyncio.Event()
        events.append(event)
        self._held += 1
        try:
            yield News(event)
        finally:
            self._held -= 1
            events.remove(event)
            if not events:
                self._events.pop(key, None)

    def wake(self, key: str) -> None:
        """Tell those who wait for ``key``."""
        for event in self._events.get(key, ()):
            event.set()

    def wake_all(self) -> None:
        """Tell everybody."""
        for events in self._events.values():
            for event in events:
                event.set()


class News:
    """One waiter's side."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait_until(self, deadline: float) -> bool:
        """Wait for news since the last look, until the loop's time ``deadline``; False when it came first."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
