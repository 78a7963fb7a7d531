"""The acceptance scenario `cronjob-minute`, on the virtual clock: an hour would be too long for a lab."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec
import pytest

from podidentity.api.core import Pod, PodStatus

pytestmark = pytest.mark.looptime

Bench = Any
HISTORY = 3
"""Jobs that a CronJob keeps when they are over."""


async def test_cronjob_minute(bench: Bench) -> None:
    """Protects ARM's budget: a pod of a new name each minute for an hour costs one PATCH, and one when it is over."""
    bench.node("n1", "vmss")
    bench.node("n2", "vmss")
    bench.identity("id1")
    kept: deque[Pod] = deque()
    for minute in range(60):
        name = f"job-{minute}-x7k2p"
        pod = bench.pod(name, f"n{minute % 2 + 1}", "id1")
        await bench.until(lambda name=name: bench.states().get(f"{name}-default-id1") == "Assigned", 12)
        await asyncio.sleep(20)
        over = msgspec.structs.replace(pod, status=PodStatus(phase="Succeeded"))
        bench.put(over)
        kept.append(over)
        if len(kept) > HISTORY:
            bench.drop(kept.popleft())
        await asyncio.sleep(39)
    assert len(bench.arm.patches) == 1
    for pod in kept:
        bench.drop(pod)
    await bench.until(lambda: bench.states() == {}, 200)
    assert bench.on("vmss") == set()
    assert len(bench.arm.patches) == 2
