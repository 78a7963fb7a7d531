"""Fairness between sources within the loop."""

from __future__ import annotations

import asyncio

from tests.nmi.conftest import Make, Start, read_reply, until

from podidentity.nmi.turns import Turns

REQUEST = b"GET /metadata/identity/oauth2/token?resource=r HTTP/1.1\r\nHost: 169.254.169.254\r\nMetadata: true\r\n\r\n"


async def test_a_source_has_its_share_of_a_turn() -> None:
    """Of a hundred requests of one source two are begun in each turn, in order, and another's is begun at once."""
    turns = Turns(asyncio.get_running_loop(), share=2)
    begun: list[str] = []

    def ask(source: str, number: int) -> None:
        name = f"{source}{number}"
        if turns.take(source, lambda: begun.append(name)):
            begun.append(name)

    for number in range(100):
        ask("a", number)
    ask("b", 0)
    assert begun == ["a0", "a1", "b0"]
    await asyncio.sleep(0)
    assert begun[3:] == ["a2", "a3"]
    ask("b", 1)
    ask("a", 100)
    assert begun[5:] == ["b1"]
    await until(lambda: len(begun) == 103)
    assert [name for name in begun if name.startswith("a")] == [f"a{number}" for number in range(101)]


async def test_many_requests_of_one_pod_do_not_come_before_anothers(start: Start, make: type[Make]) -> None:
    """Of two hundred requests that are there at once, a neighbour's is answered after a few, and all are in the end."""
    bench = await start()
    greedy, modest = make.pod("greedy"), make.pod("modest", ip="127.1.0.2")
    bench.put_pod(greedy, modest)
    bench.put_assigned(make.assigned(greedy), make.assigned(modest))
    assert (await bench.token("127.1.0.1", resource="r")).status == 200
    many = [await bench.connect("127.1.0.1") for _ in range(200)]
    reader, writer = await bench.connect("127.1.0.2")
    await until(lambda: bench.app.server.connections == 201)
    order: list[str] = []

    async def answered(name: str, stream: asyncio.StreamReader) -> None:
        assert (await read_reply(stream)).status == 200
        order.append(name)

    for _, other in many:
        other.write(REQUEST * 4)
    writer.write(REQUEST)
    waiting = [answered("greedy", stream) for stream, _ in many]
    await asyncio.gather(*waiting, answered("modest", reader))
    assert order.index("modest") < 120
    for stream, _ in many:
        for _ in range(3):
            assert (await read_reply(stream)).status == 200
    for _, other in (*many, (reader, writer)):
        other.close()
