"""Real nft in real namespaces: a pod reaches the agent, and only the agent."""

from __future__ import annotations

import subprocess
import time

import pytest
from tests.datapath.conftest import Net, ip, say_on

from podidentity.nmi.datapath.nft import Nft, uninstall
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.nmi.datapath.rules import BRIDGE, GUARD, REDIRECT, Datapath

IMDS = "169.254.169.254"
NODE_IP = "10.240.0.4"
pytestmark = pytest.mark.datapath


async def installed(net: Net) -> Nft:
    """Install both layers on the net's node."""
    nft = Nft(Datapath(target=NODE_IP), run=net.nft)
    await nft.install_guard()
    await nft.install_redirect()
    return nft


async def test_pod_is_sent_to_the_agent_and_the_node_keeps_imds(net: Net) -> None:
    """With both layers the pod gets the agent, which sees the pod's own address; the node still gets IMDS."""
    assert net.ask(net.pod) == f"imds {net.pod_ip}", "without rules the topology must leak, or the test proves nothing"
    net.start_agent()
    await installed(net)
    assert net.ask(net.pod) == f"agent {net.pod_ip}"
    assert net.ask(net.node) == f"imds {NODE_IP}"


async def test_guard_alone_refuses(net: Net) -> None:
    """Before the redirect is there, the guard resets pods at once."""
    nft = Nft(Datapath(target=NODE_IP), run=net.nft)
    assert await nft.install_guard() == ""
    before = time.monotonic()
    assert net.ask(net.pod) == "ConnectionRefusedError"
    assert time.monotonic() - before < 0.9
    assert net.seen(net.imds_log) == 0


async def test_d19_stopped_agent_fails_closed(net: Net) -> None:
    """While no agent listens pods are refused at once, and IMDS sees nothing."""
    agent = net.start_agent()
    await installed(net)
    assert net.ask(net.pod) == f"agent {net.pod_ip}"
    net.stop(agent)
    assert [net.ask(net.pod) for _ in range(3)] == ["ConnectionRefusedError"] * 3
    assert net.seen(net.imds_log) == 0


async def test_d22_connection_opened_before_does_not_leak(net: Net, kept: subprocess.Popen[str]) -> None:
    """A kept-alive connection from before the rules gets nothing from IMDS any more."""
    assert say_on(kept) == f"imds {net.pod_ip}"
    net.start_agent()
    await installed(net)
    assert say_on(kept) in {"ConnectionResetError", "BrokenPipeError", "timeout", "closed"}
    assert net.seen(net.imds_log) == 1
    assert net.ask(net.pod) == f"agent {net.pod_ip}"


async def test_untracked_packets_do_not_leak(net: Net) -> None:
    """The guard does not rest on connection tracking: packets that escape it, and NAT, are refused."""
    net.start_agent()
    await installed(net)
    await net.nft(
        ("-f", "-"),
        f"table ip raw {{ chain c {{ type filter hook prerouting priority -300; ip daddr {IMDS} notrack; }}; }}",
    )
    assert net.ask(net.pod) in {"ConnectionRefusedError", "timeout"}
    assert net.seen(net.imds_log) == 0


async def test_agent_port_is_closed_to_everything_else(net: Net) -> None:
    """Neither a pod nor another machine reaches the agent's port directly; the node's own loopback does."""
    net.start_agent()
    await installed(net)
    assert net.ask(net.pod, NODE_IP, 2579) == "timeout"
    assert net.ask(net.fabric, NODE_IP, 2579) == "timeout"
    assert net.ask(net.node, "127.0.0.1", 2579) == "agent 127.0.0.1"
    assert net.seen(net.agent_log) == 1


async def test_a7_other_ports_of_the_metadata_address_are_dropped(net: Net) -> None:
    """Only port 80 is redirected; nothing else that a pod sends there is forwarded."""
    net.serve(net.fabric, "other", IMDS, 8080, net.imds_log)
    net.start_agent()
    await installed(net)
    assert net.ask(net.pod, IMDS, 8080) == "ConnectionRefusedError"
    assert net.seen(net.imds_log) == 0


