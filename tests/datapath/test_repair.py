"""Changes of the rules in a real namespace are heard of and repaired, and old connections are forgotten."""

from __future__ import annotations

import asyncio
import subprocess
import time

import pytest
from tests.datapath.conftest import IMDS, KEPT, NODE_IP, Net, ip, say_on
from tests.datapath.test_whole_agent import TOKEN, agent, get, until_ready, world

from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.rules import BRIDGE, GUARD, REDIRECT, WIRESERVER_IP, Datapath
from podidentity.nmi.datapath.tampering import Tampering

SOON = 3.0
"""Seconds in which a repair is waited for, on a machine that does other things too."""

pytestmark = pytest.mark.datapath
__all__ = ["world"]


def nft(net: Net, *words: str) -> subprocess.CompletedProcess[str]:
    """Run nft on the node."""
    return subprocess.run(["ip", "netns", "exec", net.node, "nft", *words], capture_output=True, text=True, check=False)


def until_listed(net: Net, table: str, word: str, seconds: float) -> float:
    """Wait until a table lists ``word``; return how long it took."""
    start = time.monotonic()
    while word not in nft(net, "list", "table", *table.split()).stdout:
        assert time.monotonic() - start < seconds, f"{table} is not repaired within {seconds} s"
    return time.monotonic() - start


def test_d20_tampering_is_heard_of_and_repaired(world: Net) -> None:
    """Deleted tables, a flushed chain, an added rule, a flushed ruleset: each is back at once, and none leaks."""
    try:
        process = agent(world, "--ipt-update-interval-sec=600")
        until_ready(world)
        for table, word in ((GUARD, "reject"), (BRIDGE, "drop"), (REDIRECT, "dnat")):
            nft(world, "delete", "table", *table.split())
            until_listed(world, table, word, SOON)
        nft(world, "flush", "chain", *REDIRECT.split(), "to_agent")
        until_listed(world, REDIRECT, "dnat", SOON)
        nft(world, "insert", "rule", *GUARD.split(), "guard", "accept")
        start = time.monotonic()
        while "    accept" in nft(world, "list", "table", *GUARD.split()).stdout:
            assert time.monotonic() - start < SOON
        nft(world, "flush", "ruleset")
        until_listed(world, REDIRECT, "dnat", SOON)
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 200
        seen = {line.split()[0] for line in world.imds_log.read_text().splitlines()}
        assert seen == {"10.240.0.4"}, "only nmi itself may reach the metadata service"
        metrics = get(world, world.node, "http://127.0.0.1:9090/metrics")[1]
        assert "aadpodidentity_nmi_datapath_repairs_count" in metrics
        process.terminate()
        process.wait(10)
    finally:
        world.close()


def test_d22_connection_from_before_is_forgotten_at_the_start(net: Net, kept: subprocess.Popen[str]) -> None:
    """A tracked connection to the metadata service does not outlive nmi's start, with no flag given."""
    (net.folder / "objects.json").write_text("{}")
    nft(net, "add table ip track; add chain ip track c { type filter hook forward priority 0; }")
    nft(net, "add rule ip track c ct state new accept")
    assert say_on(kept) == f"imds {net.pod_ip}"
    process = agent(net, "--allow-network-plugin-kubenet=true")
    try:
        until_ready(net)
        end = time.monotonic() + 10
        while "deleted conntrack entries count=1" not in (net.folder / "agent.err").read_text():
            assert time.monotonic() < end, (net.folder / "agent.err").read_text()
    finally:
        process.terminate()
        process.wait(10)


SLOW = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 2579))
print("ready", flush=True)
connection, _ = listener.accept()
print(connection.recv(4096).decode().strip(), flush=True)
sys.stdin.readline()
connection.sendall(b"late" + bytes([10]))
sys.stdin.readline()
"""


async def test_an_answer_on_its_way_survives_the_loss_of_the_redirect(net: Net) -> None:
    """A pod's request is answered when its table is back: else the pod hears nothing, and an SDK waits for 300 s."""
    tables = Nft(Datapath(target=NODE_IP), run=net.nft)
    await tables.install_guard()
    await tables.install_redirect()
    server = net.spawn(net.node, SLOW)
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    pod = net.spawn(net.pod, KEPT.replace("0.4", "8"), IMDS, "80")
    assert pod.stdin is not None
    assert pod.stdout is not None
    pod.stdin.write("hello\n")
    pod.stdin.flush()
    assert server.stdout.readline() == "hello\n"
    nft(net, "delete", "table", *REDIRECT.split())
    server.stdin.write("answer\n")
    server.stdin.flush()
    await asyncio.sleep(0.3)
    assert await tables.repair() == [REDIRECT]
    assert pod.stdout.readline() == "late\n"


async def test_a7_wireserver_is_kept_from_pods(net: Net) -> None:
    """Its settings' ports are refused to pods, its name server's port is not, and the node keeps all of them."""
    ip("-n", net.fabric, "addr", "add", f"{WIRESERVER_IP}/32", "dev", "down0")
    for port in (53, 80, 32526):
        net.serve(net.fabric, f"wire{port}", WIRESERVER_IP, port, net.folder / "wire.log")
    assert net.ask(net.pod, WIRESERVER_IP, 80) == f"wire80 {net.pod_ip}"
    tables = Nft(Datapath(target=NODE_IP), run=net.nft)
    await tables.install_guard()
    for port in (80, 32526):
        assert net.ask(net.pod, WIRESERVER_IP, port) == "ConnectionRefusedError"
        assert net.ask(net.node, WIRESERVER_IP, port) == f"wire{port} {NODE_IP}"
    assert net.ask(net.pod, WIRESERVER_IP, 53) == f"wire53 {net.pod_ip}"
    open_ = Nft(Datapath(target=NODE_IP, block_wireserver=False), run=net.nft)
    await open_.install_guard()
    assert net.ask(net.pod, WIRESERVER_IP, 80) == f"wire80 {net.pod_ip}"
    assert net.ask(net.pod, IMDS) == "ConnectionRefusedError"


async def test_first_of_several_changes_is_told_at_once(capable: None) -> None:
    """Protects pods whose node has lost all rules: the repair waits for nothing; the rest of a storm is waited out."""
    changes = Tampering([b"podidentity"])
    try:
        for at_once in (True, False):
            changes._news.set()
            told = asyncio.ensure_future(changes.wait())
            for _ in range(3):
                await asyncio.sleep(0)
            assert told.done() is at_once
            await told
    finally:
        changes.close()
