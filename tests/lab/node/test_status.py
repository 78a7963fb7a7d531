"""A pod's status and when its containers start again."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podidentity.api.meta import ObjectMeta
from podidentity.lab.node.objects import ContainerSpec, FullPod, FullPodSpec
from podidentity.lab.node.status import (
    ContainerRecord,
    PodRecord,
    Running,
    State,
    Terminated,
    Waiting,
    new_record,
    phase,
    restart_delay,
    starts_again,
    status_of,
    with_container,
)

RUNS = Running(5)
DONE = Terminated(0, "Completed", 5, 6)
FAILED = Terminated(3, "Error", 5, 6)
WAITS = Waiting()


def pod(policy: str = "Always", main: int = 1, init: int = 0) -> FullPod:
    """A pod with so many containers, named m0, m1 ... and i0, i1 ..."""
    spec = FullPodSpec(
        restart_policy=policy,
        containers=tuple(ContainerSpec(name=f"m{n}", image="x") for n in range(main)),
        init_containers=tuple(ContainerSpec(name=f"i{n}", image="x") for n in range(init)),
    )
    return FullPod(metadata=ObjectMeta(name="p", namespace="ns", uid="u"), spec=spec)


def record(main: list[State], init: list[State] | None = None) -> PodRecord:
    """A record with these states."""
    return PodRecord(
        "10.0.0.1",
        main={f"m{n}": ContainerRecord(state) for n, state in enumerate(main)},
        init={f"i{n}": ContainerRecord(state) for n, state in enumerate(init or [])},
    )


@pytest.mark.parametrize(
    ("policy", "main", "init", "expected"),
    [
        ("Always", [WAITS], [], "Pending"),
        ("Always", [RUNS, WAITS], [], "Running"),
        ("Always", [DONE], [], "Running"),
        ("Always", [FAILED], [], "Running"),
        ("OnFailure", [DONE], [], "Succeeded"),
        ("OnFailure", [FAILED], [], "Running"),
        ("OnFailure", [DONE, RUNS], [], "Running"),
        ("Never", [DONE], [], "Succeeded"),
        ("Never", [DONE, FAILED], [], "Failed"),
        ("Always", [WAITS], [RUNS], "Pending"),
        ("Always", [WAITS], [FAILED], "Pending"),
        ("Never", [WAITS], [FAILED], "Failed"),
        ("Never", [WAITS], [DONE, WAITS], "Pending"),
        ("Never", [RUNS], [DONE], "Running"),
    ],
)
def test_phases(policy: str, main: list[State], init: list[State], expected: str) -> None:
    """Protects ``status.phase``, which controllers and mic decide on."""
    assert phase(pod(policy, len(main), len(init)), record(main, init)) == expected


def test_a_container_that_waits_to_start_again_counts_as_begun() -> None:
    """Protects the phase of a crash-looping pod: Running, not Pending."""
    waiting = ContainerRecord(Waiting("CrashLoopBackOff"), last=FAILED, restarts=2)
    assert phase(pod(), with_container(record([WAITS]), "m0", waiting)) == "Running"


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policy(policy: str, code: int, again: bool) -> None:
    """Protects when a container starts again; an init container that succeeded never does."""
    assert starts_again(policy, code) is again
    assert starts_again("Always", 0, init=True) is False
    assert starts_again("Always", 1, init=True) is True


@given(st.integers(min_value=0, max_value=10**9))
def test_the_back_off_grows_and_ends_at_five_minutes(restarts: int) -> None:
    """Protects the first restart being immediate, the order, the limit, and huge counts."""
    assert [restart_delay(n) for n in range(4)] == [0, 10, 20, 40]
    assert restart_delay(restarts) <= restart_delay(restarts + 1) <= 300


def as_written(pod_: FullPod, record_: PodRecord, before: list[Any], now: float) -> dict[str, Any]:
    """``status_of`` for tests that look into it."""
    return status_of(pod_, record_, before, now)


def test_a_new_pod_waits_for_its_init_containers() -> None:
    """Protects the reasons that ``kubectl get pods`` shows: PodInitializing, Init:0/1."""
    found = as_written(pod(init=1), new_record(pod(init=1), "10.0.0.1", 7), [], 8)
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert found["initContainerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert "podIP" not in found
    initialized = next(item for item in found["conditions"] if item["type"] == "Initialized")
    assert initialized["message"] == "containers with incomplete status: [i0]"


def test_conditions_keep_the_time_of_their_last_change() -> None:
    """Protects lastTransitionTime: it moves with the status only."""
    first = as_written(pod(), record([RUNS]), [], 100)
    ready = with_container(record([RUNS]), "m0", ContainerRecord(RUNS, ready=True))
    second = as_written(pod(), ready, first["conditions"], 200)
    times = {item["type"]: item["lastTransitionTime"] for item in second["conditions"]}
    assert times["Ready"] == times["ContainersReady"] == "1970-01-01T00:03:20Z"
    assert times["PodScheduled"] == "1970-01-01T00:01:40Z"


def test_a_terminated_container_says_how_it_ended() -> None:
    """Protects exit code, reason, message and the state before."""
    ended = Terminated(3, "StartError", 5, 6, "no such file")
    found = as_written(pod("Never"), with_container(record([WAITS]), "m0", ContainerRecord(ended, FAILED, 1)), [], 9)
    status = found["containerStatuses"][0]
    assert status["state"]["terminated"]["message"] == "no such file"
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["restartCount"] == 1
    done = as_written(pod("Never"), with_container(record([WAITS]), "m0", ContainerRecord(DONE)), [], 9)
    assert next(item for item in done["conditions"] if item["type"] == "Ready")["reason"] == "PodCompleted"


def test_a_pod_that_failed_as_a_whole_says_why() -> None:
    """Protects DeadlineExceeded."""
    found = as_written(pod(), replace(record([RUNS]), reason="DeadlineExceeded", message="m", pod_ip="10.1.0.1"), [], 9)
    assert (found["phase"], found["reason"], found["podIPs"]) == ("Failed", "DeadlineExceeded", [{"ip": "10.1.0.1"}])


def test_an_init_containers_record_is_replaced_in_its_place() -> None:
    """Protects against an init container showing up among the main ones."""
    changed = with_container(record([WAITS], [WAITS]), "i0", ContainerRecord(DONE))
    assert changed.init["i0"].state is DONE
    assert set(changed.main) == {"m0"}
