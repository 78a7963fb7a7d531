"""The first words with an API server: which Kubernetes it is, and whether it can hold our CRDs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podidentity.kube.errors import KubeError
from podidentity.kube.refusals import too_old
from podidentity.telemetry.logging import get_logger

if TYPE_CHECKING:
    from podidentity.kube.client import KubeClient


async def greet(client: KubeClient) -> None:
    """Log the server's version, and an error line when it is too old to work with."""
    log = get_logger()
    try:
        version = await client.server_version()
    except KubeError as error:
        log.warning("Kubernetes server version: not known", error=str(error))
        return
    log.info(f"Kubernetes server version: {version}")  # noqa: G004 - not the stdlib's logger
    complaint = too_old(version)
    if complaint:
        log.error(complaint)
