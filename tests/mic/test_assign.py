"""From a labelled pod to an identity on its host and back, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from podidentity.api.constants import PRESENT_BEFORE_ANNOTATION

pytestmark = pytest.mark.looptime

Bench = Any


async def test_one_pod(bench: Bench) -> None:
    """Protects the whole path: Created, one PATCH, Assigned, and the two Events on binding and pod."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.states() == {"p-default-id1": "Created"}, 2)
    await bench.until(lambda: bench.assigned("p-default-id1"), 12)
    assert bench.on("vmss") == {"id1"}
    assert len(bench.arm.patches) == 1
    assert bench.arm.patches[0][2].type == "UserAssigned"
    assert bench.kube.calls == {"create": 1, "patch": 1}
    kinds = {(kind, reason) for kind, _, reason, _ in bench.told.events}
    assert kinds == {("AzureIdentityBinding", "binding applied"), ("Pod", "binding applied")}
    assert bench.told.counts["assigned_identity_addition_count"] == 1


async def test_pod_deleted(bench: Bench) -> None:
    """Protects removal: the record is deleted at once, the host is cleaned after the linger, nothing is left."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 12)
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {"p-default-id1": "-Assigned"}, 1)
    took = await bench.until(lambda: bench.states() == {}, 200)
    assert 120 <= took + 1 < 140
    assert bench.on("vmss") == set()
    assert bench.arm.patches[-1][2].type == "None"
    assert bench.world.shelves == {}


@pytest.mark.parametrize("answers_after", [0.0, 0.02])
async def test_the_watch_may_be_faster_than_the_answer(bench: Bench, answers_after: float) -> None:
    """Protects the pace of writes: one that succeeded is no failure because the watch told of it before its answer."""
    bench.kube.answers_after = answers_after
    bench.arm.patch_seconds = 0.01
    bench.node("n1", "vmss")
    for number in range(8):
        bench.identity("id1", client_id="client-id1")
        pod = bench.pod("p", "n1", "id1", uid=f"turn-{number}")
        assert await bench.until(lambda: bench.assigned("p-default-id1"), 2) < 1
        bench.identity("id1", client_id=f"client-{number}")
        changed = bench.until(lambda: bench.kube.calls["replace"] > number, 2)  # noqa: B023 - awaited here
        assert await changed < 0.5
        bench.drop(pod)
        assert await bench.until(lambda: bench.states() == {"p-default-id1": "-Created"}, 2) < 0.5


async def test_pod_comes_back_while_lingering(bench: Bench) -> None:
    """Protects the ARM budget of CronJobs: the same pod name on the same host needs no PATCH."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 12)
    for turn in range(30):
        bench.drop(pod)
        await asyncio.sleep(5)
        pod = bench.pod("p", "n1", "id1", uid=f"turn-{turn}")
        await bench.until(lambda: bench.assigned("p-default-id1"), 2)
        await asyncio.sleep(55)
    assert len(bench.arm.patches) == 1
    assert PRESENT_BEFORE_ANNOTATION not in bench.record("p-default-id1").metadata.annotations
    bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()


async def test_m17_forty_pods_five_identities(bench: Bench) -> None:
    """Protects coalescing: forty pods at once cost one PATCH."""
    bench.node("n1", "vmss")
    bench.node("n2", "vmss")
    for number in range(5):
        bench.identity(f"id{number}")
    for number in range(40):
        bench.pod(f"p{number}", f"n{number % 2 + 1}", f"id{number % 5}")
    await bench.until(lambda: list(bench.states().values()) == ["Assigned"] * 40, 15)
    assert len(bench.arm.patches) == 1
    assert bench.kube.calls == {"create": 40, "patch": 40}


