"""Defects of the original that no other test of mic is about; docs/reference/mic-defects.md has the whole table."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from podidentity.api.constants import FINALIZER
from podidentity.api.core import Node, NodeSpec, PodStatus
from podidentity.api.identity import AzureIdentityBinding, AzureIdentityBindingSpec
from podidentity.api.meta import ObjectMeta
from podidentity.azure.arm import HostIdentities
from podidentity.azure.errors import AzureStatusError, Throttled
from podidentity.config.mic import mic_settings
from podidentity.kube.errors import ApiError
from podidentity.mic.app import never_removed
from podidentity.mic.plan import identity_patch

pytestmark = pytest.mark.looptime

Bench = Any
ENVIRON = {"MIC_POD_NAMESPACE": "default"}


def _key(name: str) -> str:
    return f"/subscriptions/sub/resourcegroups/ids/providers/microsoft.managedidentity/userassignedidentities/{name}"


def _select(bench: Bench, identity: str, selector: str) -> AzureIdentityBinding:
    """One more binding of an identity."""
    binding = AzureIdentityBinding(
        metadata=ObjectMeta(name=f"{identity}-for-{selector}", namespace="default"),
        spec=AzureIdentityBindingSpec(azure_identity=identity, selector=selector),
    )
    bench.put(binding)
    return binding


async def test_m2_two_objects_with_one_client_id(bench: Bench) -> None:
    """Protects an identity that a pod has through two AzureIdentity objects: dropping one takes nothing off."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.identity("twin", resource_id=_key("id1"), client_id="client-id1")
    binding = _select(bench, "twin", "id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1", "p-default-twin"), 15)
    bench.drop(binding)
    await bench.until(lambda: bench.assigned("p-default-id1"), 5)
    await asyncio.sleep(300)
    assert len(bench.arm.patches) == 1
    assert bench.on("vmss") == {"id1"}


async def test_m3_in_use_goes_by_resource_id(bench: Bench) -> None:
    """Protects a used identity from another object that claims its client id, and cleans up what that one attached."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.identity("claims", resource_id=_key("OTHER"), client_id="CLIENT-ID1")
    bench.pod("p", "n1", "id1")
    claimant = bench.pod("q", "n1", "claims")
    await bench.until(lambda: bench.states().get("p-default-id1") == "Assigned", 15)
    await bench.until(lambda: bench.on("vmss") == {"id1", "other"}, 15)
    bench.drop(claimant)
    await bench.until(lambda: bench.assigned("p-default-id1"), 300)
    await bench.until(lambda: bench.on("vmss") == {"id1"}, 60)


def test_m4_immutable_identities_are_compared_in_any_case() -> None:
    """Protects the identities of the flag and the cluster's own, however their client ids are written."""
    settings = mic_settings(["--immutable-user-msis=AAAA-1,bbbb-2"], ENVIRON, "host")
    assert never_removed(settings, "CCCC-3") == {"aaaa-1", "bbbb-2", "cccc-3"}
    assert never_removed(mic_settings([], ENVIRON, "host"), "") == frozenset()


@pytest.mark.parametrize("kind", ["SystemAssigned", ""])
async def test_m5_m6_nothing_to_remove_is_no_patch(bench: Bench, kind: str) -> None:
    """Protects the system-assigned identity: what is off the host already is not taken off, no type is written."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.arm.attached["vmss"].clear()
    bench.arm.types["vmss"] = kind
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 200)
    assert len(bench.arm.patches) == 1
    assert bench.arm.types["vmss"] == kind


@pytest.mark.parametrize("kind", ["Federated", "systemassigned,userassigned", "SYSTEMASSIGNED, Federated"])
def test_m7_an_unknown_type_never_becomes_none(kind: str) -> None:
    """Protects a host whose identity type is written oddly: what is there stays."""
    known = HostIdentities(type=kind, user_assigned={}, provisioning_state="", location="", system_principal_id="")
    patch = identity_patch(known, frozenset({_key("id1")}), frozenset())
    assert patch is not None
    expected = "SystemAssigned, UserAssigned" if kind.casefold().startswith("system") else "UserAssigned"
    assert patch.type == expected


async def test_m12_a_foreign_node_stops_nothing(bench: Bench) -> None:
    """Protects removal and drift repair on Azure's nodes from a node that is not one of them."""
    bench.node("n1", "vmss")
    bench.put(Node(metadata=ObjectMeta(name="k"), spec=NodeSpec(provider_id="kind://x")))
    bench.identity("id1")
    bench.identity("id2")
    bench.pod("foreign", "k", "id1")
    gone, stays = bench.pod("p", "n1", "id1"), bench.pod("q", "n1", "id2")
    await bench.until(lambda: bench.assigned("p-default-id1", "q-default-id2"), 15)
    bench.drop(gone)
    bench.arm.attached["vmss"].pop(_key("id2"))
    await bench.until(lambda: bench.assigned("q-default-id2") and bench.on("vmss") == {"id2"}, 400)
    assert stays.name == "q"


