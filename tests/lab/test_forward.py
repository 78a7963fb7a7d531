"""The forwarder between the caller's loopback and the lab's Unix socket."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from podidentity.config.errors import ConfigError
from podidentity.lab.forward import bind_loopback, bind_unix, forwarding


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ends without another byte, by an end of file or a reset."""
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def test_bytes_and_ends_pass_both_ways(tmp_path: Path) -> None:
    """A half-closed connection still gets its answer, whatever its size."""
    listener = bind_loopback(0)
    port = listener.getsockname()[1]
    async with await asyncio.start_unix_server(_echo, str(tmp_path / "s")), forwarding(listener, tmp_path / "s"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        assert await reader.read(-1) == b"X" * 1_000_000
        writer.close()
        await writer.wait_closed()


async def test_a_socket_stands_for_an_address(tmp_path: Path) -> None:
    """A server that listens on an address only is reached through a Unix socket, made anew after a killed lab."""
    path = tmp_path / "s"
    for _ in range(2):
        async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
            async with forwarding(bind_unix(path), server.sockets[0].getsockname()):
                reader, writer = await asyncio.open_unix_connection(str(path))
                writer.write(b"a")
                assert await reader.readexactly(1) == b"A"
                assert path.stat().st_mode & 0o777 == 0o600
            assert await _ended(reader)
            writer.close()
            await writer.wait_closed()


async def test_a_missing_target_ends_the_connection(tmp_path: Path) -> None:
    """While the API is away a client sees a closed connection, not a silent one."""
    listener = bind_loopback(0)
    async with forwarding(listener, tmp_path / "nothing"):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
        assert await _ended(reader)
        writer.close()


async def test_connections_that_idle_end_with_the_forwarder(tmp_path: Path) -> None:
    """A watch that is open when the lab ends holds nothing up and leaves no socket behind."""
    listener = bind_loopback(0)
    async with await asyncio.start_unix_server(_echo, str(tmp_path / "s")):
        async with forwarding(listener, tmp_path / "s"):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
            writer.write(b"a")
            assert await reader.readexactly(1) == b"A"
        assert await _ended(reader)
        writer.close()


@pytest.mark.parametrize("turns", range(16))
async def test_the_forwarder_ends_amid_anything(tmp_path: Path, turns: int) -> None:
    """However far a connection has come up, or gone, when the lab ends, both its sockets are closed."""
    listener = bind_loopback(0)
    async with await asyncio.start_unix_server(_echo, str(tmp_path / "s")):
        async with forwarding(listener, tmp_path / "s"):
            reader, going = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
            going.write(b"a")
            assert await reader.readexactly(1) == b"A"
            going.close()
            _, coming = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
            for _ in range(turns):
                await asyncio.sleep(0)
        coming.close()
    gc.collect()


def test_a_port_in_use_is_named() -> None:
    """The line names the port and what to do."""
    with bind_loopback(0) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1 is in use by .*--port"):
            bind_loopback(port)
