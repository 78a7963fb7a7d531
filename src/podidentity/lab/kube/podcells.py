"""Ready, Status and Restarts of a pod as ``kubectl get pods`` words them (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from podidentity.lab.kube.ages import age
from podidentity.lab.kube.objects import Obj, dig, meta


def _statuses(pod: Obj, group: str) -> list[Obj]:
    return list(dig(pod, "status", group) or ())


def ready(pod: Obj, _now: float) -> str:
    """``1/2``: containers that are ready, of all."""
    whole = len(dig(pod, "spec", "containers") or ())
    good = sum(
        bool(item.get("ready")) and "running" in (item.get("state") or {})
        for item in _statuses(pod, "containerStatuses")
    )
    return f"{good}/{whole}"


def restarts(pod: Obj, now: float) -> str:
    """Restarts of all containers, and how long ago the last was."""
    found = [*_statuses(pod, "initContainerStatuses"), *_statuses(pod, "containerStatuses")]
    count = sum(int(item.get("restartCount") or 0) for item in found)
    ends = [dig(item, "lastState", "terminated", "finishedAt") for item in found]
    latest = max((end for end in ends if end), default=None)
    return f"{count} ({age(latest, now)} ago)" if count and latest else str(count)


def gates(pod: Obj, _now: float) -> str:
    """Readiness gates that are met, of all."""
    wanted = [gate.get("conditionType") for gate in dig(pod, "spec", "readinessGates") or ()]
    met = {item.get("type") for item in dig(pod, "status", "conditions") or () if item.get("status") == "True"}
    return f"{sum(name in met for name in wanted)}/{len(wanted)}" if wanted else "<none>"


def status(pod: Obj, _now: float) -> str:
    """The one word that says most: Running, Completed, CrashLoopBackOff, Init:0/1, Terminating..."""
    word = str(dig(pod, "status", "reason") or dig(pod, "status", "phase") or "Unknown")
    starting = _initializing(pod)
    word = starting or _running(pod, word)
    if meta(pod).get("deletionTimestamp"):
        return "Unknown" if dig(pod, "status", "reason") == "NodeLost" else "Terminating"
    return word


def _initializing(pod: Obj) -> str:
    total = len(dig(pod, "spec", "initContainers") or ())
    for number, found in enumerate(_statuses(pod, "initContainerStatuses")):
        state = found.get("state") or {}
        ended = state.get("terminated")
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if ended is not None:
            return f"Init:{_end(ended)}"
        reason = dig(state, "waiting", "reason")
        return f"Init:{reason}" if reason and reason != "PodInitializing" else f"Init:{number}/{total}"
    return ""


def _end(ended: Obj) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode') or 0}"


def _running(pod: Obj, word: str) -> str:
    found = _statuses(pod, "containerStatuses")
    alive = any(item.get("ready") and "running" in (item.get("state") or {}) for item in found)
    for item in reversed(found):
        state: Any = item.get("state") or {}
        if dig(state, "waiting", "reason"):
            word = str(state["waiting"]["reason"])
        elif state.get("terminated"):
            word = _end(state["terminated"])
    if word == "Completed" and alive:
        return "Running" if _is_ready(dig(pod, "status", "conditions") or ()) else "NotReady"
    return word


def _is_ready(conditions: Iterable[Obj]) -> bool:
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
