"""Tells of the connections that the packet filter refused for a limit: it counts them, nobody else sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from podidentity.nmi.datapath.programs import DatapathFailed

_PAUSE_SECONDS: Final = 20.0


class Filter(Protocol):
    """``nft.Nft`` or ``iptables.Iptables``."""

    async def refusals(self) -> Mapping[str, int]:
        """Return the refused connections by source, since some moment. Raises DatapathFailed."""
        ...


class Refusals:
    """Reads the filter's counts and calls ``told`` with a source and how many were refused since the last look."""

    def __init__(self, packets: Filter, told: Callable[[str, int], None], *, pause: float = _PAUSE_SECONDS) -> None:
        self._filter = packets
        self._told = told
        self._pause = pause
        self._seen: Mapping[str, int] = {}

    async def run(self) -> None:
        """Look now and then, until cancelled. What cannot be read is read the next time; the keeper says why not."""
        while True:
            await asyncio.sleep(self._pause)
            with suppress(DatapathFailed):
                await self.look()

    async def look(self) -> None:
        """Tell what is new; a count that is lower than before began anew. Raises DatapathFailed."""
        now = await self._filter.refusals()
        for source, count in now.items():
            before = self._seen.get(source, 0)
            more = count - before if count >= before else count
            if more:
                self._told(source, more)
        self._seen = now
