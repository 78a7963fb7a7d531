"""The first words with an API server: which Kubernetes it is, and whether it can hold our CRDs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from podidentity.kube.errors import KubeError
from podidentity.kube.refusals import too_old
from podidentity.telemetry.logging import get_logger

if TYPE_CHECKING:
    from podidentity.kube.client import KubeClient

AGAIN: Final = 30.0
"""Seconds until a server is asked again that did not answer, or was too old: it may be upgraded meanwhile."""


class Greeting:
    """Asks for the server's version. ``complaint`` is what a person has to mend, empty when that is nothing."""

    def __init__(self, client: KubeClient) -> None:
        self.complaint = ""
        self._client = client
        self._known = False
        self._said = ""

    async def once(self) -> None:
        """Ask, and log the version, and an error line when it is too old to work with."""
        log = get_logger()
        try:
            version = await self._client.server_version()
        except KubeError as error:
            if not self._said:
                log.warning("Kubernetes server version: not known", error=str(error))
            self._said = self._said or "unknown"
            return
        if version != self._said:
            log.info(f"Kubernetes server version: {version}")  # noqa: G004 - not the stdlib's logger
            self.complaint = too_old(version)
            if self.complaint:
                log.error(self.complaint)
        self._said, self._known = version, True

    async def run(self, again: float = AGAIN) -> None:
        """Ask again every ``again`` seconds until the version is known and good."""
        while not self._known or self.complaint:
            await asyncio.sleep(again)
            await self.once()


async def greet(client: KubeClient) -> None:
    """Log the server's version, and an error line when it is too old to work with."""
    await Greeting(client).once()
