"""What mic watches, and of each object what it keeps."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from podidentity.aio.clock import Clock
from podidentity.api.constants import POD_LABEL
from podidentity.api.core import Node
from podidentity.api.resources import (
    AZURE_ASSIGNED_IDENTITIES,
    AZURE_IDENTITIES,
    AZURE_IDENTITY_BINDINGS,
    NODES,
    PODS,
)
from podidentity.kube.client import KubeClient
from podidentity.kube.reflector import Reflector
from podidentity.kube.store import Store
from podidentity.mic.controller import Controller


def watches(
    core: KubeClient,
    custom: KubeClient,
    controller: Controller,
    nodes: Store[Node],
    *,
    drain: bool,
    clock: Clock,
    rng: random.Random,
) -> tuple[Reflector[Any], ...]:
    """The reflectors that feed the controller. With ``drain`` nothing is wanted, so what is wanted is not watched."""
    of: partial[Reflector[Any]] = partial(Reflector, clock=clock, rng=rng)
    sharing, matched = controller.sharing, controller.matched
    promised = (
        of(core, NODES, nodes, on_change=controller.node),
        of(custom, AZURE_ASSIGNED_IDENTITIES, Store(), slim=sharing.record, on_change=controller.assigned),
    )
    if drain:
        return promised
    return (
        *promised,
        of(custom, AZURE_IDENTITIES, Store(), on_change=matched),
        of(custom, AZURE_IDENTITY_BINDINGS, Store(), on_change=matched),
        of(core, PODS, Store(), label_selector=POD_LABEL, slim=sharing.pod, on_change=matched),
    )
