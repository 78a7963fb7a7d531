"""Whether an address is one of this node's own."""

from __future__ import annotations

import socket


def is_local(address: str) -> bool:
    """Whether ``address`` belongs to an interface of this network namespace: only then a socket can be bound to it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
