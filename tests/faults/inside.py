"""The embedded API and the simulated Azure called in this process, without sockets, so that virtual time is enough.

A request is a task of its own outside of the process that sent it: it arrives although its sender is frozen meanwhile.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from podidentity.aio.fence import Fence

T = TypeVar("T")

LATENCY: Final = 0.005
READS: Final = frozenset({"GET", "HEAD"})


class _Transport:
    """As much of a connection as a server looks at; ``aborted``: the server closed it without an answer."""

    def __init__(self) -> None:
        self.aborted = False

    def get_extra_info(self, _name: str) -> None:
        """Nobody is known."""

    def abort(self) -> None:
        """Close."""
        self.aborted = True


class _Body:
    """A body that is read once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, _size: int = -1) -> bytes:
        """All of it, then nothing."""
        data, self._data = self._data, b""
        return data


class Asked:
    """A request as both servers' handlers read it."""

    def __init__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> None:
        where = URL(url, encoded=True)
        self.method = method
        self.scheme = where.scheme
        self.path = where.path
        self.path_qs = self.raw_path = where.raw_path_qs
        self.query = where.query
        self.headers = CIMultiDict({"Host": where.host or "", **headers})
        self.content_type = self.headers.get("Content-Type", "application/octet-stream").partition(";")[0]
        self.transport = _Transport()
        self.body_exists = bool(body)
        self.content = _Body(body)

    async def read(self) -> bytes:
        """The body."""
        return await self.content.read()


Handler = Callable[[Any], Awaitable[web.StreamResponse]]


@dataclass(eq=False)
class Link:
    """What lies between one process and a server. ``delivery``: seconds a write may be on its way through a cut."""

    whole: asyncio.Event = field(default_factory=asyncio.Event)
    refused: bool = False
    dead: bool = False
    muted: int = 0
    """How often its open streams fell silent for good, without anybody being told."""

    def __post_init__(self) -> None:
        self.whole.set()

    def mute(self) -> None:
        """Let every stream that is open now deliver nothing more."""
        self.muted += 1


@dataclass
class Outside:
    """Runs what belongs to no process; ``close`` ends what is still on its way."""

    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin."""
        task: asyncio.Task[T] = self.context.run(asyncio.get_running_loop().create_task, work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def close(self) -> None:
        """End everything."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: an answer's parts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Way:
    """One process's way to one server."""

    def __init__(self, outside: Outside, link: Link, fence: Fence | None) -> None:
        self._outside = outside
        self.link = link
        self._fence = fence

    async def send(self, asked: Asked, handle: Callable[[Asked], Awaitable[T]]) -> T:
        """Have the server answer. Raises aiohttp.ClientError, and FenceClosedError before anything has left."""
        write = asked.method not in READS
        if self._fence is not None and write:
            self._fence.check()
        within = self._fence.delivery if self._fence is not None and write else math.inf
        task = self._outside.run(self._deliver(asked, handle, within))
        try:
            outcome = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()  # its connection is reset: what did not arrive yet never does
            raise
        if isinstance(outcome, aiohttp.ClientError):
            raise outcome
        return outcome

    async def _deliver(
        self, asked: Asked, handle: Callable[[Asked], Awaitable[T]], within: float
    ) -> T | aiohttp.ClientError:
        await asyncio.sleep(LATENCY)
        try:
            async with asyncio.timeout(within if within < math.inf else None):
                await self.link.whole.wait()
        except TimeoutError:
            return aiohttp.ClientOSError("the kernel gave up on it")
        if self.link.refused or self.link.dead:
            return aiohttp.ClientOSError("connection refused")
        try:
            outcome = await handle(asked)
        except aiohttp.ClientError as error:
            return error
        await asyncio.sleep(LATENCY)
        await self.link.whole.wait()
        return aiohttp.ServerDisconnectedError() if self.link.refused else outcome


async def plainly(handler: Handler, asked: Asked) -> Answer:
    """Call a server's handler. Raises aiohttp.ServerDisconnectedError where it closed the connection instead."""
    response = await handler(asked)
    if asked.transport.aborted:
        raise aiohttp.ServerDisconnectedError
    body = getattr(response, "body", None) or b""
    return Answer(response.status, dict(response.headers), bytes(body))
