"""What one client can do to the server: nothing lasting."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import resource
import socket
from contextlib import AsyncExitStack
from dataclasses import replace

from tests.nmi.conftest import Bench, Make, Start, read_reply, until

from podidentity.nmi.accept import Acceptor
from podidentity.nmi.connection import Limits
from podidentity.nmi.descriptors import KEPT, room

PATH = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\r\n".encode()
QUICK = Limits(header_time=0.2, body_time=0.2, idle_time=0.2, write_time=0.2)


def entitle(bench: Bench, make: type[Make], ip: str = "127.1.0.1", name: str = "web") -> None:
    """Give a pod at ``ip`` an identity."""
    pod = make.pod(name, ip=ip)
    bench.put_pod(pod)
    bench.put_assigned(make.assigned(pod))


async def test_keep_alive_serves_many_requests_on_one_connection(start: Start, make: type[Make]) -> None:
    """Requests follow each other on one connection, also when sent together, and are answered in order."""
    bench = await start()
    entitle(bench, make)
    reader, writer = await bench.connect("127.1.0.1")
    missing = REQUEST.replace(b"Metadata: true\r\n", b"")
    writer.write(REQUEST + missing + REQUEST)
    statuses = [(await read_reply(reader)).status for _ in range(3)]
    assert statuses == [200, 400, 200]
    writer.write(REQUEST)
    assert (await read_reply(reader)).status == 200
    writer.close()


async def test_connection_close_and_http10_are_honoured(start: Start, make: type[Make]) -> None:
    """The connection ends after the answer when the client says so, and with HTTP/1.0."""
    bench = await start()
    entitle(bench, make)
    for raw in (
        REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ):
        reader, writer = await bench.connect("127.1.0.1")
        writer.write(raw)
        assert (await read_reply(reader)).headers["connection"] == "close"
        assert await reader.read() == b""
        writer.close()


async def test_d18_dripping_header_is_ended_with_408(start: Start) -> None:
    """A header that arrives byte by byte is answered 408 and closed, however steadily it drips."""
    bench = await start(limits=QUICK)
    for first, then in ((b"GET / HTTP/1.1\r\nX-Drip: ", b"a"), (b"\r\n", b"\r\n")):
        reader, writer = await bench.connect()
        writer.write(first)
        reply = asyncio.ensure_future(read_reply(reader))
        while not reply.done():
            writer.write(then)
            await asyncio.sleep(0.05)
        assert (await reply).status == 408
        writer.close()


async def test_dripping_body_is_ended(start: Start) -> None:
    """A body that never ends is answered 408 and closed."""
    bench = await start(limits=QUICK)
    reply = await bench.send(REQUEST.replace(b"\r\n\r\n", b"\r\nContent-Length: 100\r\n\r\nabc"))
    assert reply.status == 408


async def test_d18_idle_connections_are_closed(start: Start, make: type[Make]) -> None:
    """A connection without a request, new or used, is closed after the idle time."""
    bench = await start(limits=QUICK)
    entitle(bench, make)
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST)
    assert (await read_reply(reader)).status == 200
    assert await reader.read() == b""
    writer.close()
    reader, writer = await bench.connect("127.1.0.1")
    assert await reader.read() == b""
    writer.close()
    await until(lambda: bench.app.server.connections == 0)


async def test_connections_of_one_source_are_bounded(start: Start, make: type[Make]) -> None:
    """A pod that opens too many connections is refused with 503, and others are still served."""
    bench = await start(limits=Limits(connections_per_source=5))
    entitle(bench, make, "127.1.0.2", "other")
    open_ = [await bench.connect("127.1.0.1") for _ in range(5)]
    await until(lambda: bench.app.server.connections == 5)
    refused = await bench.send(b"", "127.1.0.1")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert (await bench.token("127.1.0.2")).status == 200
    for _, writer in open_:
        writer.close()
    await until(lambda: bench.app.server.connections == 0)


async def test_requests_in_flight_of_one_source_are_bounded(start: Start, make: type[Make]) -> None:
    """A pod with too many waiting requests gets 503 with Retry-After for the next, and others are still served."""
    bench = await start(limits=Limits(in_flight_per_source=3))
    entitle(bench, make, "127.1.0.2", "other")
    bench.put_pod(make.pod())
    waiting = [asyncio.ensure_future(bench.token()) for _ in range(3)]
    await until(lambda: bench.app.server.in_flight == 3)
    refused = await bench.token()
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert (await bench.token("127.1.0.2")).status == 200
    for task in waiting:
        task.cancel()
    await until(lambda: bench.app.server.in_flight == 0)


async def test_held_request_is_released_when_its_client_leaves(start: Start, make: type[Make]) -> None:
    """A client that closes while it waits leaves nothing behind."""
    bench = await start()
    bench.put_pod(make.pod())
    _, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST)
    await until(lambda: bench.app.cluster.waiters.held == 1)
    writer.close()
    await until(lambda: bench.app.cluster.waiters.held == 0 and bench.app.server.connections == 0)


async def test_d35_held_requests_of_one_pod_are_bounded(start: Start, make: type[Make]) -> None:
    """More early requests of one pod than it may have waiting are told to come back."""
    bench = await start()
    bench.put_pod(make.pod())
    waiting = [asyncio.ensure_future(bench.token()) for _ in range(32)]
    await until(lambda: bench.app.cluster.waiters.held == 32)
    refused = await bench.token()
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    for task in waiting:
        task.cancel()
    await until(lambda: bench.app.cluster.waiters.held == 0)


async def test_stopping_server_tells_those_who_wait(start: Start, make: type[Make]) -> None:
    """A server that stops answers waiting requests 503 with Retry-After instead of dropping them."""
    bench = await start()
    bench.put_pod(make.pod())
    waiting = asyncio.ensure_future(bench.token())
    await until(lambda: bench.app.cluster.waiters.held == 1)
    await bench.stop()
    reply = await waiting
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


async def test_too_many_pipelined_requests_end_the_connection(start: Start, make: type[Make]) -> None:
    """Requests lined up behind a waiting one are bounded."""
    bench = await start()
    bench.put_pod(make.pod())
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST * 40)
    assert await reader.read() == b""
    writer.close()
    await until(lambda: bench.app.server.in_flight == 0)


async def test_client_that_does_not_read_is_dropped(start: Start) -> None:
    """Answers nobody reads do not pile up: the connection is dropped after the write time."""
    bench = await start(limits=replace(QUICK, pipelined=100_000))
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.settimeout(0)
        await loop.sock_connect(client, ("127.0.0.1", bench.port))
        await until(lambda: bench.app.server.connections == 1)
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while bench.app.server.connections:
                    with contextlib.suppress(BlockingIOError):
                        sent += client.send(REQUEST * 100)
                    await asyncio.sleep(0.001)
        assert sent > 100 * len(REQUEST)
    await until(lambda: bench.app.server.connections == 0)


async def test_small_body_is_ignored(start: Start, make: type[Make]) -> None:
    """A GET with a small body, plain or chunked, is answered, and the next request too."""
    bench = await start()
    entitle(bench, make)
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"))
    writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
    writer.write(REQUEST)
    assert [(await read_reply(reader)).status for _ in range(3)] == [200, 200, 200]
    writer.close()


async def test_request_split_at_every_byte_is_understood(start: Start, make: type[Make]) -> None:
    """Where the network cuts a request does not matter."""
    bench = await start()
    entitle(bench, make)
    reader, writer = await bench.connect("127.1.0.1")
    for byte in REQUEST:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await read_reply(reader)).status == 200
    writer.close()


async def test_fault_of_ours_is_a_500_in_json(start: Start, make: type[Make]) -> None:
    """An exception nobody expected is answered in JSON, logged without a token, and harms nobody else."""
    bench = await start()
    entitle(bench, make)
    bench.imds.errors.append(RuntimeError("surprise"))
    reply = await bench.token()
    assert reply.status == 500
    assert json.loads(reply.body)["error"] == "server_error"
    assert "surprise" in bench.log.getvalue()
    assert (await bench.token()).status == 200


async def test_trailers_are_no_headers(start: Start, make: type[Make]) -> None:
    """A header after the body is refused: neither does it count as one, nor is it kept, however long."""
    bench = await start()
    entitle(bench, make)
    head = REQUEST.replace(b"Metadata: true\r\n", b"Transfer-Encoding: chunked\r\n")
    for trailer in (b"Metadata: true\r\n\r\n", b"X-Long: " + b"a" * 2_000_000):
        reader, writer = await bench.connect("127.1.0.1")
        with contextlib.suppress(ConnectionError):
            writer.write(head + b"0\r\n" + trailer)
            await writer.drain()
        with contextlib.suppress(ConnectionError):
            assert (await read_reply(reader)).status in {400, 413}
        writer.close()
    assert bench.imds.calls == []


async def test_chunk_extensions_count_as_body(start: Start) -> None:
    """Bytes that carry no body, such as chunk extensions, end the connection like a body that is too large."""
    bench = await start(limits=Limits(body_time=60.0, header_time=60.0))
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + b"1;x=")
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            writer.write(b"a" * 8192)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        assert (await read_reply(reader)).status == 413
    await until(lambda: bench.app.server.connections == 0)
    writer.close()


async def test_requests_sent_in_one_piece_are_bounded(start: Start, make: type[Make]) -> None:
    """A pod that sends a thousand requests at once is cut off after a few: the loop belongs to everybody."""
    bench = await start()
    entitle(bench, make)
    assert (await bench.token()).status == 200
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST * 1000)
    statuses = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            statuses.append((await read_reply(reader)).status)
    assert statuses[:8] == [200] * 8
    assert len(statuses) <= 9
    writer.close()


async def test_full_server_takes_from_who_has_most(start: Start, make: type[Make]) -> None:
    """When all connections are taken a pod that has few gets one, and the greediest loses its oldest idle one."""
    bench = await start(limits=Limits(connections=6))
    entitle(bench, make, "127.1.0.2", "other")
    greedy = [await bench.connect("127.1.0.1") for _ in range(5)]
    modest = await bench.connect("127.1.0.3")
    await until(lambda: bench.app.server.connections == 6)
    assert (await bench.token("127.1.0.2")).status == 200
    assert await greedy[0][0].read() == b""
    await until(lambda: bench.app.server.connections == 5)
    greedy.append(await bench.connect("127.1.0.1"))
    assert (await bench.send(b"", "127.1.0.1")).status == 503
    for _, writer in (*greedy, modest):
        writer.close()
    await until(lambda: bench.app.server.connections == 0)


async def test_ten_thousand_idle_connections_leave_the_rest_alone(start: Start, make: type[Make]) -> None:
    """Idle connections of forty pods are kept up to the bound, no further, and somebody else is served beside them."""
    room(14_000)
    bench = await start(limits=Limits(header_time=120.0))
    entitle(bench, make, "127.9.0.1", "other")
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        for number in range(10_000):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0)
            sock.bind((f"127.1.1.{1 + number % 40}", 0))
            await loop.sock_connect(sock, ("127.0.0.1", bench.port))
        most = bench.app.server.limits.connections
        await until(lambda: bench.app.server.connections >= most - 100)
        assert bench.app.server.connections <= most + 64
        assert (await bench.token("127.9.0.1")).status == 200
    await until(lambda: bench.app.server.connections == 0)


def test_open_files_bound_the_connections() -> None:
    """No more connections are taken than there are files for, and the soft limit is raised first."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        assert room(10) == 10
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        assert room(1 << 40) == before[1] - KEPT
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_who_has_enough_connections_is_turned_away_at_the_door(start: Start, make: type[Make]) -> None:
    """A source at its bound is told so before anything is made for it, however often it tries, and others get in."""
    bench = await start(limits=Limits(connections_per_source=4))
    entitle(bench, make, "127.1.0.2", "other")
    kept = [await bench.connect("127.1.0.1") for _ in range(4)]
    await until(lambda: bench.app.server.connections == 4)
    flood = [await bench.connect("127.1.0.1") for _ in range(500)]
    assert (await bench.token("127.1.0.2")).status == 200
    assert {(await read_reply(reader)).status for reader, _ in flood} == {503}
    assert bench.app.server.connections <= 5
    for _, writer in (*kept, *flood):
        writer.close()
        await writer.wait_closed()
    await until(lambda: bench.app.server.connections == 0)


async def test_without_files_the_door_stays_shut_for_a_moment() -> None:
    """An accept that fails for want of a file is tried again a little later, not at once and not never."""
    door = NoFiles()
    made = asyncio.Event()

    class Made(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.set()
            transport.close()

    acceptor = Acceptor(door, Made, lambda _sock, _address: None)
    acceptor.start()
    with socket.create_connection(door.getsockname()):
        await asyncio.wait_for(made.wait(), 5)
    assert door.tried >= 2
    acceptor.close()


class NoFiles(socket.socket):
    """A listening socket whose first accept fails."""

    tried = 0

    def __init__(self) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))

    def accept(self) -> tuple[socket.socket, object]:
        """Fail once."""
        self.tried += 1
        if self.tried == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()
