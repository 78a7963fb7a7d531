"""A small HTTP/1.1 load generator for one thread: standard library only, so that any pod with a Python can run it.

Reads one JSON object from its last argument: host, port, path, headers, connections, seconds, fresh, pause. Keeps one
request in flight on each connection; with ``fresh`` each request has a connection of its own, as many at a time, each
opened ``pause`` seconds after the answer before it. Prints one
JSON object: requests, seconds, warm (requests before the clock ran), p50 and p99 (milliseconds), cpu (its own seconds),
bytes (of one answer) and refused (answers whose status is not 200).
"""

from __future__ import annotations

import json
import math
import select
import socket
import sys
import time
from typing import Any

WARM_UP = 0.3
END = b"\r\n\r\n"
LENGTH = b"\r\nContent-Length: "


def answer_size(data: bytes) -> int:
    """How many bytes the answer that begins ``data`` has; 0 while its head is not complete."""
    head = data.find(END)
    if head < 0:
        return 0
    at = data.index(LENGTH, 0, head + 2) + len(LENGTH)
    return head + len(END) + int(data[at : data.index(b"\r\n", at)])


def percentile(ordered: list[float], share: float) -> float:
    """The value that ``share`` of the sorted ``ordered`` do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Load:
    """The connections and what they measured."""

    def __init__(self, plan: dict[str, Any]) -> None:
        host = plan["host"]
        self.address = (host, plan["port"])
        self.fresh = plan.get("fresh", False)
        self.pause = plan.get("pause", 0)
        headers = {"Host": host, **plan["headers"], **({"Connection": "close"} if self.fresh else {})}
        lines = [f"GET {plan['path']} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        self.request = "\r\n".join([*lines, "", ""]).encode()
        self.sockets: dict[int, socket.socket] = {}
        self.epoll = select.epoll()
        self.sent: dict[int, float] = {}
        self.parts: dict[int, bytes] = {}
        self.size = self.refused = 0
        for _ in range(plan["connections"]):
            self.connect()

    def connect(self) -> None:
        """Open a connection and send its first request."""
        begun = time.perf_counter()
        sock = socket.create_connection(self.address, timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets[sock.fileno()] = sock
        self.epoll.register(sock.fileno(), select.EPOLLIN)
        self.send(sock.fileno())
        self.sent[sock.fileno()] = begun

    def again(self, fd: int) -> None:
        """Send the next request, on the same connection or on a new one."""
        if self.fresh:
            self.epoll.unregister(fd)
            self.sockets.pop(fd).close()
            if self.pause:
                time.sleep(self.pause)
            self.connect()
        else:
            self.send(fd)

    def send(self, fd: int) -> None:
        """Send the next request."""
        self.sent[fd] = time.perf_counter()
        self.sockets[fd].sendall(self.request)

    def run(self, seconds: float) -> list[float]:
        """Go on for ``seconds``; the latency of each answer in milliseconds, sorted."""
        taken = []
        clock, sockets, parts, sent = time.perf_counter, self.sockets, self.parts, self.sent
        deadline = clock() + seconds
        while clock() < deadline:
            for fd, _ in self.epoll.poll(1):
                data = sockets[fd].recv(65536)
                now = clock()
                if not data:
                    sys.exit("the server closed the connection")
                data = parts.pop(fd, b"") + data
                size = answer_size(data)
                if not size or len(data) < size:
                    parts[fd] = data
                    continue
                taken.append((now - sent[fd]) * 1000)
                self.size = size
                if not data.startswith(b"HTTP/1.1 200 "):
                    self.refused += 1
                self.again(fd)
        return sorted(taken)


def main() -> None:
    """Run one plan."""
    plan = json.loads(sys.argv[-1])
    load = Load(plan)
    warm = len(load.run(WARM_UP))
    load.refused = 0
    cpu, begun = time.process_time(), time.perf_counter()
    taken = load.run(plan["seconds"])
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    if not taken:
        sys.exit("no answer at all")
    result = {"requests": len(taken), "warm": warm, "seconds": seconds, "cpu": cpu, "bytes": load.size}
    result |= {"refused": load.refused, "p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
