"""Times of the wire as seconds, and what follows from them (pure)."""

from __future__ import annotations

import datetime as dt
import math

from podidentity.lab.controllers.things import Thing, condition_of, pod_active, pod_ready


def seconds(text: object) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 for anything else."""
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def rfc3339(wall: float) -> str:
    """``2026-11-23T22:04:05Z``."""
    return dt.datetime.fromtimestamp(int(wall), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def available(pod: Thing, min_ready: int, now: float) -> float:
    """Seconds until a pod counts as available: 0 or less when it does, infinity when it is not ready."""
    if not pod_active(pod) or not pod_ready(pod):
        return math.inf
    if min_ready <= 0:
        return 0
    return seconds(condition_of(pod, "Ready").get("lastTransitionTime")) + min_ready - now
