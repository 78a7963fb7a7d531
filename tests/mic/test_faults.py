"""Azure refuses, hangs, throttles; the controller dies half way. Nothing may be lost, nobody may be let in."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
import pytest

from podidentity.aio.fence import FenceClosedError
from podidentity.api.constants import FINALIZER, NODE_LABEL, PRESENT_BEFORE_ANNOTATION
from podidentity.api.identity import AzureAssignedIdentity, AzureAssignedIdentitySpec, AzureAssignedIdentityStatus
from podidentity.api.meta import ObjectMeta
from podidentity.azure.errors import (
    AuthorizationFailed,
    AzureStatusError,
    ConflictError,
    LinkedAuthorizationFailed,
    Throttled,
)
from podidentity.kube.errors import ApiError, Conflict, KubeUnavailable

pytestmark = pytest.mark.looptime

Bench = Any


def _key(name: str) -> str:
    return f"/subscriptions/sub/resourcegroups/ids/providers/microsoft.managedidentity/userassignedidentities/{name}"


def _crowd(bench: Bench, count: int) -> None:
    bench.node("n1", "vmss")
    for number in range(count):
        bench.identity(f"id{number}")
        bench.pod(f"p{number}", "n1", f"id{number}")


def _good(bench: Bench, count: int, *bad: int) -> bool:
    expected = {f"p{n}-default-id{n}": "Created" if n in bad else "Assigned" for n in range(count)}
    return bool(bench.states() == expected)


async def test_bad_identity_named_by_the_error(bench: Bench) -> None:
    """Protects the good identities of a PATCH: the one the error names is left alone, the others go through."""
    bad = _key("id3")

    def fault(_host: str, patch: Any) -> Exception | None:
        if bad not in patch.add:
            return None
        error = LinkedAuthorizationFailed(403, "LinkedAuthorizationFailed", "no assign/action")
        error.scopes = frozenset({bad})
        return error

    bench.arm.fault = fault
    _crowd(bench, 8)
    await bench.until(lambda: _good(bench, 8, 3), 40)
    (first, *_), (second, *_) = bench.arm.patches
    assert second - first < bench.arm.patch_seconds + 0.5, "the next PATCH is another one: it waits for nothing"
    events = {e[0]: e[3] for e in bench.told.events if e[2] == "binding apply error"}
    assert set(events) == {"AzureIdentityBinding", "Pod"}
    assert "Managed Identity Operator" in events["Pod"]
    assert bad in events["Pod"]
    bench.arm.fault = lambda _host, _patch: None
    await bench.until(lambda: _good(bench, 8), 600)


async def test_a_bad_identity_is_tried_again_when_its_object_changes(bench: Bench) -> None:
    """Protects the person who has just given the role: any change of the AzureIdentity ends the wait of minutes."""
    bad, refused = _key("id1"), [True]
    error = LinkedAuthorizationFailed(403, "LinkedAuthorizationFailed", "no assign/action")
    error.scopes = frozenset({bad})
    bench.arm.fault = lambda _host, patch: error if refused[0] and bad in patch.add else None
    _crowd(bench, 2)
    await asyncio.sleep(300)
    assert _good(bench, 2, 1)
    refused[0] = False
    identity = bench.things["AzureIdentity default/id1"]
    touched = msgspec.structs.replace(identity.metadata, annotations={"tried": "again"})
    bench.put(msgspec.structs.replace(identity, metadata=touched))
    await bench.until(lambda: _good(bench, 2), 15)


async def test_bad_identity_found_by_halving(bench: Bench) -> None:
    """Protects the good identities when the error names none: halving finds the two bad ones."""
    bad = {_key("id1"), _key("id6")}
    bench.arm.fault = lambda _h, p: AzureStatusError(400, "InvalidParameter", "bad") if bad & p.add else None
    _crowd(bench, 8)
    await bench.until(lambda: _good(bench, 8, 1, 6), 400)
    assert bench.on("vmss") == {f"id{n}" for n in range(8)} - {"id1", "id6"}


async def test_throttled(bench: Bench) -> None:
    """Protects the ARM budget: after 429 nothing is sent before Retry-After has passed."""
    failures = [Throttled(429, "TooManyRequests", "slow down", retry_after=60.0)]
    bench.arm.fault = lambda _h, _p: failures.pop() if failures else None
    _crowd(bench, 2)
    await bench.until(lambda: _good(bench, 2), 120)
    assert bench.arm.patches[1][0] - bench.arm.patches[0][0] >= 70
    assert bench.arm.gets["vmss"] <= 4


async def test_a_throttled_principal_pauses_every_host(bench: Bench) -> None:
    """Protects ARM's budget of the controller: a 429 that says it is used up stops all hosts until Retry-After."""
    headers = {"X-Ms-Ratelimit-Remaining-Subscription-Writes": "0"}
    limits = [Throttled(429, "SubscriptionRequestsThrottled", "", retry_after=60.0, headers=headers)]
    bench.arm.fault = lambda _host, _patch: limits.pop() if limits else None
    bench.node("n1", "one")
    bench.node("n2", "two")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: not limits, 30)
    begun, gets = asyncio.get_running_loop().time(), bench.arm.gets.total()
    bench.pod("q", "n2", "id1")
    await bench.until(lambda: bench.arm.gets.total() > gets, 90)
    assert asyncio.get_running_loop().time() - begun >= 60
    await bench.until(lambda: bench.assigned("p-default-id1", "q-default-id1"), 60)


