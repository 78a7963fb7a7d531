"""``SOCKET NMI_URL VAULT_URL READY``: csi-provider as it ships, with the vault at another address."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from podidentity.aio.signals import until_signal
from podidentity.config.csi import csi_settings
from podidentity.csi.app import build_app, started
from podidentity.telemetry.logging import configure_logging


async def main() -> None:
    """Serve until a signal; READY exists from then on."""
    socket, nmi, vault, ready = sys.argv[1:]
    settings = csi_settings([f"--endpoint=unix://{socket}"], {"PODIDENTITY_NMI_URL": nmi})
    configure_logging(log_format=settings.log_format, verbosity=settings.verbosity)
    app = build_app(replace(settings, healthz_port=0, prometheus_port=0), vault_url=lambda _cloud, _name: vault)
    async with started(app):
        await asyncio.to_thread(Path(ready).touch)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(until_signal(main()))
