"""Keeps the datapath as it must be: guard, redirect, then a look at every change. Nothing is removed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from podidentity.nmi.datapath.conntrack import ConntrackFailed
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.telemetry.logging import Logger

_RETRY_SECONDS: Final = 5.0
_AFTER_REPAIR_SECONDS: Final = 0.3
_FORGET_SECONDS: Final = 10.0
"""Shortest times between repairs, and between deletions: somebody who insists on his rules costs no more than that."""


class Backend(Protocol):
    """The rule sets of one node: ``nft.Nft`` or ``iptables.Iptables``. Methods raise DatapathFailed."""

    async def install_guard(self) -> str:
        """Install the first layer; return what is not guarded, or ``""``."""
        ...

    async def install_redirect(self) -> None:
        """Install the second layer."""
        ...

    async def repair(self) -> list[str]:
        """Put back what was changed; return the names of it."""
        ...

    async def refusals(self) -> Mapping[str, int]:
        """Return the connections refused for a limit, by source."""
        ...


class Changes(Protocol):
    """``tampering.Tampering``."""

    async def wait(self) -> None:
        """Return after a change that may concern us, our own included."""
        ...


class Keeper:
    """Installs and repairs. ``active`` once the redirect is in place; ``trouble`` says what is wrong, empty if nothing.

    ``interval`` seconds between looks when nothing is heard of a change; ``changes``: who hears of them, if anybody.
    ``forget`` deletes old conntrack entries, after every change. ``uplink``: a bridged one's name, or empty.
    ``superseded``: another keeper has taken over, which this one must not work against.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        interval: float,
        log: Logger,
        forget: Callable[[], Awaitable[int]] | None = None,
        changes: Changes | None = None,
        uplink: str = "",
        superseded: Callable[[], bool] = lambda: False,
        retry: float = _RETRY_SECONDS,
    ) -> None:
        self._backend = backend
        self._interval = interval
        self._log = log
        self._forget = forget
        self._changes = changes
        self._uplink = uplink
        self._superseded = superseded
        self._retry = retry
        self._open = ""
        self._changed = asyncio.Event()
        self.active = False
        self.repairs = 0
        self.trouble = "the redirect is not in place yet"

    async def guard(self) -> None:
        """Install the guard, for as long as it takes; raises ConfigError when the tool is missing."""
        while True:
            try:
                missing = await self._backend.install_guard()
            except DatapathFailed as failed:
                await self._failed("guard", failed)
                continue
            if missing and self._uplink:
                self._open = f"datapath: pods pass {self._uplink}, a bridged uplink, unguarded: {missing}"
                self._log.error("a bridged uplink cannot be guarded", uplink=self._uplink, error=missing)
            elif missing:
                self._log.info("no bridge filter; no uplink is bridged, so none is needed", why=missing)
            self._log.info("guard is in place")
            return

    async def redirect(self) -> None:
        """Install the redirect behind the guard."""
        while True:
            try:
                await self._backend.install_redirect()
            except DatapathFailed as failed:
                await self._failed("redirect", failed)
                continue
            break
        self.active = True
        self.trouble = self._open
        self._log.info("redirect is in place")
        self._changed.set()

    async def run(self) -> None:
        """Look at every change, and every interval, and repair, until cancelled. The datapath stays."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forget_forever())
            while True:
                await self._until_next_look()
                await self._look()

    async def _look(self) -> None:
        """Repair what was changed, for as long as it takes."""
        while not self._superseded():
            try:
                repaired = await self._backend.repair()
            except DatapathFailed as failed:
                self.trouble = f"datapath: {failed}"
                self._log.error("datapath could not be repaired, trying again", error=str(failed))
                await asyncio.sleep(self._retry)
                continue
            break
        else:
            return
        self.trouble = self._open
        if repaired:
            self.repairs += 1
            self._log.warning("datapath was changed by somebody else and is repaired", tables=", ".join(repaired))
            self._changed.set()
            # Our own change is heard of too and costs one more look: what came amid the repair would else go unseen.
            await asyncio.sleep(_AFTER_REPAIR_SECONDS)

    async def _until_next_look(self) -> None:
        if self._changes is None:
            await asyncio.sleep(self._interval)
            return
        try:
            async with asyncio.timeout(self._interval):
                await self._changes.wait()
        except TimeoutError:
            return

    async def _forget_forever(self) -> None:
        """Have old connections forgotten after each change; repairs do not wait for it."""
        while self._forget is not None:
            await self._changed.wait()
            self._changed.clear()
            await self._forget_old(self._forget)
            await asyncio.sleep(_FORGET_SECONDS)

    async def _forget_old(self, forget: Callable[[], Awaitable[int]]) -> None:
        try:
            gone = await forget()
        except (ConntrackFailed, OSError) as error:
            self._log.warning(
                "conntrack entries could not be deleted; the guard stops old connections", error=str(error)
            )
        else:
            self._log.info("deleted conntrack entries", count=gone)

    async def _failed(self, what: str, failed: DatapathFailed) -> None:
        self.trouble = f"datapath: {what}: {failed}"
        self._log.error(f"{what} could not be installed, trying again", error=str(failed))
        await asyncio.sleep(self._retry)