async def test_uninstall_restores(net: Net) -> None:
    """Removal leaves no table behind, and the pod reaches IMDS as before; doing it twice is no error."""
    net.start_agent()
    await installed(net)
    await uninstall(net.nft)
    await uninstall(net.nft)
    assert (await net.nft(("list", "tables"), "")).strip() == ""
    assert net.ask(net.pod) == f"imds {net.pod_ip}"


@pytest.mark.parametrize("table", [GUARD, REDIRECT])
async def test_d20_tampering_is_seen_and_repaired(net: Net, table: str) -> None:
    """A removed table, a flushed one, and one with a foreign rule are found and put back; all else is left alone."""
    net.start_agent()
    nft = await installed(net)
    await net.nft(("-f", "-"), "table ip foreign { chain c { }; }")
    assert await nft.changed() == []
    chain = "guard" if table == GUARD else "to_agent"
    for tamper in (f"delete table {table}", f"flush table {table}", f"add rule {table} {chain} counter accept"):
        await net.nft(("-f", "-"), tamper)
        assert await nft.repair() == [table]
        assert await nft.changed() == []
    assert net.ask(net.pod) == f"agent {net.pod_ip}"
    assert "foreign" in await net.nft(("list", "tables"), "")


async def test_counters_are_no_change(net: Net) -> None:
    """Traffic through the rules does not look like tampering."""
    nft = await installed(net)
    assert net.ask(net.pod) == "ConnectionRefusedError"
    net.ask(net.pod, NODE_IP, 2579)
    assert await nft.changed() == []


async def test_service_on_the_metadata_address_does_not_catch_the_node(net: Net) -> None:
    """A Service with externalIP 169.254.169.254 (DNAT at -100) catches neither pods nor the agent's own calls."""
    net.serve(net.fabric, "attacker", "10.240.0.1", 8081, net.folder / "attacker.log")
    net.start_agent()
    await installed(net)
    dnat = f"ip daddr {IMDS} tcp dport 80 dnat to 10.240.0.1:8081"
    await net.nft(
        ("-f", "-"),
        "table ip kube { "
        f"chain pre {{ type nat hook prerouting priority -100; {dnat}; }}; "
        f"chain out {{ type nat hook output priority -100; {dnat}; }}; }}",
    )
    assert net.ask(net.pod) == f"agent {net.pod_ip}"
    assert net.ask(net.node) == f"imds {NODE_IP}"


async def test_spoofed_source_is_dropped(net: Net) -> None:
    """A packet whose source belongs to another interface never reaches the agent."""
    if net.variant == "bridge":
        ip("-n", net.node, "route", "add", "10.244.9.9/32", "dev", "eth0")
    net.start_agent()
    await installed(net)
    ip("-n", net.pod, "addr", "add", "10.244.9.9/32", "dev", "lo")
    assert net.ask(net.pod, source="10.244.9.9") == "timeout"
    assert net.seen(net.agent_log) == 0


async def test_bridged_uplink_is_guarded(uplink: Net) -> None:
    """Packets that a bridge carries past the node's IP layer are dropped by the bridge's guard."""
    assert uplink.ask(uplink.pod) == f"imds {uplink.pod_ip}"
    await installed(uplink)
    assert uplink.ask(uplink.pod) in {"timeout", "ConnectionRefusedError"}
    assert uplink.seen(uplink.imds_log) == 1


async def test_conntrack_entries_are_forgotten(net: Net, kept: subprocess.Popen[str]) -> None:
    """The entries of connections to IMDS are deleted, and only they."""
    await net.nft(
        ("-f", "-"), "table ip track { chain c { type filter hook forward priority 0; ct state new accept; }; }"
    )
    assert say_on(kept) == f"imds {net.pod_ip}"
    assert [net.forget() for _ in range(2)] == [1, 0]


async def test_refusal_of_nft_is_one_line(net: Net) -> None:
    """What nft refuses is told in its own first line."""
    with pytest.raises(DatapathFailed, match="syntax error"):
        await net.nft(("-f", "-"), "table nonsense nonsense")
    assert BRIDGE not in await net.nft(("list", "tables"), "")
