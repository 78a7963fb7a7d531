"""Splices connections: from the caller's loopback to a Unix socket, and from that to an address in the lab.

A Unix socket is what both sides of the lab's namespaces see. kube-apiserver does not listen on one, the embedded API
does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from podidentity.config.errors import ConfigError
from podidentity.telemetry.ports import holder_of

CHUNK = 256 * 1024
Target = Path | tuple[str, int]
"""A Unix socket, or host and port."""


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, then pass the end on."""
    with contextlib.suppress(OSError):  # either end may close at any time, also while its end is passed on
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(str(target))
    return await asyncio.open_connection(*target)


async def _splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> None:
    """Join an accepted connection to a new one to ``target``; both are closed at the end, however it comes."""
    ends = [writer]
    try:
        far_reader, far_writer = await _connect(target)
        ends.append(far_writer)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, far_writer))
            group.create_task(_pump(far_reader, writer))
    except BaseException as error:
        for end in ends:
            end.transport.abort()
        if not isinstance(error, OSError):
            raise
    finally:
        for end in ends:
            end.close()  # all of them before the first wait: it may be cancelled
        for end in ends:
            with contextlib.suppress(OSError):
                await end.wait_closed()


def bind_loopback(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; ``port`` 0 takes a free one. ConfigError says who has a port that is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        holder = holder_of(port) if error.errno == errno.EADDRINUSE else ""
        why = f"is in use by {holder}" if holder else f"cannot be used ({error.strerror})"
        raise ConfigError(f"port {port} on 127.0.0.1 {why}; free it or say --port with another one") from None
    listener.settimeout(0)
    return listener


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket at ``path``, in the place of one that an ended process left there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener


@contextlib.asynccontextmanager
async def forwarding(listener: socket.socket, target: Target) -> AsyncIterator[None]:
    """Splice every connection accepted on ``listener`` to ``target`` while the block runs."""
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_splice(reader, writer, target))
        connections.add(task)
        task.add_done_callback(connections.discard)
        task.add_done_callback(lambda _: writer.close())  # a task cancelled before its first step closes nothing

    server = await asyncio.start_server(accept, sock=listener)
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
