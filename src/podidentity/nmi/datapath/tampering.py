"""Hears within milliseconds when somebody changes nft rules that concern us: netlink's own notices, no polling."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
from collections.abc import Collection
from contextlib import suppress
from typing import Final

_NETFILTER: Final = 12
_NFTABLES_GROUP: Final = 1 << 6
_BUFFER: Final = 1 << 20
_QUIET_SECONDS: Final = 0.1
_AT_MOST_SECONDS: Final = 0.5
_CALM_SECONDS: Final = 1.0


class Tampering:
    """A netlink socket in this network namespace. ``words``: names of which a notice must hold one to count.

    Notices that were lost because there were too many count as well. Changes made with iptables-legacy are not told.
    """

    def __init__(self, words: Collection[bytes]) -> None:
        self._words = tuple(words)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETFILTER)
        self._news = asyncio.Event()
        self._told_at = -math.inf
        try:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((0, _NFTABLES_GROUP))
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def wait(self) -> None:
        """Return at once after a change, as long as they are rare: whoever takes all rules away leaves pods unguarded.

        Of a burst of them, such as kube-proxy makes, the rest is waited out for half a second.
        """
        await self._news.wait()
        loop = asyncio.get_running_loop()
        calm, self._told_at = loop.time() - self._told_at > _CALM_SECONDS, loop.time()
        if calm:
            self._news.clear()
            return
        end = loop.time() + _AT_MOST_SECONDS
        while self._news.is_set() and loop.time() < end:
            self._news.clear()
            await asyncio.sleep(_QUIET_SECONDS)

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._news.set()
                continue
            if any(word in data for word in self._words):
                self._news.set()
