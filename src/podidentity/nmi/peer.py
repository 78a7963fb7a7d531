"""Whose socket the other end of a loopback connection is, asked of the kernel by INET_DIAG (exact tuple, no dump)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_ERROR: Final = 2
_REQUEST: Final = 1
_ESTABLISHED: Final = 1
_CGROUP_ID: Final = 21
_HEADER: Final = struct.Struct("=IHHII")
_ASK: Final = struct.Struct("=BBBBI")
_PORTS: Final = struct.Struct("!HH")
_STATE_AT: Final = 1
_OWNER: Final = struct.Struct("=II")
_OWNER_AT: Final = 64
_MESSAGE: Final = 72
_ATTRIBUTE: Final = struct.Struct("=HH")
_WAIT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Who made a socket: user id, and the id of the cgroup (v2), 0 when the kernel does not tell."""

    uid: int
    cgroup: int


def owner_of(source: tuple[str, int], target: tuple[str, int]) -> Owner | None:
    """Return the owner of the client's end of a TCP connection on this machine.

    None unless that socket is established and somebody still has it: one that was closed reads as root's, which would
    let anybody in. Raises OSError when the kernel does not answer.
    """
    ipv6 = ":" in source[0]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_WAIT_SECONDS)
        netlink.send(_question(socket.AF_INET6 if ipv6 else socket.AF_INET, source, target))
        return _read(netlink.recv(8192))


def _question(family: int, source: tuple[str, int], target: tuple[str, int]) -> bytes:
    addresses = b"".join(socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (source, target))
    tuple_ = _PORTS.pack(source[1], target[1]) + addresses + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    body = _ASK.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + tuple_
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body


def _read(answer: bytes) -> Owner | None:
    length, kind, _, _, _ = _HEADER.unpack_from(answer)
    body = answer[_HEADER.size : length]
    if kind == _ERROR:
        (code,) = struct.unpack_from("=i", body)
        if -code == errno.ENOENT:
            return None
        raise OSError(-code, os.strerror(-code))
    uid, inode = _OWNER.unpack_from(body, _OWNER_AT)
    if body[_STATE_AT] != _ESTABLISHED or inode == 0:
        return None
    return Owner(uid, _cgroup(body[_MESSAGE:]))


def _cgroup(attributes: bytes) -> int:
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if length < _ATTRIBUTE.size:
            break
        if kind == _CGROUP_ID:
            return int(struct.unpack_from("=Q", attributes, _ATTRIBUTE.size)[0])
        attributes = attributes[(length + 3) & ~3 :]
    return 0