async def test_m13_one_failing_host_stops_no_drift_repair(bench: Bench) -> None:
    """Protects drift repair of every host from one whose reads fail, and from a record on a node that is gone."""
    bench.node("n1", "broken")
    bench.node("n2", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    bench.pod("q", "n2", "id1")
    bench.pod("nowhere", "n3", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1", "q-default-id1"), 15)
    bench.arm.get_fault = lambda host: AzureStatusError(500, "InternalServerError", "") if host == "broken" else None
    bench.arm.attached["vmss"].clear()
    await bench.until(lambda: bench.on("vmss") == {"id1"}, 200)


async def test_m20_completed_pods_keep_nothing(bench: Bench) -> None:
    """Protects the identities of finished jobs from staying: an ended pod is as good as a deleted one."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pods = [bench.pod(name, "n1", "id1") for name in ("p", "q")]
    await bench.until(lambda: bench.assigned("p-default-id1", "q-default-id1"), 15)
    for pod, phase in zip(pods, ("Succeeded", "Failed"), strict=True):
        bench.put(msgspec.structs.replace(pod, status=PodStatus(phase=phase)))
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


async def test_m23_a_pod_that_dies_during_the_patch(bench: Bench) -> None:
    """Protects against an identity that was attached for a pod which was gone before its record said Assigned."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: len(bench.arm.patches) == 1, 5)
    bench.drop(pod)
    await bench.until(lambda: bench.on("vmss") == {"id1"}, 15)
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


async def test_m25_no_record_no_patch(bench: Bench) -> None:
    """Protects ARM from an assignment the API knows nothing of: while the record is refused, nothing is attached."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.kube.failures += [("create", ApiError(403, "Forbidden", "quota")) for _ in range(5)]
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: len(bench.kube.failures) == 1, 60)
    assert not bench.arm.patches
    assert bench.kube.calls == {"create": 4}
    await bench.until(lambda: bench.assigned("p-default-id1"), 60)


async def test_m28_a_status_that_is_refused_is_told_about_the_record(bench: Bench) -> None:
    """Protects the Event `status update error`: it is about an AzureAssignedIdentity that kubectl describe finds."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.kube.failures.append(("patch", ApiError(500, "InternalError", "etcd")))
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 60)
    about = {event[:2] for event in bench.told.events if event[2] == "status update error"}
    assert about == {("AzureAssignedIdentity", "p-default-id1")}


async def test_m29_records_name_the_kinds_they_embed(bench: Bench) -> None:
    """Protects the embedded objects: their kind is that of one object, never of a list, never a type of a program."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    spec = bench.record("p-default-id1").spec
    assert (spec.azure_identity_ref.kind, spec.azure_binding_ref.kind) == ("AzureIdentity", "AzureIdentityBinding")
    assert FINALIZER in bench.record("p-default-id1").metadata.finalizers


async def test_m36_a_throttled_host_holds_up_nobody_else(bench: Bench) -> None:
    """Protects the other hosts from the Retry-After of one."""
    bench.node("n1", "throttled")
    bench.node("n2", "vmss")
    limit = Throttled(429, "TooManyRequests", "", retry_after=600.0)
    bench.arm.fault = lambda host, _patch: limit if host == "throttled" else None
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await asyncio.sleep(12)
    bench.pod("q", "n2", "id1")
    await bench.until(lambda: bench.states().get("q-default-id1") == "Assigned", 15)


async def test_m47_a_pod_that_is_ignored_is_not_logged(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the log: pods that ended or match nothing cost no line each time something happens."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    for number in range(50):
        ended = bench.pod(f"ended-{number}", "n1", "id1")
        bench.put(msgspec.structs.replace(ended, status=PodStatus(phase="Succeeded")))
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 30)
    await asyncio.sleep(300)
    capsys.readouterr()
    for number in range(20):
        bench.put(
            msgspec.structs.replace(bench.things[f"Pod default/ended-{number}"], status=PodStatus(phase="Failed"))
        )
    bench.pod("q", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1", "q-default-id1"), 30)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert not [line for line in lines if "ended-" in line]
