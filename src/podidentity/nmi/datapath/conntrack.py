"""Forgets the connections to the metadata endpoint that were tracked before the redirect was in place."""

from __future__ import annotations

import socket


def forget(metadata_ip: str, metadata_port: int) -> int:
    """Delete the TCP conntrack entries whose original destination is the metadata endpoint; returns how many.

    Blocks for some milliseconds and must not run on a thread with an event loop. Needs NET_ADMIN; raises OSError.
    An entry that ends meanwhile is not an error.
    """
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - heavy, wanted only under its flag
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket  # noqa: PLC0415 - as above

    gone = 0
    with NFCTSocket() as conntrack:
        for entry in list(conntrack.dump()):
            original = NFCTAttrTuple.from_netlink(socket.AF_INET, entry.get_attr("CTA_TUPLE_ORIG"))
            if (original.proto, original.daddr, original.dport) != (socket.IPPROTO_TCP, metadata_ip, metadata_port):
                continue
            try:
                conntrack.entry("del", tuple_orig=original)
                gone += 1
            except NetlinkError:
                continue
    return gone