async def test_m35_conflicts_are_read_again(bench: Bench) -> None:
    """Protects against concurrent writers: a 409 re-reads and tries again."""
    failures = [ConflictError(409, "Conflict", "concurrent") for _ in range(5)]
    bench.arm.fault = lambda _h, _p: failures.pop() if failures else None
    _crowd(bench, 1)
    await bench.until(lambda: _good(bench, 1), 120)
    assert bench.arm.gets["vmss"] >= 6


async def test_no_right_on_the_machine(bench: Bench) -> None:
    """Protects the operator's time: the Event names the role and the scope, and it heals by itself."""
    bench.arm.get_fault = lambda _h: AuthorizationFailed(403, "AuthorizationFailed", "no")
    _crowd(bench, 1)
    await bench.until(lambda: any("Virtual Machine Contributor" in e[3] for e in bench.told.events), 20)
    assert bench.states() == {"p0-default-id0": "Created"}
    assert bench.record("p0-default-id0").metadata.annotations[PRESENT_BEFORE_ANNOTATION] == "unknown"
    bench.arm.get_fault = lambda _h: None
    await bench.until(lambda: _good(bench, 1), 120)
    assert PRESENT_BEFORE_ANNOTATION not in bench.record("p0-default-id0").metadata.annotations


async def test_foreign_identity_is_recognised_after_blindness(bench: Bench) -> None:
    """Protects a foreign identity whose host could not be read when the record was written."""
    bench.node("n1", "vmss")
    bench.arm.attached["vmss"][_key("id1")] = "client-id1"
    bench.arm.get_fault = lambda _h: AzureStatusError(500, "InternalServerError", "no")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.states() == {"p-default-id1": "Created"}, 20)
    await bench.restart()
    bench.arm.get_fault = lambda _h: None
    await bench.until(lambda: bench.assigned("p-default-id1"), 120)
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == {"id1"}


async def test_m16_hanging_host_holds_up_nobody_else(bench: Bench) -> None:
    """Protects the other hosts: a PATCH that never ends stalls its own host only."""
    bench.node("n1", "slow")
    bench.node("n2", "quick")
    bench.arm.hanging.add("slow")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    bench.pod("q", "n2", "id1")
    await bench.until(lambda: bench.states().get("q-default-id1") == "Assigned", 15)
    bench.identity("id2")
    bench.pod("r", "n1", "id2")
    await bench.until(lambda: bench.states().get("r-default-id2") == "Created", 5)


