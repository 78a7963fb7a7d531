"""A plain client, and objects to send: nothing shared with the code under test."""

from __future__ import annotations

import io
import json
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp

from podidentity.lab.kube import Running

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass
class Answer:
    """Status code, decoded body and headers."""

    status: int
    body: Any
    headers: Any

    @property
    def message(self) -> str:
        """``message`` of a Status."""
        return str(self.body["message"])


class Client:
    """Requests as the administrator unless told otherwise."""

    def __init__(self, session: aiohttp.ClientSession, running: Running) -> None:
        self.session = session
        self.running = running
        self.token = running.admin_token

    async def call(self, method: str, path: str, body: object = None, **options: Any) -> Answer:
        """Send one request; ``type`` in ``options`` is the body's content type."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        if "type" in options:
            headers["Content-Type"] = options.pop("type")
        elif body is not None:
            headers["Content-Type"] = "application/json"
        data = body if isinstance(body, bytes | io.BytesIO) else None if body is None else json.dumps(body).encode()
        async with self.session.request(method, path, data=data, headers=headers, **options) as answer:
            raw = await answer.read()
            plain = answer.content_type != "application/json"
            return Answer(answer.status, raw.decode() if plain else json.loads(raw), answer.headers)

    async def get(self, path: str, **options: Any) -> Answer:
        """Read."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: object, **options: Any) -> Answer:
        """Create."""
        return await self.call("POST", path, body, **options)

    async def put(self, path: str, body: object, **options: Any) -> Answer:
        """Replace."""
        return await self.call("PUT", path, body, **options)

    async def patch(self, path: str, body: object, content_type: str = MERGE, **options: Any) -> Answer:
        """Patch with a body of the given content type."""
        return await self.call("PATCH", path, body, type=content_type, **options)

    async def delete(self, path: str, body: object = None, **options: Any) -> Answer:
        """Delete."""
        return await self.call("DELETE", path, body, **options)

    async def watch(self, path: str, **params: str) -> Watch:
        """Open a watch; ``accept`` asks for another representation."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": params.pop("accept", "application/json")}
        params["watch"] = "true"
        answer = await self.session.get(path, params=params, headers=headers)
        assert answer.status == 200, await answer.text()
        return Watch(answer)


class Watch:
    """Events of one watch, in order."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Type and object of the next event; END when the server has ended the watch."""
        line = await self.answer.content.readline()
        if not line:
            return "END", {}
        event = json.loads(line)
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        """Type and name of the next ``count`` events."""
        found = [await self.next() for _ in range(count)]
        return [(kind, obj["metadata"]["name"]) for kind, obj in found]

    def close(self) -> None:
        """Hang up."""
        self.answer.close()


def client_session(running: Running) -> aiohttp.ClientSession:
    """A session that trusts the server."""
    context = ssl.create_default_context(cadata=running.ca) if running.ca else True
    return aiohttp.ClientSession(running.url, connector=aiohttp.TCPConnector(ssl=context, limit=0))


PODS = "/api/v1/namespaces/default/pods"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
THINGS = "/apis/ex.io/v1/namespaces/default/things"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A pod of one container."""
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "x:1"}], **spec}}


def config_map(name: str, **data: str) -> dict[str, Any]:
    """A ConfigMap."""
    return {"metadata": {"name": name}, "data": data}


def thing(name: str, **spec: Any) -> dict[str, Any]:
    """An object of the custom kind."""
    return {"apiVersion": "ex.io/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec}


def thing_crd(properties: dict[str, Any] | None = None, **version: Any) -> dict[str, Any]:
    """A small CustomResourceDefinition; ``properties`` are those of spec, ``version`` adds to its one version."""
    spec = {"type": "object", "properties": properties or {"size": {"type": "integer"}, "note": {"type": "string"}}}
    schema = {
        "type": "object",
        "properties": {"spec": spec, "status": {"type": "object", "properties": {"ok": {"type": "boolean"}}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.ex.io"},
        "spec": {
            "group": "ex.io",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
            ],
        },
    }
