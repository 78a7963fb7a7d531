"""Which address of the node pods are sent to, and where the agent listens."""

from __future__ import annotations

import errno
import ipaddress
import socket

from podidentity.config.errors import ConfigError

LOOPBACK = "127.0.0.1"
LOOPBACK6 = "::1"
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def usable(text: str) -> bool:
    """Whether ``text`` is an IPv4 address pods can be sent to."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_multicast)


def route_source(metadata_ip: str, port: int) -> str:
    """Return the node's own address on the route to the metadata endpoint; sends nothing. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((metadata_ip, port))
        return str(probe.getsockname()[0])


def node_address(listen: str, host_ip: str, metadata_ip: str, metadata_port: int) -> str:
    """Return the address of this node that pods are sent to.

    ``listen`` (the flag) if it is an address pods can reach, else ``host_ip`` (environment HOST_IP), else the source
    of the route to the metadata endpoint. Never loopback: that would need route_localnet. Raises ConfigError.
    """
    for candidate in (listen, host_ip):
        if usable(candidate):
            return candidate
    try:
        found = route_source(metadata_ip, metadata_port)
    except OSError as error:
        raise ConfigError(
            f"this node's address is not known: no route to {metadata_ip} ({error.strerror}); set HOST_IP"
        ) from error
    if not usable(found) or found == metadata_ip:
        raise ConfigError(f"this node's address is not known: {found} is not one pods can reach; set HOST_IP")
    return found


def listen_addresses(listen: str, target: str) -> list[str]:
    """Return the addresses to bind: the node's and loopback's two, or all IPv4 with ``0.0.0.0``."""
    if listen in ("0.0.0.0", "::"):  # noqa: S104 - the operator asked for it
        return ["0.0.0.0"]  # noqa: S104 - as above
    return [target, LOOPBACK, LOOPBACK6]


def bind(addresses: list[str], port: int) -> list[socket.socket]:
    """Return listening sockets, one for each address; raises ConfigError naming the address that cannot be had.

    A node without IPv6 does without ``::1``.
    """
    sockets: list[socket.socket] = []
    for address in addresses:
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sockets.append(socket.create_server((address, port), family=family, backlog=1024))
        except OSError as error:
            if address == LOOPBACK6 and error.errno in _NO_IPV6:
                continue
            for sock in sockets:
                sock.close()
            raise ConfigError(f"cannot listen on {address}:{port}: {error.strerror}") from error
    return sockets
