"""Connections that nobody took before the agent stopped."""

from __future__ import annotations

import asyncio

from tests.nmi.conftest import Make, Start, read_reply
from tests.nmi.test_server_limits import REQUEST, entitle


async def test_who_waits_in_the_queue_is_served_at_the_end(start: Start, make: type[Make]) -> None:
    """Protects a request on its way when the agent stops: it gets its token, who asks nothing a 503; nobody a reset."""
    bench = await start()
    entitle(bench, make)
    asking, late, silent = [await bench.connect("127.1.0.1") for _ in range(3)]
    asking[1].write(REQUEST)
    bench.tasks[0].cancel()
    await asyncio.sleep(0.02)
    late[1].write(REQUEST)
    for (reader, writer), status in ((asking, 200), (late, 200), (silent, 503)):
        reply = await read_reply(reader)
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert await reader.read() == b""
        writer.close()


async def test_a_kept_connection_ends_with_an_answer(start: Start, make: type[Make]) -> None:
    """Protects an update: who keeps a connection to the stopping agent is answered once more and told that it ends."""
    bench = await start()
    entitle(bench, make)
    reader, writer = await bench.connect("127.1.0.1")
    writer.write(REQUEST)
    assert (await read_reply(reader)).headers["connection"] == "keep-alive"
    bench.tasks[0].cancel()
    await asyncio.sleep(0.2)
    writer.write(REQUEST)
    last = await read_reply(reader)
    assert (last.status, last.headers["connection"]) == (200, "close")
    assert await reader.read() == b""
    writer.close()
