"""All controllers of a cluster, as one thing to run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from podidentity.aio.clock import Clock
from podidentity.kube.client import KubeClient
from podidentity.kube.events import EventRecorder
from podidentity.lab.controllers.access import Access
from podidentity.lab.controllers.cache import Cache
from podidentity.lab.controllers.collector import Collector
from podidentity.lab.controllers.daemonsets import DaemonSets
from podidentity.lab.controllers.deployments import Deployments
from podidentity.lab.controllers.graph import Graph
from podidentity.lab.controllers.namespaces import Namespaces
from podidentity.lab.controllers.orphans import OrphanedPods
from podidentity.lab.controllers.replicas import BY_OWNER, ReplicaSets, by_owner
from podidentity.lab.controllers.scheduler import BY_NODE, Scheduler, by_node
from podidentity.lab.controllers.things import DAEMON_SETS, DEPLOYMENTS, NAMESPACES, NODES, PODS, REPLICA_SETS, Thing


class App:
    """``ca`` is the text of the cluster's CA certificate. ``client`` is open for as long as ``run`` runs.

    Without ``housekeeping``, garbage and namespaces are left to a kube-controller-manager beside this.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        ca: str,
        housekeeping: bool = True,
        clock: Clock | None = None,
        rng: random.Random,
    ) -> None:
        clock = clock or Clock()
        access = Access(client)
        pods: Cache[Thing] = Cache(client, PODS, {BY_NODE: by_node, BY_OWNER: by_owner})
        nodes: Cache[Thing] = Cache(client, NODES)
        sets: Cache[Thing] = Cache(client, REPLICA_SETS, {BY_OWNER: by_owner})
        deployments: Cache[Thing] = Cache(client, DEPLOYMENTS)
        daemons: Cache[Thing] = Cache(client, DAEMON_SETS)
        self._caches = [nodes, daemons, deployments, sets, pods]
        self._events = EventRecorder(client, component="default-scheduler", clock=clock)
        self._queues = [
            Scheduler(access, pods, nodes, self._events, rng=rng).queue,
            ReplicaSets(access, sets, pods, clock=clock, rng=rng).queue,
            Deployments(access, deployments, sets, clock=clock, rng=rng).queue,
            DaemonSets(access, daemons, pods, nodes, clock=clock, rng=rng).queue,
            OrphanedPods(access, pods, nodes, rng=rng).queue,
        ]
        self._graph: Graph | None = None
        if housekeeping:
            self._graph = Graph(client)
            namespaces: Cache[Thing] = Cache(client, NAMESPACES)
            self._caches.append(namespaces)
            self._queues.append(Namespaces(access, namespaces, self._graph, ca=ca, rng=rng).queue)
            self._queues.append(Collector(client, self._graph, rng=rng).queue)

    async def run(self, ready: Callable[[], None] | None = None) -> None:
        """Control until cancelled; ``ready`` is called once every cache has been filled."""
        async with asyncio.TaskGroup() as group:
            for cache in self._caches:
                group.create_task(cache.run())
            if self._graph:
                group.create_task(self._graph.run())
            group.create_task(self._events.run())
            for cache in self._caches:
                await cache.synced()
            if self._graph:
                await self._graph.ready.wait()
            for queue in self._queues:
                group.create_task(queue.run())
            if ready:
                ready()