async def test_host_gone(bench: Bench) -> None:
    """Protects the scale-in of a whole pool: records of a host that ARM does not know are let go at once."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    del bench.arm.attached["vmss"]
    bench.drop(pod)
    bench.drop(bench.things["Node n1"])
    await bench.until(lambda: bench.states() == {}, 200)


async def test_m9_last_node_of_a_scale_set_goes(bench: Bench) -> None:
    """Protects a scale set scaled to zero from keeping the identity for ever, also over a restart."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.drop(bench.things["Node n1"])
    bench.drop(pod)
    await asyncio.sleep(1)
    await bench.restart()
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


@pytest.mark.parametrize("seconds", [0.05, 0.12, 0.3, 5.0, 10.4, 10.6, 11.0])
async def test_killed_while_assigning(bench: Bench, seconds: float) -> None:
    """Protects against a crash at any moment of the way up, and of the removal after it."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await asyncio.sleep(seconds)
    await bench.kill()
    await asyncio.sleep(1)
    await bench.restart()
    await bench.until(lambda: bench.assigned("p-default-id1"), 40)
    bench.drop(pod)
    await asyncio.sleep(seconds * 11)
    await bench.restart()
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


async def test_pod_gone_while_the_controller_was_down(bench: Bench) -> None:
    """Protects against leftovers: a record whose pod vanished unseen is removed, its identity too."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    await bench.kill()
    bench.things.pop(f"Pod {pod.key}")
    await bench.restart()
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


@pytest.mark.parametrize("state", ["", "Created", "Assigned", "Unassigned"])
async def test_m22_m24_taking_over_from_the_original(bench: Bench, state: str) -> None:
    """Protects an upgrade: the original's objects are adopted in any state, without a needless PATCH."""
    bench.node("n1", "vmss")
    identity = bench.identity("id1")
    binding = bench.things["AzureIdentityBinding default/id1-binding"]
    bench.arm.attached["vmss"][_key("id1")] = "client-id1"
    meta = ObjectMeta(name="p-default-id1", namespace="default", labels={NODE_LABEL: "n1"}, finalizers=(FINALIZER,))
    spec = AzureAssignedIdentitySpec(
        azure_identity_ref=identity, azure_binding_ref=binding, pod="p", pod_namespace="default", node_name="n1"
    )
    status = AzureAssignedIdentityStatus(status=state, available_replicas=1 if state else 0)
    bench.kube.seed(AzureAssignedIdentity(metadata=meta, spec=spec, status=status))
    pod = bench.pod("p", "n1", "id1")
    await bench.restart()
    await bench.until(lambda: bench.assigned("p-default-id1"), 5)
    await asyncio.sleep(10)
    assert not bench.arm.patches
    assert bench.kube.calls == ({} if state == "Assigned" else {"patch": 1})
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


async def test_m18_kubernetes_errors_are_retried(bench: Bench) -> None:
    """Protects every write against a failing API, and its Event against silence."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.kube.failures += [
        ("create", ApiError(500, "InternalError", "etcd")),
        ("create", KubeUnavailable("lost")),
        ("patch", Conflict(409, "Conflict", "raced")),
        ("patch", ApiError(429, "TooManyRequests", "slow", retry_after=3.0)),
        ("delete", ApiError(500, "InternalError", "etcd")),
    ]
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 60)
    assert [e for e in bench.told.events if e[2] == "status update error"]
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 200)
    assert not bench.kube.failures


async def test_record_deleted_by_a_user(bench: Bench) -> None:
    """Protects a running pod: the record somebody deletes by hand is written again without a PATCH."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    uid = bench.record("p-default-id1").metadata.uid
    await bench.kube.delete(None, "p-default-id1", "default")
    await bench.until(lambda: bench.assigned("p-default-id1") and bench.record("p-default-id1").metadata.uid != uid, 5)
    assert len(bench.arm.patches) == 1


