"""The datapath with iptables, both back ends, in real namespaces: the same promises as with nft."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.datapath.conftest import IMDS, KEPT, NODE_IP, Net, ip, say_on
from tests.datapath.test_whole_agent import TOKEN, agent, get, until_ready, world

from podidentity.nmi.datapath.iptables import GUARD, GUARD6, REDIRECT, Iptables, installed, six, uninstall
from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.rules import WIRESERVER_IP, Datapath
from podidentity.nmi.removal import READY_PATH

pytestmark = pytest.mark.datapath
__all__ = ["world"]
NAT64 = "64:ff9b::a9fe:a9fe"
ORIGINAL = f"""*nat
:aad-metadata - [0:0]
-A aad-metadata ! -s 127.0.0.1/32 -d {IMDS}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {NODE_IP}:2579
-A aad-metadata -j RETURN
-I PREROUTING 1 -j aad-metadata
COMMIT
"""
"""The original's redirect, as it leaves it on a node (its target made the node's address, for want of kube-proxy)."""


@pytest.fixture(params=["iptables-nft", "iptables-legacy"])
def program(request: pytest.FixtureRequest) -> str:
    """Each back end of iptables."""
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}: install iptables")
    return name


@pytest.fixture(params=["routed", "bridge"])
def tables(
    request: pytest.FixtureRequest, program: str, capable: None, tmp_path: Path
) -> Iterator[tuple[Net, Iptables]]:
    """A net of each variant and the back end that guards its node; nothing is installed yet."""
    net = Net(request.param, tmp_path)
    try:
        net.start_imds()
        path = Datapath(target=NODE_IP)
        yield net, Iptables(path, program=program, sees_bridges=True, run=net.program)
    finally:
        net.close()


async def test_pod_gets_the_agent_or_a_reset(tables: tuple[Net, Iptables], program: str) -> None:
    """Guard alone resets; with the redirect the pod gets the agent, the node IMDS; stopped, removed: closed, open."""
    net, back_end = tables
    kept = net.spawn(net.pod, KEPT, IMDS, "80")
    assert say_on(kept) == f"imds {net.pod_ip}"
    assert await back_end.install_guard() == ""
    assert net.ask(net.pod) == "ConnectionRefusedError"
    assert say_on(kept) in {"ConnectionResetError", "timeout"}
    agent_ = net.start_agent()
    await back_end.install_redirect()
    assert net.ask(net.pod) == f"agent {net.pod_ip}"
    assert net.ask(net.node) == f"imds {NODE_IP}"
    assert net.ask(net.pod, NODE_IP, 2579) == "timeout"
    assert net.ask(net.pod, IMDS, 443) == "ConnectionRefusedError"
    assert net.ask(net.pod, WIRESERVER_IP, 80) == "ConnectionRefusedError"
    net.stop(agent_)
    assert net.ask(net.pod) == "ConnectionRefusedError"
    assert await installed(program, net.program)
    for _ in range(2):
        await uninstall(program, net.program)
    assert not await installed(program, net.program)
    assert net.ask(net.pod) == f"imds {net.pod_ip}"


@pytest.fixture
def six_net(capable: None, tmp_path: Path) -> Iterator[Net]:
    """A net with IPv6 from the pod to the NAT64 form of the metadata address, where a server answers."""
    net = Net("routed", tmp_path)
    try:
        net.sysctl(net.node, "net/ipv6/conf/all/forwarding", "1")
        for namespace, device, address in (
            (net.pod, "eth0", "fd00::7/64"),
            (net.node, "veth0", "fd00::1/64"),
            (net.node, "eth0", "fd01::4/64"),
            (net.fabric, "down0", "fd01::1/64"),
            (net.fabric, "lo", f"{NAT64}/128"),
        ):
            ip("-n", namespace, "addr", "add", address, "dev", device, "nodad")
        ip("-n", net.fabric, "route", "add", "fd00::/64", "via", "fd01::4")
        ip("-n", net.node, "route", "add", f"{NAT64}/128", "via", "fd01::1")
        ip("-n", net.pod, "route", "add", "default", "via", "fd00::1")
        net.serve(net.fabric, "imds6", NAT64, 80, net.imds_log)
        end = time.monotonic() + 30
        while net.ask(net.pod, NAT64) != "imds6 fd00::7":
            assert time.monotonic() < end, "without rules the way must be there"
        yield net
    finally:
        net.close()


async def test_nat64_form_is_guarded_by_ip6tables(six_net: Net, program: str) -> None:
    """Behind NAT64 the metadata address is another one: pods do not reach that either; repaired; removed at the end."""
    net = six_net
    seen = net.seen(net.imds_log)
    back_end = Iptables(Datapath(target=NODE_IP), program=program, sees_bridges=True, ipv6=True, run=net.program)
    await back_end.install_guard()
    await back_end.install_redirect()
    assert net.ask(net.pod, NAT64) == "timeout"
    assert net.seen(net.imds_log) == seen
    assert net.ask(net.node, NAT64) == "imds6 fd01::4"
    await net.program((six(program), "-F", "aad-guard"), "")
    assert await back_end.repair() == [GUARD6]
    assert await back_end.changed() == []
    await uninstall(program, net.program)
    assert not await installed(program, net.program)
    assert net.ask(net.pod, NAT64) == "imds6 fd00::7"


async def test_text_is_the_originals(tables: tuple[Net, Iptables], program: str) -> None:
    """``iptables -t nat -S aad-metadata`` prints what the original's documentation shows, whoever was there before."""
    net, back_end = tables
    await net.program((f"{program}-restore", "--noflush"), ORIGINAL.replace(f"{NODE_IP}:2579", "127.0.0.1:2579"))
    await back_end.install_guard()
    for _ in range(2):
        await back_end.install_redirect()
    assert await net.program((program, "-t", "nat", "-S", "aad-metadata"), "") == (
        "-N aad-metadata\n"
        f"-A aad-metadata ! -s 127.0.0.1/32 -d {IMDS}/32 -p tcp -m tcp --dport 80 -j DNAT "
        f"--to-destination {NODE_IP}:2579\n"
        "-A aad-metadata -j RETURN\n"
    )
    assert (await net.program((program, "-t", "nat", "-S", "PREROUTING"), "")).count("aad-metadata") == 1


