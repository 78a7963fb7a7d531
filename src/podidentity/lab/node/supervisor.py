"""One container of a pod: start it, probe it, start it again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

from podidentity.api.meta import reference
from podidentity.kube.errors import KubeError
from podidentity.lab.node import images, kits
from podidentity.lab.node.containers import RunningContainer, StartError, run_command, start
from podidentity.lab.node.expand import PodFacts, UnresolvedError, references
from podidentity.lab.node.logs import LogFile
from podidentity.lab.node.objects import ContainerSpec, FullPod, Probe
from podidentity.lab.node.podspec import Wanted, container_of
from podidentity.lab.node.probes import ChangeOfHealth, ProbeError, Prober, watch
from podidentity.lab.node.services import NodeServices
from podidentity.lab.node.shim import Exec, Program
from podidentity.lab.node.status import (
    BACKOFF_LIMIT,
    ContainerRecord,
    Running,
    Terminated,
    Waiting,
    restart_delay,
    starts_again,
)
from podidentity.lab.node.volumes import fetch

_START_FAILED: Final = 128
_CONFIG_RETRY: Final = 5.0


class PullError(Exception):
    """The image table has no such image."""


class Host(Protocol):
    """What a supervisor needs of its pod."""

    @property
    def pod(self) -> FullPod:
        """The pod as it is now."""

    @property
    def facts(self) -> PodFacts:
        """Addresses."""

    @property
    def network(self) -> str:
        """Path of the pod's network namespace, empty for the node's."""

    def record(self, name: str) -> ContainerRecord:
        """What is known of a container."""

    def note(self, name: str, record: ContainerRecord) -> None:
        """Something changed."""


@dataclass(slots=True)
class Instance:
    """A running instance and what it was started with."""

    container: RunningContainer
    program: Program

    def job(self, command: Sequence[str]) -> Exec:
        """Another program inside, with the same rights and variables."""
        return Exec(replace(self.program, argv=tuple(command)), self.container.pid)


def exit_number(code: int) -> int:
    """An exit code as containers have it: 128 + n for signal n."""
    return code if code >= 0 else 128 - code


def log_folder(pod: FullPod) -> str:
    """Name of the directory of a pod's logs."""
    return f"{pod.namespace}_{pod.name}_{pod.uid}"


