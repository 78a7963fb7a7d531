"""Writes a pod's status to the API, the latest one only, and never the same twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from podidentity.aio.clock import Clock
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import Invalid, KubeError, NotFound
from podidentity.lab.node.objects import FULL_PODS, FullPod
from podidentity.lab.node.status import PodRecord, status_of
from podidentity.telemetry.logging import get_logger

_RETRY: Final = 1.0


class Reporter:
    """The status of one pod. ``record`` is read when it is written; ``changed`` says that it is worth it."""

    def __init__(self, client: KubeClient, clock: Clock, pod: FullPod, record: Callable[[], PodRecord]) -> None:
        self._client = client
        self._clock = clock
        self._pod = pod
        self._record = record
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._written: Mapping[str, object] = {}
        self._conditions: Sequence[Mapping[str, object]] = ()

    def changed(self) -> None:
        """The record has changed."""
        self._idle.clear()
        self._changed.set()

    async def settled(self) -> None:
        """Wait until the API knows the record as it is now."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write until cancelled, or until the pod is no longer in the API."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            status = status_of(self._pod, self._record(), self._conditions, self._clock.wall())
            if status != self._written and not await self._write(status):
                self._changed.set()
                await asyncio.sleep(_RETRY)
            elif not self._changed.is_set():
                self._idle.set()

    async def _write(self, status: Mapping[str, object]) -> bool:
        pod = self._pod
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        try:
            await self._client.patch_merge(FULL_PODS, pod.name, pod.namespace, patch, subresource="status")
        except NotFound:
            return True
        except KubeError as error:
            get_logger(pod=f"{pod.namespace}/{pod.name}").warning("the status was not written", error=str(error))
            return isinstance(error, Invalid)
        self._written = status
        found = status["conditions"]
        self._conditions = found if isinstance(found, list) else ()
        return True
