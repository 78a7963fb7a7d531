"""Two real mics, a real API server, a simulated Azure: whatever happens to the leader, only a leader writes."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from tests.faults.conftest import Site
from tests.faults.site import background, until

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]


async def test_the_leader_is_told_to_end(site: Site) -> None:
    """SIGTERM: the leader releases both records, the standby leads within two retries."""
    leader, standby = await site.settled()
    start = time.time()
    leader.send(signal.SIGTERM)
    took = await site.took(start, standby.name)
    assert await leader.ended() == 0
    await site.until_arm_write(start + took)
    await site.conclude("SIGTERM", start, took)
    assert took < site.lease


async def test_the_leader_is_killed(site: Site) -> None:
    """Kill -9: nothing is released, the standby leads once the lease is over, and not much later."""
    leader, standby = await site.settled()
    start = time.time()
    leader.send(signal.SIGKILL)
    took = await site.took(start, standby.name)
    await site.until_arm_write(start + took)
    await site.conclude("Kill -9", start, took)
    assert site.lease / 2 < took < site.lease * 1.5 + 2


async def test_the_leader_is_frozen_amid_retries(site: Site) -> None:
    """SIGSTOP beyond the lease, while PATCHes wait to be sent again: the woken leader sends none of them."""
    leader, standby = await site.settled()
    refusal = {"service": "arm", "method": "PATCH", "status": 503, "headers": {"Retry-After": "1"}}
    site.azure.admin.set_faults(rules=[refusal])
    start = time.time()
    await site.until_arm_write(start + 0.5)
    leader.send(signal.SIGSTOP)
    site.azure.admin.set_faults(rules=[])
    took = await site.took(time.time(), standby.name)
    await site.until_arm_write(start + took)
    leader.send(signal.SIGCONT)
    await asyncio.sleep(site.lease / 2)
    await site.conclude("SIGSTOP beyond the lease, SIGCONT", start, took)


async def test_the_api_server_restarts(site: Site) -> None:
    """Without an API nobody leads for long; once it is back somebody does, and what was wanted meanwhile is done."""
    await site.settled()
    start = time.time()
    await asyncio.to_thread(site.server.stop, "kube-apiserver")
    await asyncio.sleep(site.lease)
    await asyncio.to_thread(site.server.start)
    ready = time.time()
    took = await site.took(ready)
    await site.until_arm_write(ready + took)
    await site.conclude("API server restart (from its readiness)", start, took)


async def test_the_leader_loses_the_api_but_not_azure(site: Site) -> None:
    """A network that is cut on one side only: the leader could still write to Azure, and does not."""
    leader, standby = await site.settled()
    start = time.time()
    leader.api.cut()
    took = await site.took(start, standby.name)
    await site.until_arm_write(start + took)
    leader.api.heal()
    await asyncio.sleep(site.lease / 2)
    await site.conclude("Network cut between leader and API", start, took)


async def test_the_original_is_there_first(site: Site) -> None:
    """An upgrade: while the original renews its record ours are ready and silent; when it stops, one of them leads."""
    await site.settled()
    for mic in site.mics.values():
        mic.send(signal.SIGTERM)
        await mic.ended()
    start = time.time()
    async with background(site.original.hold()):
        await site.start()
        await asyncio.sleep(site.lease)
        assert site.records.holder("endpoints") == "original"
        assert site.records.holder("leases") == ""
        arm, kubernetes = site.verdicts(start)
        assert (arm.writes, kubernetes.writes) == (0, 0)
        stopped = time.time()
    took = await site.took(stopped)
    await site.until_arm_write(stopped + took)
    await site.conclude("The original's record stops being renewed", start, took)


async def test_the_original_takes_over_from_frozen_mics(site: Site) -> None:
    """A way back: ours are frozen, the original finds the record dead and leads; ours wake and only watch."""
    await site.settled()
    start = time.time()
    for mic in site.mics.values():
        mic.send(signal.SIGSTOP)
    async with background(site.original.hold()):

        async def taken() -> bool:
            return site.records.holder("endpoints") == "original"

        await until(taken, "the original takes the record", site.lease * 3)
        for mic in site.mics.values():
            mic.send(signal.SIGCONT)
        woken = time.time()
        await asyncio.sleep(site.lease / 2)
        arm, kubernetes = site.verdicts(woken)
        assert (arm.writes, kubernetes.writes) == (0, 0)
        stopped = time.time()
    took = await site.took(stopped)
    await site.until_arm_write(stopped + took)
    await site.conclude("Both frozen, the original leads, then stops", start, took)
