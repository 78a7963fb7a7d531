"""Reads a cluster with the rights the caller has: what he may not see is told together with the right that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

from podidentity.api.meta import KubeObject
from podidentity.kube.errors import Forbidden, KubeError, NotFound

if TYPE_CHECKING:
    from podidentity.api.resources import Resource
    from podidentity.kube.client import KubeClient

T = TypeVar("T", bound=KubeObject)
Document: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Hidden:
    """What could not be read. ``why`` is one line; ``right`` what the caller lacks, if it is about rights."""

    why: str
    right: str = ""


class Look:
    """Reads through ``client``. A kind that the cluster does not know has no objects."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def listed(
        self, resource: Resource[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> tuple[T, ...] | Hidden:
        """The objects of a kind, of one namespace or of all, that two selectors let through."""
        try:
            found = await self._client.list(resource, namespace=namespace, label_selector=labels, field_selector=fields)
        except NotFound:
            return ()
        except KubeError as error:
            return _hidden(error, "list", resource.plural, namespace)
        return tuple(found.items)

    async def got(self, resource: Resource[T], name: str, namespace: str = "") -> T | Hidden | None:
        """One object; None when it is not there."""
        try:
            return await self._client.get(resource, name, namespace)
        except NotFound:
            return None
        except KubeError as error:
            return _hidden(error, "get", resource.plural, namespace)

    async def status_of(self, pod: str, namespace: str, port: int) -> Document | Hidden:
        """What a component's pod tells at ``/status`` of its probe port, asked through the API server."""
        try:
            answer = await self._client.raw("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/status")
            return msgspec.json.decode(answer, type=dict[str, object])
        except KubeError as error:
            return _hidden(error, "get", "pods/proxy", namespace)
        except msgspec.MsgspecError:
            return Hidden(f"pod {namespace}/{pod} answers something else at port {port}")


def _hidden(error: KubeError, verb: str, plural: str, namespace: str) -> Hidden:
    right = f"{verb} {plural} in {f'namespace {namespace}' if namespace else 'the whole cluster'}"
    return Hidden(" ".join(str(error).split()), right if isinstance(error, Forbidden) else "")
