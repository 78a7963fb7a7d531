"""What a server does on its own: Events are forgotten after an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from podidentity.lab.kube.ages import seconds_of
from podidentity.lab.kube.objects import meta
from podidentity.lab.kube.store import Store

LIFE: Final = 3600.0
"""Seconds an Event is kept after its last write, as by kube-apiserver's ``--event-ttl``."""

_PAUSE: Final = 60.0


def forget_events(store: Store, now: float) -> int:
    """Remove the Events that are too old; how many there were."""
    old = [obj for stored in store.scan("events") if _age(obj := stored.obj(), now) > LIFE]
    for obj in old:
        store.remove("events", obj)
    return len(old)


def _age(event: dict[str, object], now: float) -> float:
    times = (event.get("lastTimestamp"), event.get("eventTime"), meta(event).get("creationTimestamp"))
    return now - max((found for text in times if text and (found := seconds_of(text)) is not None), default=now)


async def keep_house(store: Store, now: Callable[[], float]) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(_PAUSE)
        forget_events(store, now())
