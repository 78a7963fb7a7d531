"""nmi running, in the order the design sets; each part is a task of one group."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from podidentity.aio.clock import Clock
from podidentity.azure.cloud import PUBLIC, cloud_named
from podidentity.azure.entra import EntraClient
from podidentity.config.build import Build
from podidentity.config.errors import ConfigError
from podidentity.config.nmi import NmiSettings
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import KubeError
from podidentity.kube.settings import load_settings
from podidentity.nmi.assembly import App, Deps, PodsOfApi, SecretsOfApi, build_app, imds_client
from podidentity.nmi.auditor import OF_NODE, OF_POD
from podidentity.nmi.connection import Limits
from podidentity.nmi.datapath import kubenet
from podidentity.nmi.datapath.address import PortTakenError, bind, bind_unix, listen_addresses
from podidentity.nmi.datapath.bridged import bridged_uplink
from podidentity.nmi.datapath.choice import POLL_SECONDS, Choice, choose
from podidentity.nmi.datapath.conntrack import forget
from podidentity.nmi.datapath.keeper import Keeper
from podidentity.nmi.datapath.nft import Nft
from podidentity.nmi.datapath.ported import Ported
from podidentity.nmi.datapath.refusals import Refusals
from podidentity.nmi.datapath.tampering import Tampering
from podidentity.nmi.descriptors import room
from podidentity.nmi.local import is_local
from podidentity.nmi.once import datapath_of, once, target_of
from podidentity.nmi.reviews import Reviews
from podidentity.nmi.rights import say_rights
from podidentity.nmi.slots import Slot, hand_over_half_open, take
from podidentity.nmi.status import Status
from podidentity.nmi.tokens.authority import Authorities
from podidentity.nmi.watches import AnyReflector, all_synced, not_ready, reflectors
from podidentity.telemetry.audit import Audit
from podidentity.telemetry.logging import Logger, get_logger
from podidentity.telemetry.metrics import Metrics
from podidentity.telemetry.sinks import sink_of
from podidentity.telemetry.status import Probe, StatusServer

_PORT_PAUSE_SECONDS: Final = 1.0

__all__ = ["App", "Deps", "build_app", "run"]


async def run(settings: NmiSettings) -> None:
    """Run nmi until cancelled; the datapath stays in place. Raises ConfigError for what a person must mend."""
    log = get_logger()
    if await once(settings, log):
        return
    target = target_of(settings)
    await _Running(settings, target, choose(settings.datapath, datapath_of(settings, target)), log).main()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What runs beside the server.

    ``servers``: those that wait for their port; ``slot``: see ``slots``; ``ported``: see there, if wanted.
    """

    watches: Sequence[AnyReflector]
    client: KubeClient
    audit: Audit | None
    servers: Sequence[StatusServer]
    slot: Slot | None
    ported: Ported | None


