"""The HTTP server of the node agent: a small protocol on llhttp, all listeners in one loop.

Answers are JSON without exception, also where the parser refuses; nothing a client does keeps memory, sockets or
tasks beyond the limits.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from podidentity.nmi.accept import Acceptor
from podidentity.nmi.answer import Answer, error
from podidentity.nmi.connection import Connection, Limits
from podidentity.nmi.request import UNIX, Link, Request, is_loopback, normal_address
from podidentity.nmi.turns import Turns

_FULL: Final = error(503, "too many connections", retry_after=1, close=True)
_STOPPING: Final = error(503, "nmi is stopping", retry_after=1, close=True)
_FAULT: Final = error(500, "internal error", close=True)
_LAST_SECONDS: Final = 1.0
"""For how long who keeps a connection may still ask once on it; an SDK that asks all the time does."""
_SWEEP_SECONDS: Final = 1.0
_FULL_WIRE: Final = _FULL.encode(keep_alive=False)


class Answerer(Protocol):
    """What the server serves: see ``handler.Handler``."""

    def owner(self, peer: str, interface: int) -> str:
        """Return the UID of the pod that has this address behind ``interface``, empty when not known at once."""
        ...

    def at_once(self, request: Request) -> Answer | None:
        """Return the answer if it needs no waiting."""
        ...

    async def answer(self, request: Request) -> Answer:
        """Return the answer."""
        ...


class Observer(Protocol):
    """Told of every answer, of what was refused before it was a request, and of faults of ours."""

    def answered(self, request: Request, answer: Answer, seconds: float) -> None:
        """Take note of an answer."""
        ...

    def turned_away(self, source: str, status: int) -> None:
        """Take note of what was answered ``status`` before it was a request."""
        ...

    def fault(self, request: Request, fault: Exception) -> None:
        """Take note of an exception nobody expected."""
        ...


class Server:
    """Serves ``answerer`` on listening sockets until cancelled.

    ``behind`` tells by which network interface a connection that is not this machine's own came in.
    """

    def __init__(
        self,
        answerer: Answerer,
        observer: Observer,
        *,
        limits: Limits | None = None,
        behind: Callable[[asyncio.BaseTransport], int] = lambda _: 0,
    ) -> None:
        self.limits = limits or Limits()
        self._behind = behind
        self._answerer = answerer
        self._observer = observer
        self._connections: dict[Connection, None] = {}
        self._empty = asyncio.Event()
        self._per_source: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._in_flight_total = 0
        self._group: asyncio.TaskGroup | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: Turns | None = None
        self.ending = False

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def in_flight(self) -> int:
        """How many requests are being waited for."""
        return self._in_flight_total

    async def serve(self, sockets: Sequence[socket.socket], *, ready: Callable[[], None] = lambda: None) -> None:
        """Accept on ``sockets`` (bound; closed at the end) until cancelled; ``ready`` is called once they listen.

        When cancelled, it serves for another second those who are connected already, and tells them that the connection
        ends; then requests that wait are answered 503 with Retry-After, and connections are closed.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._turns = Turns(loop)
        servers = []
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    for sock in sockets:
                        servers.append(self._listen(loop, sock))  # noqa: PERF401 - what listens is closed, all or some
                    ready()
                    await self._sweep_forever()
                finally:
                    for server in servers:
                        server.close()
                    self.ending = True
                    await self._take_leave()
                    for connection in tuple(self._connections):
                        connection.stop(_STOPPING)
        finally:
            self._group = None

    async def _take_leave(self) -> None:
        """Wait until all have had their last answer: a request that is on its way must not meet a closed connection."""
        self._empty.clear()
        if self._connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self._empty.wait()

    def _listen(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Acceptor:
        acceptor = Acceptor(sock, lambda: Connection(self, loop), self._unwanted)
        acceptor.start()
        return acceptor

    def _unwanted(self, sock: socket.socket, address: object) -> bytes | None:
        """Return what a new connection of a source that has enough of them is told."""
        peer = UNIX if sock.family == socket.AF_UNIX else _source(address)
        if self._per_source[peer] < self.limits.connections_per_source:
            return None
        self._observer.turned_away(peer, _FULL.status)
        return _FULL_WIRE

    async def _sweep_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for connection in tuple(self._connections):
                connection.sweep(now)

    # -- what connections need (connection.Work) -----------------------------------------------------------------

    def opened(self, connection: Connection) -> Answer | None:
        """Count the connection. One too many is refused; of all, unless a source that has more gives one up."""
        transport = connection.transport
        peer, link = ends_of(transport) if transport is not None else ("", None)
        connection.peer = peer
        connection.pin.link = link
        if transport is not None and link is None:
            connection.pin.interface = self._behind(transport)
        connection.pin.uid = self._answerer.owner(peer, connection.pin.interface)
        self._connections[connection] = None
        self._per_source[peer] += 1
        if self._per_source[peer] <= self.limits.connections_per_source and (
            len(self._connections) <= self.limits.connections or self._make_room(peer)
        ):
            return None
        self._observer.turned_away(peer, _FULL.status)
        return _FULL

    def _make_room(self, peer: str) -> bool:
        """Close the oldest spare connection of the source that has the most; not for that source itself."""
        greedy, most = self._per_source.most_common(1)[0]
        if most <= self._per_source[peer]:
            return False
        for connection in self._connections:
            if connection.peer == greedy and connection.spare:
                connection.give_way()
                return True
        return False

    def closed(self, connection: Connection) -> None:
        """Count it out."""
        if connection in self._connections:
            del self._connections[connection]
            _count_down(self._per_source, connection.peer)
            if not self._connections:
                self._empty.set()

    def refused(self, connection: Connection, answer: Answer) -> None:
        """Tell the observer."""
        self._observer.turned_away(connection.peer, answer.status)

    def turn(self, connection: Connection) -> bool:
        """Whether the connection's source may have one more request begun in this turn of the loop."""
        return self._turns is None or self._turns.take(connection.peer, connection.take_turn)

    def at_once(self, request: Request) -> Answer | None:
        """Answer without waiting; a fault of ours becomes a 500, never a lost connection."""
        try:
            return self._answerer.at_once(request)
        except Exception as fault:  # noqa: BLE001 - the boundary: whatever it is, the client gets JSON
            self._observer.fault(request, fault)
            return _FAULT

    def begin(self, connection: Connection, request: Request) -> asyncio.Task[None] | None:
        """Start a task for the request unless too many are in flight."""
        peer = connection.peer
        if (
            self._group is None
            or self._in_flight_total >= self.limits.in_flight
            or self._in_flight[peer] >= self.limits.in_flight_per_source
        ):
            return None
        task = self._group.create_task(self._work(connection, request))
        self._in_flight[peer] += 1
        self._in_flight_total += 1
        task.add_done_callback(lambda _: self._landed(peer))
        return task

    def _landed(self, peer: str) -> None:
        self._in_flight_total -= 1
        _count_down(self._in_flight, peer)

    async def _work(self, connection: Connection, request: Request) -> None:
        try:
            answer = await self._answerer.answer(request)
        except Exception as fault:  # noqa: BLE001 - the boundary: whatever it is, the client gets JSON
            self._observer.fault(request, fault)
            answer = _FAULT
        connection.finish(request, answer)

    def done(self, request: Request, answer: Answer, started: float) -> None:
        """Tell the observer."""
        assert self._loop is not None
        self._observer.answered(request, answer, self._loop.time() - started)


def ends_of(transport: asyncio.BaseTransport) -> tuple[str, Link | None]:
    """Return the client's address, and both ends of a connection that comes from this machine."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple) or not name:
        own = transport.get_extra_info("socket")
        unix = own is not None and own.family == socket.AF_UNIX
        return (UNIX, Link(unix=True)) if unix else ("", None)
    peer = _source(name)
    if not is_loopback(peer):
        return peer, None
    local = transport.get_extra_info("sockname")
    return peer, Link(str(name[0]), name[1], str(local[0]), local[1])


def _source(address: object) -> str:
    return normal_address(str(address[0])) if isinstance(address, tuple) and address else ""


def _count_down(counter: Counter[str], key: str) -> None:
    left = counter[key] - 1
    if left > 0:
        counter[key] = left
    else:
        del counter[key]
