"""``mic --drain``: an orderly end. Nothing is wanted any more, so all that mic attached comes off, no record stays.

It is mic itself that does it, leading as always, with no pods to look at and no linger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from podidentity.config.errors import ConfigError
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError, NotFound
from podidentity.telemetry.logging import get_logger

LOOK: Final = 0.2
"""Seconds between two looks at what is left."""
SHOWN: Final = 5
"""Names of records in the line that says what is left."""
MERGE: Final = "application/merge-patch+json"


async def scale_to_zero(client: KubeClient, deployment: str) -> None:
    """End the controllers of a Deployment (``namespace/name``), so that this one can lead. Raises ConfigError."""
    if not deployment:
        return
    namespace, _, name = deployment.partition("/")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"
    try:
        await client.raw("PATCH", path, body={"spec": {"replicas": 0}}, content_type=MERGE)
    except NotFound:
        get_logger().info(f"there is no deployment {deployment} to scale down")
    except KubeError as error:
        raise ConfigError(f"--drain-deployment={deployment}: cannot be scaled to 0: {error}") from error
    else:
        get_logger().info(f"scaled deployment {deployment} to 0")


async def emptied(left: Callable[[], Sequence[str]]) -> None:
    """Return when no record is left."""
    get_logger().info(f"draining {len(left())} assigned identities")
    while left():  # noqa: ASYNC110 - what is waited for happens on a server
        await asyncio.sleep(LOOK)
    get_logger().info("drained: no assigned identity is left, and no identity that mic attached is on a host")


async def within(seconds: float, work: Awaitable[object], left: Callable[[], Sequence[str]]) -> None:
    """Do the work in time. Raises ConfigError that says what is left, and how to go on."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        names = sorted(left())
        listed = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        what = f"{len(names)} assigned identities are left ({listed})" if names else "it could not lead or list"
        raise ConfigError(
            f"--drain: after {seconds:.0f} s {what}; the log above says why: mend it and run it again, "
            "or scale the mic Deployment up again to go on as before"
        ) from None