@dataclass(frozen=True, slots=True)
class _Running:
    """One run of the agent."""

    settings: NmiSettings
    target: str
    choice: Choice
    log: Logger

    async def main(self) -> None:
        """Start everything, serve, and on cancellation end in the reverse order."""
        settings, log = self.settings, self.log
        build = Build.of(os.environ)
        self._greet(build)
        metrics = Metrics()
        clock = Clock()
        async with AsyncExitStack() as stack:
            slot = self._slot(stack, clock)
            client = await stack.enter_async_context(
                KubeClient(
                    load_settings(settings.kubeconfig, os.environ, option="KUBECONFIG"),
                    user_agent=build.user_agent("NMI", settings.custom_user_agent),
                    clock=clock,
                    on_error=partial(_count_api_error, metrics),
                )
            )
            imds = imds_client(settings)
            stack.push_async_callback(imds.close)
            entra = EntraClient()
            stack.push_async_callback(entra.close)
            deps = Deps(
                pods=PodsOfApi(client, settings.node, log),
                secrets=SecretsOfApi(client),
                imds_tokens=imds,
                imds_documents=imds,
                entra=entra,
                log=log,
                meter=metrics,
                clock=clock,
                rng=random.Random(),  # noqa: S311 - spreads load
                authorities=_authorities(settings),
                audit=self._audit(stack, clock),
                reviews=Reviews(client, settings.host_token_audience, clock, log),
            )
            app = build_app(settings, deps, addresses=[self.target], is_local=is_local, limits=_limits(settings))
            stack.push_async_callback(app.tokens.flights.close)
            watches = reflectors(settings, client, app, clock=clock, rng=random.Random())  # noqa: S311 - spreads load
            keeper = self._keeper(stack, slot)
            ported = self._ported(slot)
            reasons = partial(_reasons, [keeper, *([ported] if ported else [])], watches)
            status = Status(settings, build.version, app, keeper, deps.audit, reasons)
            metrics.before_render(partial(status.sample, metrics))
            servers = self._health(status, metrics)
            if slot is None:
                for server in servers:
                    await stack.enter_async_context(server)
                servers = []
            await self._serve(app, keeper, _Parts(watches, client, deps.audit, servers, slot, ported))

    def _greet(self, build: Build) -> None:
        settings, log = self.settings, self.log
        log.info(f"starting nmi process. Version: {build.version}. Build date: {build.date}.")  # noqa: G004 - not the stdlib's logger
        notice = kubenet.check(
            settings.kubelet_config,
            allowed=settings.allow_network_plugin_kubenet,
            ports_checked=bool(settings.cni_results),
        )
        if notice:
            log.warning(notice)
        namespaced = str(settings.force_namespaced).lower()
        log.info(f"running NMI in namespaced mode: {namespaced}")  # noqa: G004 - as above
        log.info(f"initializing in {settings.operation_mode} mode")  # noqa: G004 - as above

    def _slot(self, stack: AsyncExitStack, clock: Clock) -> Slot | None:
        """Return this agent's place beside another one, held until ``stack`` is left, if places are in use."""
        if not self.settings.lock_dir:
            return None
        slot = take(self.settings.lock_dir, self.settings.nmi_port, clock.wall())
        hand_over_half_open()
        stack.callback(slot.close)
        return slot

    def _keeper(self, stack: AsyncExitStack, slot: Slot | None) -> Keeper:
        """Return the keeper; it hears of changes until ``stack`` is left."""
        settings, choice = self.settings, self.choice
        changes: Tampering | None = None
        if choice.words:
            try:
                changes = Tampering(choice.words)
            except OSError as error:
                self.log.warning("netlink does not tell of changes, so the datapath is polled", error=str(error))
            else:
                stack.callback(changes.close)
        self.log.info("keeping the datapath", tool=choice.name)
        return Keeper(
            choice.backend,
            interval=settings.ipt_update_interval if changes else POLL_SECONDS,
            log=self.log,
            forget=partial(forget, choice.path),
            changes=changes,
            uplink=bridged_uplink(),
            superseded=_superseded(slot),
        )

    def _ported(self, slot: Slot | None) -> Ported | None:
        """Return who has the bridge's ports checked, if that is wanted. ConfigError where there is no nft for it."""
        folder, backend = self.settings.cni_results, self.choice.backend
        if not folder:
            return None
        if not isinstance(backend, Nft):
            raise ConfigError("--cni-results needs nft: install nftables, or leave the flag out")
        return Ported(backend, Path(folder), self.log, superseded=_superseded(slot))

    def _audit(self, stack: AsyncExitStack, clock: Clock) -> Audit | None:
        """Return the audit, writing; its last lines are written when ``stack`` is left."""
        sink = sink_of(self.settings.audit, **{"service.name": "podidentity-nmi", "k8s.node.name": self.settings.node})
        if sink is None:
            self.log.warning("audit is off: nobody will know which pod got which token")
            return None
        audit = Audit(sink, clock=clock, of_owner=OF_POD, of_all=OF_NODE)
        stack.push_async_callback(audit.close)
        return audit

    def _health(self, status: Status, metrics: Metrics) -> list[StatusServer]:
        """Return the servers of probes, of metrics and, if it is wanted, of this container's own probe socket."""
        settings, keeper = self.settings, status.keeper
        probe = Probe(
            body=lambda: "Active" if keeper.active else "Not Active", not_ready=status.reasons, status=status.report
        )
        self.log.info("initialized health probe on port", port=settings.http_probe_port)
        servers = [
            StatusServer(port=settings.http_probe_port, probe=probe, metrics=None),
            StatusServer(port=settings.prometheus_port, probe=None, metrics=metrics),
        ]
        self.log.info("registered views for metric")
        self.log.info("starting Prometheus exporter", port=settings.prometheus_port)
        if settings.probe_socket:
            servers.insert(0, StatusServer(port=0, path=settings.probe_socket, probe=probe, metrics=None))
        return servers

    async def _serve(self, app: App, keeper: Keeper, parts: _Parts) -> None:
        self.log.info("started health probe")
        sockets = self._bind_at_once(parts.slot)
        try:
            async with asyncio.TaskGroup() as group:
                for server in parts.servers:
                    group.create_task(self._serve_once_free(server))
                group.create_task(say_rights(parts.client, self.log))
                for watch in parts.watches:
                    group.create_task(watch.run())
                group.create_task(self._announce(app, parts.watches))
                group.create_task(app.tokens.run())
                if parts.audit is not None:
                    group.create_task(parts.audit.run())
                await keeper.guard()
                if parts.ported is not None:
                    await parts.ported.install()
                    group.create_task(parts.ported.run())
                if not sockets:
                    await app.synced.wait()
                    sockets += self._bind(share=True)
                group.create_task(app.server.serve(sockets, ready=self._listening))
                await keeper.redirect()
                group.create_task(Refusals(self.choice.backend, app.journal.limited).run())
                await keeper.run()
        except BaseExceptionGroup as several:
            raise _first(several) from several
        finally:
            for sock in sockets:
                sock.close()
            self.log.info("stopped; guard and redirect stay in place")

    async def _serve_once_free(self, server: StatusServer) -> None:
        """Serve as soon as the agent that had the port before has ended."""
        said = False
        while True:
            try:
                async with server:
                    await asyncio.Event().wait()
            except ConfigError as error:
                if not said:
                    self.log.info("waiting for the agent before this one", why=str(error))
                said = True
                await asyncio.sleep(_PORT_PAUSE_SECONDS)

    def _bind_at_once(self, slot: Slot | None) -> list[socket.socket]:
        """Listen, unless there is an agent to be joined later: one with a place, or one from before places."""
        if slot is not None and not slot.alone():
            return []
        try:
            return self._bind(share=False)
        except PortTakenError:
            if slot is None:
                raise
            return []

    def _bind(self, *, share: bool) -> list[socket.socket]:
        settings = self.settings
        sockets = bind(listen_addresses(settings.nmi_listen_address, self.target), settings.nmi_port, share=share)
        if settings.host_token_socket:
            try:
                sockets.append(bind_unix(settings.host_token_socket))
            except ConfigError:
                for sock in sockets:
                    sock.close()
                raise
        return sockets

    async def _announce(self, app: App, watches: Sequence[AnyReflector]) -> None:
        await all_synced(watches)
        app.synced.set()
        self.log.info("CRD lite informers started")

    def _listening(self) -> None:
        self.log.info(f"listening on {self.target}:{self.settings.nmi_port}")  # noqa: G004 - as above


