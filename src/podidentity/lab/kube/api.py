"""The API as a request handler: authenticate, authorize, dispatch, answer. It never listens."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web

from podidentity.lab.kube import bootstrap, discovery, reading
from podidentity.lab.kube.admission import Admission
from podidentity.lab.kube.bodies import read_object
from podidentity.lab.kube.config import ApiConfig, throwaway_signing_key
from podidentity.lab.kube.disk import Disk
from podidentity.lab.kube.errors import StatusError, bad_request, not_here
from podidentity.lab.kube.kinds import BUILT_IN, Catalogue, Kind
from podidentity.lab.kube.objects import Obj, encode, meta
from podidentity.lab.kube.rbac import Attributes, Authorizer
from podidentity.lab.kube.rest import DeleteOptions, Outcome, Rest, WriteOptions
from podidentity.lab.kube.reviews import Reviews
from podidentity.lab.kube.store import Store
from podidentity.lab.kube.target import Target, flag, parse
from podidentity.lab.kube.users import Authenticator, TokenSigner, User
from podidentity.lab.kube.watching import Json, Watch, prefix

_JSON = "application/json"
_FIELDS: Mapping[str, Mapping[str, str]] = {kind.resource: kind.fields for kind in BUILT_IN}
_PUBLIC_METHODS = frozenset(["GET", "HEAD"])


class Api:
    """One API server's state and its handler. Close it when the server has stopped."""

    def __init__(self, config: ApiConfig) -> None:
        self.config = config
        self.catalogue = Catalogue()
        disk = Disk(config.data_dir / "kube.sqlite" if config.data_dir else ":memory:")
        self.store = Store(disk, lambda resource: _FIELDS.get(resource, {}), history=config.history)
        admission = Admission(self.store, service_accounts=config.service_accounts)
        self.rest = Rest(self.store, self.catalogue, admission, now=config.now, rng=config.rng)
        self._signer = TokenSigner(config.sa_key or throwaway_signing_key(), config.now)
        self._authenticator = Authenticator(self.store, self._signer, config.tokens)
        self.authorizer = Authorizer(self.store)
        self._reviews = Reviews(self.store, self._authenticator, self.authorizer, self._signer)
        self._watches: set[Watch] = set()
        self._log = structlog.get_logger()
        self._bootstrap()

    def _bootstrap(self) -> None:
        for group, plural, namespace, obj in bootstrap.objects():
            kind = self.catalogue.find(group, "v1", plural)
            assert kind is not None
            if self.store.get(kind.resource, namespace, obj["metadata"]["name"]) is None:
                self.rest.create(kind, namespace, obj, WriteOptions())

    def end_watches(self) -> None:
        """End every watch in an orderly way, as a server that stops does."""
        for watch in tuple(self._watches):
            watch.stop()

    def close(self) -> None:
        """Close the files."""
        self.store.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; every failure is a Status."""
        try:
            return await self._answer(request)
        except StatusError as error:
            headers = {"Retry-After": "1"} if error.code == 429 else {}  # noqa: PLR2004 - TooManyRequests
            return web.Response(body=encode(error.status()), status=error.code, content_type=_JSON, headers=headers)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - one request's defect must not end the cluster; it is logged and told
            self._log.exception("request failed", method=request.method, path=request.path_qs)
            status = StatusError(500, f"Internal error occurred: {error}")
            return web.Response(body=encode(status.status()), status=500, content_type=_JSON)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        certificate = transport.get_extra_info("peercert") if transport else None
        user = self._authenticator.who(certificate, request.headers.get("Authorization", ""))
        query = request.query
        target = parse(request.method, request.path, query)
        if target is None:
            verb = request.method.lower()
            self.authorizer.demand(user, Attributes("get" if verb == "head" else verb, path=request.path))
            return self._document(request)
        self.authorizer.demand(user, target.attributes(query))
        kind = self.catalogue.find(target.group, target.version, target.plural)
        if kind is None:
            return web.Response(text="404 page not found\n", status=404)
        if kind.namespaced and target.name and not target.namespace:
            raise StatusError(404, "the server could not find the requested resource")
        if target.subresource and target.subresource not in kind.subresources:
            raise self._unknown_subresource(kind, target)
        return await self._resource(request, user, kind, target)

    @staticmethod
    def _unknown_subresource(kind: Kind, target: Target) -> StatusError:
        if kind.custom:
            return StatusError(404, "the server could not find the requested resource")
        return not_here(f"{kind.plural}/{target.subresource}")

    # --- documents ----------------------------------------------------------------------------------------------

    def _document(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in _PUBLIC_METHODS:
            raise StatusError(405, "the server does not allow this method on the requested resource")
        path = request.path.rstrip("/") or "/"
        if path in {"/healthz", "/readyz", "/livez"}:
            return web.Response(text="ok")
        found: Obj | None = None
        content_type = _JSON
        aggregated = discovery.wants_aggregated(request.headers.get("Accept", ""))
        match path.strip("/").split("/"):
            case ["version"]:
                found = discovery.VERSION
            case ["api" | "apis" as root] if aggregated:
                found, content_type = discovery.aggregated(self.catalogue, core=root == "api"), discovery.AGGREGATED
            case ["api"]:
                found = discovery.versions()
            case ["apis"]:
                found = discovery.group_list(self.catalogue)
            case ["api", version]:
                found = discovery.resource_list(self.catalogue, "", version)
            case ["apis", group]:
                found = discovery.group(self.catalogue, group)
            case ["apis", group, version]:
                found = discovery.resource_list(self.catalogue, group, version)
            case ["openapi", "v3"]:
                found = discovery.openapi_index(self.catalogue)
            case ["openapi", "v3", *rest]:
                found = discovery.openapi(self.catalogue, "/".join(rest))
            case ["" | "api" | "apis"]:
                found = {"paths": ["/api", "/apis", "/healthz", "/openapi/v3", "/readyz", "/version"]}
        if found is None:
            return web.Response(text="404 page not found\n", status=404)
        return _with_etag(request, encode(found), content_type)

    # --- resources ----------------------------------------------------------------------------------------------

    async def _resource(self, request: web.BaseRequest, user: User, kind: Kind, target: Target) -> web.StreamResponse:
        if target.subresource == "token" and target.verb == "create":
            body = read_object(await request.read(), request.content_type)
            return _json(self._reviews.token_request(target.namespace, target.name, body), 201)
        if target.verb not in kind.verbs:
            message = "the server does not allow this method on the requested resource"
            raise StatusError(405, message)
        if self._reviews.answers(kind):
            body = read_object(await request.read(), request.content_type)
            return _json(self._reviews.answer(kind, body, user), 201)
        match target.verb:
            case "get":
                stored = self.rest.get(kind, self._namespace(kind, target), target.name)
                return web.Response(body=prefix(kind) + stored.body[1:], content_type=_JSON)
            case "list":
                page = reading.list_page(self.store, kind, target, request.query)
                return web.Response(body=reading.list_body(kind, page), content_type=_JSON)
            case "watch":
                return await self._watch(request, kind, target)
            case "delete" | "deletecollection":
                return self._delete(kind, target, request.query, await request.read())
            case _:
                return self._write(kind, target, request, await request.read())

    @staticmethod
    def _namespace(kind: Kind, target: Target) -> str:
        return target.namespace if kind.namespaced else ""

    def _write(self, kind: Kind, target: Target, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        query, namespace = request.query, self._namespace(kind, target)
        options = WriteOptions(_dry_run(query), _validation(query))
        if target.verb == "patch":
            body = read_object(raw, _JSON, any_json=True)
            outcome = self.rest.patch(
                kind, namespace, target.name, request.content_type, body, options, subresource=target.subresource
            )
        elif target.verb == "update":
            obj = read_object(raw, request.content_type)
            outcome = self.rest.update(kind, namespace, target.name, obj, options, subresource=target.subresource)
        elif target.name:
            raise not_here(f"POST of {kind.plural}/{target.subresource}")
        elif kind.namespaced and not namespace:
            raise bad_request("an empty namespace may not be set during creation")
        else:
            obj = read_object(raw, request.content_type)
            outcome = self.rest.create(kind, namespace, obj, options)
        return _json(_whole(kind, outcome), 201 if outcome.created else 200, outcome.warnings)

    def _delete(self, kind: Kind, target: Target, query: Mapping[str, str], raw: bytes) -> web.StreamResponse:
        options = _delete_options(raw, query)
        namespace = self._namespace(kind, target)
        if target.verb == "deletecollection":
            page = reading.list_page(self.store, kind, target, query)
            for stored in page.items:
                self.rest.delete(kind, stored.namespace, stored.name, options)
            return web.Response(body=reading.list_body(kind, page), content_type=_JSON)
        outcome = self.rest.delete(kind, namespace, target.name, options)
        if outcome.gone and kind.resource != "pods":
            more = {"name": target.name, "group": kind.group, "kind": kind.plural, "uid": meta(outcome.obj).get("uid")}
            return _json(
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "details": {key: value for key, value in more.items() if value},
                }
            )
        return _json(_whole(kind, outcome))

    async def _watch(self, request: web.BaseRequest, kind: Kind, target: Target) -> web.StreamResponse:
        query = request.query
        watch = Watch(self.store, kind, Json(kind), reading.selection(kind, target, query))
        initial = flag(query, "sendInitialEvents")
        revision = None if initial else reading.revision_asked(query)
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        response.enable_chunked_encoding()
        try:
            watch.start(revision)
        except StatusError as error:
            if error.code != 410:  # noqa: PLR2004 - Expired is an event, not an answer
                raise
            await response.prepare(request)
            await response.write(encode({"type": "ERROR", "object": error.status()}) + b"\n")
            return response
        if initial:
            watch.bookmark(initial=True)
        self._watches.add(watch)
        try:
            await response.prepare(request)
            await self._stream(response, watch, query)
        finally:
            watch.stop()
            self._watches.discard(watch)
        return response

    async def _stream(self, response: web.StreamResponse, watch: Watch, query: Mapping[str, str]) -> None:
        loop = asyncio.get_running_loop()
        seconds = query.get("timeoutSeconds", "")
        end = loop.time() + (float(seconds) if seconds.isdigit() and int(seconds) else self.config.watch_timeout)
        bookmarks = flag(query, "allowWatchBookmarks")
        while True:
            pause = min(end - loop.time(), self.config.bookmark_interval)
            try:
                async with asyncio.timeout(max(pause, 0)):
                    data = await watch.take()
            except TimeoutError:
                if bookmarks:
                    watch.bookmark()
                    await response.write(await watch.take())
                if loop.time() >= end:
                    return
                continue
            if not data:
                return
            await response.write(data)


def _whole(kind: Kind, outcome: Outcome) -> Obj:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **outcome.obj}


def _json(obj: Obj, status: int = 200, warnings: tuple[str, ...] = ()) -> web.Response:
    response = web.Response(body=encode(obj), status=status, content_type=_JSON)
    for text in warnings:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def _with_etag(request: web.BaseRequest, body: bytes, content_type: str) -> web.Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'
    headers = {"ETag": etag, "Vary": "Accept", "Cache-Control": "public", "Content-Type": content_type}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)


def _dry_run(query: Mapping[str, str]) -> bool:
    value = query.get("dryRun", "")
    if value not in {"", "All"}:
        raise bad_request(f'dryRun: Unsupported value: "{value}": supported values: "All"')
    return value == "All"


def _validation(query: Mapping[str, str]) -> str:
    value = query.get("fieldValidation", "") or "Warn"
    if value not in {"Strict", "Warn", "Ignore"}:
        raise bad_request(f'fieldValidation: Unsupported value: "{value}"')
    return value


def _delete_options(raw: bytes, query: Mapping[str, str]) -> DeleteOptions:
    body: Obj = read_object(raw, _JSON) if raw.strip() else {}
    conditions: Any = body.get("preconditions") or {}
    grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    return DeleteOptions(
        grace=None if grace is None else int(grace),
        uid=str(conditions.get("uid") or ""),
        resource_version=str(conditions.get("resourceVersion") or ""),
        propagation=str(body.get("propagationPolicy") or query.get("propagationPolicy") or ""),
        dry_run=_dry_run(query) or body.get("dryRun") == ["All"],
    )
