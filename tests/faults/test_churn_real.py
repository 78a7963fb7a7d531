"""Two mic processes on a real API server, in a cluster that never rests, with every fault: nothing lost or wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.faults.arm_rules import ARM_FAULTS, Rules
from tests.faults.conftest import LONG, OUTCOMES, Site, judged
from tests.faults.life import CONTROLLER, SEED, SUCCESSOR, Life, azure_json
from tests.faults.links import Relay
from tests.faults.patches import forget_roles
from tests.faults.records import Records
from tests.faults.site import Api, Mic, azure_at, background, token_of_mic, until
from tests.faults.village import Village, compacted, swept
from tests.real_server import RealServer

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

LEASE: Final = 4.0
SIGHT: Final = 200.0
GRACE: Final = 1.0
"""Seconds by which this process may see an object late, on a machine that does much else."""
PATIENCE: Final = 300.0


@dataclass
class Stage:
    """What a fault needs: the site, the cluster's life, and azure.json."""

    site: Site
    village: Village
    life: Life
    azure_json: Path
    rng: random.Random

    async def sleep(self, least: float, most: float) -> None:
        """Let a random time go by."""
        await asyncio.sleep(self.rng.uniform(least, most))

    def replace_azure_json(self, client_id: str) -> None:
        """Put a new file in place of azure.json."""
        fresh = self.azure_json.with_suffix(".new")
        fresh.write_text(json.dumps(azure_json(client_id)))
        fresh.replace(self.azure_json)


@pytest_asyncio.fixture(loop_scope="session")
async def stage(
    request: pytest.FixtureRequest, own_server: RealServer, furnished: Api, tmp_path: Path, seed: int
) -> AsyncIterator[Stage]:
    """Everything new but the API server."""
    pki, api, rng = own_server.folder / "pki", furnished, random.Random(seed)
    await swept(api)
    async with contextlib.AsyncExitStack() as stack:
        azure, port = await stack.enter_async_context(azure_at(tmp_path / "azure", pki, SEED))
        azure.admin.set_faults(arm_limits=None, arm_delay_vm=rng.uniform(0.2, 2), arm_delay_vmss=rng.uniform(0.5, 4))
        mics, token = {}, await token_of_mic(api)
        for name in ("one", "two"):
            to_api = await stack.enter_async_context(Relay(own_server.plane.port).serving())
            to_azure = await stack.enter_async_context(Relay(port, tunnel=True).serving())
            mics[name] = Mic(name, tmp_path, LEASE, pki, token, to_api, to_azure, tmp_path / "azure.json")
            stack.push_async_callback(mics[name].stop)
        records, village = Records(api), Village(api)
        site = Site(own_server, api, azure, records, mics, LEASE, [], own_server.folder / "audit.log")
        found = Stage(site, village, Life(village.call, rng), tmp_path / "azure.json", rng)
        found.replace_azure_json(CONTROLLER)
        await stack.enter_async_context(background(records.watch()))
        await stack.enter_async_context(background(village.follow()))
        await village.call("POST", "/api/v1/namespaces", {"metadata": {"name": "other"}})
        await found.life.furnish()
        yield found


Fault = Callable[[Stage, Mic, Mic], Awaitable[None]]


async def killed(stage: Stage, leader: Mic, _: Mic) -> None:
    """Kill -9."""
    leader.send(signal.SIGKILL)
    await leader.ended()
    await stage.sleep(0, LEASE)
    await leader.start()


async def terminated(stage: Stage, leader: Mic, _: Mic) -> None:
    """SIGTERM."""
    leader.send(signal.SIGTERM)
    assert await leader.ended() == 0
    await stage.sleep(0, LEASE)
    await leader.start()


async def frozen(stage: Stage, leader: Mic, _: Mic) -> None:
    """SIGSTOP past the lease, SIGCONT."""
    leader.send(signal.SIGSTOP)
    await stage.sleep(LEASE, 3 * LEASE)
    leader.send(signal.SIGCONT)


async def paused_in_turn(stage: Stage, leader: Mic, standby: Mic) -> None:
    """Both paused in turn, past the lease."""
    for one, other in ((leader, standby), (standby, leader)):
        one.send(signal.SIGSTOP)
        await stage.sleep(LEASE, 2 * LEASE)
        other.send(signal.SIGSTOP)
        one.send(signal.SIGCONT)
        await stage.sleep(LEASE, 2 * LEASE)
        other.send(signal.SIGCONT)


