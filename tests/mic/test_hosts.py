"""Machines of every kind, in every subscription, that come late, are made anew, or are gone."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.mic.conftest import Bench

from podidentity.api.core import Node, NodeSpec
from podidentity.api.meta import ObjectMeta
from podidentity.rules.resource_id import parse_provider_id

pytestmark = pytest.mark.looptime


def node(name: str, host: str) -> Node:
    """A node whose providerID is of this host."""
    return Node(metadata=ObjectMeta(name=name), spec=NodeSpec(provider_id=f"azure://{host}"))


def compute(subscription: str, group: str, rest: str) -> str:
    """An ARM id of compute."""
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/{rest}"


async def test_several_subscriptions_and_groups_at_once(bench: Bench) -> None:
    """Each host is changed where its node says it is, in one cluster."""
    hosts = {
        "one": compute("sub-1", "rg-a", "virtualMachines/one"),
        "two": compute("sub-2", "rg-a", "virtualMachines/two"),
        "set": compute("sub-2", "rg-b", "virtualMachineScaleSets/set"),
    }
    bench.identity("id1")
    for name, host in hosts.items():
        bench.arm.add_host(name)
        bench.put(node(f"n-{name}", f"{host}/virtualMachines/0" if name == "set" else host))
        bench.pod(f"p-{name}", f"n-{name}", "id1")
    await bench.until(lambda: bench.assigned(*(f"p-{name}-default-id1" for name in hosts)), 30)
    assert bench.arm.paths == set(hosts.values())


async def test_instances_of_a_flexible_scale_set_are_changed_as_machines(bench: Bench) -> None:
    """A flexible scale set's nodes carry ids of machines: each gets a PATCH of its own, the set none."""
    bench.identity("id1")
    for name in ("flex_0a", "flex_0b"):
        bench.arm.add_host(name)
        bench.put(node(name.replace("_", "-"), compute("sub", "rg", f"virtualMachines/{name}")))
        bench.pod(f"p-{name[-2:]}", name.replace("_", "-"), "id1")
    await bench.until(lambda: bench.assigned("p-0a-default-id1", "p-0b-default-id1"), 30)
    assert {name for _, name, _ in bench.arm.patches} == {"flex_0a", "flex_0b"}
    parsed = parse_provider_id(f"azure://{compute('sub', 'rg', 'virtualMachines/flex_0a')}")
    assert parsed is not None
    assert parsed.host.kind == "virtualMachines"


async def test_a_scale_set_scaled_to_zero_and_back(bench: Bench) -> None:
    """The set without nodes is cleaned, and its next node starts from there."""
    gone = bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 20)
    bench.drop(gone)
    bench.drop(pod)
    await bench.until(lambda: bench.on("vmss") == set() and bench.states() == {}, 300)
    bench.node("n2", "vmss")
    bench.pod("q", "n2", "id1")
    await bench.until(lambda: bench.assigned("q-default-id1"), 20)


async def test_a_machine_made_anew_under_its_name(bench: Bench) -> None:
    """A node re-imaged in place comes back without its identities: they are attached again within the interval."""
    old = node("n1", compute("sub", "rg", "virtualMachines/vm"))
    bench.arm.add_host("vm")
    bench.put(old)
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 20)
    bench.drop(old)
    bench.arm.add_host("vm")
    await asyncio.sleep(5)
    bench.put(msgspec.structs.replace(old))
    await bench.until(lambda: bench.on("vm") == {"id1"}, 200)
    assert bench.assigned("p-default-id1")


async def test_a_provider_id_that_comes_late(bench: Bench) -> None:
    """The cloud controller may be slower than the pod: nothing is lost, and the wait is told."""
    late = node("n1", "")
    bench.arm.add_host("vm")
    bench.put(msgspec.structs.replace(late, spec=NodeSpec(provider_id="")))
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await asyncio.sleep(60)
    assert any("spec.providerID" in message for _, _, _, message in bench.told.events)
    bench.put(node("n1", compute("sub", "rg", "virtualMachines/vm")))
    await bench.until(lambda: bench.assigned("p-default-id1"), 20)
