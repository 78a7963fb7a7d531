"""Ports for processes that take a port number, not a socket."""

from __future__ import annotations

import random
import socket

RANGE = range(20000, 30000)
"""Below the system's ephemeral range, so that no outgoing connection takes the port between our look and its use."""


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    while True:
        port = random.choice(RANGE)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
