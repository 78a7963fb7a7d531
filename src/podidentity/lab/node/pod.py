"""One pod on its node, from the moment it is bound to it until nothing of it is left."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from functools import partial
from typing import Final

from podidentity.api.meta import reference
from podidentity.kube.errors import Conflict, KubeError, NotFound
from podidentity.lab.node.expand import PodFacts, UnresolvedError
from podidentity.lab.node.network import PodNetwork, attach_pod, detach_pod
from podidentity.lab.node.objects import FullPod
from podidentity.lab.node.reporter import Reporter
from podidentity.lab.node.services import NodeServices
from podidentity.lab.node.status import ContainerRecord, PodRecord, new_record, phase, with_container
from podidentity.lab.node.supervisor import Supervisor, log_folder
from podidentity.lab.node.threads import to_the_end
from podidentity.lab.node.volumes import VolumeError
from podidentity.telemetry.logging import get_logger

_RETRY_START: Final = 0.5
_RETRY_LIMIT: Final = 120.0
_GONE_GRACE: Final = 2.0
_DELETE_RETRY: Final = 1.0


class PodWorker:
    """Runs one pod. ``update`` and ``vanished`` tell it what the API says; ``run`` ends when nothing is left."""

    def __init__(self, services: NodeServices, pod: FullPod) -> None:
        self._services = services
        self.pod = pod
        self._record = new_record(pod, services.facts.ip, services.clock.wall())
        self._reporter = Reporter(services.client, services.clock, pod, lambda: self._record)
        self._ending = asyncio.Event()
        self.in_api = True
        self._over = pod.status.phase in {"Succeeded", "Failed"}
        self._network: PodNetwork | None = None
        spec = self.pod.spec
        self._init = [Supervisor(services, self, one, init=True) for one in spec.init_containers]
        self._main = [Supervisor(services, self, one) for one in spec.containers]
        self._log = get_logger(pod=f"{pod.namespace}/{pod.name}")
        self.update(pod)

    def update(self, pod: FullPod) -> None:
        """A newer version of the pod: labels, annotations, and whether it is to end."""
        self.pod = pod
        if pod.metadata.deletion_timestamp:
            self._ending.set()

    def vanished(self) -> None:
        """The pod is no longer in the API."""
        self.in_api = False
        self._ending.set()

    @property
    def facts(self) -> PodFacts:
        """Addresses and names that fieldRefs ask for."""
        return PodFacts(self._services.facts.name, self._services.facts.ip, self._record.pod_ip)

    @property
    def network(self) -> str:
        """Path of the network namespace, empty for the node's own."""
        return self._network.namespace if self._network else ""

    @property
    def phase(self) -> str:
        """``status.phase`` as it is now."""
        return phase(self.pod, self._record)

    def supervisor(self, name: str) -> Supervisor | None:
        """What runs a container, None for an unknown name."""
        return next((one for one in (*self._main, *self._init) if one.spec.name == name), None)

    def record(self, name: str) -> ContainerRecord:
        """What is known of a container."""
        return self._record.main.get(name) or self._record.init[name]

    def note(self, name: str, record: ContainerRecord) -> None:
        """A container has changed."""
        self._set(with_container(self._record, name, record))

    def _set(self, record: PodRecord) -> None:
        self._record = record
        self._reporter.changed()

    async def run(self) -> None:
        """The pod's whole life. Cancelled: its processes and its network go, the API is not told."""
        try:
            async with asyncio.TaskGroup() as tasks:
                reporting = tasks.create_task(self._reporter.run())
                if not self._over:
                    self._reporter.changed()
                life = tasks.create_task(self._live())
                ending = tasks.create_task(self._ending.wait())
                await asyncio.wait({life, ending}, return_when=asyncio.FIRST_COMPLETED)
                if life.done():
                    await self._clean_up()
                    await ending
                await self._end(life)
                if self.in_api:
                    await self._reporter.settled()
                    await self._remove_from_api()
                reporting.cancel()
            logs = self._services.logs / log_folder(self.pod)
            await asyncio.to_thread(shutil.rmtree, logs, ignore_errors=True)
        finally:
            self._detach()

    async def _end(self, life: asyncio.Task[None]) -> None:
        """Stop what runs, gently, then everything else."""
        if life.done():
            return
        grace = self.pod.metadata.deletion_grace_period_seconds
        if grace is None:
            grace = self.pod.spec.termination_grace_period_seconds
        seconds = float(grace) if self.in_api else min(float(grace), _GONE_GRACE)
        running = [one for one in (*self._init, *self._main) if one.instance]
        async with asyncio.TaskGroup() as tasks:
            for supervisor in running:
                tasks.create_task(supervisor.stop(seconds))
        if running:
            await asyncio.wait({life}, timeout=_GONE_GRACE)
        life.cancel()
        await asyncio.wait({life})
        await self._clean_up()

    async def _live(self) -> None:
        """Until all containers have ended for good; returns early when the pod failed as a whole."""
        if self._over:
            return
        try:
            async with asyncio.timeout(self.pod.spec.active_deadline_seconds):
                await self._set_up()
                await self._run_containers()
        except TimeoutError:
            text = "Pod was active on the node longer than the specified deadline"
            self._set(replace(self._record, reason="DeadlineExceeded", message=text))

    async def _run_containers(self) -> None:
        for supervisor in self._init:
            if await supervisor.run():
                return
        async with asyncio.TaskGroup() as tasks:
            keeping = [tasks.create_task(self._keep_fresh()), tasks.create_task(self._keep_rotated())]
            await asyncio.wait([tasks.create_task(supervisor.run()) for supervisor in self._main])
            for task in keeping:
                task.cancel()

    async def _set_up(self) -> None:
        """Network and volumes; volumes are tried again for as long as it takes."""
        await self._attach()
        attempt = 0
        while True:
            try:
                await self._services.volumes.set_up(self.pod, self.facts)
            except VolumeError as error:
                self._services.recorder.event(reference(self.pod), "Warning", "FailedMount", str(error))
                await asyncio.sleep(min(_RETRY_START * 2 ** min(attempt, 16), _RETRY_LIMIT))
                attempt += 1
            else:
                return

    async def _attach(self) -> None:
        services, pod = self._services, self.pod
        if pod.spec.host_network:
            self._set(replace(self._record, pod_ip=services.facts.ip))
            return
        attempt = 0
        while self._network is None:
            try:
                await self._attach_with(services.pool.take())
            except OSError as error:
                text = f"Failed to create pod sandbox: {error}"
                services.recorder.event(reference(pod), "Warning", "FailedCreatePodSandBox", text)
                await asyncio.sleep(min(_RETRY_START * 2 ** min(attempt, 16), _RETRY_LIMIT))
                attempt += 1

    async def _attach_with(self, ip: str) -> None:
        """Attach with an address; what was attached is known, to be taken away, though the task is cancelled."""
        services, uid = self._services, self.pod.uid
        network = PodNetwork(uid, str(services.namespaces / uid), ip, services.pod_cidr, services.mode)

        def ended(error: BaseException | None) -> None:
            if error:
                services.pool.give_back(ip)
            else:
                self._network = network

        await to_the_end(partial(attach_pod, network), ended)
        self._set(replace(self._record, pod_ip=ip))

    def _detach(self) -> None:
        network, self._network = self._network, None
        if network:
            detach_pod(network)
            self._services.pool.give_back(network.ip)

    async def _clean_up(self) -> None:
        """Everything but the log files; the API keeps the pod until it is deleted."""
        await asyncio.to_thread(self._detach)
        await self._services.volumes.tear_down(self.pod)

    async def _keep_fresh(self) -> None:
        """ConfigMaps, Secrets and tokens in volumes follow the API."""
        while True:
            await asyncio.sleep(self._services.refresh)
            try:
                await self._services.volumes.refresh(self.pod, self.facts)
            except VolumeError as error:
                self._log.warning("a volume was not refreshed", error=str(error))

    async def _keep_rotated(self) -> None:
        """CSI volumes are asked for again."""
        while True:
            await asyncio.sleep(self._services.rotation)
            try:
                if await self._services.store.rotate(self.pod):
                    self._services.recorder.event(
                        reference(self.pod), "Normal", "MountRotationComplete", "successfully rotated mounted contents"
                    )
            except (UnresolvedError, KubeError) as error:
                text = f"provider mount err: {error}"
                self._services.recorder.event(reference(self.pod), "Warning", "MountRotationFailed", text)

    async def _remove_from_api(self) -> None:
        """Tell the API that nothing is left; it then lets the object go."""
        pod = self.pod
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod.uid},
        }
        while self.in_api:
            try:
                await self._services.client.raw("DELETE", path, body=options)
            except (NotFound, Conflict):
                return
            except KubeError as error:
                self._log.warning("the pod was not removed from the API", error=str(error))
                await asyncio.sleep(_DELETE_RETRY)
            else:
                return
