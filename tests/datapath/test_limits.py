"""One source's connections to the agent are limited in the packet filter: real nft, both iptables, real namespaces."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.datapath.conftest import IMDS, NODE_IP, Net, ip

from podidentity.nmi.datapath.iptables import Iptables
from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.rules import BURST, Datapath

pytestmark = pytest.mark.datapath
OTHER = "10.244.0.9"
MOST, RATE = 64, 20

AGENT = """
import selectors, socket
selector = selectors.DefaultSelector()
listener = socket.create_server(("0.0.0.0", 2579), backlog=4096)
selector.register(listener, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            sock = listener.accept()[0]
            sock.sendall(b"agent")
            selector.register(sock, selectors.EVENT_READ)
        else:
            selector.unregister(key.fileobj)
            key.fileobj.close()
"""
OPEN = """
import json, socket, sys, time
address, source, count, kept = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "kept"
told, slowest, held = {}, 0.0, []
for _ in range(count):
    begun = time.monotonic()
    try:
        sock = socket.create_connection((address, 80), timeout=5, source_address=(source, 0))
        word = sock.recv(10).decode()
        held.append(sock) if kept else sock.close()
    except OSError as error:
        word = type(error).__name__
    told[word] = told.get(word, 0) + 1
    slowest = max(slowest, time.monotonic() - begun)
print(json.dumps({"slowest": slowest, **told}))
"""


def filter_of(tool: str, net: Net, **limits: int) -> Nft | Iptables:
    """Return the back end named ``tool`` for the net's node."""
    path = Datapath(target=NODE_IP, **limits)
    if tool == "nft":
        return Nft(path, run=net.nft)
    return Iptables(path, program=tool, sees_bridges=True, run=net.program)


@pytest.fixture(params=["nft", "iptables-nft", "iptables-legacy"])
def tool(request: pytest.FixtureRequest) -> str:
    """Each back end."""
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}: install nftables and iptables")
    return name


@pytest.fixture
def crowd(capable: None, tmp_path: Path) -> Iterator[Net]:
    """A node with an agent and a pod that has a second address, its neighbour's."""
    net = Net("routed", tmp_path)
    try:
        ip("-n", net.pod, "addr", "add", f"{OTHER}/32", "dev", "eth0")
        ip("-n", net.node, "route", "add", f"{OTHER}/32", "dev", "veth0")
        process = net.spawn(net.node, AGENT)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield net
    finally:
        net.close()


def opened(net: Net, count: int, *, kept: bool = False, source: str = "") -> dict[str, float]:
    """Open connections one after the other; how many ended how, and the slowest."""
    found: dict[str, float] = json.loads(
        net.run(net.pod, OPEN, IMDS, source or net.pod_ip, str(count), "kept" if kept else "closed")
    )
    return found


async def test_open_connections_of_one_pod_are_limited(crowd: Net, tool: str) -> None:
    """A pod has as many as it may; more are reset at once, counted, and cost no neighbour anything."""
    tables = filter_of(tool, crowd, connections=MOST, connection_rate=0)
    await tables.install_guard()
    await tables.install_redirect()
    found = opened(crowd, MOST + 10, kept=True)
    assert (found["agent"], found["ConnectionRefusedError"]) == (MOST, 10)
    assert found["slowest"] < 3
    assert opened(crowd, 5, source=OTHER)["agent"] == 5
    assert await tables.refusals() == {crowd.pod_ip if tool == "nft" else "(several)": 10}
    assert await tables.changed() == [], "what packets leave in the sets is no tampering"
    end = time.monotonic() + 20
    while "agent" not in opened(crowd, 1):
        assert time.monotonic() < end, "what was closed counts no more"


async def test_new_connections_of_one_pod_are_limited(crowd: Net, tool: str) -> None:
    """After a burst a pod opens as many a second as it may; the rest is reset at once, and neighbours get in."""
    tables = filter_of(tool, crowd, connections=0, connection_rate=RATE)
    await tables.install_guard()
    await tables.install_redirect()
    begun = time.monotonic()
    found = opened(crowd, BURST + 200)
    most = BURST + RATE * (time.monotonic() - begun) + RATE
    assert BURST <= found["agent"] <= most
    assert found["ConnectionRefusedError"] == BURST + 200 - found["agent"]
    assert found["slowest"] < 3
    assert opened(crowd, 64, source=OTHER)["agent"] == 64
    assert sum((await tables.refusals()).values()) == found["ConnectionRefusedError"]


async def test_limits_can_be_left_out(crowd: Net, tool: str) -> None:
    """Zero means no limit, and the rules are still rules."""
    tables = filter_of(tool, crowd, connections=0, connection_rate=0)
    await tables.install_guard()
    await tables.install_redirect()
    assert opened(crowd, BURST + 100)["agent"] == BURST + 100
    assert await tables.refusals() == {}
