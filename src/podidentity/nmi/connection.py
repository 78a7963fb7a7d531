"""One connection: bytes in, requests out to the handler, answers back in order. Every limit is kept here."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol, cast

import httptools

from podidentity.nmi.answer import Answer, error
from podidentity.nmi.request import Headers, Pin, Request


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the server; times in seconds.

    ``header_time`` runs from a request's first byte (or the connection's start) to the end of its headers,
    ``body_time`` to the end of its body (``body_raw_bytes`` as sent, chunk headers and all), ``idle_time`` between
    requests, ``write_time`` while a client does not read. At most ``pipelined`` requests are sent ahead: more of them
    in one piece would keep everybody else waiting.
    """

    header_bytes: int = 16384
    headers: int = 64
    body_bytes: int = 4096
    body_raw_bytes: int = 32768
    pipelined: int = 8
    header_time: float = 10.0
    body_time: float = 10.0
    idle_time: float = 75.0
    write_time: float = 20.0
    connections: int = 4096
    connections_per_source: int = 256
    in_flight: int = 2048
    in_flight_per_source: int = 64


class Work(Protocol):
    """What a connection needs of its server."""

    limits: Limits
    ending: bool
    """Whether the connection ends with the answer that is sent next."""

    def opened(self, connection: Connection) -> Answer | None:
        """Register; an answer means: refused, say so and close."""
        ...

    def closed(self, connection: Connection) -> None:
        """Forget."""
        ...

    def refused(self, connection: Connection, answer: Answer) -> None:
        """Take note of what is refused before it is a request."""
        ...

    def turn(self, connection: Connection) -> bool:
        """Whether a request may begin now; if not, ``connection.take_turn`` is called when it may."""
        ...

    def at_once(self, request: Request) -> Answer | None:
        """Answer without waiting, if that can be."""
        ...

    def begin(self, connection: Connection, request: Request) -> asyncio.Task[None] | None:
        """Start answering; the task ends by calling ``connection.finish``. None: too many in flight."""
        ...

    def done(self, request: Request, answer: Answer, started: float) -> None:
        """Take note of an answer that was sent; ``started`` is the loop's time."""
        ...