def _limits(settings: NmiSettings) -> Limits:
    most = room(Limits().connections)
    return Limits(connections=most, connections_per_source=settings.pod_connections or most)


def _superseded(slot: Slot | None) -> Callable[[], bool]:
    return slot.superseded if slot is not None else lambda: False


def _reasons(keepers: Sequence[Keeper | Ported], watches: Sequence[AnyReflector]) -> list[str]:
    """Return why the agent is not ready."""
    return [keeper.trouble for keeper in keepers if keeper.trouble] + not_ready(watches)


def _count_api_error(metrics: Metrics, operation: str, _error: KubeError) -> None:
    names = {"list pods": "get_pod_list", "get pods": "get_pod_list", "get secrets": "get_secret"}
    if operation in names:
        metrics.count("kubernetes_api_operations_errors_count", operation_type=names[operation])


def _authorities(settings: NmiSettings) -> Authorities:
    """Return the token endpoints of the configured cloud and those the flag adds. Raises ConfigError."""
    environ = settings.azure_environ
    cloud = cloud_named(settings.cloud or environ.get("CLOUD", "") or PUBLIC.name, environ)
    return Authorities(cloud.active_directory, (*cloud.other_logins, *settings.allowed_ad_endpoints))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error a person should read: the first of ours, else the first of all."""
    leaves: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, ConfigError)), leaves[0])
