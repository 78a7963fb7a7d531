"""aiohttp requests that ask a fence after all waiting is over: for a connection, a handshake, a place in the pool.

Between the last look at the clock and the kernel there is no ``await``. What is then on its way is not left to arrive
when a cut network heals: the kernel drops it after ``Fence.delivery`` seconds, and a write that nobody waits for any
more (cancelled, timed out) has its connection reset, so that whoever stands in between forgets it too.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from aiohttp import ClientRequest, ClientResponse

from podidentity.aio.fence import FenceClosedError

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection

    from podidentity.aio.fence import Fence

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def fenced(fence: Fence) -> type[ClientRequest]:
    """Make the ``request_class`` of a session whose writes are held back by ``fence``; reads pass.

    A write that is held back raises FenceClosedError, or loses its connection unsent in the rarest of cases: the fence
    closed between the headers and the body, which Python before 3.12 writes one turn of the loop later.
    """

    class FencedRequest(ClientRequest):
        async def send(self, conn: Connection) -> ClientResponse:
            if self.method not in READS:
                fence.check()
                _bound_delivery(conn.transport, fence.delivery)
                self.response_class = _ResetResponse
            return await super().send(conn)

        async def write_bytes(
            self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
        ) -> None:
            if self.method not in READS:
                try:
                    fence.check()
                except FenceClosedError:
                    conn.close()
                    return
            await super().write_bytes(writer, conn, content_length)

    return FencedRequest


class _ResetResponse(ClientResponse):
    """One whose connection is reset, without a goodbye, when it is closed before its end."""

    def close(self) -> None:
        transport = self.connection.transport if self.connection is not None else None
        super().close()
        sock = _tcp_socket(transport)
        if transport is not None and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()


def _bound_delivery(transport: asyncio.Transport | None, seconds: float) -> None:
    sock = _tcp_socket(transport)
    if seconds > 0 and sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(int(seconds * 1000), 1))


def _tcp_socket(transport: asyncio.Transport | None) -> socket.socket | None:
    sock: socket.socket | None = transport.get_extra_info("socket") if transport is not None else None
    return sock if sock is not None and sock.family != socket.AF_UNIX and sock.fileno() >= 0 else None