_TOO_LARGE: Final = error(431, "request header is too large", close=True)
_BODY_TOO_LARGE: Final = error(413, "request body is too large", close=True)
_MALFORMED: Final = error(400, "request is not well-formed HTTP/1.1", close=True)
_UPGRADE: Final = error(400, "protocol upgrades are not supported", close=True)
_TIMEOUT: Final = error(408, "request took too long to arrive", close=True)
_BUSY: Final = error(503, "too many requests in flight", retry_after=1)
_PIPELINED: Final = error(429, "too many pipelined requests", retry_after=1, close=True)
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_NEVER: Final = float("inf")


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket. ``deadline`` (loop time) is watched by the server's sweep."""

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._limits = work.limits
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._started = 0.0
        self._closing = False
        self._paused_until = _NEVER
        self._at_a_time = 0
        self._late = False
        self.pin = Pin()
        self.peer = ""
        self.deadline = _NEVER
        self._clear()

    def _clear(self) -> None:
        self._target = b""
        self._headers = Headers()
        self._head_bytes = 0
        self._header_count = 0
        self._parsed_bytes = 0
        self._body_bytes = 0
        self._raw_body_bytes = 0
        self._in_head = False
        self._in_body = False

    # -- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the server, which may refuse."""
        self._transport = cast("asyncio.Transport", transport)
        self.deadline = self._loop.time() + self._limits.header_time
        refusal = self._work.opened(self)
        if refusal is not None:
            self._send(refusal, keep_alive=False)

    @property
    def transport(self) -> asyncio.Transport | None:
        """The socket's transport while it is open."""
        return self._transport

    def data_received(self, data: bytes) -> None:
        """Feed the parser; its own errors are answered in JSON too."""
        if self._closing:
            return
        self._at_a_time = 0
        if self._in_body:
            self._raw_body_bytes += len(data)
        else:
            if self._head_bytes == 0 and self._task is None:
                self.deadline = self._loop.time() + self._limits.header_time
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(_UPGRADE)
        except httptools.HttpParserError:
            self._refuse(_MALFORMED)
        if not self._closing and not self._in_body and self._head_bytes > self._limits.header_bytes:
            self._refuse(_TOO_LARGE)
        elif not self._closing and self._in_body and self._raw_body_bytes > self._limits.body_raw_bytes:
            self._refuse(_BODY_TOO_LARGE)

    def eof_received(self) -> bool:
        """Treat a half-closed client as gone: what it waited for is released."""
        if self._task is not None:
            self._task.cancel()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Release whatever this client was waiting for."""
        self._closing = True
        self._transport = None
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
        self._work.closed(self)

    def pause_writing(self) -> None:
        """Give a client that does not read a limited time."""
        self._paused_until = self._loop.time() + self._limits.write_time
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client reads again."""
        self._paused_until = _NEVER
        if self._transport is not None and not self._closing:
            self._transport.resume_reading()
        self._next()

    # -- httptools' side -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start a new request."""
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Take (a piece of) the raw target."""
        self._parsed_bytes += len(url)
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header. What follows a body in chunks is none: it would pass the checks that are done by then."""
        if self._in_body:
            self._refuse(_MALFORMED)
            return
        self._header_count += 1
        self._parsed_bytes += len(name) + len(value) + 4
        self._headers.add(name, value)

    def on_headers_complete(self) -> None:
        """End the head; the body has its own limits."""
        self._in_head = False
        self._in_body = True
        if self._header_count > self._limits.headers or self._parsed_bytes > self._limits.header_bytes:
            self._refuse(_TOO_LARGE)

    def on_body(self, body: bytes) -> None:
        """Count the body; nothing reads it."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(_BODY_TOO_LARGE)
        elif self._task is None:
            self.deadline = min(self.deadline, self._loop.time() + self._limits.body_time)

    def on_message_complete(self) -> None:
        """Hand the request on, or line it up behind the one that is being answered."""
        parser = self._parser
        version = parser.get_http_version()
        request = Request(
            parser.get_method().decode("latin-1"),
            self._target,
            self._headers,
            self.peer,
            http10=version == "1.0",
            keep_alive=parser.should_keep_alive(),
            pin=self.pin,
        )
        self._clear()
        if self._closing:
            return
        self._at_a_time += 1
        if version not in _VERSIONS:
            self._refuse(_MALFORMED)
        elif parser.should_upgrade():
            self._refuse(_UPGRADE)
        elif self._at_a_time > self._limits.pipelined:
            self._refuse(_PIPELINED)
        elif self._task is None and not self._queue and self._paused_until == _NEVER and self._may_begin():
            self._begin(request)
        elif len(self._queue) < self._limits.pipelined:
            self._queue.append(request)
        else:
            self._refuse(_PIPELINED)

    # -- answering -----------------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self._started = self._loop.time()
        answer = self._work.at_once(request)
        if answer is None:
            self.deadline = _NEVER
            self._task = self._work.begin(self, request)
            if self._task is not None:
                return
            answer = _BUSY
        self._answered(request, answer)

    def finish(self, request: Request, answer: Answer) -> None:
        """Take the answer of the task that ``begin`` started, then the requests lined up behind it."""
        self._task = None
        self._answered(request, answer)
        self._next()

    def _next(self) -> None:
        """Take up what is lined up, while answers are wanted and read."""
        while self._may_go_on() and self._may_begin():
            self._begin(self._queue.popleft())

    def _may_go_on(self) -> bool:
        return bool(self._queue) and self._task is None and not self._closing and self._paused_until == _NEVER

    def _may_begin(self) -> bool:
        """Whether it is this connection's turn; if not, it is called when it is."""
        if not self._late:
            self._late = not self._work.turn(self)
        return not self._late

    def take_turn(self) -> None:
        """Begin the request that waited for its turn."""
        self._late = False
        if self._may_go_on():
            self._begin(self._queue.popleft())
            self._next()

    def _answered(self, request: Request, answer: Answer) -> None:
        keep_alive = request.keep_alive and not answer.close and not self._work.ending
        self._send(answer, keep_alive=keep_alive, head=request.method == "HEAD")
        self._work.done(request, answer, self._started)

    def _send(self, answer: Answer, *, keep_alive: bool, head: bool = False) -> None:
        transport = self._transport
        if transport is None or self._closing:
            return
        transport.write(answer.encode(keep_alive=keep_alive, head=head))
        if keep_alive:
            self.deadline = self._loop.time() + self._limits.idle_time
        else:
            self._closing = True
            self.deadline = self._loop.time() + self._limits.write_time
            transport.close()

    def _refuse(self, answer: Answer) -> None:
        """Answer what is not a request, and close. Behind a request still being answered, just close."""
        if self._closing:
            return
        self._work.refused(self, answer)
        if self._task is not None:
            self._task.cancel()
            self._closing = True
            if self._transport is not None:
                self._transport.close()
            return
        self._send(answer, keep_alive=False)

    def sweep(self, now: float) -> None:
        """Close what has passed its deadline; called by the server about once a second."""
        if self._transport is None:
            return
        if now > self._paused_until or (self._closing and now > self.deadline):
            self._transport.abort()
        elif now > self.deadline and self.spare:
            if self._in_head or self._in_body or self._head_bytes:
                self._refuse(_TIMEOUT)
            else:
                self._closing = True
                self._transport.close()

    @property
    def spare(self) -> bool:
        """Whether it is open and nothing is being answered on it."""
        return self._task is None and not self._queue and not self._closing

    def give_way(self) -> None:
        """End a connection for somebody who has none."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def stop(self, answer: Answer) -> None:
        """End the connection for a server that stops: who waits, or has yet to ask, is told ``answer``."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._send(answer, keep_alive=False)
        elif self._queue or self._started == 0:
            self._send(answer, keep_alive=False)
        elif self._transport is not None and not self._closing:
            self._closing = True
            self._transport.close()
