"""What the kubelet's parts share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from podidentity.aio.clock import Clock
from podidentity.api.meta import ObjectReference
from podidentity.kube.client import KubeClient
from podidentity.lab.node.network import AddressPool, Mode
from podidentity.lab.node.podspec import NodeFacts
from podidentity.lab.node.secrets_store import SecretsStore
from podidentity.lab.node.volumes import Volumes


class Recorder(Protocol):
    """Records Events without waiting."""

    def event(self, ref: ObjectReference, type_: str, reason: str, message: str) -> None:
        """One Event about ``ref``; ``type_`` is Normal or Warning."""


@dataclass(frozen=True, slots=True)
class NodeServices:
    """One node's shared parts. ``logs`` and ``namespaces`` are directories; ``rotation`` is in seconds."""

    facts: NodeFacts
    pod_cidr: str
    mode: Mode
    client: KubeClient
    recorder: Recorder
    volumes: Volumes
    store: SecretsStore
    pool: AddressPool
    session: aiohttp.ClientSession
    clock: Clock
    logs: Path
    namespaces: Path
    rotation: float = 120.0
    refresh: float = 20.0
