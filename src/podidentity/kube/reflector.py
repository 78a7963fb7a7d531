"""Keeps a store equal to a collection of the API: list, watch, and again, whatever goes wrong."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from podidentity.aio.backoff import Backoff
from podidentity.aio.clock import Clock
from podidentity.api.meta import KubeObject
from podidentity.kube.errors import ApiError, Forbidden, Gone, KubeError, NotFound, WatchSilent
from podidentity.kube.refusals import missing_kind
from podidentity.kube.store import BOOKMARK, UNREADABLE, Change, Store, WatchEvent, split
from podidentity.telemetry.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from podidentity.api.resources import Resource
    from podidentity.kube.client import KubeClient

T = TypeVar("T", bound=KubeObject)

WATCH_TIMEOUT: Final = 300.0
"""Seconds (up to twice as long, at random) after which the server ends a watch."""

IDLE_DEADLINE: Final = 90.0
"""Seconds of silence after which a watch is opened anew; the API sends a bookmark about every minute."""

SLICE: Final = 200
"""Changes of a list told in one turn of the loop: probes and the renewal of a lead do not wait for a large cluster."""

_BACKOFF: Final = Backoff(initial=0.5, factor=2.0, maximum=30.0, jitter=0.2)
_BACKOFF_STEPS: Final = 16
_HEALTHY: Final = 5.0
"""A watch that lasted this long, in seconds, was no failure to connect."""

_MENDED_WITHIN: Final = 5.0
"""Seconds at most between attempts while a person has to mend something."""

_RELIST_AFTER: Final = 3
"""Failed watches in a row after which the version watched from is no longer trusted."""


class Reflector(Generic[T]):
    """Lists and watches one collection into ``store``; ``on_change`` hears of each change after the store has it.

    ``synced`` is set after the first complete list and never cleared: the store serves what it last knew.
    ``refused`` says what a person has to mend before the API lets us watch (a right, a CRD), empty when nothing.
    ``slim`` may leave out of each object what nobody needs, before it is stored.
    An exception of ``on_change`` is the caller's own and ends ``run``; nothing else does.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource[T],
        store: Store[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        slim: Callable[[T], T] | None = None,
        on_change: Callable[[Change[T]], None] | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        watch_timeout: float = WATCH_TIMEOUT,
        idle_deadline: float = IDLE_DEADLINE,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.refused = ""
        self._client = client
        self._store = store
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._slim = slim
        self._on_change = on_change
        self._clock = clock or Clock()
        self._rng = rng or random.Random()  # noqa: S311 - spreads reconnects, guards nothing
        self._watch_timeout = watch_timeout
        self._idle = idle_deadline
        self._version = ""
        self._failures = 0
        self._listed = asyncio.Event()
        self._limit: asyncio.Timeout | None = None
        self._heard_at = -math.inf
        self._reported: set[str] = set()
        self._log = get_logger(resource=resource.plural)

    def age(self) -> float:
        """Return the seconds since the API was last heard (list, event, bookmark, open watch); inf before that."""
        return self._clock.monotonic() - self._heard_at

    async def renew(self) -> None:
        """Drop the watch, list anew, and return when that is done: for who must know that nothing was missed."""
        self._version = ""
        self._listed.clear()
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())
        await self._listed.wait()

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            started = self._clock.monotonic()
            told = 0.0
            try:
                if not self._version:
                    await self._list()
                await self._unless_renewed(self._watch())
            except Gone:
                self._version = ""
                self._log.v(2).info("the version watched from is too old, listing again")
            except WatchSilent:
                self._log.v(4).info("the watch was silent, opening it anew")
            except KubeError as error:
                told = self._trouble(error)
            if self._clock.monotonic() - started >= _HEALTHY and not told:
                self._failures = 0
                continue
            pause = _BACKOFF.delay(min(self._failures, _BACKOFF_STEPS), self._rng)
            if self.refused:
                pause = min(pause, _MENDED_WITHIN)
            await self._unless_renewed(asyncio.sleep(max(pause, min(told, _BACKOFF.maximum))))
            self._failures += 1

    async def _unless_renewed(self, work: Coroutine[None, None, None]) -> None:
        """Do the work, or drop it when somebody wants everything listed anew."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._limit = limit
                await work
        except TimeoutError:
            if not limit.expired():
                raise
            self._version = ""
        finally:
            self._limit = None

    def _trouble(self, error: KubeError) -> float:
        """Log each kind of failure once until the watch works again; give the API's ``Retry-After`` in seconds or 0."""
        code = error.code if isinstance(error, ApiError) else ""
        self.refused = refusal(self.resource, error)
        kind = self.refused or f"{type(error).__name__} {code}"
        if kind not in self._reported:
            self._reported.add(kind)
            why = self.refused or str(error)
            self._log.warning("cannot watch, trying again", error=why, synced=self.synced.is_set())
        if self._failures + 1 >= _RELIST_AFTER:
            self._version = ""
        return (error.retry_after or 0.0) if isinstance(error, ApiError) else 0.0

    async def _list(self) -> None:
        found = await self._client.list(
            self.resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            slim=self._slim,
        )
        self._heard()
        for problem in found.unreadable:
            self._unreadable(problem)
        self._version = found.resource_version
        for count, change in enumerate(self._store.replace_all(found.items), 1):
            self._tell(change)
            if count % SLICE == 0:
                await asyncio.sleep(0)
        self.synced.set()
        self._listed.set()

    async def _watch(self) -> None:
        events = self._client.watch(
            self.resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource_version=self._version,
            timeout=self._watch_timeout * (1 + self._rng.random()),
            idle=self._idle,
            on_heard=self._heard_watch,
        )
        async with aclosing(events):
            async for event in events:
                self._take(event)

    def _take(self, event: WatchEvent[T]) -> None:
        if event.resource_version:
            self._version = event.resource_version
        self._recovered()
        if event.type == BOOKMARK:
            return
        if event.type == UNREADABLE:
            self._unreadable(f"{event.key}: {event.detail}")
        if self._slim is not None and event.object is not None:
            event = replace(event, object=self._slim(event.object))
        change = self._store.apply(event)
        if change is not None:
            for one in split(change):
                self._tell(one)

    def _tell(self, change: Change[T]) -> None:
        if self._on_change is not None:
            self._on_change(change)

    def _heard(self) -> None:
        self._heard_at = self._clock.monotonic()

    def _heard_watch(self) -> None:
        self.refused = ""
        self._heard()

    def _recovered(self) -> None:
        self._failures = 0
        if self._reported:
            self._reported.clear()
            self._log.info("watching again")

    def _unreadable(self, problem: str) -> None:
        if problem not in self._reported:
            self._log.warning("an object does not fit its type and is ignored", object=problem)


def refusal(resource: Resource[T], error: KubeError) -> str:
    """What a person has to mend before ``resource`` can be read; empty for what passes by itself."""
    if isinstance(error, NotFound):
        return missing_kind(resource)
    return str(error) if isinstance(error, Forbidden) else ""
