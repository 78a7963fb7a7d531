"""Paths that are not objects: health, version, discovery, OpenAPI."""

from __future__ import annotations

import hashlib
from typing import Final

from aiohttp import web

from podidentity.lab.kube import discovery, openapi
from podidentity.lab.kube.errors import StatusError, not_here
from podidentity.lab.kube.kinds import Catalogue
from podidentity.lab.kube.objects import Obj, encode

_ABSENT: Final = frozenset([".well-known", "debug", "logs", "metrics", "openid"])
"""First parts of paths that a real API server has."""

JSON: Final = "application/json"
_HEALTH: Final = frozenset(["/healthz", "/readyz", "/livez"])
_ROOT: Final[Obj] = {"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}


def answer(request: web.BaseRequest, catalogue: Catalogue) -> web.StreamResponse:
    """The document at the request's path; plain text 404 when there is none."""
    if request.method not in {"GET", "HEAD"}:
        raise StatusError(405, "the server does not allow this method on the requested resource")
    path = request.path.rstrip("/")
    if path in _HEALTH:
        return web.Response(text="ok")
    parts = path.split("/")[1:]
    if parts == ["openapi", "v2"]:
        return web.Response(body=openapi.empty_v2(), headers={"Content-Type": openapi.V2})
    if parts in (["api"], ["apis"]) and discovery.wants_aggregated(request.headers.get("Accept", "")):
        found: Obj | None = discovery.aggregated(catalogue, core=parts == ["api"])
        content_type = discovery.AGGREGATED
    else:
        found, content_type = _plain(parts, catalogue), JSON
    if found is None:
        if parts[0] in _ABSENT:
            raise not_here(path, 404)
        return web.Response(text="404 page not found\n", status=404)
    return _with_etag(request, encode(found), content_type)


def _plain(parts: list[str], catalogue: Catalogue) -> Obj | None:
    match parts:
        case []:
            return _ROOT
        case ["version"]:
            return discovery.VERSION
        case ["openapi", "v3"]:
            return openapi.index(catalogue)
        case ["openapi", "v3", *rest]:
            return openapi.document(catalogue, "/".join(rest))
        case _:
            return _lists(parts, catalogue)


def _lists(parts: list[str], catalogue: Catalogue) -> Obj | None:
    match parts:
        case ["api"]:
            return discovery.versions()
        case ["apis"]:
            return discovery.group_list(catalogue)
        case ["api", version]:
            return discovery.resource_list(catalogue, "", version)
        case ["apis", group]:
            return discovery.group(catalogue, group)
        case ["apis", group, version]:
            return discovery.resource_list(catalogue, group, version)
        case _:
            return None


def _with_etag(request: web.BaseRequest, body: bytes, content_type: str) -> web.Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'
    headers = {"ETag": etag, "Vary": "Accept", "Cache-Control": "public", "Content-Type": content_type}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)
