"""Forgets the connections to the metadata endpoint that were tracked before the redirect was in place.

Run as a program of its own: the netlink library would stay in the agent's memory for a moment's work.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from podidentity.nmi.datapath.rules import Datapath


class ConntrackFailed(Exception):  # noqa: N818 - what happened to it
    """The entries could not be deleted; ``str`` is the last line of what was said."""


async def forget(path: Datapath) -> int:
    """Delete the TCP conntrack entries whose original destination is the metadata endpoint; returns how many.

    Those that lead to the agent stay: they are as they should be, and somebody waits for an answer on them. Needs
    NET_ADMIN. Raises ConntrackFailed.
    """
    ends = (path.metadata_ip, path.metadata_port, path.target, path.port)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, *map(str, ends)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines()
        raise ConntrackFailed(lines[-1] if lines else f"it ended with {process.returncode}")
    return int(out)


def delete_entries(metadata_ip: str, metadata_port: int, agent_ip: str = "", agent_port: int = 0) -> int:
    """Do it, in this process. Raises OSError. An entry that ends meanwhile is not an error."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - heavy, wanted only here
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket  # noqa: PLC0415 - as above

    gone = 0
    with NFCTSocket() as conntrack:
        for entry in list(conntrack.dump()):
            original = NFCTAttrTuple.from_netlink(socket.AF_INET, entry.get_attr("CTA_TUPLE_ORIG"))
            if (original.proto, original.daddr, original.dport) != (socket.IPPROTO_TCP, metadata_ip, metadata_port):
                continue
            reply = NFCTAttrTuple.from_netlink(socket.AF_INET, entry.get_attr("CTA_TUPLE_REPLY"))
            if (reply.saddr, reply.sport) == (agent_ip, agent_port):
                continue
            try:
                conntrack.entry("del", tuple_orig=original)
                gone += 1
            except NetlinkError:
                continue
    return gone


if __name__ == "__main__":
    sys.stdout.write(f"{delete_entries(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))}\n")
