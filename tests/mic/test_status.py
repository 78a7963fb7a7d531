"""What mic tells of itself: per host, in metrics, and never an id."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import msgspec
import pytest
from tests.mic.conftest import Bench, arm_id

from podidentity.api.resources import PODS
from podidentity.azure.errors import LinkedAuthorizationFailed, Throttled
from podidentity.kube.client import KubeClient
from podidentity.kube.reflector import Reflector
from podidentity.kube.settings import KubeSettings
from podidentity.kube.store import Store
from podidentity.mic.status import Status
from podidentity.rules.resource_id import fold
from podidentity.telemetry.metrics import Metrics

SINCE = ("waitingSince", "quarantinedSince")

pytestmark = pytest.mark.looptime


def status(bench: Bench) -> Status:
    """Of the bench's controller, with one watch that never heard anything."""
    client = KubeClient(KubeSettings(server="http://127.0.0.1:1"), user_agent="test")
    watch = Reflector(client, PODS, Store(), clock=bench.clock)
    shared = bench.controller._shared
    return Status("v1", bench.controller, shared.budget, [watch], lambda: ["pods are not listed yet"], bench.clock)


def metric(found: Status, name: str) -> float:
    """The value of one series."""
    metrics = Metrics()
    found.sample(metrics)
    lines = metrics.render().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"aadpodidentity_{name} "))


async def test_each_host_is_told_of(bench: Bench) -> None:
    """An operator sees per host what is wanted, there, in flight and refused, and since when."""
    bad = fold(arm_id("bad"))

    def fault(_host: str, patch: object) -> Exception | None:
        error = LinkedAuthorizationFailed(403, "LinkedAuthorizationFailed", "no")
        error.scopes = frozenset({bad})
        return error if bad in patch.add else None  # type: ignore[attr-defined]  # an IdentityPatch

    bench.arm.fault = fault
    bench.node("n1", "vmss")
    for name in ("good", "bad"):
        bench.identity(name)
        bench.pod(f"p-{name}", "n1", name)
    await asyncio.sleep(2)
    found = status(bench)
    (host,) = found.report()["hosts"]  # type: ignore[misc]  # a list of one
    assert (host["host"], host["kind"], host["assignments"], host["identitiesInFlight"]) == (
        "vmss",
        "virtualMachineScaleSets",
        2,
        2,
    )
    await bench.until(lambda: bench.states()["p-good-default-good"] == "Assigned", 60)
    await asyncio.sleep(300)
    (host,) = found.report()["hosts"]  # type: ignore[misc]  # a list of one
    shown = {name: host[name] for name in host if name.startswith("identities") or name == "waiting"}
    assert shown == {
        "waiting": 1,
        "identitiesWanted": 2,
        "identitiesPresent": 1,
        "identitiesInFlight": 0,
        "identitiesQuarantined": 1,
    }
    ages = [bench.clock.wall() - datetime.fromisoformat(host[at]).timestamp() for at in SINCE]
    assert 340 >= ages[0] >= ages[1] >= 300
    assert (metric(found, "mic_queue_depth"), metric(found, "mic_quarantined_identities")) == (1, 1)
    assert 300 <= metric(found, "mic_oldest_waiting_seconds") <= 330
    assert (metric(found, "mic_leader"), metric(found, "mic_assignments_count")) == (1, 1)
    assert metric(found, "mic_patches_per_assignment") == metric(found, "mic_identity_patches_count") >= 2


async def test_no_id_and_no_name_is_told(bench: Bench) -> None:
    """Every pod can reach the port: what it reads there helps nobody to an identity."""
    bench.node("n1", "vmss")
    bench.identity("secretly")
    bench.pod("somepod", "n1", "secretly")
    await bench.until(lambda: bench.assigned("somepod-default-secretly"), 30)
    text = msgspec.json.encode(status(bench).report()).decode()
    for word in ("secretly", "somepod", "subscriptions", "client-"):
        assert word not in text
    assert json.loads(text)["watches"] == {"pods": {"listed": False, "ageSeconds": None}}


async def test_a_settled_cluster_waits_for_nothing(bench: Bench) -> None:
    """What is done leaves the queue, also when its pod goes or never had a machine."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pods = [bench.pod(f"p{number}", "n1", "id1") for number in range(3)]
    await bench.until(lambda: bench.assigned(*(f"p{n}-default-id1" for n in range(3))), 30)
    found = status(bench)
    assert (metric(found, "mic_queue_depth"), metric(found, "mic_oldest_waiting_seconds")) == (0, 0)
    lost = bench.pod("lost", "nowhere", "id1")
    await asyncio.sleep(30)
    assert metric(found, "mic_queue_depth") == 1
    for pod in (*pods, lost):
        bench.drop(pod)
    await bench.until(lambda: bench.states() == {} and metric(found, "mic_queue_depth") == 0, 300)
    assert found.report()["hosts"] == []


async def test_what_azure_allows_is_told(bench: Bench) -> None:
    """The budget and a pause are seen before anybody wonders why nothing happens."""
    found, budget = status(bench), bench.controller._shared.budget
    headers = {"x-ms-ratelimit-remaining-subscription-writes": "0"}
    budget.refused("host", Throttled(429, "TooManyRequests", "", retry_after=90.0, headers=headers))
    azure = found.report()["azure"]
    assert azure == {
        "readsLeft": 250,
        "writesLeft": 0,
        "pausedSeconds": 90.0,
        "patches": 0,
        "assignments": 0,
        "patchesPerAssignment": None,
    }
    assert metric(found, "mic_arm_pause_seconds") == 90
    metrics = Metrics()
    found.sample(metrics)
    assert b'aadpodidentity_mic_arm_budget_left{operation="reads"} 250.0' in metrics.render()


async def test_looking_for_drift_takes_its_share_only(bench: Bench) -> None:
    """Hosts that are all due at once are read at a bounded rate, and each within two intervals."""
    bench.arm.patch_seconds = 0.5
    bench.identity("id1")
    hosts = 100
    for number in range(hosts):
        bench.node(f"n{number}", f"vmss{number}")
        bench.pod(f"p{number}", f"n{number}", "id1")
    await bench.until(lambda: set(bench.states().values()) == {"Assigned"} and len(bench.states()) == hosts, 120)
    for actor in bench.controller._assigner._actors.values():
        actor._next_look = 0.0
        actor.wake.set()
    before = bench.arm.gets.total()
    await asyncio.sleep(1)
    assert bench.arm.gets.total() - before <= 31
    seen = dict(bench.arm.gets)
    await asyncio.sleep(360)
    assert all(bench.arm.gets[name] > count for name, count in seen.items())
