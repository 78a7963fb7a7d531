"""Which address of the node pods are sent to, and where the agent listens."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from pathlib import Path

from podidentity.config.errors import ConfigError
from podidentity.telemetry.ports import holder_of

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
    """Return the addresses to bind: exactly ``listen`` (the flag), or the node's and loopback's two without it.

    A loopback address alone, the original's default, would reach no pod: it means what no flag means.
    """
    if listen in ("", "localhost", LOOPBACK, LOOPBACK6):
        return [target, LOOPBACK, LOOPBACK6]
    return [listen]


class PortTakenError(ConfigError):
    """Somebody else listens on the port."""


def bind_unix(path: str) -> socket.socket:
    """Return a listening Unix socket (mode 0600) in a folder that only its owner can enter; ConfigError names trouble.

    A folder that is missing is made; a socket that is there already is nobody's any more and is replaced.
    """
    file = Path(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _private(file.parent)
        if file.is_socket():
            file.unlink()
        sock.bind(path)
        file.chmod(0o600)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from error
    except ConfigError:
        sock.close()
        raise
    return sock


def _private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(f"{folder}: others can enter it; make it the user's alone (chown root, chmod 700)")


def bind(addresses: list[str], port: int, *, share: bool = False) -> list[socket.socket]:
    """Return listening sockets, one for each address; raises ConfigError naming the address that cannot be had.

    ``share``: join an agent that listens there already; without, PortTakenError when anybody does. An agent that has
    a place may join these sockets later. A node without IPv6 does without ``::1``.
    """
    sockets: list[socket.socket] = []
    for address in addresses:
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sockets.append(socket.create_server((address, port), family=family, backlog=1024, reuse_port=share))
            sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            if address == LOOPBACK6 and error.errno in _NO_IPV6:
                continue
            for sock in sockets:
                sock.close()
            taken = error.errno == errno.EADDRINUSE
            holder = holder_of(port) if taken else ""
            by = f" by {holder}" if holder else ""
            kind = PortTakenError if taken else ConfigError
            raise kind(f"cannot listen on {address}:{port}: {error.strerror}{by}") from error
    return sockets
