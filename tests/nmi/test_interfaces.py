"""An address that has passed to another pod is known by the interface behind it, however dead the watch is."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tests.nmi.conftest import NODE, Make
from tests.nmi.fakes import FakeApi

from podidentity.aio.clock import Clock, loop_clock
from podidentity.kube.store import WatchEvent
from podidentity.nmi.interfaces import Interfaces
from podidentity.nmi.pods import PodFinder, PodUnknown, pod_store

IP = "10.244.0.7"
OLD, YOUNG, YOUNGER = 5, 9, 11


class Node:
    """A finder and the youngest interface of its node, which a test sets."""

    def __init__(self) -> None:
        self.newest = OLD
        self.store = pod_store()
        self.api = FakeApi()
        clock = loop_clock(start_wall=1000.0)
        self.finder = PodFinder(self.store, self.api, node=NODE, clock=clock, newest=lambda: self.newest)

    def hear(self, kind: str, pod: object) -> None:
        """Let the watch tell of a pod."""
        change = self.store.apply(WatchEvent(kind, pod, "1", pod.key))  # type: ignore[attr-defined, arg-type]
        assert change is not None
        self.finder.on_change(change)


@pytest.mark.looptime
async def test_pod_behind_its_own_interface_costs_no_question(make: type[Make]) -> None:
    """What the watch said after the interface was made is enough, also when the API is gone and others come."""
    node = Node()
    node.hear("ADDED", make.pod("a", ip=IP))
    node.newest, node.api.down = YOUNG, True
    assert (await node.finder.find(IP, OLD)).name == "a"
    assert node.api.asked == []


@pytest.mark.looptime
async def test_younger_interface_is_asked_about_once(make: type[Make]) -> None:
    """A pod whose interface was made anew is read afresh, and then known behind it."""
    node = Node()
    pod = make.pod("a", ip=IP)
    node.hear("ADDED", pod)
    node.newest, node.api.pods = YOUNG, [pod]
    assert node.finder.doubts(pod, YOUNG)
    assert (await node.finder.find(IP, YOUNG)).name == "a"
    assert (await node.finder.find(IP, YOUNG)).name == "a"
    assert node.api.asked == ["team/a"]


@pytest.mark.looptime
async def test_address_that_passed_on_unheard_is_the_new_pods(make: type[Make]) -> None:
    """The watch says still that the old pod has it: the API, asked now, knows better, each time it passes on."""
    node = Node()
    node.hear("ADDED", make.pod("old", ip=IP))
    node.newest, node.api.pods = YOUNG, [make.pod("new", ip=IP)]
    assert (await node.finder.find(IP, YOUNG)).name == "new"
    node.newest, node.api.pods = YOUNGER, [make.pod("newest", ip=IP)]
    assert (await node.finder.find(IP, YOUNGER)).name == "newest"


@pytest.mark.looptime
async def test_nobody_gets_anything_while_it_is_in_doubt(make: type[Make]) -> None:
    """Without the API, or asked too often, the caller is told to come back."""
    node = Node()
    node.hear("ADDED", make.pod("old", ip=IP))
    node.newest, node.api.down = YOUNG, True
    for _ in range(200):
        with pytest.raises(PodUnknown, match="cannot be told") as told:
            await node.finder.find(IP, YOUNG)
        assert told.value.passing
    assert len(node.api.asked) <= 100


async def test_connection_is_told_by_its_interface(tmp_path: Path) -> None:
    """The kernel says by which interface a connection came in; behind a bridge the youngest of all counts."""
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    sock, _ = listener.accept()
    sock.setblocking(False)  # noqa: FBT003 - socket's own signature
    listener.close()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, sock)
    loopback = socket.if_nametoindex("lo")
    every = [(loopback, "lo"), (YOUNG, "a"), (OLD, "b")]
    try:
        assert Interfaces(Clock(), folder=tmp_path).behind(transport) == loopback
        (tmp_path / "lo" / "bridge").mkdir(parents=True)
        assert Interfaces(Clock(), every=lambda: every, folder=tmp_path).behind(transport) == YOUNG
    finally:
        transport.close()
        client.close()


async def test_interface_of_what_is_no_ipv4_connection_is_not_known() -> None:
    """A Unix socket has none."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - socket's own signature
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    try:
        assert Interfaces(Clock()).behind(transport) == 0
    finally:
        transport.close()
        theirs.close()