async def test_originals_redirect_does_not_disturb_nft(tables: tuple[Net, Iptables], program: str) -> None:
    """After an upgrade the original's chain is still there: pods get the agent all the same, and only the agent."""
    net, _ = tables
    await net.program((f"{program}-restore", "--noflush"), ORIGINAL.replace(f"{NODE_IP}:2579", "127.0.0.1:2579"))
    net.start_agent()
    ours = Nft(Datapath(target=NODE_IP), run=net.nft)
    await ours.install_guard()
    await ours.install_redirect()
    assert [net.ask(net.pod) for _ in range(3)] == [f"agent {net.pod_ip}"] * 3
    assert await ours.changed() == []
    assert net.seen(net.imds_log) == 0


async def test_d20_foreign_rules_are_found_and_repaired(tables: tuple[Net, Iptables], program: str) -> None:
    """A rule inside a chain of ours, one before its jump, a flushed chain: each is found and put back, others' stay."""
    net, back_end = tables
    await back_end.install_guard()
    await back_end.install_redirect()
    assert await back_end.repair() == []
    foreign = ("-p", "udp", "-j", "ACCEPT")
    for layer, words in (
        (REDIRECT, ("-t", "nat", "-I", "aad-metadata", *foreign)),
        (REDIRECT, ("-t", "nat", "-I", "PREROUTING", *foreign)),
        (GUARD, ("-I", "FORWARD", *foreign)),
        (GUARD, ("-F", "aad-guard")),
        (REDIRECT, ("-F", "INPUT")),
    ):
        await net.program((program, *words), "")
        assert await back_end.repair() == [layer]
        assert await back_end.repair() == []
    assert "-p udp" in await net.program((program, "-S", "FORWARD"), "")


async def test_spoofed_source_is_dropped(tables: tuple[Net, Iptables]) -> None:
    """The reverse path check of iptables drops what comes from another interface than its source's."""
    net, back_end = tables
    if net.variant == "bridge":
        ip("-n", net.node, "route", "add", "10.244.9.9/32", "dev", "eth0")
    net.start_agent()
    await back_end.install_guard()
    await back_end.install_redirect()
    ip("-n", net.pod, "addr", "add", "10.244.9.9/32", "dev", "lo")
    assert net.ask(net.pod, source="10.244.9.9") == "timeout"
    assert net.seen(net.agent_log) == 0


def test_whole_agent_with_iptables(world: Net, program: str) -> None:
    """From the flag to the token; tampering is repaired; uninstalled, IMDS is there and the original would work."""
    run = ("ip", "netns", "exec", world.node)
    process = agent(world, f"--datapath={program}")
    try:
        until_ready(world)
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 200
        subprocess.run([*run, program, "-t", "nat", "-F", "aad-metadata"], check=True)
        end = time.monotonic() + 8
        while b"DNAT" not in subprocess.check_output([*run, f"{program}-save", "-t", "nat"]):
            assert time.monotonic() < end, (world.folder / "agent.err").read_text()
        process.terminate()
        assert process.wait(10) == 0
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 0
        cleanup = agent(world, "--uninstall-datapath", "--idle")
        until_ready(world, path=READY_PATH)
        assert "datapath is removed" in (world.folder / "agent.err").read_text()
        assert cleanup.poll() is None
        cleanup.terminate()
        assert cleanup.wait(10) == 0
        assert get(world, world.pod, TOKEN, "Metadata=true")[0] == 200
        assert [line.split()[0] for line in world.imds_log.read_text().splitlines()][-1] == world.pod_ip
        subprocess.run([*run, f"{program}-restore", "--noflush"], input=ORIGINAL.encode(), check=True)
        world.start_agent()
        assert world.ask(world.pod) == f"agent {world.pod_ip}"
    finally:
        world.close()
