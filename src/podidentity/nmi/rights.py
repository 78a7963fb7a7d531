"""What nmi says about its own rights at the start."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from podidentity.aio.backoff import Backoff
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import Forbidden, KubeError, KubeUnavailable
from podidentity.kube.greeting import greet
from podidentity.telemetry.logging import Logger

REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
WIDE: Final = (
    "this nmi may read every Secret of the cluster, and so may whoever takes over one node; only identities of type 1 "
    "and 2 need Secrets: apply deploy/nmi-secrets-restricted.yaml, or set rbac.allowAccessToSecrets=false in the "
    "chart, and name theirs in a Role"
)
_BACKOFF: Final = Backoff(initial=1.0, factor=2.0, maximum=60.0, jitter=0.2)
_STEPS: Final = 8


class _Verdict(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True):
    status: _Verdict = _Verdict()


_REVIEW: Final = msgspec.json.Decoder(_Review)


class MissingRight:
    """Says that the API refuses something for want of a right: once, until the right is there."""

    def __init__(self, log: Logger, message: str) -> None:
        self._log = log
        self._message = message
        self._said = False

    @contextmanager
    def told(self) -> Iterator[None]:
        """Run a call to the API; what it raises is raised."""
        try:
            yield
        except Forbidden as error:
            if not self._said:
                self._log.error(self._message, error=str(error))
            self._said = True
            raise
        self._said = False


async def say_rights(client: KubeClient, log: Logger) -> None:
    """Say which Kubernetes this is, and warn when the right to read Secrets is wider than it has to be."""
    await greet(client)
    for attempt in range(_STEPS):
        try:
            wide = await reads_all_secrets(client)
        except KubeUnavailable:
            await asyncio.sleep(_BACKOFF.delay(attempt, random.Random()))  # noqa: S311 - spreads load
            continue
        except KubeError as error:
            log.v(2).info("cannot ask for the own rights", error=str(error))
            return
        if wide:
            log.warning(WIDE)
        return


async def reads_all_secrets(client: KubeClient) -> bool:
    """Ask the API whether this account may get Secrets in all namespaces. Raises KubeError."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "secrets"}},
    }
    answer = await client.raw("POST", REVIEWS, body=body)
    try:
        return _REVIEW.decode(answer).status.allowed
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
