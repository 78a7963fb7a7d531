"""Two whole mics on virtual time, in a cluster that never rests, with every fault: nothing lost, nothing wrong."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Final

import pytest
from tests.faults.conftest import LONG, OUTCOMES, judged
from tests.faults.judge import judge
from tests.faults.plagues import LIMITS, PLAGUES, Plague
from tests.faults.town import LEASE, Town, living

pytestmark = [pytest.mark.faults, pytest.mark.looptime(noop_cycles=1)]

SIGHT: Final = 200.0
"""Seconds after which mic must know of a pod, whatever befell its watches."""
PATIENCE: Final = 1500.0
QUIET: Final = 400.0
"""Seconds for which all must stay right: longer than the interval of drift repair."""


@pytest.mark.parametrize("name", PLAGUES)
@pytest.mark.parametrize("seed", range(20 if LONG else 1))
async def test_nothing_is_lost_or_wrong(request: pytest.FixtureRequest, name: str, seed: int, tmp_path: Path) -> None:
    """Protects every promise of the controller from this fault at whatever moment of a cluster's life."""
    async with living(seed * 1000 + len(name), tmp_path) as (town, life):
        took = await _played(town, life, PLAGUES[name])
        patches = town.arm.patches
        verdicts = (judge(town.seen, patches.made, LEASE), judge(town.seen, town.written, LEASE))
        outcome, complaints = judged(
            name,
            "virtual",
            patches=patches,
            ledger=town.ledger,
            balance=town.balance(),
            verdicts=verdicts,
            took=took,
            sight=SIGHT,
        )
    request.config.stash.setdefault(OUTCOMES, []).append(outcome)
    assert not complaints
    assert took < LIMITS.get(name, PATIENCE)


async def _played(town: Town, life: asyncio.Task[None], plague: Plague) -> float:
    """Seconds until all was right and stayed so, infinite for never."""
    await plague(town)
    assert not life.done(), life.exception()
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    await town.life.settle()
    start = town.now
    right = await town.until(lambda: town.balance().even, PATIENCE)
    took = town.now - start
    await asyncio.sleep(QUIET)
    assert all(mic.alive() for mic in town.mics.values())
    return took if right and town.balance().even else math.inf
