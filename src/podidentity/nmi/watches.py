"""The watches that fill nmi's stores, and whether they can be trusted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from podidentity.aio.clock import Clock
from podidentity.api.constants import NODE_LABEL
from podidentity.api.core import Pod
from podidentity.api.resources import (
    AZURE_ASSIGNED_IDENTITIES,
    AZURE_IDENTITIES,
    AZURE_IDENTITY_BINDINGS,
    AZURE_POD_IDENTITY_EXCEPTIONS,
    PODS,
)
from podidentity.config.nmi import NmiSettings
from podidentity.kube.client import KubeClient
from podidentity.kube.reflector import Reflector
from podidentity.kube.store import Change
from podidentity.nmi.assembly import App
from podidentity.rules.node_label import node_label

SILENT_SECONDS: Final = 180.0
"""A watch that heard nothing for longer makes the agent not ready; it serves on from what it knows."""

AnyReflector = Reflector[Any]


def reflectors(
    settings: NmiSettings, client: KubeClient, app: App, *, clock: Clock, rng: random.Random
) -> list[AnyReflector]:
    """Return the watches of the mode: pods of this node, exceptions, and assigned identities or (managed) bindings."""

    def on_pod(change: Change[Pod]) -> None:
        app.finder.on_change(change)
        app.cluster.on_pod(change)

    cluster = app.cluster
    found: list[AnyReflector] = [
        Reflector(
            client,
            PODS,
            cluster.pods,
            field_selector=f"spec.nodeName={settings.node}",
            on_change=on_pod,
            clock=clock,
            rng=rng,
        ),
        Reflector(
            client,
            AZURE_POD_IDENTITY_EXCEPTIONS,
            cluster.exceptions,
            on_change=cluster.on_exception,
            clock=clock,
            rng=rng,
        ),
    ]
    if settings.operation_mode == "managed":
        found.append(Reflector(client, AZURE_IDENTITIES, cluster.identities, clock=clock, rng=rng))
        found.append(Reflector(client, AZURE_IDENTITY_BINDINGS, cluster.bindings, clock=clock, rng=rng))
    else:
        found.append(
            Reflector(
                client,
                AZURE_ASSIGNED_IDENTITIES,
                cluster.assigned,
                label_selector=f"{NODE_LABEL}={node_label(settings.node)}" if settings.enable_scale_features else "",
                on_change=cluster.on_assigned,
                clock=clock,
                rng=rng,
            )
        )
    return found


async def all_synced(watches: Sequence[AnyReflector]) -> None:
    """Wait until every watch has told what there is."""
    for watch in watches:
        await watch.synced.wait()


def not_ready(watches: Sequence[AnyReflector]) -> list[str]:
    """Return why the watches cannot be relied on."""
    reasons = []
    for watch in watches:
        if watch.refused:
            reasons.append(f"{watch.resource.plural} cannot be watched: {watch.refused}")
        elif not watch.synced.is_set():
            reasons.append(f"{watch.resource.plural} are not known yet")
        elif watch.age() > SILENT_SECONDS:
            reasons.append(f"the watch of {watch.resource.plural} has heard nothing for {watch.age():.0f} s")
    return reasons
