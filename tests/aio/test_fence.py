"""The fence, alone and in front of real sockets."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence, FenceClosedError
from podidentity.aio.fenced_request import fenced

WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Time:
    """A monotonic clock that the test moves."""

    now: float = 100.0
    ahead: float = 1_700_000_000.0

    def clock(self) -> Clock:
        """Read it; the wall clock is ``ahead`` of it."""
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now + self.ahead)


@dataclass
class Server:
    """Counts what arrives."""

    url: str = ""
    seen: list[str] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer everything; a request counts when its body is complete."""
        await request.read()
        self.seen.append(request.method)
        return web.Response(text="ok")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on loopback."""
    made = Server()
    runner = web.ServerRunner(web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def jumping(time: Time, name: str) -> aiohttp.TraceConfig:
    """The process is frozen past the deadline at this moment of each request."""
    trace = aiohttp.TraceConfig()

    async def freeze(*_: Any) -> None:
        time.now += 1000

    getattr(trace, name).append(freeze)
    return trace


def test_opens_and_closes_by_itself() -> None:
    """A fence is closed at first, open up to its deadline and not at it, closed at a word, and opened anew."""
    time = Time()
    fence = Fence(time.clock())
    with pytest.raises(FenceClosedError):
        fence.check()
    fence.open_until(110)
    time.now = 109.999
    fence.check()
    time.now = 110
    assert not fence.is_open
    fence.open_until(120)
    assert fence.is_open
    fence.close()
    assert not fence.is_open


def test_a_monotonic_clock_that_stood_still() -> None:
    """A paused machine is found out by its wall clock; small corrections of that are nothing, and opening heals."""
    time = Time()
    fence = Fence(time.clock(), delivery=5)
    fence.open_until(110)
    time.ahead += 4.9
    fence.check()
    time.ahead -= 1000
    fence.check()
    time.ahead += 1000.2
    assert not fence.is_open
    fence.open_until(110)
    assert fence.is_open


@pytest.mark.parametrize("method", WRITES)
async def test_a_closed_fence_lets_reads_through_only(server: Server, method: str) -> None:
    """A write is refused before a byte of it leaves; the same session still reads."""
    fence = Fence(Time().clock())
    async with aiohttp.ClientSession(request_class=fenced(fence)) as session:
        with pytest.raises(FenceClosedError):
            await session.request(method, server.url, data=b"x")
        async with session.get(server.url) as answer:
            assert answer.status == 200
        fence.open_until(1000)
        async with session.request(method, server.url, data=b"x") as answer:
            assert answer.status == 200
    assert server.seen == ["GET", method]


@pytest.mark.parametrize("method", WRITES)
async def test_frozen_while_connecting(server: Server, method: str) -> None:
    """A process that wakes with a connection just made and leadership long over sends nothing on it."""
    time = Time()
    fence = Fence(time.clock())
    fence.open_until(110)
    trace = jumping(time, "on_connection_create_end")
    async with aiohttp.ClientSession(request_class=fenced(fence), trace_configs=[trace]) as session:
        with pytest.raises(FenceClosedError):
            await session.request(method, server.url, data=b"x")
    assert server.seen == []


@pytest.mark.parametrize("method", WRITES)
async def test_frozen_between_headers_and_body(server: Server, method: str) -> None:
    """The last look is right before the bytes: nothing complete arrives even when the freeze falls behind the first."""
    time = Time()
    fence = Fence(time.clock())
    fence.open_until(110)
    trace = jumping(time, "on_request_headers_sent")
    async with aiohttp.ClientSession(request_class=fenced(fence), trace_configs=[trace]) as session:
        with pytest.raises((FenceClosedError, aiohttp.ClientError)):
            await session.request(method, server.url, data=b"x")
    assert server.seen == []


async def test_a_write_nobody_waits_for_is_reset() -> None:
    """A cancelled write leaves no connection that says goodbye: whoever kept the request for later forgets it."""
    fence = Fence(Time().clock(), delivery=5)
    fence.open_until(1000)
    arrived, ended = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        try:
            ended.set_result(await reader.read())
        except ConnectionResetError as error:
            ended.set_result(type(error))
        finally:
            writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession(request_class=fenced(fence)) as session:
            task = asyncio.create_task(session.patch(url))
            await arrived.wait()
            task.cancel()
            assert await asyncio.wait_for(ended, 5) is ConnectionResetError


async def test_what_cannot_be_delivered_is_dropped_in_time(server: Server) -> None:
    """The kernel is told how long a write may be on its way, so that a healed network brings no late one."""
    fence = Fence(Clock(), delivery=7.5)
    fence.open_until(float("inf"))
    found: list[int] = []
    trace = aiohttp.TraceConfig()

    async def look(session: aiohttp.ClientSession, *_: Any) -> None:
        assert session.connector is not None
        for proto in session.connector._acquired:
            sock = proto.transport.get_extra_info("socket")
            found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    trace.on_request_headers_sent.append(look)
    async with aiohttp.ClientSession(request_class=fenced(fence), trace_configs=[trace]) as session:
        async with session.get(server.url):
            pass
        async with session.post(server.url, data=b"x"):
            pass
    assert found == [0, 7500]


async def test_the_kernel_gives_up_what_it_cannot_deliver() -> None:
    """A write that is stuck on its way, here before a full window, is gone after the time that is left for it."""
    fence = Fence(Clock(), delivery=0.5)
    fence.open_until(float("inf"))
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with aiohttp.ClientSession(request_class=fenced(fence)) as session, asyncio.timeout(30):
            with pytest.raises(aiohttp.ClientError):
                await session.patch(url, data=io.BytesIO(b"x" * (16 << 20)))
