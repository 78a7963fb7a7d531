"""Two whole mics on virtual time, in a cluster that never rests, with every fault: nothing lost, nothing wrong."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Final

import pytest
from tests.faults.conftest import LONG, OUTCOMES, told
from tests.faults.judge import judge
from tests.faults.outcome import Outcome
from tests.faults.plagues import PLAGUES, Plague
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
        outcome, complaints = _judged(town, name, took)
    request.config.stash.setdefault(OUTCOMES, []).append(outcome)
    assert not complaints


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


def _judged(town: Town, name: str, took: float) -> tuple[Outcome, list[str]]:
    """The round's line, and in words what is wrong with it."""
    patches, balance = town.arm.patches, town.balance()
    foreign = [judge(town.seen, writes, LEASE).foreign for writes in (patches.made, town.written)]
    wrong = town.ledger.wrong(patches.removals, sight=SIGHT)
    taken = [removal for removal in patches.removals if removal.identity in patches.before[removal.host]]
    outcome = Outcome(
        fault=name,
        clock="virtual",
        records=len(town.written),
        patches=len(patches.made),
        wrong=len(wrong) + len(taken),
        lost=len(balance.lost),
        leaked=len(balance.leaked) + len(balance.stale),
        foreign=sum(map(len, foreign)),
        overlaps=len(patches.overlaps),
        took=took,
    )
    complaints = [
        *(f"removed while in use: {removal} {use}" for removal, use in wrong),
        *(f"not ours to remove: {removal}" for removal in taken),
        *([] if balance.even else [f"not even: {balance}"]),
        *(f"by a non-leader: {write}" for writes in foreign for write in told(writes)),
        *(f"two PATCHes at once: {overlap}" for overlap in patches.overlaps),
    ]
    return outcome, complaints
