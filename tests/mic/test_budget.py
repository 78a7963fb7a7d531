"""ARM as a budget over all hosts: what is left is heard of, adds go first, nobody is starved by a crowd elsewhere."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.mic.conftest import Bench

from podidentity.aio.bucket import TokenBucket
from podidentity.aio.clock import Clock
from podidentity.aio.ranked import RankedBucket
from podidentity.azure.errors import Throttled
from podidentity.mic.budget import REMEMBERED, Budget


def test_what_answers_say_is_left_is_heeded() -> None:
    """Others use the principal and the hosts too: the buckets never hold more than ARM says."""
    budget = Budget.of(Clock(monotonic=lambda: 0.0))
    compute = "Microsoft.Compute/UpdateVMScaleSetResource;2,Microsoft.Compute/UpdateVMScaleSetSubscriptionMaximum;40"
    reads = {"X-Ms-Ratelimit-Remaining-Subscription-Reads": "17"}
    budget.heard("one", {**reads, "x-ms-ratelimit-remaining-resource": compute})
    budget.heard("two", {"x-ms-ratelimit-remaining-resource": "Microsoft.Compute/GetVMResource;5", "x-other": "1"})
    budget.heard("two", {"x-ms-ratelimit-remaining-resource": "Microsoft.Compute/VMScaleSetActions3Min;0,garbage"})
    assert (budget.reads.bucket.left, budget.writes.bucket.left) == (17, 40)
    assert (budget.of_host("one").gets.left, budget.of_host("one").patches.left) == (36, 2)
    assert (budget.of_host("two").gets.left, budget.of_host("two").patches.left) == (5, 12)
    refused = Throttled(429, "TooManyRequests", "", headers={"x-ms-ratelimit-remaining-subscription-reads": "3"})
    assert not budget.refused("one", refused)
    assert budget.reads.bucket.left == 3


def test_the_budgets_of_hosts_are_forgotten_when_full() -> None:
    """Hosts come and go for months: those that owe nothing take no memory, those that do stay known."""
    budget = Budget.of(Clock(monotonic=lambda: 0.0))
    budget.of_host("busy").patches.try_take()
    for number in range(REMEMBERED * 2):
        budget.of_host(f"idle {number}")
    assert len(budget._hosts) <= REMEMBERED + 1
    assert budget.of_host("busy").patches.left == 11


def _small(bench: Bench, rate: float, burst: float) -> None:
    """Give the principal few writes."""
    budget = bench.controller._shared.budget
    budget.writes = RankedBucket(TokenBucket(rate, burst, bench.clock))


@pytest.mark.looptime
async def test_adds_go_before_removals_on_all_hosts(bench: Bench) -> None:
    """With the principal's writes used up, a pod that waits is served before hosts that are only to be tidied up."""
    bench.arm.patch_seconds = 1.0
    bench.identity("id1")
    pods = []
    for number in range(20):
        bench.node(f"n{number}", f"vmss{number}")
        pods.append(bench.pod(f"p{number}", f"n{number}", "id1"))
    await bench.until(lambda: bench.assigned(*(f"p{n}-default-id1" for n in range(20))), 60)
    _small(bench, 0.1, 1)
    for pod in pods:
        bench.drop(pod)
    await asyncio.sleep(150)
    assert 15 <= sum(bench.on(f"vmss{n}") != set() for n in range(20)) <= 19
    bench.node("late", "vmss-late")
    bench.pod("late", "late", "id1")
    took = await bench.until(lambda: bench.states().get("late-default-id1") == "Assigned", 60)
    assert took <= 15
    await bench.until(lambda: bench.states() == {"late-default-id1": "Assigned"}, 400)


@pytest.mark.looptime
@pytest.mark.parametrize(("seed", "wants"), [(1, 1000), (2, 200), (3, 150), (4, 40)])
async def test_a_crowd_on_one_host_starves_no_other(bench: Bench, seed: int, wants: int) -> None:
    """Whatever the order of arrival and however much one host wants, each other host waits for its own turn only."""
    rng, loop = random.Random(seed), asyncio.get_running_loop()
    hosts = rng.randint(2, 40)
    _small(bench, 2.0, 2)
    bench.kube.latency, bench.arm.patch_seconds = 0.001, 1.0
    for number in range(wants):
        bench.identity(f"id{number}")
    for host in range(hosts):
        bench.node(f"n{host}", f"vmss{host}")
    orders = [(0, number) for number in range(wants)] + [(host, 0) for host in range(1, hosts)]
    rng.shuffle(orders)
    start = loop.time()
    for host, number in orders:
        bench.pod(f"p{host}x{number}", f"n{host}", f"id{number}")
    others = {f"p{host}x0-default-id0" for host in range(1, hosts)}
    while others:
        await asyncio.sleep(1)
        objects = {name: bench.kube.objects.get(f"default/{name}") for name in others}
        others -= {name for name, obj in objects.items() if obj is not None and obj.status.status == "Assigned"}
        assert loop.time() - start <= hosts / 2 + 15, others
    while len(bench.arm.attached["vmss0"]) < wants:
        await asyncio.sleep(5)
        assert loop.time() - start < 600
    assert sum(name == "vmss0" for _, name, _ in bench.arm.patches) <= wants // 150 + 3
