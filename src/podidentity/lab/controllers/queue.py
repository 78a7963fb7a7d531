"""Keys to reconcile: each at most once in the queue and never twice at the same time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from podidentity.aio.backoff import Backoff
from podidentity.kube.errors import Conflict, KubeError
from podidentity.telemetry.logging import get_logger

_BACKOFF: Final = Backoff(initial=0.1, factor=2.0, maximum=10.0, jitter=0.2)
_QUIET: Final = 3
"""Failures in a row before one is worth a line in the log."""


class WorkQueue:
    """``reconcile(key)`` is called for every key added; after a KubeError again, with back-off."""

    def __init__(
        self, name: str, reconcile: Callable[[str], Awaitable[None]], *, rng: random.Random, workers: int = 2
    ) -> None:
        self._reconcile = reconcile
        self._rng = rng
        self._workers = workers
        self._waiting: dict[str, None] = {}
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._wake = asyncio.Semaphore(0)
        self._log = get_logger(controller=name)

    def add(self, key: str) -> None:
        """Reconcile ``key`` soon; while it is being reconciled, once more afterwards."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = None
            self._wake.release()

    def add_later(self, key: str, seconds: float) -> None:
        """Add ``key`` after ``seconds``; of several such calls the earliest counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is None or timer.when() > loop.time() + seconds:
            if timer is not None:
                timer.cancel()
            self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _work(self) -> None:
        while True:
            await self._wake.acquire()
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._working.add(key)
            try:
                await self._reconcile(key)
                self._failures.pop(key, None)
            except KubeError as error:
                self._failed(key, error)
            finally:
                self._working.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _failed(self, key: str, error: KubeError) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        if count >= _QUIET and not isinstance(error, Conflict):
            self._log.warning("reconciling failed, will try again", key=key, error=str(error))
        self.add_later(key, _BACKOFF.delay(count - 1, self._rng))
