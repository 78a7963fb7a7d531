"""A pod's status from what its containers did, and when a container starts again. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from podidentity.lab.node.objects import ContainerSpec, FullPod

BACKOFF_START: Final = 10.0
BACKOFF_LIMIT: Final = 300.0
_INIT: Final = "PodInitializing"
_CREATING: Final = "ContainerCreating"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not running yet, or not any more."""

    reason: str = _CREATING
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """Runs since ``started_at`` (seconds since the epoch)."""

    started_at: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """Has ended; times in seconds since the epoch."""

    exit_code: int
    reason: str
    started_at: float
    finished_at: float
    message: str = ""


State: TypeAlias = Waiting | Running | Terminated


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """What is known of one container; ``last`` is the end of the instance before the present one."""

    state: State = field(default_factory=Waiting)
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False
    started: bool = False


@dataclass(frozen=True, slots=True)
class PodRecord:
    """What is known of one pod; containers by name. ``reason`` and ``message`` only for a pod failed as a whole."""

    host_ip: str
    pod_ip: str = ""
    start_time: float = 0
    init: Mapping[str, ContainerRecord] = field(default_factory=dict)
    main: Mapping[str, ContainerRecord] = field(default_factory=dict)
    reason: str = ""
    message: str = ""


def new_record(pod: FullPod, host_ip: str, now: float) -> PodRecord:
    """The record of a pod just seen."""
    waiting = Waiting(_INIT if pod.spec.init_containers else _CREATING)
    first = Waiting(_CREATING)
    init = {spec.name: ContainerRecord(first if n == 0 else waiting) for n, spec in enumerate(pod.spec.init_containers)}
    main = {spec.name: ContainerRecord(waiting) for spec in pod.spec.containers}
    return PodRecord(host_ip, start_time=now, init=init, main=main)


def with_container(record: PodRecord, name: str, container: ContainerRecord) -> PodRecord:
    """The record with one container's record replaced."""
    if name in record.init:
        return replace(record, init={**record.init, name: container})
    return replace(record, main={**record.main, name: container})


def starts_again(policy: str, exit_code: int, *, init: bool = False) -> bool:
    """Whether a container that ended so is started again; an init container never is after success."""
    if exit_code == 0 and init:
        return False
    return policy == "Always" if exit_code == 0 else policy != "Never"


def restart_delay(restarts: int) -> float:
    """Seconds between an end and the next start: at once the first time, then 10, 20, 40 ... 300."""
    return 0.0 if restarts == 0 else min(BACKOFF_START * 2 ** min(restarts - 1, 16), BACKOFF_LIMIT)


def phase(pod: FullPod, record: PodRecord) -> str:
    """``status.phase``."""
    if record.reason:
        return "Failed"
    policy = pod.spec.restart_policy
    for container in record.init.values():
        if not isinstance(container.state, Terminated) or container.state.exit_code:
            failed = isinstance(container.state, Terminated) and policy == "Never"
            return "Failed" if failed else "Pending"
    states = [container.state for container in record.main.values()]
    ended = [state for state in states if isinstance(state, Terminated)]
    if len(ended) == len(states) and not any(starts_again(policy, state.exit_code) for state in ended):
        return "Failed" if any(state.exit_code for state in ended) else "Succeeded"
    begun = any(isinstance(item.state, Running | Terminated) or item.last for item in record.main.values())
    return "Running" if begun else "Pending"


def stamp(seconds: float) -> str:
    """RFC 3339 with whole seconds, as in ``status``."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _state(state: State) -> dict[str, object]:
    if isinstance(state, Waiting):
        return {"waiting": {"reason": state.reason} | ({"message": state.message} if state.message else {})}
    if isinstance(state, Running):
        return {"running": {"startedAt": stamp(state.started_at)}}
    ended: dict[str, object] = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": stamp(state.started_at),
        "finishedAt": stamp(state.finished_at),
    }
    if state.message:
        ended["message"] = state.message
    return {"terminated": ended}


def _container(spec: ContainerSpec, record: ContainerRecord, uid: str) -> dict[str, object]:
    begun = not isinstance(record.state, Waiting) or record.last is not None
    return {
        "name": spec.name,
        "image": spec.image,
        "imageID": f"lab://{spec.image}" if begun else "",
        "containerID": f"lab://{uid}-{spec.name}-{record.restarts}" if begun else "",
        "ready": record.ready,
        "started": record.started,
        "restartCount": record.restarts,
        "state": _state(record.state),
        "lastState": _state(record.last) if record.last else {},
    }


def _condition(kind: str, holds: bool, reason: str = "", message: str = "") -> dict[str, object]:
    found: dict[str, object] = {"type": kind, "status": "True" if holds else "False"}
    if not holds and reason:
        found |= {"reason": reason, "message": message}
    return found


def conditions(pod: FullPod, record: PodRecord, now_phase: str) -> list[dict[str, object]]:
    """The pod's conditions, without their transition times."""
    incomplete = [
        name
        for name, item in record.init.items()
        if not (isinstance(item.state, Terminated) and item.state.exit_code == 0)
    ]
    unready = [spec.name for spec in pod.spec.containers if not record.main[spec.name].ready]
    if now_phase == "Succeeded":
        reason, message = "PodCompleted", ""
    else:
        reason, message = "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    ready = not unready
    return [
        _condition("PodReadyToStartContainers", bool(record.pod_ip)),
        _condition(
            "Initialized",
            not incomplete,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(incomplete)}]",
        ),
        _condition("Ready", ready, reason, message),
        _condition("ContainersReady", ready, reason, message),
        _condition("PodScheduled", holds=True),
    ]


def _dated(
    fresh: Sequence[dict[str, object]], before: Sequence[Mapping[str, object]], now: float
) -> list[dict[str, object]]:
    """The conditions with the time of their last change of status."""
    known = {str(item["type"]): item for item in before}
    dated = []
    for item in fresh:
        old = known.get(str(item["type"]))
        same = old is not None and old["status"] == item["status"]
        since = old["lastTransitionTime"] if same and old is not None else stamp(now)
        dated.append({**item, "lastTransitionTime": since})
    return dated


def status_of(pod: FullPod, record: PodRecord, before: Sequence[Mapping[str, object]], now: float) -> dict[str, object]:
    """``status`` to write; ``before`` are the conditions written last, ``now`` is in seconds since the epoch."""
    current = phase(pod, record)
    status: dict[str, object] = {
        "phase": current,
        "hostIP": record.host_ip,
        "hostIPs": [{"ip": record.host_ip}],
        "startTime": stamp(record.start_time),
        "conditions": _dated(conditions(pod, record, current), before, now),
        "containerStatuses": [_container(spec, record.main[spec.name], pod.uid) for spec in pod.spec.containers],
    }
    if record.init:
        status["initContainerStatuses"] = [
            _container(spec, record.init[spec.name], pod.uid) for spec in pod.spec.init_containers
        ]
    if record.pod_ip:
        status |= {"podIP": record.pod_ip, "podIPs": [{"ip": record.pod_ip}]}
    if record.reason:
        status |= {"reason": record.reason, "message": record.message}
    return status
