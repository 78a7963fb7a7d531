"""The nft rule sets that keep pods and the metadata endpoint apart, as text (pure).

Two independent layers, each a table of its own: the guard drops whatever would be forwarded to the metadata address,
names no address of the node, is installed first and removed last; the redirect sends pods to the agent instead.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from dataclasses import replace as with_values
from typing import Final

GUARD: Final = "inet podidentity_guard"
BRIDGE: Final = "bridge podidentity_guard"
PORTS: Final = "bridge podidentity_ports"
REDIRECT: Final = "inet podidentity"
"""The tables, family and name. Installed in this order, removed in the reverse one; ``PORTS`` only where asked for."""

WIRESERVER_IP: Final = "168.63.129.16"
WIRESERVER_PORTS: Final = (80, 32526)
"""Azure's platform channel: protected settings of the node on these ports; its name server on 53 stays."""
_WIRESERVER: Final = ", ".join(str(port) for port in WIRESERVER_PORTS)

BURST: Final = 512
"""New connections of one source that are let in at once, whatever its rate."""
REFUSED: Final = "pod_refusals"
"""The set of the redirect's table that counts connections refused for a limit, by source."""
_SOURCES: Final = 4096
"""Sources that are told apart; what comes from others is not limited here."""


@dataclass(frozen=True, slots=True)
class Datapath:
    """Where pods' requests to ``metadata_ip:metadata_port`` go: to ``target:port``, never a loopback address.

    ``source_check``: drop packets to the metadata address from an interface that does not lead back to their source.
    ``block_wireserver``: keep pods off the platform's settings too. One source has at most ``connections`` open and
    opens at most ``connection_rate`` a second (after a burst of ``BURST``); 0: as many as it likes.
    """

    target: str
    port: int = 2579
    metadata_ip: str = "169.254.169.254"
    metadata_port: int = 80
    source_check: bool = True
    block_wireserver: bool = True
    connections: int = 256
    connection_rate: int = 500

    def __post_init__(self) -> None:
        """Refuse addresses that would open the node, or no datapath at all. Raises ValueError."""
        target = ipaddress.IPv4Address(self.target)
        metadata = ipaddress.IPv4Address(self.metadata_ip)
        if target.is_loopback or target.is_unspecified or target.is_multicast or target == metadata:
            raise ValueError(f"{target} cannot be the address pods are sent to")


def unlimited(path: Datapath) -> Datapath:
    """Return the same datapath without limits on one source's connections, for kernels that cannot count them."""
    return with_values(path, connections=0, connection_rate=0)


def replace(table: str, chains: str) -> str:
    """Return the text that puts ``chains`` in place of whatever ``table`` holds, in one transaction."""
    return f"table {table} {{}}\ndelete table {table}\ntable {table} {{\n{chains}}}\n"


def remove(table: str) -> str:
    """Return the text that removes ``table`` whether or not it is there, in one transaction."""
    return f"table {table} {{}}\ndelete table {table}\n"


def nat64(address: str) -> str:
    """Return ``address`` (IPv4) behind the well-known NAT64 prefix."""
    return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(ipaddress.IPv4Address(address))))


def guard(path: Datapath) -> str:
    """Return the first layer: nothing that is forwarded reaches the metadata address.

    ``translating`` decides nothing. As long as there is a NAT chain, and a rule that asks for a connection's state, the
    kernel goes on translating what was redirected when the redirect is lost; else answers would not reach their pods.
    """
    ip = path.metadata_ip
    wireserver = (
        f"    ip daddr {WIRESERVER_IP} tcp dport {{ {_WIRESERVER} }} counter reject with tcp reset\n"
        if path.block_wireserver
        else ""
    )
    return replace(
        GUARD,
        f"""  chain guard {{
    type filter hook forward priority -1; policy accept;
    ip daddr {ip} meta l4proto tcp counter reject with tcp reset
    ip daddr {ip} counter drop
    ip6 daddr {nat64(ip)} counter drop
{wireserver}  }}
  chain translating {{
    type nat hook prerouting priority -102; policy accept;
    ct state new
  }}
""",
    )


def bridge(path: Datapath) -> str:
    """Return the guard for packets that a bridge carries past the node's IP layer."""
    wireserver = (
        f"    ether type ip ip daddr {WIRESERVER_IP} tcp dport {{ {_WIRESERVER} }} counter drop\n"
        if path.block_wireserver
        else ""
    )
    return replace(
        BRIDGE,
        f"""  chain guard {{
    type filter hook forward priority 0; policy accept;
    ether type ip ip daddr {path.metadata_ip} counter drop
    ether type ip6 ip6 daddr {nat64(path.metadata_ip)} counter drop
{wireserver}  }}
""",
    )


def redirect(path: Datapath) -> str:
    """Return the second layer: pods get the agent, the agent's port is for them alone, the node keeps its own IMDS.

    ``to_agent`` comes before kube-proxy and iptables; ``from_node`` undoes a Service that claims the metadata address.
    """
    ip, port = path.metadata_ip, path.metadata_port
    to_us = f"meta l4proto tcp ct original ip daddr {ip} ct original proto-dst {port}"
    limits = _limits(path)
    new = f"    {to_us} ct state new jump newcomers\n" if limits else ""
    check = (
        f"""  chain reverse_path {{
    type filter hook prerouting priority -160; policy accept;
    ip daddr {ip} fib saddr . iif oif missing counter drop
  }}
"""
        if path.source_check
        else ""
    )
    return replace(
        REDIRECT,
        f"""{check}{limits}  chain to_agent {{
    type nat hook prerouting priority -101; policy accept;
    ip daddr {ip} tcp dport {port} dnat ip to {path.target}:{path.port}
  }}
  chain agent_port {{
    type filter hook input priority -1; policy accept;
    tcp dport != {path.port} accept
    iif "lo" accept
{new}    {to_us} accept
    counter drop
  }}
  chain from_node {{
    type nat hook output priority -101; policy accept;
    ip daddr {ip} tcp dport {port} dnat ip to {ip}:{port}
  }}
""",
    )


def _limits(path: Datapath) -> str:
    """Return the chain that refuses a source's connections beyond its limits, before the kernel has made them.

    Each source has a state of its own: what one does costs no other anything. A refusal is a reset, and is counted.
    """
    rate, most = path.connection_rate, path.connections
    if not rate and not most:
        return ""
    by_rate = (
        f"    update @pod_arrivals {{ ip saddr limit rate over {rate}/second burst {BURST} packets }} goto turn_away\n"
    )
    by_count = f"    add @pod_connections {{ ip saddr ct count over {most} }} goto turn_away\n"
    return f"""  set pod_arrivals {{ type ipv4_addr; size {_SOURCES}; flags dynamic,timeout; timeout 1m; }}
  set pod_connections {{ type ipv4_addr; size {_SOURCES}; flags dynamic; }}
  set {REFUSED} {{ type ipv4_addr; size {_SOURCES}; flags dynamic,timeout; timeout 10m; }}
  chain turn_away {{
    update @{REFUSED} {{ ip saddr counter }}
    counter reject with tcp reset
  }}
  chain newcomers {{
{by_rate if rate else ""}{by_count if most else ""}  }}
"""
