"""Takes connections off a listening socket, and turns away whom the server does not want before anything is made.

A connection that is turned away costs a tenth of one that is taken; who opens them as fast as he can fills the kernel's
queue less fast than it is emptied, and his neighbours still get in.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 4096
"""As many as the kernel lets wait by default."""
_TAKEN_AT_A_TIME: Final = 32
_AT_A_TIME: Final = 64
_PAUSE_SECONDS: Final = 0.5


class Acceptor:
    """Accepts on ``sock`` (bound) until closed.

    ``refusal`` says of a new connection's peer what it is told instead of being taken: the bytes of an answer, or None.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        refusal: Callable[[socket.socket, object], bytes | None],
    ) -> None:
        self._sock = sock
        self._protocol = protocol
        self._refusal = refusal
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen."""
        self._sock.setblocking(False)  # noqa: FBT003 - socket's own signature
        self._sock.listen(BACKLOG)
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening. Who waits in the kernel's queue is taken: he was promised a connection."""
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._sock.fileno())
        with contextlib.suppress(OSError):
            for _ in range(BACKLOG):
                self._accept_one()
        self._sock.close()

    def _accept(self) -> None:
        taken = 0
        for _ in range(_AT_A_TIME):
            try:
                taken += self._accept_one()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # no file, no memory: what is open has to end first
                self._pause()
                return
            if taken == _TAKEN_AT_A_TIME:
                return

    def _accept_one(self) -> bool:
        """Take or turn away the next connection; whether it was taken. Raises OSError."""
        try:
            sock, address = self._sock.accept()
        except ConnectionAbortedError:
            return False
        words = self._refusal(sock, address)
        if words is not None:
            turn_away(sock, words)
            return False
        self._take(sock)
        return True

    def _take(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003 - socket's own signature
        task: asyncio.Task[object] = self._loop.create_task(self._hand_over(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, sock)
        except (OSError, asyncio.CancelledError):
            sock.close()
            raise

    def _pause(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._resume = self._loop.call_later(_PAUSE_SECONDS, self._again)

    def _again(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)


def turn_away(sock: socket.socket, words: bytes) -> None:
    """Tell ``words``, if that needs no waiting, and close; what was sent is read first, lest it be a reset."""
    sock.setblocking(False)  # noqa: FBT003 - socket's own signature
    with contextlib.suppress(OSError):
        sock.recv(16384)
    with contextlib.suppress(OSError):
        sock.send(words)
    sock.close()