async def test_m1_shared_identity(bench: Bench) -> None:
    """Protects the second pod of an identity: the first one's end PATCHes nothing away."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    first = bench.pod("p", "n1", "id1", namespace="one")
    bench.pod("p", "n1", "id1", namespace="two")
    await bench.until(lambda: bench.assigned("p-one-id1", "p-two-id1"), 15)
    bench.drop(first)
    await bench.until(lambda: bench.assigned("p-two-id1"), 2)
    await asyncio.sleep(400)
    assert len(bench.arm.patches) == 1
    assert bench.on("vmss") == {"id1"}


async def test_foreign_and_immutable_identities_stay(bench: Bench) -> None:
    """Protects what the cluster did not attach, and what the flag lists, from removal."""
    bench.node("n1", "vmss")
    bench.arm.types["vmss"] = "SystemAssigned, UserAssigned"
    bench.arm.client_ids["immutable"] = "client-immutable"
    foreign = "/subscriptions/sub/resourcegroups/ids/providers/microsoft.managedidentity/userassignedidentities/foreign"
    bench.arm.attached["vmss"][foreign] = "client-foreign"
    pods = []
    for name in ("foreign", "immutable", "id1"):
        bench.identity(name)
        pods.append(bench.pod(f"p-{name}", "n1", name))
    await bench.until(lambda: list(bench.states().values()) == ["Assigned"] * 3, 20)
    annotations = bench.record("p-foreign-default-foreign").metadata.annotations
    assert annotations[PRESENT_BEFORE_ANNOTATION] == "true"
    for pod in pods:
        bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == {"foreign", "immutable"}
    assert bench.arm.types["vmss"] == "SystemAssigned, UserAssigned"


async def test_service_principals_need_no_azure(bench: Bench) -> None:
    """Protects types 1 and 2: they go through the states without ARM, also on nodes that are not on Azure."""
    from podidentity.api.identity import SecretReference  # noqa: PLC0415 - used here only

    spec = {"resource_id": "", "tenant_id": "t", "client_password": SecretReference(name="s")}
    bench.identity("sp", type=1, **spec)
    bench.identity("cert", type=2, **spec)
    first = bench.pod("p", "elsewhere", "sp")
    bench.pod("q", "elsewhere", "cert")
    await bench.until(lambda: bench.assigned("p-default-sp", "q-default-cert"), 2)
    bench.drop(first)
    await bench.until(lambda: bench.assigned("q-default-cert"), 2)
    assert not bench.arm.gets


async def test_wrong_client_id_is_never_assigned(bench: Bench) -> None:
    """Protects an identity from a resource that claims its client id."""
    bench.node("n1", "vmss")
    bench.identity("id1", client_id="somebody-else")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: any("is not the client id of" in e[3] for e in bench.told.events), 30)
    assert bench.states() == {"p-default-id1": "Created"}
    bench.identity("id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 30)


async def test_malformed_identity_is_reported_and_others_go_on(bench: Bench) -> None:
    """Protects the good ones: a malformed AzureIdentity gets an Event and nothing else."""
    bench.node("n1", "vmss")
    bench.identity("bad", resource_id="nonsense")
    bench.identity("good")
    bench.pod("p", "n1", "bad")
    bench.pod("q", "n1", "good")
    await bench.until(lambda: bench.assigned("q-default-good"), 15)
    assert [e for e in bench.told.events if e[:3] == ("AzureIdentity", "bad", "identity malformed")]


async def test_m14_removed_by_hand(bench: Bench) -> None:
    """Protects against drift: what somebody takes off is put back within the reconcile interval."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    bench.arm.attached["vmss"].clear()
    await bench.until(lambda: bench.on("vmss") == {"id1"}, 195)


async def test_moved_stateful_pod(bench: Bench) -> None:
    """Protects a StatefulSet's pod that moves to another host: no wait for the old host, which is cleaned later."""
    bench.node("n1", "one")
    bench.node("n2", "two")
    bench.identity("id1")
    bench.drop(bench.pod("db-0", "n1", "id1"))
    bench.pod("db-0", "n1", "id1")
    await bench.until(lambda: bench.assigned("db-0-default-id1"), 15)
    bench.pod("db-0", "n2", "id1", uid="second")
    await bench.until(lambda: bench.on("two") == {"id1"}, 15)
    await bench.until(lambda: list(bench.states().values()) == ["Assigned"], 200)
    assert bench.on("one") == set()
