"""The same faults on the virtual clock, many times over: elections alone, with a writer that always has something."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.faults.conftest import LONG, ROWS, told
from tests.faults.frozen import Process, task_factory
from tests.faults.judge import Made, Seen, judge
from tests.faults.table import Row
from tests.kube.election.conftest import MemoryApi

from podidentity.aio.clock import Clock, loop_clock
from podidentity.aio.fence import Fence
from podidentity.api.meta import KubeObject
from podidentity.api.resources import Resource
from podidentity.kube.leadership import ElectionSettings, Leadership
from podidentity.kube.records import read_endpoints, read_lease

pytestmark = [pytest.mark.faults, pytest.mark.looptime]

LEASE = 15.0
NAMES = ("one", "two")


class WatchedApi(MemoryApi):
    """Remembers every record."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []

    def put(self, resource: Resource[Any], obj: KubeObject) -> KubeObject:
        """Store an object with a new version."""
        stored: Any = super().put(resource, obj)
        record = read_lease(stored) if resource.plural == "leases" else read_endpoints(stored)
        assert record is not None
        now = asyncio.get_running_loop().time()
        self.seen.append(Seen(now, resource.plural, record.holder, now))  # type: ignore[arg-type]  # one of two
        return stored


class Contender:
    """A process that contends and, leading, begins writes that wait long for their turn before they are sent."""

    def __init__(self, name: str, stage: Stage) -> None:
        virtual = loop_clock(1_770_000_000.25)
        self.wrong = self.lost = 0.0
        clock = Clock(lambda: virtual.monotonic() - self.lost, lambda: virtual.wall() + self.wrong)
        self.name = name
        self.process = Process()
        self._stage = stage
        self._fence = Fence(clock, delivery=LEASE / 2)
        settings = ElectionSettings(name, "default", "mic", LEASE)
        self._leadership = Leadership(
            stage.api.client(name), settings, fence=self._fence, clock=clock, rng=random.Random(stage.rng.random())
        )
        self.task = self.process.start(self._leadership.run(self._lead))

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(self._write())

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._stage.rng.choice((0.01, 0.3, 2, 6)))
            self._fence.check()
            self._stage.made.append(Made(loop.time(), loop.time(), self.name, "PATCH"))

    async def end(self) -> None:
        """SIGTERM."""
        self.process.thaw()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Stage:
    """Two contenders, an API, and what was written."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.api = WatchedApi()
        self.made: list[Made] = []
        self.group = {name: Contender(name, self) for name in NAMES}

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return asyncio.get_running_loop().time()

    async def writer(self, *names: str, since: float) -> float:
        """Wait until one of ``names`` has written after ``since``; when."""
        async with asyncio.timeout(LEASE * 5):
            while True:
                late = [one.at for one in self.made if one.at > since and one.source in names]
                if late:
                    return late[0]
                await asyncio.sleep(0.05)

    async def led(self) -> tuple[Contender, Contender]:
        """Leader and standby, after a while in which both renewed and looked."""
        await self.writer(*NAMES, since=self.now)
        await asyncio.sleep(self.rng.uniform(LEASE, 2 * LEASE))
        name = self.made[-1].source
        (other,) = (one for one in self.group.values() if one.name != name)
        return self.group[name], other


Fault = Callable[[Stage], Awaitable[float]]


async def terminated(stage: Stage) -> float:
    """SIGTERM."""
    leader, standby = await stage.led()
    start = stage.now
    await leader.end()
    return await stage.writer(standby.name, since=start) - start


async def killed(stage: Stage) -> float:
    """Kill -9."""
    leader, standby = await stage.led()
    start = stage.now
    leader.process.freeze()  # and never thawed before the end of the round
    return await stage.writer(standby.name, since=start) - start


async def frozen(stage: Stage) -> float:
    """SIGSTOP beyond the lease, SIGCONT."""
    leader, standby = await stage.led()
    start = stage.now
    leader.process.freeze()
    took = await stage.writer(standby.name, since=start) - start
    leader.process.thaw()
    await asyncio.sleep(LEASE)
    return took


async def api_away(stage: Stage) -> float:
    """API server away (from its return)."""
    await stage.led()
    stage.api.failing.update(NAMES)
    await asyncio.sleep(stage.rng.uniform(LEASE / 2, LEASE * 2))
    stage.api.failing.clear()
    start = stage.now
    return await stage.writer(*NAMES, since=start) - start


async def cut(stage: Stage) -> float:
    """Network cut between leader and API."""
    leader, standby = await stage.led()
    start = stage.now
    stage.api.hanging.add(leader.name)
    took = await stage.writer(standby.name, since=start) - start
    stage.api.hanging.clear()
    await asyncio.sleep(LEASE)
    return took


async def original(stage: Stage) -> float:
    """Both frozen, the original leads, then stops."""
    await stage.led()
    for one in stage.group.values():
        one.process.freeze()
    await asyncio.sleep(LEASE * 1.5)
    woken = stage.now
    for tick in range(16):
        stage.api.original(f"2026-01-01T00:00:{tick:02d}Z")
        if tick == 2:
            for one in stage.group.values():
                one.process.thaw()
        start = stage.now
        await asyncio.sleep(LEASE / 4)
    assert not [write for write in stage.made if woken < write.at <= start]
    return await stage.writer(*NAMES, since=start) - start


async def paused(stage: Stage) -> float:
    """Machine paused, its monotonic clock too."""
    leader, standby = await stage.led()
    start = stage.now
    leader.process.freeze()
    took = await stage.writer(standby.name, since=start) - start
    leader.lost = stage.now - start
    leader.process.thaw()
    await asyncio.sleep(LEASE)
    return took


async def jumps(stage: Stage) -> float:
    """Wall clocks jump by an hour, apart."""
    leader, standby = await stage.led()
    start = stage.now
    leader.wrong, standby.wrong = stage.rng.choice(((-3600, 3600), (3600, -3600)))
    await asyncio.sleep(LEASE * 2)
    assert not [write for write in stage.made if write.source == standby.name and write.at > start]
    return await stage.writer(leader.name, since=start) - start


@contextlib.asynccontextmanager
async def staged(seed: int) -> AsyncIterator[Stage]:
    """A stage whose contenders can be frozen; all of them end with the round."""
    asyncio.get_running_loop().set_task_factory(task_factory)
    stage = Stage(seed)
    try:
        yield stage
    finally:
        for one in stage.group.values():
            await one.end()


FAULTS: tuple[Fault, ...] = (terminated, killed, frozen, api_away, cut, original, paused, jumps)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("seed", range(20 if LONG else 2))
async def test_only_a_leader_writes(request: pytest.FixtureRequest, fault: Fault, seed: int) -> None:
    """Whatever happens at whatever moment, every write falls into a time when its sender held both records."""
    async with staged(seed) as stage:
        took = await fault(stage)
        seen, made = tuple(stage.api.seen), tuple(stage.made)
    verdict = judge(seen, made, LEASE)
    words = (fault.__doc__ or "").rstrip(".")
    rows = request.config.stash.setdefault(ROWS, [])
    rows.append(Row(words, "virtual", LEASE, took, verdict, judge((), (), LEASE)))
    assert len(made) > 20
    assert not told(verdict.foreign)
    assert not told(verdict.late)
