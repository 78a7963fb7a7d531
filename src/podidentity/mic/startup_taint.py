"""Takes the startup taint off a node once its nmi is Ready: no pod is placed there before (``--manage-startup-taint``).

The node pool puts the taint on each new node; nmi tolerates it. nmi itself has no right to change a node, so the leader
of mic does this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from podidentity.aio.fence import FenceClosedError
from podidentity.api.core import Node
from podidentity.api.meta import ObjectMeta
from podidentity.api.resources import NODES, Resource
from podidentity.kube.errors import Conflict, KubeError, NotFound
from podidentity.telemetry.logging import Logger

TAINT: Final = "aadpodidentity.k8s.io/agent-not-ready"
_PAUSE_SECONDS: Final = 2.0


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()


class _Pod(msgspec.Struct, frozen=True):
    metadata: ObjectMeta = ObjectMeta()
    status: _Status = _Status()


class _Pods(msgspec.Struct, frozen=True):
    items: tuple[_Pod, ...] = ()


_PODS: Final = msgspec.json.Decoder(_Pods)


class Api(Protocol):
    """What is needed of ``KubeClient``. Both raise KubeError."""

    async def raw(self, method: str, path: str, *, params: Mapping[str, str] | None = None) -> bytes:
        """Give an answer's body."""
        ...

    async def patch_json(
        self, resource: Resource[Node], name: str, namespace: str, ops: Sequence[Mapping[str, object]]
    ) -> Node:
        """Apply a JSON patch."""
        ...


def removal(node: Node) -> Sequence[Mapping[str, object]]:
    """Return the JSON patch that takes our taint off; it fails where the list has changed meanwhile (pure)."""
    ops: list[Mapping[str, object]] = []
    for index, taint in reversed(list(enumerate(node.spec.taints))):
        if taint.key == TAINT:
            path = f"/spec/taints/{index}"
            ops += [{"op": "test", "path": f"{path}/key", "value": TAINT}, {"op": "remove", "path": path}]
    return ops


class StartupTaints:
    """Looks at the tainted nodes among ``nodes`` every two seconds, while leading.

    ``namespace`` and ``selector``: where nmi's pods are, and their labels.
    """

    def __init__(
        self, api: Api, nodes: Callable[[], Iterable[Node]], *, namespace: str, selector: str, log: Logger
    ) -> None:
        self._api = api
        self._nodes = nodes
        self._namespace = namespace
        self._selector = selector
        self._log = log
        self._said = ""

    async def run(self, pause: float = _PAUSE_SECONDS) -> None:
        """Work until cancelled."""
        while True:
            try:
                for node in [node for node in self._nodes() if removal(node)]:
                    await self._look_at(node)
            except (NotFound, Conflict, FenceClosedError):
                self._said = ""
            except KubeError as error:
                if str(error) != self._said:
                    self._log.error("the startup taint cannot be managed, trying again", error=str(error))
                self._said = str(error)
            await asyncio.sleep(pause)

    async def _look_at(self, node: Node) -> None:
        """Take the taint off if nmi is Ready there. Raises KubeError."""
        if not await self._is_ready(node.name):
            return
        await self._api.patch_json(NODES, node.name, "", removal(node))
        self._said = ""
        self._log.info("nmi is ready: startup taint removed", node=node.name)

    async def _is_ready(self, node: str) -> bool:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        params = {"labelSelector": self._selector, "fieldSelector": f"spec.nodeName={node}"}
        answer = await self._api.raw("GET", path, params=params)
        try:
            pods = _PODS.decode(answer).items
        except msgspec.MsgspecError:
            return False
        ready = _Condition("Ready", "True")
        return any(ready in pod.status.conditions for pod in pods if pod.metadata.deletion_timestamp is None)
