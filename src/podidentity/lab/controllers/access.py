"""Everything the controllers write, as plain JSON: no field of an object is lost on the way."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from podidentity.api.resources import Resource
from podidentity.kube.client import KubeClient
from podidentity.kube.errors import NotFound
from podidentity.lab.controllers.things import Json, Thing, thing

_MERGE = "application/merge-patch+json"


class Access:
    """Writes through a client; every method raises KubeError."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client

    async def create(self, resource: Resource[Thing], namespace: str, obj: Json) -> Thing:
        """Create an object."""
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        return thing(await self.client.raw("POST", resource.path(namespace), body=body))

    async def patch(self, resource: Resource[Thing], obj: Thing, patch: Json, subresource: str = "") -> Thing:
        """Merge ``patch`` into exactly this object: Conflict when it is another one by now."""
        metadata: Mapping[str, object] = patch.get("metadata") or {}
        body = {**patch, "metadata": {**metadata, "uid": obj.uid}}
        path = resource.path(obj.namespace, obj.name, subresource)
        return thing(await self.client.raw("PATCH", path, body=body, content_type=_MERGE))

    async def delete(self, resource: Resource[Thing], obj: Thing, *, grace: int | None = None) -> None:
        """Delete exactly this object; gone already is fine."""
        options: dict[str, object] = {"propagationPolicy": "Background", "preconditions": {"uid": obj.uid}}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            await self.client.raw("DELETE", resource.path(obj.namespace, obj.name), body=options)
        except NotFound:
            return

    async def status(self, resource: Resource[Thing], obj: Thing, status: Json) -> None:
        """Write ``status`` unless it is as wanted already; fields set to None are removed."""
        if all(obj.status.get(key) == value for key, value in status.items()):
            return
        await self.patch(resource, obj, {"status": status}, "status")

    async def post(self, path: str, body: Json) -> None:
        """POST to a path."""
        await self.client.raw("POST", path, body=msgspec.json.encode(body))
