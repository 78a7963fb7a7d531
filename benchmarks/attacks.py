"""What a hostile pod does to its node's agent: standard library only, run in the pod. Arguments: kind, seconds.

Prints one JSON object: opened (connections), answers (of any status) and cut (connections the agent ended).
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

ADDRESS = ("169.254.169.254", 80)
HEAD = b"Host: 169.254.169.254\r\nMetadata: true\r\n"
PATH = b"/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
REQUEST = b"GET " + PATH + b" HTTP/1.1\r\n" + HEAD + b"\r\n"
STRANGER = b"GET " + PATH + b"&client_id=00000000-0000-0000-0000-000000000000 HTTP/1.1\r\n" + HEAD + b"\r\n"
BOMB = b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * 60000
DRIP = b"GET / HTTP/1.1\r\nX: "


@dataclass
class Attack:
    """``wanted`` connections; each sends ``first``, and ``then`` whenever it may."""

    wanted: int
    first: bytes = b""
    then: bytes = b""
    pause: float = 0.0
    again: bool = False
    opened: int = 0
    answers: int = 0
    cut: int = 0
    sockets: dict[int, socket.socket] = field(default_factory=dict)
    poll: select.epoll = field(default_factory=select.epoll)

    def open(self) -> None:
        """Begin one more connection."""
        sock = socket.socket()
        sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            sock.connect(ADDRESS)
        self.sockets[sock.fileno()] = sock
        self.poll.register(sock.fileno(), select.EPOLLOUT | select.EPOLLIN)
        self.opened += 1

    def end(self, fd: int) -> None:
        """Forget one."""
        self.poll.unregister(fd)
        self.sockets.pop(fd).close()
        self.cut += 1

    def run(self, seconds: float) -> None:
        """Go on for ``seconds``."""
        deadline, drip = time.monotonic() + seconds, 0.0
        while time.monotonic() < deadline:
            while len(self.sockets) < self.wanted and (self.again or self.opened < self.wanted):
                self.open()
                if self.opened % 200 == 0:
                    break
            for fd, events in self.poll.poll(0.02):
                self.on(fd, events)
            if self.pause and time.monotonic() > drip:
                drip = time.monotonic() + self.pause
                for fd in list(self.sockets):
                    self.send(fd, self.then)

    def on(self, fd: int, events: int) -> None:
        """Take what happened to one connection."""
        if events & select.EPOLLOUT:
            self.poll.modify(fd, select.EPOLLIN)
            if not self.send(fd, self.first):
                return
        if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            try:
                data = self.sockets[fd].recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.answers += data.count(b"HTTP/1.1 ")
            if not data:
                self.end(fd)
            elif self.then and not self.pause:
                self.send(fd, self.then)

    def send(self, fd: int, data: bytes) -> bool:
        """Send; False when that ended the connection."""
        try:
            self.sockets[fd].send(data)
        except BlockingIOError:
            return True
        except OSError:
            self.end(fd)
            return False
        return True


KINDS: dict[str, Callable[[], Attack]] = {
    "nothing": lambda: Attack(0),
    "idle": lambda: Attack(5000),
    "requests": lambda: Attack(5000, REQUEST, REQUEST, again=True),
    "pipelined": lambda: Attack(256, REQUEST * 8, REQUEST * 8, again=True),
    "strangers": lambda: Attack(5000, STRANGER, STRANGER, again=True),
    "churn": lambda: Attack(64, REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), again=True),
    "bombs": lambda: Attack(64, BOMB, again=True),
    "drips": lambda: Attack(5000, DRIP, b"a", pause=0.5, again=True),
}


def main() -> None:
    """Run one attack."""
    kind, seconds = sys.argv[-2], float(sys.argv[-1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = KINDS[kind]()
    attack.run(seconds)
    print(json.dumps({"opened": attack.opened, "answers": attack.answers, "cut": attack.cut}))


if __name__ == "__main__":
    main()
