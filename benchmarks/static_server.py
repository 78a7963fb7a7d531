"""``HOST PORT BYTES``: the least a server on httptools and uvloop can do, as the measure of one that decides.

Parses each request and writes the same answer, of BYTES bytes in all. No limits, no routes, no log.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import httptools
import uvloop


def answer(size: int) -> bytes:
    """A 200 of ``size`` bytes, head included, with the headers nmi sends."""
    body = b"x" * size
    while True:
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nCache-Control: no-store\r\n"
            f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n"
        ).encode()
        if len(head) + len(body) <= size:
            return head + body
        body = body[: size - len(head)]


class Static(asyncio.Protocol):
    """One connection."""

    def __init__(self, wire: bytes) -> None:
        self._wire = wire
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer."""
        if self._transport is not None:
            self._transport.write(self._wire)


async def main() -> None:
    """Serve until killed."""
    host, port, size = sys.argv[-3:]
    wire = answer(int(size))
    server = await asyncio.get_running_loop().create_server(lambda: Static(wire), host, int(port))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
