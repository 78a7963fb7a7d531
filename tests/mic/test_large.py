"""A scale set may have thousands of pods: what is done for it grows with its pods, and others get their turn."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from tests.mic.conftest import Bench

from podidentity.mic.assign import SLICE

pytestmark = pytest.mark.looptime


async def test_planning_grows_with_the_pods_and_no_faster(bench: Bench) -> None:
    """Protects a large scale set: with twenty times the pods each pod is not looked at more often."""
    bench.node("small-node", "small")
    bench.node("large-node", "large")
    bench.identity("app")
    for number in range(40):
        bench.pod(f"s{number}", "small-node", "app")
    for number in range(800):
        bench.pod(f"l{number}", "large-node", "app")
    await bench.until(lambda: len(bench.states()) == 840 and set(bench.states().values()) == {"Assigned"})
    planned = {shelf.host.name: shelf.planned for shelf in bench.world.shelves.values() if shelf.host is not None}
    assert planned["large"] / 800 < 3 * planned["small"] / 40
    assert len(bench.arm.patches) == 2


async def test_a_pod_deleted_amid_a_long_round_of_writes(bench: Bench) -> None:
    """Protects truth in a long round: a pod that goes before its record is written gets none."""
    bench.node("n", "large")
    bench.identity("app")
    for number in range(800):
        bench.pod(f"p{number}", "n", "app")
    await bench.until(lambda: bench.kube.calls["create"] > 0)
    recorded = {obj.spec.pod for obj in bench.kube.objects.values()}
    gone = [thing for thing in bench.things.values() if thing.kind == "" and thing.name.startswith("p")]
    gone = [pod for pod in gone if pod.name not in recorded][:300]
    for pod in gone:
        bench.drop(pod)
    await bench.until(lambda: len(bench.states()) == 500 and set(bench.states().values()) == {"Assigned"})
    assert bench.kube.calls["create"] < 500 + 50


async def test_hosts_start_a_few_at_a_time(bench: Bench) -> None:
    """Protects the renewal of the lead: between two turns of the loop no more than a few hosts begin to work."""
    await bench.kill()
    bench.identity("app")
    for number in range(5 * SLICE):
        bench.node(f"n{number}", f"pool{number}")
        bench.pod(f"p{number}", f"n{number}", "app")
    begun = [0]
    await bench.restart()
    for _ in range(100):
        begun.append(sum(shelf.planned > 0 for shelf in bench.world.shelves.values()))
        await asyncio.sleep(0)
    assert begun[-1] == 5 * SLICE
    assert max(after - before for before, after in pairwise(begun)) <= SLICE
