"""Answers of ARM that must not be acted upon as they are: identities created anew, hosts that others are changing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.mic.conftest import Bench

pytestmark = pytest.mark.looptime


def _key(name: str) -> str:
    return f"/subscriptions/sub/resourcegroups/ids/providers/microsoft.managedidentity/userassignedidentities/{name}"


def _recreate(bench: Bench, host: str, name: str) -> None:
    """Delete the identity and create it anew: the host keeps an entry without a principal."""
    bench.arm.dead.add(f"{host} {_key(name)}")


def _alive(bench: Bench, host: str, *names: str) -> bool:
    return bench.on(host) == set(names) and not bench.arm.dead


async def test_an_identity_created_anew_is_detached_and_attached(bench: Bench) -> None:
    """Its pods get tokens again without anybody's hand, and the identities beside it are not touched."""
    bench.node("n1", "vmss")
    for name in ("id1", "id2"):
        bench.identity(name)
        bench.pod(f"p-{name}", "n1", name)
    await bench.until(lambda: bench.assigned("p-id1-default-id1", "p-id2-default-id2"), 20)
    before = len(bench.arm.patches)
    _recreate(bench, "vmss", "id1")
    await bench.until(lambda: _alive(bench, "vmss", "id1", "id2"), 300)
    changes = [(patch.add, patch.remove) for _, _, patch in bench.arm.patches[before:]]
    assert changes == [(frozenset(), {_key("id1")}), ({_key("id1")}, frozenset())]
    assert bench.assigned("p-id1-default-id1", "p-id2-default-id2")


async def test_a_crash_between_detaching_and_attaching_loses_nothing(bench: Bench) -> None:
    """The record says what belongs on the host: whoever comes next attaches it."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 20)
    _recreate(bench, "vmss", "id1")
    await bench.until(lambda: bench.on("vmss") == set(), 400)
    await bench.restart()
    await bench.until(lambda: _alive(bench, "vmss", "id1"), 400)


async def test_what_stays_without_a_principal_is_tried_ever_more_seldom(bench: Bench) -> None:
    """An identity that Azure never completes costs a bounded number of PATCHes, not two a minute."""
    bench.node("n1", "vmss")
    bench.arm.client_ids["id1"] = ""
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await asyncio.sleep(7200)
    assert 4 <= len(bench.arm.patches) <= 16
    assert bench.states() == {"p-default-id1": "Created"}


async def test_what_mic_did_not_attach_is_not_detached(bench: Bench) -> None:
    """An identity that was there before mic stays, whatever its state; its users read what to do by hand."""
    bench.node("n1", "vmss")
    bench.arm.attached["vmss"][_key("id1")] = "client-id1"
    bench.arm.types["vmss"] = "UserAssigned"
    _recreate(bench, "vmss", "id1")
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await asyncio.sleep(1200)
    assert bench.arm.patches == []
    told = [message for kind, _, _, message in bench.told.events if kind == "Pod"]
    assert any("created anew" in message and "by hand" in message for message in told)


async def test_an_immutable_identity_is_not_detached(bench: Bench) -> None:
    """--immutable-user-msis holds for repairs too."""
    bench.node("n1", "vmss")
    bench.identity("immutable")
    bench.pod("p", "n1", "immutable")
    await bench.until(lambda: bench.assigned("p-default-immutable"), 20)
    before = len(bench.arm.patches)
    _recreate(bench, "vmss", "immutable")
    await asyncio.sleep(1200)
    assert len(bench.arm.patches) == before


@pytest.mark.parametrize(("busy", "least", "most"), [(20.0, 20.0, 45.0), (1e6, 55.0, 90.0)])
async def test_a_host_that_others_change_is_waited_for(bench: Bench, busy: float, least: float, most: float) -> None:
    """No PATCH runs into another's; but a host that is updating for ever is changed all the same."""
    loop: Any = asyncio.get_running_loop()
    bench.node("n1", "vmss")
    bench.arm.provisioning["vmss"] = "Updating"
    loop.call_later(busy, bench.arm.provisioning.clear)
    bench.arm.patch_seconds = 1.0
    start = loop.time()
    bench.identity("id1")
    bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 300)
    assert least <= bench.arm.patches[0][0] - start <= most
    assert bench.arm.gets["vmss"] <= 20


async def test_a_removal_under_way_is_not_believed(bench: Bench) -> None:
    """Protects against a leak: what a predecessor's operation takes off is back when that fails, and is taken off."""
    bench.node("n1", "vmss")
    bench.identity("id1")
    pod = bench.pod("p", "n1", "id1")
    await bench.until(lambda: bench.assigned("p-default-id1"), 15)
    await bench.kill()
    (key,) = bench.arm.attached["vmss"]
    client = bench.arm.attached["vmss"].pop(key)
    bench.arm.provisioning["vmss"] = "Updating"
    bench.drop(pod)
    await bench.restart()
    await asyncio.sleep(150)
    assert bench.states() == {"p-default-id1": "-Assigned"}
    bench.arm.provisioning.clear()
    bench.arm.attached["vmss"][key] = client
    await bench.until(lambda: bench.states() == {} and bench.on("vmss") == set(), 300)
