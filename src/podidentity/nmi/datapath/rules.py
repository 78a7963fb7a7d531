"""The nft rule sets that keep pods and the metadata endpoint apart, as text (pure).

Two independent layers, each a table of its own: the guard drops whatever would be forwarded to the metadata address,
names no address of the node, is installed first and removed last; the redirect sends pods to the agent instead.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

GUARD: Final = "inet podidentity_guard"
BRIDGE: Final = "bridge podidentity_guard"
REDIRECT: Final = "inet podidentity"
"""The tables, family and name. Installed in this order, removed in the reverse one."""

WIRESERVER_IP: Final = "168.63.129.16"
WIRESERVER_PORTS: Final = (80, 32526)
"""Azure's platform channel: protected settings of the node on these ports; its name server on 53 stays."""
_WIRESERVER: Final = ", ".join(str(port) for port in WIRESERVER_PORTS)


@dataclass(frozen=True, slots=True)
class Datapath:
    """Where pods' requests to ``metadata_ip:metadata_port`` go: to ``target:port``, never a loopback address.

    ``source_check``: drop packets to the metadata address from an interface that does not lead back to their source.
    ``block_wireserver``: keep pods off the platform's settings too.
    """

    target: str
    port: int = 2579
    metadata_ip: str = "169.254.169.254"
    metadata_port: int = 80
    source_check: bool = True
    block_wireserver: bool = True

    def __post_init__(self) -> None:
        """Refuse addresses that would open the node, or no datapath at all. Raises ValueError."""
        target = ipaddress.IPv4Address(self.target)
        metadata = ipaddress.IPv4Address(self.metadata_ip)
        if target.is_loopback or target.is_unspecified or target.is_multicast or target == metadata:
            raise ValueError(f"{target} cannot be the address pods are sent to")


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
    """Return the first layer: nothing that is forwarded reaches the metadata address."""
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
        f"""{check}  chain to_agent {{
    type nat hook prerouting priority -101; policy accept;
    ip daddr {ip} tcp dport {port} dnat ip to {path.target}:{path.port}
  }}
  chain agent_port {{
    type filter hook input priority -1; policy accept;
    tcp dport != {path.port} accept
    iif "lo" accept
    meta l4proto tcp ct original ip daddr {ip} ct original proto-dst {port} accept
    counter drop
  }}
  chain from_node {{
    type nat hook output priority -101; policy accept;
    ip daddr {ip} tcp dport {port} dnat ip to {ip}:{port}
  }}
""",
    )
