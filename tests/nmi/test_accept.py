"""Connections that nobody took before the agent stopped."""

from __future__ import annotations

import socket
import threading
import time

from podidentity.nmi.accept import dismiss

WORDS = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def test_who_asks_late_is_answered_not_reset() -> None:
    """Protects a request that is on its way when the agent stops: its connection ends after it, with an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as late, socket.socket() as silent:
        for client in (late, silent):
            client.settimeout(5)
            client.connect(server.getsockname())
        taken = [server.accept()[0] for _ in range(2)]
        asking = threading.Timer(0.02, lambda: late.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        asking.start()
        begun = time.monotonic()
        dismiss(taken, WORDS)
        assert time.monotonic() - begun < 2
        asking.join()
        for client in (late, silent):
            assert client.recv(1000) == WORDS
            assert client.recv(1000) == b""
