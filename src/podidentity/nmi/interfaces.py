"""By which network interface a connection came in: an address passes from pod to pod, an interface does not.

The kernel numbers interfaces in the order they are made. A pod's own is older than anything the API says of the pod's
address, so a connection by a younger one is another pod's, whatever the watch still says.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from podidentity.aio.clock import Clock

_PKTINFO: Final = 8
_PKTOPTIONS: Final = 9
_HEADER: Final = struct.calcsize("NiiI")
"""Bytes of a control message's header and of the interface's number that follows it."""
_FRESH_SECONDS: Final = 0.02
"""Shorter than it takes to start a container once its interface is there."""
_MOST_KNOWN: Final = 4096


class Interfaces:
    """The interfaces of this network namespace by their numbers. 0 stands for one that is not known."""

    def __init__(
        self,
        clock: Clock,
        *,
        every: Callable[[], Iterable[tuple[int, str]]] = socket.if_nameindex,
        folder: Path = Path("/sys/class/net"),
    ) -> None:
        self._clock = clock
        self._every = every
        self._folder = folder
        self._shared: dict[int, bool] = {}
        self._newest = 0
        self._fresh_until = 0.0

    def newest(self) -> int:
        """Return the number of the youngest interface there is."""
        self._newest = max((number for number, _ in self._every()), default=0)
        self._fresh_until = self._clock.monotonic() + _FRESH_SECONDS
        return self._newest

    def behind(self, transport: asyncio.BaseTransport) -> int:
        """Return the interface a connection came in by; for a bridge, which many pods share, the youngest of all."""
        sock = transport.get_extra_info("socket")
        try:
            sock.setsockopt(socket.IPPROTO_IP, _PKTINFO, 1)
            told = sock.getsockopt(socket.IPPROTO_IP, _PKTOPTIONS, 64)
        except (OSError, AttributeError):
            return 0
        number = int(struct.unpack_from("NiiI", told)[3]) if len(told) >= _HEADER else 0
        if not self._is_shared(number):
            return number
        return self._newest if self._clock.monotonic() < self._fresh_until else self.newest()

    def _is_shared(self, number: int) -> bool:
        shared = self._shared.get(number)
        if shared is None:
            if len(self._shared) >= _MOST_KNOWN:
                self._shared.clear()
            shared = False
            with suppress(OSError):
                shared = (self._folder / socket.if_indextoname(number) / "bridge").is_dir()
            self._shared[number] = shared
        return shared
