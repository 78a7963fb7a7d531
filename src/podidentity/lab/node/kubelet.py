"""The kubelet: runs the pods that the API has bound to its node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from podidentity.aio.clock import Clock
from podidentity.kube.client import KubeClient
from podidentity.kube.events import EventRecorder
from podidentity.kube.reflector import Reflector
from podidentity.kube.settings import KubeSettings
from podidentity.kube.store import Change, Store, split
from podidentity.lab.node.network import AddressPool, Mode
from podidentity.lab.node.objects import FULL_PODS, FullPod
from podidentity.lab.node.pod import PodWorker
from podidentity.lab.node.podspec import NodeFacts
from podidentity.lab.node.register import KUBELET_PORT, NodeIdentity, Registration
from podidentity.lab.node.secrets_store import SecretsStore
from podidentity.lab.node.server import KubeletServer, ServerFiles, serving
from podidentity.lab.node.services import NodeServices
from podidentity.lab.node.tokens import TokenKeeper
from podidentity.lab.node.volumes import Volumes
from podidentity.telemetry.logging import get_logger

LOGS: Final = Path("/var/log/pods")
NAMESPACES: Final = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class KubeletSettings:
    """Everything a kubelet is told; paths as its node sees them, ``rotation`` in seconds."""

    node: NodeIdentity
    facts: NodeFacts
    mode: Mode
    kube: KubeSettings
    files: ServerFiles
    rotation: float
    port: int = KUBELET_PORT


class Pods:
    """The workers of one node, by pod UID, each in a task of its own."""

    def __init__(self, services: NodeServices, tasks: asyncio.TaskGroup) -> None:
        self._services = services
        self._tasks = tasks
        self._workers: dict[str, PodWorker] = {}
        self._ended: set[str] = set()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._workers)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod by name; of several (one still ending) the latest."""
        for worker in reversed(self._workers.values()):
            if (worker.pod.namespace, worker.pod.name) == (namespace, name):
                return worker
        return None

    def on_change(self, change: Change[FullPod]) -> None:
        """The API's view of one of the node's pods has changed."""
        for part in split(change):
            if part.new is None:
                self._vanished(part.old.uid if part.old else "")
            elif part.new.uid in self._workers:
                self._workers[part.new.uid].update(part.new)
            elif part.new.uid not in self._ended:
                worker = self._workers[part.new.uid] = PodWorker(self._services, part.new)
                self._tasks.create_task(self._run(worker))

    def _vanished(self, uid: str) -> None:
        self._ended.discard(uid)
        if uid in self._workers:
            self._workers[uid].vanished()

    async def _run(self, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            uid = worker.pod.uid
            del self._workers[uid]
            if worker.in_api:  # until the watch tells that it is gone, it may tell what was before
                self._ended.add(uid)


async def run(settings: KubeletSettings, on_ready: Callable[[], None], clock: Clock | None = None) -> None:
    """Run until cancelled; ``on_ready`` is called once the node is registered, serves, and knows its pods."""
    clock = clock or Clock()
    name = settings.node.name
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            KubeClient(settings.kube, user_agent="podidentity-lab-kubelet", clock=clock)
        )
        recorder = EventRecorder(client, component="kubelet", host=name, clock=clock)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), trust_env=False)
        )
        tokens = TokenKeeper(client, clock)
        store = SecretsStore(client, tokens, name)
        services = NodeServices(
            facts=settings.facts,
            pod_cidr=settings.node.pod_cidr,
            mode=settings.mode,
            client=client,
            recorder=recorder,
            volumes=Volumes(client, tokens, store),
            store=store,
            pool=AddressPool(settings.node.pod_cidr),
            session=session,
            clock=clock,
            logs=LOGS,
            namespaces=NAMESPACES,
            rotation=settings.rotation,
        )
        async with asyncio.TaskGroup() as tasks:
            pods = Pods(services, tasks)
            server = KubeletServer(pods.find, clock)
            await stack.enter_async_context(serving(server, settings.node.ip, settings.port, settings.files))
            tasks.create_task(recorder.run())
            registration = Registration(client, settings.node, clock)
            await registration.register()
            tasks.create_task(registration.run())
            reflector = Reflector(
                client,
                FULL_PODS,
                Store[FullPod](),
                field_selector=f"spec.nodeName={name}",
                on_change=pods.on_change,
                clock=clock,
                rng=random.Random(name),  # noqa: S311 - spreads reconnects
            )
            tasks.create_task(reflector.run())
            await reflector.synced.wait()
            get_logger(node=name).info("the node is ready", pods=len(pods))
            on_ready()
