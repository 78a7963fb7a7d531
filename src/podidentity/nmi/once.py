"""What nmi does once and ends: install or remove the datapath or the boot guard, wait for other nodes."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from podidentity.config.build import Build
from podidentity.config.errors import ConfigError
from podidentity.config.nmi import NmiSettings
from podidentity.kube.client import KubeClient
from podidentity.kube.settings import load_settings
from podidentity.nmi.datapath import boot
from podidentity.nmi.datapath.address import node_address
from podidentity.nmi.datapath.choice import Choice, choose, tools
from podidentity.nmi.datapath.programs import DatapathFailed
from podidentity.nmi.datapath.rules import Datapath
from podidentity.nmi.removal import await_daemonset, stay_removed
from podidentity.telemetry.logging import Logger

_NOBODY: Final = "192.0.2.1"
"""Stands for the node's address where only the guard is wanted, which names none."""


async def once(settings: NmiSettings, log: Logger) -> bool:
    """Do what the flags ask to be done once; False when they ask for the agent. Raises ConfigError."""
    if settings.uninstall_datapath:
        await (stay_removed(settings.http_probe_port, log, tools()) if settings.idle else _uninstall(log))
    elif settings.await_daemonset:
        await _await(settings, log)
    elif settings.uninstall_boot_guard:
        await asyncio.to_thread(boot.uninstall, settings.host_root)
        log.info("boot guard is removed", root=settings.host_root)
    elif settings.install_boot_guard:
        program = await asyncio.to_thread(boot.install, datapath_of(settings, _NOBODY), settings.host_root)
        log.info("boot guard is installed, for the node's next start", root=settings.host_root, program=program)
    elif settings.install_datapath:
        await _install(choose(settings.datapath, datapath_of(settings, target_of(settings))), log)
        if settings.idle:
            await asyncio.Event().wait()
    else:
        return False
    return True


def target_of(settings: NmiSettings) -> str:
    """Return the address pods are sent to. Raises ConfigError."""
    return node_address(settings.nmi_listen_address, settings.host_ip, settings.metadata_ip, settings.metadata_port)


def datapath_of(settings: NmiSettings, target: str) -> Datapath:
    """Return the datapath the flags describe. Raises ConfigError."""
    try:
        return Datapath(
            target=target,
            port=settings.nmi_port,
            metadata_ip=settings.metadata_ip,
            metadata_port=settings.metadata_port,
            source_check=settings.source_check == "on",
            block_wireserver=settings.block_wireserver,
            connections=settings.pod_connections,
            connection_rate=settings.pod_connection_rate,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


async def _uninstall(log: Logger) -> None:
    try:
        for tool in tools():
            await tool.uninstall()
    except DatapathFailed as failed:
        raise ConfigError(f"the datapath could not be removed: {failed}") from failed
    log.info("datapath is removed")


async def _await(settings: NmiSettings, log: Logger) -> None:
    target = load_settings(settings.kubeconfig, os.environ, option="KUBECONFIG")
    user_agent = Build.of(os.environ).user_agent("NMI", settings.custom_user_agent)
    async with KubeClient(target, user_agent=user_agent) as client:
        await await_daemonset(client, settings.await_daemonset, log)


async def _install(choice: Choice, log: Logger) -> None:
    try:
        missing = await choice.backend.install_guard()
        await choice.backend.install_redirect()
    except DatapathFailed as failed:
        raise ConfigError(f"the datapath could not be installed: {failed}") from failed
    log.info("datapath is installed", tool=choice.name, bridge=missing or "guarded")
