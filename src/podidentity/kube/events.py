"""Kubernetes Events: recorded without waiting, written in the background, never an error for anybody."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from podidentity.aio.clock import Clock
from podidentity.api.core import Event, EventSource
from podidentity.api.meta import ObjectMeta, ObjectReference
from podidentity.api.resources import EVENTS
from podidentity.kube.correlate import Correlator, Decision, Occurrence
from podidentity.kube.errors import AlreadyExists, KubeError, KubeUnavailable, NotFound
from podidentity.kube.records import seconds_stamp
from podidentity.telemetry.logging import get_logger

if TYPE_CHECKING:
    from podidentity.kube.client import KubeClient

QUEUE: Final = 1000
"""Events waiting to be written at most; further ones are dropped and counted in the log."""

ATTEMPTS: Final = 3
PAUSE: Final = 5.0
"""Seconds between attempts while the API does not answer."""

MESSAGE_LIMIT: Final = 4096
_NAME_LIMIT: Final = 253


@dataclass(frozen=True, slots=True)
class _Waiting:
    occurrence: Occurrence
    stamp: int


class EventRecorder:
    """Records Events of ``component``; ``event`` queues, ``run`` writes. Bounded everywhere."""

    def __init__(
        self, client: KubeClient, *, component: str, clock: Clock | None = None, queue: int = QUEUE, host: str = ""
    ) -> None:
        self._client = client
        self._source = EventSource(component=component, host=host)
        self._clock = clock or Clock()
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(queue)
        self._correlator = Correlator()
        self._dropped = 0
        self._last_stamp = 0
        self._log = get_logger()

    def event(self, ref: ObjectReference, type_: str, reason: str, message: str) -> None:
        """Record an Event about ``ref``; ``type_`` is Normal or Warning. Never waits, never fails."""
        wall = self._clock.wall()
        text = message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 3] + "..."
        self._last_stamp = max(self._last_stamp + 1, int(wall * 1e9))
        waiting = _Waiting(Occurrence(ref, type_, reason, text, wall), self._last_stamp)
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            self._dropped += 1
            if self._dropped == 1:
                self._log.warning("the queue of events is full, dropping", waiting=self._queue.maxsize)

    async def run(self) -> None:
        """Write what is recorded until cancelled; what is queued then is lost."""
        while True:
            waiting = await self._queue.get()
            decision = self._correlator.decide(waiting.occurrence, self._clock.monotonic())
            if decision is not None:
                await self._deliver(waiting, decision)
            if self._dropped and self._queue.empty():
                self._log.warning("events were dropped", count=self._dropped)
                self._dropped = 0

    async def _deliver(self, waiting: _Waiting, decision: Decision) -> None:
        one = waiting.occurrence
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._write(waiting, decision)
            except KubeError as error:
                if isinstance(error, KubeUnavailable) and attempt < ATTEMPTS:
                    await asyncio.sleep(PAUSE)
                    continue
                about = f"{one.ref.kind} {one.ref.namespace}/{one.ref.name}"
                self._log.warning("cannot write an event", about=about, reason=one.reason, error=str(error))
            return

    async def _write(self, waiting: _Waiting, decision: Decision) -> None:
        one = waiting.occurrence
        if decision.name:
            patch = {"count": decision.count, "lastTimestamp": seconds_stamp(one.at), "message": decision.message}
            try:
                await self._client.patch_merge(EVENTS, decision.name, _namespace(one.ref), patch)
            except NotFound:
                self._correlator.wrote(decision, "")  # it expired in the API: write a new one
            else:
                return
        name = event_name(one.ref.name, waiting.stamp)
        with suppress(AlreadyExists):  # the name is ours alone: an attempt whose answer was lost
            await self._client.create(EVENTS, self._event(one, decision, name))
        self._correlator.wrote(decision, name)

    def _event(self, one: Occurrence, decision: Decision, name: str) -> Event:
        return Event(
            metadata=ObjectMeta(name=name, namespace=_namespace(one.ref)),
            involved_object=one.ref,
            reason=one.reason,
            message=decision.message,
            type=one.type,
            count=decision.count,
            first_timestamp=seconds_stamp(decision.first),
            last_timestamp=seconds_stamp(one.at),
            source=self._source,
            reporting_component=self._source.component,
        )


def event_name(object_name: str, stamp: int) -> str:
    """Name an Event ``<object>.<hex ns>``; an object's name that leaves no room is cut."""
    suffix = f".{stamp:x}"
    return object_name[: _NAME_LIMIT - len(suffix)].rstrip("-.") + suffix


def _namespace(ref: ObjectReference) -> str:
    """Events about cluster-scoped objects live in ``default``."""
    return ref.namespace or "default"
