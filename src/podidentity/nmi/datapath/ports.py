"""Which port of the pods' bridge has which address: the records the CNI keeps, and the table that checks every packet.

The records are those of libcni (``/var/lib/cni/results``), written before the pod's first program starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_interface
from pathlib import Path
from typing import Final

import msgspec

from podidentity.nmi.datapath.rules import PORTS, replace


class _Interface(msgspec.Struct, frozen=True):
    name: str
    mac: str = ""
    sandbox: str = ""


class _Address(msgspec.Struct, frozen=True):
    address: str
    interface: int = -1
    gateway: str = ""


class _Result(msgspec.Struct, frozen=True):
    interfaces: tuple[_Interface, ...] = ()
    ips: tuple[_Address, ...] = ()


class _Record(_Result, frozen=True):
    result: _Result | None = None


_RECORD: Final = msgspec.json.Decoder(_Record)


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A pod behind port ``name`` of the bridge. ``mac`` and ``gateway`` are empty where the record has none."""

    name: str
    address: str
    mac: str = ""
    gateway: str = ""


class RecordsUnread(Exception):  # noqa: N818 - what happened to them
    """The records cannot be had, or one is still being written; ``str`` says which."""


def read_ports(folder: Path, sys: Path = Path("/sys")) -> frozenset[Port]:
    """Return the ports of the records whose interface is a port of a bridge now. Raises RecordsUnread."""
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise RecordsUnread(f"{folder}: {error.strerror}") from error
    found = {port for file in files for port in _recorded(file) if _is_port(sys, port.name)}
    return frozenset(found)


def _recorded(file: Path) -> list[Port]:
    try:
        record = _RECORD.decode(file.read_bytes())
        return list(_ports(record.result or record))
    except FileNotFoundError:  # its pod is gone meanwhile
        return []
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise RecordsUnread(f"{file}: {error}") from error


def _ports(result: _Result) -> Iterable[Port]:
    outside = [one.name for one in result.interfaces if not one.sandbox]
    for ip in result.ips:
        address = ip_interface(ip.address).ip
        if not isinstance(address, IPv4Address):
            continue
        inside = result.interfaces[ip.interface] if 0 <= ip.interface < len(result.interfaces) else _Interface("")
        for name in outside:
            yield Port(name, str(address), inside.mac.lower(), ip.gateway)


def _is_port(sys: Path, name: str) -> bool:
    return "/" not in name and (sys / "class" / "net" / name / "brport").is_dir()


def table_of(ports: Iterable[Port], metadata_ip: str) -> str:
    """Return the table: to the metadata address only from the pair that is recorded; ARP and frames of others' dropped.

    What is not recorded yet may talk, but not to the metadata address; nobody may claim what is recorded, or a gateway.
    """
    known = sorted(ports)
    with_mac = [port for port in known if port.mac]
    addresses = {port.address for port in known} | {port.gateway for port in known if port.gateway}
    sets = (
        _set("pods", "ifname . ipv4_addr", [f'"{port.name}" . {port.address}' for port in known]),
        _set("addresses", "ipv4_addr", sorted(addresses)),
        _set("frames", "ifname . ether_addr", [f'"{port.name}" . {port.mac}' for port in with_mac]),
        _set("macs", "ether_addr", sorted({port.mac for port in with_mac})),
    )
    return replace(
        PORTS,
        f"""{"".join(sets)}  chain source {{
    type filter hook prerouting priority -300; policy accept;
    ether saddr @macs iifname . ether saddr != @frames counter drop
    ether type arp arp saddr ip @addresses iifname . arp saddr ip != @pods counter drop
    ether type ip ip daddr {metadata_ip} iifname . ip saddr != @pods counter drop
  }}
""",
    )


def _set(name: str, kind: str, elements: list[str]) -> str:
    held = f" elements = {{ {', '.join(dict.fromkeys(elements))} }};" if elements else ""
    return f"  set {name} {{ type {kind};{held} }}\n"
