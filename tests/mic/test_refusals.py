"""Refusals of Azure that need a person, and limits nobody documents: who waits, who is told what, how many PATCHes."""

from __future__ import annotations

import asyncio

import pytest
from tests.mic.conftest import Bench

from podidentity.azure.arm import IdentityPatch
from podidentity.azure.errors import ApiVersionRefused, AzureError, AzureStatusError, SubscriptionNotFound

pytestmark = pytest.mark.looptime


def _crowd(bench: Bench, count: int) -> None:
    bench.node("n1", "vmss")
    for number in range(count):
        bench.identity(f"id{number}")
        bench.pod(f"p{number}", "n1", f"id{number}")


def _assigned(bench: Bench) -> int:
    return sum(state == "Assigned" for state in bench.states().values())


async def test_a_total_limit_is_filled_up(bench: Bench) -> None:
    """A limit of the host that no document names stops those above it alone; they are told, and use room that comes."""

    def full(host: str, patch: IdentityPatch) -> Exception | None:
        after = len(bench.arm.attached[host]) + len(patch.add) - len(patch.remove)
        return AzureStatusError(400, "OperationNotAllowed", "too many identities") if after > 5 else None

    bench.arm.fault = full
    bench.arm.patch_seconds = 1.0
    _crowd(bench, 8)
    await bench.until(lambda: _assigned(bench) == 5, 60)
    assert len(bench.arm.patches) <= 12
    await bench.until(lambda: sum(one[0] == "Pod" and "too many" in one[3] for one in bench.told.events) >= 3, 120)
    served = next(name for name, state in bench.states().items() if state == "Assigned")
    bench.drop(bench.things[f"Pod default/{served.partition('-')[0]}"])
    await bench.until(lambda: _assigned(bench) == 5 and len(bench.states()) == 7, 1200)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ApiVersionRefused(400, "NoRegisteredProviderFound", "no"),
            "--compute-api-version",
        ),
        (SubscriptionNotFound(404, "SubscriptionNotFound", "no"), "tenantId"),
    ],
)
async def test_what_a_person_has_to_mend_is_told_at_once_and_blames_no_identity(
    bench: Bench, error: AzureError, words: str
) -> None:
    """The host waits, nothing is halved, nothing that is recorded is let go, and it heals by itself."""
    _crowd(bench, 2)
    await bench.until(lambda: _assigned(bench) == 2, 30)
    bench.arm.get_fault, bench.arm.fault = lambda _host: error, lambda _host, _patch: error
    bench.drop(bench.things["Pod default/p0"])
    bench.identity("id2")
    bench.pod("p2", "n1", "id2")
    await bench.until(lambda: any(one[0] == "Pod" and words in one[3] for one in bench.told.events), 30)
    before = len(bench.arm.patches)
    await asyncio.sleep(600)
    assert len(bench.arm.patches) == before <= 2
    assert bench.on("vmss") == {"id0", "id1"}
    assert bench.states()["p0-default-id0"] == "-Assigned"
    bench.arm.get_fault, bench.arm.fault = lambda _host: None, lambda _host, _patch: None
    await bench.until(lambda: bench.assigned("p1-default-id1", "p2-default-id2"), 300)
    assert bench.on("vmss") == {"id1", "id2"}