async def test_without_leadership_nothing_is_written(bench: Bench) -> None:
    """Protects against two writers: once leadership is in doubt there is no write at all."""
    bench.fence.close()
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await asyncio.sleep(30)
    assert not bench.kube.calls
    assert not bench.arm.patches
    bench.fence.open_until(math.inf)
    await bench.until(lambda: bench.assigned("p-default-id1"), 80)


async def test_a_patch_that_was_held_back_is_no_failure(bench: Bench) -> None:
    """Protects us when we lead again: an unsent PATCH blames no host and no identity."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    held_back = [FenceClosedError("held back")]
    bench.arm.fault = lambda _host, _patch: held_back.pop() if held_back else None
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 25)
    assert len(bench.arm.patches) == 2
    assert not [event for event in bench.told.events if event[2] != "binding applied"]


async def test_m26_own_writes_are_seen_without_a_watch(bench: Bench) -> None:
    """Protects against a dead watch: what we wrote is known from the answers."""
    bench.kube.watching = False
    _crowd(bench, 3)
    await bench.until(lambda: _good(bench, 3), 15)
    assert bench.kube.calls == {"create": 3, "patch": 3}


async def test_late_watch_events_change_nothing(bench: Bench) -> None:
    """Protects against stale events: an old version of a record is not believed."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.states() == {"p-default-id1": "Created"}, 5)
    stale = bench.record("p-default-id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.controller.assigned(type("Change", (), {"old": None, "new": stale})())
    await asyncio.sleep(1)
    assert bench.kube.calls == {"create": 1, "patch": 1}


async def test_m32_more_than_150_identities(bench: Bench) -> None:
    """Protects ARM's limit of 150 keys in one request."""
    bench.arm.patch_seconds = 1.0
    _crowd(bench, 170)
    await bench.until(lambda: _good(bench, 170), 120)
    assert max(len(patch.add) for _, _, patch in bench.arm.patches) == 150


async def test_identity_updated(bench: Bench) -> None:
    """Protects an edit: another client id follows in place, another resource id moves, the old one is cleaned."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    uid = bench.record("p-default-id1").metadata.uid
    labelled = bench.things["AzureIdentity default/id1"]
    bench.put(msgspec.structs.replace(labelled, metadata=msgspec.structs.replace(labelled.metadata, labels={"a": "b"})))
    await asyncio.sleep(2)
    assert bench.kube.calls == {"create": 1, "patch": 1}
    bench.identity("id1", tenant_id="t")
    await bench.until(lambda: bench.record("p-default-id1").spec.azure_identity_ref.spec.tenant_id == "t", 2)
    assert bench.assigned("p-default-id1")
    assert bench.record("p-default-id1").metadata.uid == uid
    bench.identity("id1", resource_id=_key("other"), client_id="client-other")
    await bench.until(lambda: bench.on("vmss") == {"id1", "other"}, 20)
    await bench.until(lambda: list(bench.states().values()) == ["Assigned"], 200)
    assert bench.on("vmss") == {"other"}


@pytest.mark.parametrize("back", [True, False])
async def test_failing_comeback_forgets_nothing(bench: Bench, back: bool) -> None:
    """Protects against a leak: while the API refuses the successor's record, the one before it stands for our PATCH."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.kube.failures += [("create", ApiError(500, "InternalError", "etcd")) for _ in range(4)]
    bench.drop(pod)
    await asyncio.sleep(1)
    pod = bench.pod("p", "n1", "id1", uid="second")
    await asyncio.sleep(2)
    assert bench.states() == {"p-default-id1": "-Assigned"}
    if back:
        await bench.until(lambda: bench.assigned("p-default-id1"), 60)
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {} and bench.on("vmss") == set(), 200)
    await bench.until(lambda: bench.world.shelves == {}, 5)
