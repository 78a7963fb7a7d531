"""Mics on virtual time, between the embedded API and the simulated Azure, in a cluster that lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.faults.frozen import Process, task_factory
from tests.faults.inside import Link, Outside, Way
from tests.faults.inside_api import InsideApi, InsideClient, crds
from tests.faults.inside_arm import InsideArm, InsideCompute, InsideCredential
from tests.faults.judge import Made, Seen
from tests.faults.ledger import WATCHED, Balance, Ledger, balance
from tests.faults.life import CONTROLLER, Life, azure_json
from tests.faults.records import NAME, of_endpoints, of_lease

from podidentity.aio.clock import Clock, loop_clock
from podidentity.aio.fence import Fence
from podidentity.api.constants import EVENT_SOURCE
from podidentity.azure.config import AzureConfig, AzureConfigSource
from podidentity.config.mic import mic_settings
from podidentity.kube.events import EventRecorder
from podidentity.kube.greeting import Greeting
from podidentity.mic.app import App, build_app
from podidentity.mic.clients import Clients
from podidentity.mic.credential import CurrentCredential
from podidentity.telemetry.metrics import Metrics

LEASE: Final = 15.0
START: Final = 1_770_000_000.25
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Mic:
    """One process: all of mic but its servers and sockets."""

    def __init__(self, name: str, town: Town) -> None:
        self.name = name
        self.lost = self.wrong = 0.0
        self.to_api = Link()
        self.to_azure = Link()
        self._town = town
        self._process = Process()
        self._app: App | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether it believes so."""
        return self._app is not None and self._app.probe().body() == "Active"

    @property
    def ready(self) -> bool:
        """Whether it could lead."""
        return self._app is not None and not self._app.not_ready()

    def start(self) -> None:
        """Start a new process of this name."""
        self._process, self.to_api, self.to_azure = Process(), Link(), Link()
        self.lost = self.wrong = 0.0
        self._task = self._process.start(self._run())

    def freeze(self) -> None:
        """SIGSTOP."""
        self._process.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.thaw()

    async def terminate(self) -> None:
        """SIGTERM, and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._raise()
            self._task = self._app = None

    async def kill(self) -> None:
        """SIGKILL: nothing more leaves it."""
        self.to_api.dead = self.to_azure.dead = True
        self.to_api.whole.set()
        self.to_azure.whole.set()
        self._process.thaw()
        await self.terminate()

    def alive(self) -> bool:
        """Whether it runs; its own error is raised."""
        self._raise()
        return self._task is not None and not self._task.done()

    def _raise(self) -> None:
        if self._task is not None and self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            if error is not None:
                raise error

    async def _run(self) -> None:
        town, virtual = self._town, self._town.clock
        clock = Clock(lambda: virtual.monotonic() - self.lost, lambda: virtual.wall() + self.wrong)
        fence = Fence(clock, delivery=LEASE / 2)
        source = AzureConfigSource(str(town.azure_json), {})
        metrics, rng = Metrics(), random.Random(town.rng.random())
        argv = [f"--identity-removal-linger={town.linger}s", f"--leader-election-duration={LEASE:g}s"]
        settings = mic_settings([*argv, "--clientQps=100"], {"MIC_POD_NAMESPACE": "default"}, self.name)
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    InsideClient(town.api, self.to_api, self.name, clock=clock, fence=fence if fenced else None)
                )
                for fenced in (False, True, False)
            ]

            def credential(config: AzureConfig) -> InsideCredential:
                return InsideCredential(town.arm, config)

            way = Way(town.outside, self.to_azure, fence)
            current = CurrentCredential(source.current, credential)
            compute = InsideCompute(town.arm, way, self.name, credential=current, clock=clock)
            stack.push_async_callback(compute.close)
            events = EventRecorder(clients[0], component=EVENT_SOURCE, clock=clock)
            self._app = build_app(
                settings,
                Clients(*clients),
                compute,
                events,
                metrics,
                fence=fence,
                greeting=Greeting(clients[0]),
                clock=clock,
                rng=rng,
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(source.run())
                tasks.create_task(events.run())
                await self._app.run()


class Town:
    """The whole: two mics, their API and Azure, the cluster's life, and everything that was seen."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.linger = self.rng.choice((0, 2, 5))
        self.clock = loop_clock(START)
        self.outside = Outside()
        self.arm = InsideArm(folder, self.clock, random.Random(self.rng.random()))
        self.arm.admin.set_faults(arm_delay_vm=self.rng.uniform(0.2, 4), arm_delay_vmss=self.rng.uniform(0.5, 12))
        self.azure_json = folder / "azure.json"
        self.seen: list[Seen] = []
        self.written: list[Made] = []
        self.ledger = Ledger()
        self.mics: dict[str, Mic] = {}
        rng = random.Random(self.rng.random())
        self.api = InsideApi(self.clock, rng, self.outside, self._seen, self._written)
        self.life = Life(self.api.call, random.Random(self.rng.random()))
        self.restarted = 0

    @property
    def now(self) -> float:
        """Seconds since the epoch, virtual."""
        return self.clock.wall()

    def _seen(self, resource: str, obj: Mapping[str, Any], gone: bool) -> None:
        if resource in WATCHED:
            self.ledger.see(self.now, resource, obj, gone=gone)
        elif obj["metadata"]["name"] == NAME:
            holder = (of_lease if resource == "leases" else of_endpoints)(dict(obj))[0]
            self.seen.append(Seen(self.now, resource, holder, self.now))  # type: ignore[arg-type]  # one of two

    def _written(self, source: str, what: str) -> None:
        self.written.append(Made(self.now, self.now, source, what))

    async def furnish(self) -> None:
        """Build the cluster and start both mics."""
        for text in crds():
            await self.api.call("POST", CRDS, json.loads(text))
        other = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
        await self.api.call("POST", "/api/v1/namespaces", other)
        self.api.listen()
        await self.life.furnish()
        self.replace_azure_json(CONTROLLER)
        for name in ("one", "two"):
            self.mics[name] = Mic(name, self)
            self.mics[name].start()

    def replace_azure_json(self, client_id: str) -> None:
        """Put a new file in place of azure.json."""
        fresh = self.azure_json.with_suffix(".new")
        fresh.write_text(json.dumps(azure_json(client_id)))
        fresh.replace(self.azure_json)

    async def led(self) -> tuple[Mic, Mic]:
        """Leader and standby, both well, at a random moment of the cluster's life."""
        await self.until(lambda: all(mic.ready for mic in self.mics.values()) and any(self._leaders()), 200)
        await self.sleep(5, 40)
        await self.until(lambda: any(self._leaders()), 200)
        leader = next(self._leaders())
        (standby,) = (mic for mic in self.mics.values() if mic is not leader)
        return leader, standby

    def _leaders(self) -> Any:
        return (mic for mic in self.mics.values() if mic.leads)

    async def sleep(self, least: float, most: float) -> None:
        """Let a random time go by."""
        await asyncio.sleep(self.rng.uniform(least, most))

    async def until(self, holds: Any, seconds: float) -> bool:
        """Wait until it holds; whether it did in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not holds():
            if loop.time() >= end:
                return False
            await asyncio.sleep(0.1)
        return True

    def balance(self) -> Balance:
        """What is not as it should be now."""
        patches = self.arm.patches
        return balance(self.ledger.objects, patches.attached(), patches.before)

    async def close(self) -> None:
        """End everything."""
        for mic in self.mics.values():
            await mic.kill()
        await self.outside.close()
        self.api.api.close()
        self.arm.close()


@contextlib.asynccontextmanager
async def living(seed: int, folder: Path) -> AsyncIterator[tuple[Town, asyncio.Task[None]]]:
    """A town whose cluster lives; the task is its life."""
    asyncio.get_running_loop().set_task_factory(task_factory)
    town = Town(seed, folder)
    try:
        await town.furnish()
        life = asyncio.get_running_loop().create_task(town.life.go_on(town.rng.choice((0.3, 1, 3))))
        try:
            yield town, life
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
    finally:
        await town.close()