class Supervisor:
    """Runs one container for as long as its pod wants it. ``logs`` holds the latest two instances' logs."""

    def __init__(self, services: NodeServices, host: Host, spec: ContainerSpec, *, init: bool = False) -> None:
        self.spec = spec
        self.instance: Instance | None = None
        self.logs: list[LogFile] = []
        self._services = services
        self._host = host
        self._init = init
        self._stopping = False
        self._failures = 0

    async def run(self) -> int:
        """Until the container has ended for good; its exit code."""
        restarts = 0
        while True:
            began = self._services.clock.monotonic()
            ended = await self._once(restarts)
            if self._stopping or not starts_again(self._host.pod.spec.restart_policy, ended.exit_code, init=self._init):
                return ended.exit_code
            if self._services.clock.monotonic() - began > 2 * BACKOFF_LIMIT:
                self._failures = 0
            delay = restart_delay(self._failures)
            self._failures += 1
            if delay:
                self._crash_loop(delay, ended)
                await asyncio.sleep(delay)
            restarts += 1

    def _crash_loop(self, delay: float, ended: Terminated) -> None:
        pod = self._host.pod
        where = f"container={self.spec.name} pod={pod.name}_{pod.namespace}({pod.uid})"
        waiting = Waiting("CrashLoopBackOff", f"back-off {delay:g}s restarting failed {where}")
        self._note(state=waiting, last=ended)
        self._event("Warning", "BackOff", f"Back-off restarting failed container {self.spec.name} in pod {pod.name}")

    async def _once(self, restarts: int) -> Terminated:
        """One instance, from its start to its end."""
        started_at = self._services.clock.wall()
        try:
            async with asyncio.TaskGroup() as tasks:
                running = await self._start(restarts, tasks)
                started_at = self._services.clock.wall()
                code = exit_number(await self._watch_over(running, restarts, tasks))
            message = ""
        except* StartError as group:
            code, message = _START_FAILED, "; ".join(str(error) for error in group.exceptions)
            self._event("Warning", "Failed", f"Error: {message}")
        reason = "StartError" if message else "Completed" if code == 0 else "Error"
        ended = Terminated(code, reason, started_at, self._services.clock.wall(), message)
        self._note(state=ended, restarts=restarts, ready=self._init and code == 0, started=False)
        return ended

    async def _start(self, restarts: int, tasks: asyncio.TaskGroup) -> RunningContainer:
        """Start an instance, waiting for what its spec refers to."""
        failures = 0
        while True:
            try:
                return await self._try_start(restarts, tasks)
            except PullError as error:
                reason = "ErrImagePull" if failures % 2 == 0 else "ImagePullBackOff"
                if failures == 0:
                    self._event("Warning", "Failed", str(error))
                self._note(state=Waiting(reason, str(error)), restarts=restarts)
                await asyncio.sleep(restart_delay(failures) or 1.0)
            except (UnresolvedError, KubeError, OSError) as error:
                if failures == 0:
                    self._event("Warning", "Failed", f"Error: {error}")
                self._note(state=Waiting("CreateContainerConfigError", str(error)), restarts=restarts)
                await asyncio.sleep(_CONFIG_RETRY)
            failures += 1

    async def _try_start(self, restarts: int, tasks: asyncio.TaskGroup) -> RunningContainer:
        services, pod, spec = self._services, self._host.pod, self.spec
        image = images.find(spec.image)
        if image is None:
            raise PullError(images.unknown(spec.image))
        if image.kit and image.kit not in services.facts.kits:
            raise PullError(f'failed to pull image "{spec.image}": {kits.missing(image.kit)}')
        sources = {
            (kind, name): await fetch(services.client, kind, pod.namespace, name)
            for kind, name in sorted(references(spec))
        }
        wanted = Wanted(pod, spec, sources, self._host.facts, self._host.network)
        job = container_of(wanted, services.facts, image, lambda volume: str(services.volumes.source(pod, volume)))
        path = services.logs / log_folder(pod) / spec.name / f"{restarts}.log"
        self._event("Normal", "Pulled", f'Container image "{spec.image}" already present on machine')
        container = await start(job, path, services.clock.wall, tasks)
        self.instance = Instance(container, job.program)
        self.logs = [*self.logs[-1:], container.log]
        self._event("Normal", "Created", f"Created container: {spec.name}")
        self._event("Normal", "Started", f"Started container {spec.name}")
        return container

    async def _watch_over(self, running: RunningContainer, restarts: int, tasks: asyncio.TaskGroup) -> int:
        """Run the probes until the instance ends; its raw exit code."""
        before = self._host.record(self.spec.name)
        last = before.state if isinstance(before.state, Terminated) else before.last
        gated = self.spec.startup_probe is not None
        ready = not self._init and not gated and self.spec.readiness_probe is None
        state = Running(self._services.clock.wall())
        fresh = ContainerRecord(state, last, restarts, ready=ready, started=not gated)
        self._host.note(self.spec.name, fresh)
        probing = tasks.create_task(self._probe(running))
        try:
            return await running.wait()
        finally:
            probing.cancel()
            self.instance = None
            running.destroy()

    async def _probe(self, running: RunningContainer) -> None:
        """Startup first, then liveness and readiness side by side."""
        prober = Prober(self._services.session, self.spec, self._host.facts.pod_ip, self._command)
        unhealthy = partial(self._unhealthy, running)
        if self.spec.startup_probe:
            up = asyncio.Event()

            async def started(healthy: bool) -> None:
                if healthy:
                    up.set()
                else:
                    await unhealthy("startup")

            async with asyncio.TaskGroup() as tasks:
                probe = tasks.create_task(self._watch(self.spec.startup_probe, prober, started, "Startup"))
                await up.wait()
                probe.cancel()
            self._note(started=True, ready=self.spec.readiness_probe is None)

        async def alive(healthy: bool) -> None:
            if not healthy:
                await unhealthy("liveness")

        async def ready(healthy: bool) -> None:
            self._note(ready=healthy)

        async with asyncio.TaskGroup() as tasks:
            if self.spec.liveness_probe:
                tasks.create_task(self._watch(self.spec.liveness_probe, prober, alive, "Liveness"))
            if self.spec.readiness_probe:
                tasks.create_task(self._watch(self.spec.readiness_probe, prober, ready, "Readiness"))

    async def _command(self, command: Sequence[str], timeout: float) -> tuple[int, bytes]:  # noqa: ASYNC109 - as below
        if self.instance is None:
            raise ProbeError("the container is not running")
        try:
            return await run_command(self.instance.job(command), timeout)
        except StartError as error:
            raise ProbeError(str(error)) from None

    async def _watch(self, probe: Probe, prober: Prober, on_change: ChangeOfHealth, kind: str) -> None:
        def failed(text: str) -> None:
            self._event("Warning", "Unhealthy", f"{kind} probe failed: {text}")

        await watch(probe, prober, on_change, failed)

    async def _unhealthy(self, running: RunningContainer, kind: str) -> None:
        text = f"Container {self.spec.name} failed {kind} probe, will be restarted"
        self._event("Normal", "Killing", text)
        await running.stop(self._host.pod.spec.termination_grace_period_seconds)

    async def stop(self, grace: float) -> None:
        """End the container for good: SIGTERM, SIGKILL after ``grace`` seconds. ``run`` then returns."""
        self._stopping = True
        if self.instance:
            self._event("Normal", "Killing", f"Stopping container {self.spec.name}")
            with suppress(ProcessLookupError):
                await self.instance.container.stop(grace)

    def _note(self, **changes: object) -> None:
        record = self._host.record(self.spec.name)
        self._host.note(self.spec.name, replace(record, **changes))  # type: ignore[arg-type] # its own field names

    def _event(self, kind: str, reason: str, message: str) -> None:
        self._services.recorder.event(reference(self._host.pod), kind, reason, message)
