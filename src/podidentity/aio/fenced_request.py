"""aiohttp requests that ask a fence after all waiting is over: for a connection, a handshake, a place in the pool.

Between the last look at the clock and the kernel there is no ``await``. What the kernel then cannot deliver it drops
after ``Fence.delivery`` seconds, instead of sending it when a cut network heals.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from aiohttp import ClientRequest

from podidentity.aio.fence import FenceClosedError

if TYPE_CHECKING:
    from aiohttp import ClientResponse
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
                _bound_delivery(conn, fence.delivery)
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


def _bound_delivery(conn: Connection, seconds: float) -> None:
    sock = conn.transport.get_extra_info("socket") if conn.transport is not None else None
    if seconds > 0 and sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(int(seconds * 1000), 1))