async def api_restarts(stage: Stage, _: Mic, __: Mic) -> None:
    """API server restarts."""
    server = stage.site.server
    await asyncio.to_thread(server.stop, "kube-apiserver")
    await stage.sleep(0, 2 * LEASE)
    await asyncio.to_thread(server.start)


async def forgotten(stage: Stage, _: Mic, __: Mic) -> None:
    """410: the history is forgotten."""
    server = stage.site.server
    await asyncio.to_thread(server.stop, "kube-apiserver")
    await compacted(server.plane.etcd_port)
    await asyncio.to_thread(server.start)


async def watches_silent(stage: Stage, leader: Mic, _: Mic) -> None:
    """Watches of the leader fall silent."""
    leader.api.forget()
    await stage.sleep(2, 20)


async def stale_takes_over(stage: Stage, leader: Mic, standby: Mic) -> None:
    """Watches of the standby fall silent, kill -9."""
    standby.api.forget()
    await stage.sleep(2, 20)
    await killed(stage, leader, standby)


async def cut_from_api(stage: Stage, leader: Mic, _: Mic) -> None:
    """Network cut between leader and API."""
    leader.api.cut()
    await stage.sleep(LEASE / 2, 3 * LEASE)
    leader.api.heal()


async def cut_from_azure(stage: Stage, leader: Mic, _: Mic) -> None:
    """Network cut between leader and Azure."""
    leader.azure.cut()
    await stage.sleep(LEASE / 2, 3 * LEASE)
    leader.azure.heal()


async def azure_json_replaced(stage: Stage, _: Mic, __: Mic) -> None:
    """azure.json replaced, the old principal's roles gone."""
    forget_roles(stage.site.azure.world, CONTROLLER)
    await stage.sleep(0, 6)
    stage.replace_azure_json(SUCCESSOR)


async def azure_misbehaves(rules: Rules, stage: Stage, leader: Mic, _: Mic) -> None:
    """Azure answers wrongly for a while; half of the time the leader dies of it."""
    admin = stage.site.azure.admin
    failing = "" if rules else "InternalExecutionError: An internal execution error occurred."
    admin.set_faults(rules=rules, arm_operation_error=failing)
    await stage.sleep(4, 12)
    if stage.rng.random() < 0.5:
        leader.send(signal.SIGKILL)
        await leader.ended()
        await leader.start()
    admin.set_faults(rules=[], arm_operation_error="")


_TOLD: Final[tuple[Fault, ...]] = (
    killed,
    terminated,
    frozen,
    paused_in_turn,
    api_restarts,
    watches_silent,
    stale_takes_over,
    forgotten,
    cut_from_api,
    cut_from_azure,
    azure_json_replaced,
)
FAULTS: Final[dict[str, Fault]] = {
    **{(one.__doc__ or "").rstrip("."): one for one in _TOLD},
    **{name: partial(azure_misbehaves, rules) for name, rules in ARM_FAULTS.items()},
}
SHORT: Final = ("Kill -9", "ARM loses answers after success")


@pytest.mark.parametrize("name", FAULTS if LONG else SHORT)
@pytest.mark.parametrize("seed", range(3 if LONG else 1))
async def test_nothing_is_lost_or_wrong(request: pytest.FixtureRequest, stage: Stage, name: str) -> None:
    """Protects every promise of the controller from this fault, with processes, sockets and a real API server."""
    site, start = stage.site, time.time()
    leader, standby = await site.settled()
    life = asyncio.ensure_future(stage.life.go_on(0.4))
    try:
        await stage.sleep(3, 8)
        await FAULTS[name](stage, leader, standby)
        assert not life.done(), life.exception()
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
    await stage.life.settle()
    took = await _converged(stage)
    balance = stage.village.balance(site.azure.patches)
    outcome, complaints = judged(
        name,
        "real",
        patches=site.azure.patches,
        ledger=stage.village.ledger,
        balance=balance,
        verdicts=site.verdicts(start),
        took=took,
        sight=SIGHT,
        grace=GRACE,
    )
    request.config.stash.setdefault(OUTCOMES, []).append(outcome)
    assert not complaints


async def _converged(stage: Stage) -> float:
    """Seconds until all was right; then it has to stay so for a while."""

    async def even() -> bool:
        return stage.village.balance(stage.site.azure.patches).even

    took: Any = math.inf
    with contextlib.suppress(AssertionError):
        took = await until(even, "all is right", PATIENCE)
    await asyncio.sleep(LEASE)
    return float(took)
