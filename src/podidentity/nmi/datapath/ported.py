"""Keeps the bridge's table of ports and addresses in step with the CNI's records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from podidentity.nmi.datapath.ports import Port, RecordsUnread, read_ports
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.telemetry.logging import Logger

_PAUSE_SECONDS: Final = 0.5


class Switch(Protocol):
    """``nft.Nft``."""

    async def install_ports(self, ports: frozenset[Port]) -> None:
        """Let these pairs through, and no others. Raises DatapathFailed."""
        ...


class Ported:
    """Looks at ``folder`` twice a second; ``trouble`` says what is wrong, empty if nothing.

    While the records cannot be read the table stays as it was: pods that are new get no token, and nobody else's.
    """

    def __init__(
        self,
        switch: Switch,
        folder: Path,
        log: Logger,
        *,
        superseded: Callable[[], bool] = lambda: False,
        sys: Path = Path("/sys"),
        pause: float = _PAUSE_SECONDS,
    ) -> None:
        self._switch = switch
        self._folder = folder
        self._log = log
        self._superseded = superseded
        self._sys = sys
        self._pause = pause
        self._seen = 0
        self._ports: frozenset[Port] | None = None
        self.trouble = "the bridge's ports are not checked yet"

    async def install(self) -> None:
        """Install the table, for as long as it takes."""
        while True:
            await self.look()
            if self._ports is not None:
                return
            await asyncio.sleep(self._pause)

    async def run(self) -> None:
        """Follow the records until cancelled. The table stays."""
        while True:
            await asyncio.sleep(self._pause)
            if not self._superseded():
                await self.look()

    async def look(self) -> None:
        """Take up what changed."""
        try:
            changed = self._folder.stat().st_mtime_ns
            if changed == self._seen and not self.trouble:
                return
            ports = await asyncio.to_thread(read_ports, self._folder, self._sys)
            if ports != self._ports:
                await self._switch.install_ports(ports)
                self._log.info("bridge ports are checked", pods=len(ports))
        except (OSError, RecordsUnread, DatapathFailed) as error:
            trouble = f"datapath: bridge ports: {error}"
            if trouble != self.trouble:
                self._log.warning("the bridge's ports could not be taken up, trying again", error=str(error))
            self.trouble = trouble
            return
        self._ports, self._seen, self.trouble = ports, changed, ""
