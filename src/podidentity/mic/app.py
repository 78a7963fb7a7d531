"""mic put together: watches, leadership, controller. ``build_app`` only connects; ``run`` opens and starts."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from typing import Final

from podidentity.aio.clock import Clock
from podidentity.aio.fence import Fence
from podidentity.api.constants import EVENT_SOURCE
from podidentity.api.core import Node
from podidentity.api.meta import ObjectReference
from podidentity.azure.config import AzureConfigSource
from podidentity.config.build import Build
from podidentity.config.duration import format_duration
from podidentity.config.mic import MicSettings
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError
from podidentity.kube.events import EventRecorder
from podidentity.kube.greeting import Greeting
from podidentity.kube.leadership import ElectionSettings, Leadership
from podidentity.kube.store import Store
from podidentity.mic import drain
from podidentity.mic.assign import AssignSettings, Shared
from podidentity.mic.budget import Budget
from podidentity.mic.clients import Clients, burst, compute_client, open_clients
from podidentity.mic.controller import Controller
from podidentity.mic.credential import described
from podidentity.mic.ports import Compute, Outlets
from podidentity.mic.startup_taint import StartupTaints
from podidentity.mic.status import Status
from podidentity.mic.upgrade import UpgradeRecord, upgrade_types
from podidentity.mic.watches import watches
from podidentity.mic.world import World
from podidentity.mic.writer import RecordWriter
from podidentity.rules.resource_id import fold
from podidentity.telemetry.logging import get_logger
from podidentity.telemetry.metrics import Metrics
from podidentity.telemetry.status import Probe, StatusServer

SYNC_PATIENCE: Final = 5.0
"""Seconds to wait for the caches before saying what is missing."""
UPGRADE_PAUSE: Final = 5.0
STALE: Final = 150.0
"""Seconds of silence of a watch after which the process is not ready."""


class App:
    """All of mic but its servers; ``run`` works until cancelled."""

    def __init__(
        self,
        settings: MicSettings,
        clients: Clients,
        outlets: Outlets,
        controller: Controller,
        leadership: Leadership,
        *,
        budget: Budget,
        greeting: Greeting,
        clock: Clock,
        rng: random.Random,
        version: str,
    ) -> None:
        self._settings = settings
        self._nodes: Store[Node] = Store()
        self._fenced = clients.custom
        self._outlets = outlets
        self._controller = controller
        self._leadership = leadership
        self._greeting = greeting
        self._clock = clock
        self._version = version
        self._held_up = ""
        self._log = get_logger()
        self._drained = asyncio.Event()
        self._reflectors = watches(
            clients.core, clients.custom, controller, self._nodes, drain=settings.drain, clock=clock, rng=rng
        )
        self.status = Status(version, controller, budget, self._reflectors, self.not_ready, clock)

    def probe(self) -> Probe:
        """What the probes answer."""
        body = lambda: "Active" if self._controller.leading else "Not Active"  # noqa: E731 - a callback
        return Probe(body=body, not_ready=self.not_ready, status=self.status.report)

    def not_ready(self) -> list[str]:
        """Why this process could not take over now."""
        reasons = (self._greeting.complaint, self._leadership.refused, self._held_up)
        return [*filter(None, reasons), *self._unwatched()]

    def _unwatched(self) -> list[str]:
        reasons = []
        for reflector in self._reflectors:
            name = reflector.resource.plural
            if reflector.refused:
                reasons.append(f"{name} cannot be watched: {reflector.refused}")
            elif not reflector.synced.is_set():
                reasons.append(f"{name} are not listed yet")
            elif reflector.age() > STALE:
                reasons.append(f"{name}: nothing heard from the API for {reflector.age():.0f} s")
        return reasons

    async def run(self) -> None:
        """Watch always, lead whenever possible; returns only when all is drained. ConfigError: not drained in time."""
        self._log.info("initiating MIC Leader election")
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(reflector.run(), name=f"watch {reflector.resource.plural}")
                for reflector in self._reflectors
            ]
            running.append(tasks.create_task(self._greeting.run(), name="version"))
            running.append(tasks.create_task(self._leadership.run(self._lead), name="leadership"))
            if self._settings.drain:
                await drain.within(self._settings.drain_timeout, self._drained.wait(), self._controller.records)
            else:
                await asyncio.Event().wait()
            for task in running:
                task.cancel()

    async def _lead(self) -> None:
        if self._settings.enable_type_upgrade:
            await self._upgrade()
        self._log.info("CRD informers started")
        start = self._clock.monotonic()
        await self._all_synced()
        await self._all_fresh()
        self._log.info(f"pod cache synchronized. Took {format_duration(self._clock.monotonic() - start)}")
        self._log.info("pod watcher started !!")
        self._log.info("sync thread started.")
        async with asyncio.TaskGroup() as tasks:
            leading = tasks.create_task(self._controller.lead(), name="controller")
            if self._settings.manage_startup_taint and not self._settings.drain:
                tasks.create_task(self._startup_taints().run(), name="startup taints")
            if self._settings.drain:
                await drain.emptied(self._controller.records)
                leading.cancel()
                self._drained.set()

    def _startup_taints(self) -> StartupTaints:
        settings = self._settings
        namespace, selector = settings.pod_namespace, settings.nmi_selector
        return StartupTaints(self._fenced, self._nodes.values, namespace=namespace, selector=selector, log=self._log)

    async def _upgrade(self) -> None:
        where = UpgradeRecord(
            self._settings.pod_namespace, self._settings.config_map_name, self._settings.type_upgrade_status_key
        )
        while True:
            try:
                await upgrade_types(self._outlets.kube, where, self._version)
            except KubeError as error:
                reason = f"the type upgrade's record cannot be written: {error}"
                if reason != self._held_up:
                    self._log.error(reason)
                self._held_up = reason
            else:
                self._held_up = ""
                return
            await asyncio.sleep(UPGRADE_PAUSE)

    async def _all_fresh(self) -> None:
        """List anew what was not heard of since the leader before us can have written last: its watch may be dead."""
        patience = self._settings.leader_election_duration / 2
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                if reflector.age() > patience:
                    tasks.create_task(reflector.renew(), name=f"list {reflector.resource.plural}")

    async def _all_synced(self) -> None:
        said = ""
        while True:
            try:
                async with asyncio.timeout(SYNC_PATIENCE):
                    for reflector in self._reflectors:
                        await reflector.synced.wait()
            except TimeoutError:
                missing = "; ".join(self._unwatched())
                if missing != said:
                    self._log.error(f"waiting for the caches: {missing}")
                said = missing
            else:
                return


def never_removed(settings: MicSettings, own_client_id: str) -> frozenset[str]:
    """The folded client ids of identities that stay on every host: the flag's and the cluster's own."""
    return frozenset(fold(client_id) for client_id in (*settings.immutable_user_msis, own_client_id) if client_id)


def build_app(
    settings: MicSettings,
    clients: Clients,
    compute: Compute,
    events: EventRecorder,
    metrics: Metrics,
    *,
    fence: Fence,
    greeting: Greeting,
    own_client_id: str = "",
    budget: Budget | None = None,
    clock: Clock,
    rng: random.Random,
    version: str = Build().version,
) -> App:
    """Connect the parts; nothing is opened or started.

    ``fence``: the one that ``clients.custom`` and ``compute`` ask. ``own_client_id``: the cluster's identity, never
    removed. ``budget``: the one that hears of what ``compute`` is answered.
    """
    leadership = _leadership(settings, clients.election, events, metrics, fence=fence, clock=clock, rng=rng)
    outlets = Outlets(clients.custom, compute, events, metrics, fence)
    world = World(force_namespaced=settings.force_namespaced)
    budget = budget or Budget.of(clock)
    shared = Shared(
        world=world,
        outlets=outlets,
        settings=_assign_settings(settings, own_client_id),
        clock=clock,
        rng=rng,
        budget=budget,
        writer=RecordWriter(world, outlets, clock),
    )
    controller = Controller(shared, full_pass=settings.sync_retry_duration)
    return App(
        settings,
        clients,
        outlets,
        controller,
        leadership,
        budget=budget,
        greeting=greeting,
        clock=clock,
        rng=rng,
        version=version,
    )


def _leadership(
    settings: MicSettings,
    client: KubeClient,
    events: EventRecorder,
    metrics: Metrics,
    *,
    fence: Fence,
    clock: Clock,
    rng: random.Random,
) -> Leadership:
    election = ElectionSettings(
        identity=settings.leader_election_instance,
        namespace=settings.leader_election_namespace,
        name=settings.leader_election_name,
        lease_duration=settings.leader_election_duration,
        lock=settings.leader_election_lock,
    )
    lock = ObjectReference(api_version="v1", kind="Endpoints", name=election.name, namespace=election.namespace)

    def transition(leading: bool) -> None:
        if leading:
            metrics.count("mic_new_leader_election_count")
        message = f"{election.identity} {'became leader' if leading else 'stopped leading'}"
        events.event(lock, "Normal", "LeaderElection", message)

    return Leadership(client, election, fence=fence, clock=clock, rng=rng, on_transition=transition)


def _assign_settings(settings: MicSettings, own_client_id: str) -> AssignSettings:
    return AssignSettings(
        batch=settings.create_delete_batch,
        linger=0.0 if settings.drain else settings.identity_removal_linger,
        reconcile_interval=settings.identity_assignment_reconcile_interval,
        retry_interval=settings.update_user_msi_retry_interval,
        immutable=never_removed(settings, own_client_id),
    )


async def run(settings: MicSettings) -> None:
    """Run mic until cancelled, or drained. Raises ConfigError for what a person must mend."""
    environ = os.environ
    info, build = get_logger().info, Build.of(environ)
    _say_hello(settings, build)
    clock, rng, metrics = Clock(), random.Random(), Metrics()  # noqa: S311 - jitter, not a secret
    async with AsyncExitStack() as stack:
        fence = Fence(clock, delivery=settings.leader_election_duration / 2)
        clients = await open_clients(stack, settings, build, environ, clock=clock, fence=fence)
        source = AzureConfigSource(settings.cloudconfig, settings.azure_environ)
        greeting = Greeting(clients.core)
        await greeting.once()
        own = source.current().user_assigned_identity_id if source.current().use_managed_identity else ""
        budget = Budget.of(clock)
        compute = compute_client(source, settings, build, metrics, fence=fence, budget=budget)
        stack.push_async_callback(compute.close)
        info(described(source.current()))
        events = EventRecorder(clients.core, component=EVENT_SOURCE, clock=clock)
        app = build_app(
            settings,
            clients,
            compute,
            events,
            metrics,
            fence=fence,
            greeting=greeting,
            own_client_id=own,
            budget=budget,
            clock=clock,
            rng=rng,
            version=build.version,
        )
        if settings.drain:
            await drain.scale_to_zero(clients.core, settings.drain_deployment)
        else:
            await _serve(stack, settings, app, metrics)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(source.run(), name="azure.json")
            sending = tasks.create_task(events.run(), name="events")
            work = tasks.create_task(app.run(), name="mic")
            if not settings.drain:
                following.add_done_callback(lambda watch: _end_outdated(settings.cloudconfig, watch, work))
            await asyncio.wait([work])
            following.cancel()
            sending.cancel()


def _end_outdated(cloudconfig: str, watch: asyncio.Task[None], work: asyncio.Task[None]) -> None:
    """End as on SIGTERM, the leader records released: started again, the container has the file of today mounted."""
    if not watch.cancelled() and not work.done():
        get_logger().warning(
            f"{cloudconfig} was replaced, and what is mounted here stays the old file: ending, to be started anew"
        )
        work.cancel()


async def _serve(stack: AsyncExitStack, settings: MicSettings, app: App, metrics: Metrics) -> None:
    """Open the probe port and the metrics port."""
    info = get_logger().info
    info(f"initialized health probe on port {settings.http_probe_port}")
    await stack.enter_async_context(StatusServer(port=settings.http_probe_port, probe=app.probe(), metrics=None))
    info("started health probe")
    info("registered views for metric")
    metrics.before_render(lambda: app.status.sample(metrics))
    info("starting Prometheus exporter")
    await stack.enter_async_context(StatusServer(port=settings.prometheus_port, probe=None, metrics=metrics))
    info(f"registered and exported metrics on port {settings.prometheus_port}")


def _say_hello(settings: MicSettings, build: Build) -> None:
    info, warning = get_logger().info, get_logger().warning
    info(f"starting mic process. Version: {build.version}. Build date: {build.date}")
    if not settings.kubeconfig:
        warning("--kubeconfig not passed will use InClusterConfig")
    if not settings.cloudconfig:
        warning("--cloudconfig not passed will use aadpodidentity-admin-secret")
    info(f"kubeconfig ({settings.kubeconfig}) cloudconfig ({settings.cloudconfig})")
    info(f"running MIC in namespaced mode: {str(settings.force_namespaced).lower()}")
    info(f"client QPS set to: {f'{settings.qps:g}. Burst to: {burst(settings)}' if settings.qps else 'adaptive'}")
    info(f"starting to create the pod identity client. Version: {build.version}. Build date: {build.date}")
