"""Keeps the datapath as it must be: guard, then redirect, then a look every interval. Nothing is removed at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from podidentity.nmi.datapath.nft import Nft, NftFailed
from podidentity.telemetry.logging import Logger

_RETRY_SECONDS: Final = 5.0


class Keeper:
    """Installs and repairs. ``active`` once the redirect is in place; ``trouble`` says what is wrong, empty if nothing.

    ``interval`` seconds between looks. ``forget`` deletes old conntrack entries once (blocking, run in a thread).
    """

    def __init__(
        self,
        nft: Nft,
        *,
        interval: float,
        log: Logger,
        forget: Callable[[], int] | None = None,
        retry: float = _RETRY_SECONDS,
    ) -> None:
        self._nft = nft
        self._interval = interval
        self._log = log
        self._forget = forget
        self._retry = retry
        self.active = False
        self.repairs = 0
        self.trouble = "the redirect is not in place yet"

    async def guard(self) -> None:
        """Install the guard, for as long as it takes; raises ConfigError when nft is missing."""
        while True:
            try:
                missing = await self._nft.install_guard()
            except NftFailed as failed:
                await self._failed("guard", failed)
                continue
            if missing:
                self._log.warning("no bridge filter: a bridged uplink is not guarded", error=missing)
            self._log.info("guard is in place")
            return

    async def redirect(self) -> None:
        """Install the redirect behind the guard."""
        while True:
            try:
                await self._nft.install_redirect()
            except NftFailed as failed:
                await self._failed("redirect", failed)
                continue
            break
        self.active = True
        self.trouble = ""
        self._log.info("redirect is in place")
        if self._forget is not None:
            try:
                gone = await asyncio.to_thread(self._forget)
            except OSError as error:
                self._log.error("conntrack entries could not be deleted", error=str(error))
            else:
                self._log.info("deleted conntrack entries", count=gone)

    async def run(self) -> None:
        """Look every interval and repair, until cancelled. The datapath stays."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                repaired = await self._nft.repair()
            except NftFailed as failed:
                self.trouble = f"datapath: {failed}"
                self._log.error("datapath could not be repaired", error=str(failed))
                continue
            self.trouble = ""
            if repaired:
                self.repairs += 1
                self._log.warning("datapath was changed by somebody else and is repaired", tables=", ".join(repaired))

    async def _failed(self, what: str, failed: NftFailed) -> None:
        self.trouble = f"datapath: {what}: {failed}"
        self._log.error(f"{what} could not be installed, trying again", error=str(failed))
        await asyncio.sleep(self._retry)
