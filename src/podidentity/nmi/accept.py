"""Takes connections off a listening socket, and turns away whom the server does not want before anything is made.

A connection that is turned away costs a tenth of one that is taken; who opens them as fast as he can fills the kernel's
queue less fast than it is emptied, and his neighbours still get in.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final, cast

BACKLOG: Final = 4096
"""As many as the kernel lets wait by default."""
_TAKEN_AT_A_TIME: Final = 32
_AT_A_TIME: Final = 64
_PAUSE_SECONDS: Final = 0.5
_LAST_SECONDS: Final = 0.1


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

    def close(self, last_words: bytes) -> None:
        """Stop, telling ``last_words`` to those who wait in the kernel's queue; who was taken is handed over still."""
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._sock.fileno())
        waiting = []
        with contextlib.suppress(OSError):
            while True:
                waiting.append(self._sock.accept()[0])
        self._sock.close()
        dismiss(waiting, last_words)

    def _accept(self) -> None:
        taken = 0
        for _ in range(_AT_A_TIME):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no file, no memory: what is open has to end first
                self._pause()
                return
            words = self._refusal(sock, address)
            if words is not None:
                turn_away(sock, words)
                continue
            self._take(sock)
            taken += 1
            if taken == _TAKEN_AT_A_TIME:
                return

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


def dismiss(socks: Iterable[socket.socket], words: bytes) -> None:
    """Tell ``words`` to each as soon as it has asked; who asks nothing within 0.1 s is told all the same.

    A socket that is closed before the request is there answers it with a reset.
    """
    with selectors.DefaultSelector() as asked:
        for sock in socks:
            asked.register(sock, selectors.EVENT_READ)
        end = time.monotonic() + _LAST_SECONDS
        while asked.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in asked.select(left):
                asked.unregister(key.fileobj)
                turn_away(cast("socket.socket", key.fileobj), words)
        for key in list(asked.get_map().values()):
            asked.unregister(key.fileobj)
            turn_away(cast("socket.socket", key.fileobj), words)


def turn_away(sock: socket.socket, words: bytes) -> None:
    """Tell ``words``, if that needs no waiting, and close; what was sent is read first, lest it be a reset."""
    sock.setblocking(False)  # noqa: FBT003 - socket's own signature
    with contextlib.suppress(OSError):
        sock.recv(16384)
    with contextlib.suppress(OSError):
        sock.send(words)
    sock.close()
