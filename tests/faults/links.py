"""Networks that a test can cut: a relay to one address, and a proxy through which Azure's names lead to one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Relay:
    """Forwards every connection to ``port`` of the loopback, byte by byte, while it is not cut.

    Cut, it says nothing, as a network without a route does; healed, it delivers late what its sender still waits for.
    ``tunnel``: the client begins with a CONNECT, whose name is not looked at.
    """

    def __init__(self, port: int, *, tunnel: bool = False) -> None:
        self._target = port
        self._tunnel = tunnel
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        self.port = 0

    def cut(self) -> None:
        """Deliver nothing more."""
        self._whole.clear()

    def forget(self) -> None:
        """Say nothing more to the connections there are, as a gateway that lost its table; new ones work."""
        self._generation += 1

    def heal(self) -> None:
        """Deliver again, and what was kept of connections whose sender did not give up."""
        self._whole.set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Relay]:
        """Listen on a free port of the loopback."""
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer):
            if self._tunnel:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await self._whole.wait()
            beyond_reader, beyond = await asyncio.open_connection("127.0.0.1", self._target)
            async with _closing(beyond), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, beyond))
                tasks.create_task(self._pump(beyond_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        generation = self._generation
        while data := await reader.read(1 << 16):
            if generation != self._generation:
                continue
            cut = not self._whole.is_set()
            await self._whole.wait()
            if cut and (reader.at_eof() or reader.exception() is not None):
                return
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close in the end; a connection that breaks is the network's ordinary life."""
    try:
        yield
    except* (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()
