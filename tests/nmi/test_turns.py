"""Fairness between sources within the loop."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading

from tests.nmi.conftest import Make, Start, until

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


def crowd(port: int, begin: threading.Event, asked: threading.Event) -> list[str]:
    """Connect 200 times as one pod and once as another, then ask; who was answered, in order.

    Runs in a thread of its own: the server's loop must not be the one that sees the answers come.
    """
    order: list[str] = []
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:

        def connect(ip: str, name: str) -> socket.socket:
            found = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(ip, 0))
            selector.register(stack.enter_context(found), selectors.EVENT_READ, name)
            return found

        many = [connect("127.1.0.1", "greedy") for _ in range(200)]
        modest = connect("127.1.0.2", "modest")
        assert begin.wait(20)
        for one in many:
            one.sendall(REQUEST * 4)
        modest.sendall(REQUEST)
        asked.set()
        left = {one.fileno(): 4 for one in many} | {modest.fileno(): 1}
        while left:
            events = selector.select(20)
            assert events, "nobody is answered any more"
            for key, _ in events:
                answers = key.fileobj.recv(65536).count(b"HTTP/1.1 200")  # type: ignore[union-attr]  # a socket
                order.extend([key.data] * answers)
                left[key.fd] -= answers
                if not left[key.fd]:
                    del left[key.fd]
                    selector.unregister(key.fileobj)
    return order


async def test_many_requests_of_one_pod_do_not_come_before_anothers(start: Start, make: type[Make]) -> None:
    """Of 800 requests that are there at once, a neighbour's is answered after a few, however slow the machine is."""
    bench = await start()
    greedy, modest = make.pod("greedy"), make.pod("modest", ip="127.1.0.2")
    bench.put_pod(greedy, modest)
    bench.put_assigned(make.assigned(greedy), make.assigned(modest))
    for ip in ("127.1.0.1", "127.1.0.2"):  # the metadata service has been asked: what is left is their turn
        assert (await bench.token(ip, resource="r")).status == 200
    begin, asked = threading.Event(), threading.Event()
    crowding = asyncio.create_task(asyncio.to_thread(crowd, bench.port, begin, asked))
    await until(lambda: bench.app.server.connections == 201)
    begin.set()
    assert asked.wait(20), "the loop stands still here, so that all requests are there at once"
    order = await crowding
    assert len(order) == 801
    assert order.index("modest") < 200
