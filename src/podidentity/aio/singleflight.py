"""Many callers, one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FlightsClosedError(RuntimeError):
    """The ``SingleFlight`` was closed: while the caller waited, or before it came."""


@dataclass(slots=True)
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


async def _run(call: Callable[[], Awaitable[V]]) -> V:
    return await call()


class SingleFlight(Generic[K, V]):
    """Concurrent callers of one key share one call, its result and its error. Nothing is remembered afterwards."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}
        self._running: set[asyncio.Task[V]] = set()
        self._closed = False

    def __len__(self) -> int:
        """Keys in flight."""
        return len(self._flights)

    async def do(self, key: K, call: Callable[[], Awaitable[V]]) -> V:
        """Await the call under way for ``key``, or start ``call``; raises what the call raises.

        A caller that is cancelled leaves; the call is cancelled (and its end awaited) only when the last one leaves.
        FlightsClosedError when ``close`` came before the result.
        """
        if self._closed:
            raise FlightsClosedError("closed")
        flight = self._flights.get(key)
        if flight is None or flight.task.done():
            flight = self._start(key, call)
        flight.waiters += 1
        try:
            await asyncio.wait((flight.task,))
        except asyncio.CancelledError:
            if flight.waiters == 1 and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
                await asyncio.wait((flight.task,))
            raise
        finally:
            flight.waiters -= 1
        if flight.task.cancelled() and self._closed:
            raise FlightsClosedError("closed while waiting")
        return flight.task.result()

    async def close(self) -> None:
        """Cancel every call under way and await their ends; later calls of ``do`` are refused."""
        self._closed = True
        running = tuple(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _start(self, key: K, call: Callable[[], Awaitable[V]]) -> _Flight[V]:
        flight = _Flight(asyncio.get_running_loop().create_task(_run(call)))
        self._flights[key] = flight
        self._running.add(flight.task)

        def ended(task: asyncio.Task[V]) -> None:
            self._running.discard(task)
            self._forget(key, flight)
            if not task.cancelled():
                task.exception()  # seen here, for when every caller has left meanwhile

        flight.task.add_done_callback(ended)
        return flight

    def _forget(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
