"""Requests about objects: the query and body of each verb to a call, its outcome to a response."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from podidentity.lab.kube import reading, subresources
from podidentity.lab.kube.bodies import read_object, read_patch
from podidentity.lab.kube.documents import JSON
from podidentity.lab.kube.errors import Cause, StatusError, bad_request, invalid, not_here, unsupported
from podidentity.lab.kube.kinds import Kind
from podidentity.lab.kube.objects import Obj, encode, go_value, meta
from podidentity.lab.kube.pod_proxy import PodAddress, PodProxy
from podidentity.lab.kube.proxy import KubeletProxy
from podidentity.lab.kube.rbac import Authorizer
from podidentity.lab.kube.requests import DeleteOptions, Outcome, Where, WriteOptions
from podidentity.lab.kube.rest import Rest
from podidentity.lab.kube.reviews import Reviews
from podidentity.lab.kube.store import Store
from podidentity.lab.kube.streams import Streams
from podidentity.lab.kube.tables import Tables, negotiate
from podidentity.lab.kube.target import PROXY, Target
from podidentity.lab.kube.users import User
from podidentity.lab.kube.watching import prefix

_VALIDATIONS: Final = ("", "Ignore", "Strict", "Warn")
_POLICIES: Final = ("Foreground", "Background", "Orphan")
_DEPRECATED: Final = {"endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}


class Resources:
    """Answers every authorized request about an object or a collection."""

    def __init__(
        self,
        *,
        store: Store,
        rest: Rest,
        reviews: Reviews,
        authorizer: Authorizer,
        kubelets: KubeletProxy,
        pods: PodProxy,
        streams: Streams,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._rest = rest
        self._reviews = reviews
        self._authorizer = authorizer
        self._kubelets = kubelets
        self._pods = pods
        self._streams = streams
        self._now = now

    async def answer(self, request: web.BaseRequest, user: User, kind: Kind, target: Target) -> web.StreamResponse:
        """The response, or a StatusError."""
        warning = {"Warning": f'299 - "{_DEPRECATED[kind.resource]}"'} if kind.resource in _DEPRECATED else {}
        try:
            response = await self._dispatch(request, user, kind, target)
        except StatusError as error:
            error.headers |= warning
            raise
        if not response.prepared:
            response.headers.extend(warning)
        return response

    async def _dispatch(self, request: web.BaseRequest, user: User, kind: Kind, target: Target) -> web.StreamResponse:
        if target.subresource in {"token", "log", "exec", PROXY, "binding", "eviction", "scale"}:
            return await self._subresource(request, kind, target)
        if target.verb not in kind.verbs:
            raise _not_allowed()
        if self._reviews.answers(kind):
            body = read_object(await request.read(), request.content_type)
            return _json(self._reviews.answer(kind, body, user), 201)
        if target.verb == "watch":
            return await self._streams.watch(request, kind, target)
        if target.verb in {"get", "list"}:
            return self._read(request, kind, target)
        raw = await request.read()
        if target.verb in {"delete", "deletecollection"}:
            return self._delete(kind, target, request, raw)
        return self._write(kind, target, request, user, raw)

    def _read(self, request: web.BaseRequest, kind: Kind, target: Target) -> web.StreamResponse:
        table = Tables(kind, request.query, self._now) if negotiate(request.headers.get("Accept", "")) else None
        if target.verb == "get":
            reading.check_get(self._store, kind, request.query)
            stored = self._rest.get(target.where(kind))
            body = table.single(stored) if table else prefix(kind) + stored.body[1:]
        else:
            page = reading.list_page(self._store, kind, target, request.query)
            body = table.page(page) if table else reading.list_body(kind, page)
        return web.Response(body=body, content_type=JSON)

    async def _subresource(self, request: web.BaseRequest, kind: Kind, target: Target) -> web.StreamResponse:
        where = target.where(kind)
        match target.subresource, target.verb:
            case "proxy", _:
                address = PodAddress.parse(target.name)
                pod = self._rest.get(replace(target, name=address.name).where(kind)).obj()
                return await self._pods.get(request, pod, address)
            case "log", "get":
                return await self._kubelets.log(request, self._rest.get(where).obj(), request.query)
            case "exec", "get" | "create":
                return await self._kubelets.exec(request, self._rest.get(where).obj())
            case "token" | "binding" | "eviction", "create":
                body = read_object(await request.read(), request.content_type)
                return _json(self._made(request, where, target.subresource, body), 201)
            case "scale", "get":
                return _json(subresources.scale_of(kind, self._rest.get(where).obj()))
            case "scale", "update" | "patch":
                body = read_patch(await request.read())
                change = subresources.scale_change(target.verb, request.content_type, body)
                options = _write_options(target.verb, request.query)
                return _json(subresources.rescale(self._rest, where, change, options))
            case _:
                raise _not_allowed()

    def _made(self, request: web.BaseRequest, where: Where, subresource: str, body: Obj) -> Obj:
        """What creating a token, a binding or an eviction answers."""
        match subresource:
            case "token":
                return self._reviews.token_request(where.namespace, where.name, body)
            case "binding":
                return subresources.bind(self._rest, where, body, self._now())
            case _:
                options = _delete_options(body.get("deleteOptions") or {}, request.query)
                return subresources.evict(self._rest, where, options)

    def _write(
        self, kind: Kind, target: Target, request: web.BaseRequest, user: User, raw: bytes
    ) -> web.StreamResponse:
        if (target.verb == "create") == bool(target.name) and not target.subresource:
            raise _not_allowed()  # objects are created in a collection, and changed at their own path
        if kind.namespaced and not target.namespace:
            raise _not_allowed()
        where = target.where(kind, target.subresource)
        options = _write_options(target.verb, request.query)
        if target.verb == "patch":
            outcome = self._rest.patch(where, request.content_type, read_patch(raw), options)
        elif target.verb == "update":
            if self._rest.makes(where):
                self._authorizer.demand(user, replace(target.attributes({}), verb="create"))
            outcome = self._rest.update(where, read_object(raw, request.content_type), options)
        elif target.name and target.subresource:
            raise not_here(f"POST of {kind.plural}/{target.subresource}")
        else:
            outcome = self._rest.create(where, read_object(raw, request.content_type), options)
        return _json(_whole(kind, outcome), 201 if outcome.created else 200, outcome.warnings)

    def _delete(self, kind: Kind, target: Target, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        options = _delete_options(read_object(raw, request.content_type) if raw.strip() else {}, request.query)
        if target.verb == "deletecollection":
            page = reading.list_page(self._store, kind, target, request.query)
            for stored in page.items:
                self._rest.delete(Where(kind, stored.namespace, stored.name), options)
            return web.Response(body=reading.list_body(kind, page), content_type=JSON)
        outcome = self._rest.delete(target.where(kind), options)
        if outcome.gone and kind.resource != "pods":
            return _json(_success(kind, target.name, outcome.obj))
        return _json(_whole(kind, outcome))


def _not_allowed() -> StatusError:
    return StatusError(405, "the server does not allow this method on the requested resource", details={})


def _success(kind: Kind, name: str, obj: Obj) -> Obj:
    more = {"name": name, "group": kind.group, "kind": kind.plural, "uid": meta(obj).get("uid")}
    details = {key: value for key, value in more.items() if value}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _whole(kind: Kind, outcome: Outcome) -> Obj:
    return {"apiVersion": kind.api_version, "kind": kind.kind, **outcome.obj}


def _json(obj: Obj, status: int = 200, warnings: tuple[str, ...] = ()) -> web.Response:
    response = web.Response(body=encode(obj), status=status, content_type=JSON)
    for text in warnings:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def _write_options(verb: str, query: Mapping[str, str]) -> WriteOptions:
    kind = {"create": "CreateOptions", "update": "UpdateOptions"}.get(verb, "PatchOptions")
    validation = query.get("fieldValidation", "")
    if validation not in _VALIDATIONS:
        raise unsupported(kind, "fieldValidation", validation, *_VALIDATIONS)
    return WriteOptions(_dry_run(kind, query), validation or "Warn")


def _dry_run(kind: str, query: Mapping[str, str]) -> bool:
    value = query.get("dryRun", "")
    if value not in {"", "All"}:
        raise unsupported(kind, "dryRun", [value], "All")
    return value == "All"


def _delete_options(body: Obj, query: Mapping[str, str]) -> DeleteOptions:
    """The options of a DELETE or an eviction: those of its body, of the query where it has none."""
    kind = "DeleteOptions"
    conditions: Any = body.get("preconditions") or {}
    dry_run = body.get("dryRun") or []
    if dry_run not in ([], ["All"]):
        raise unsupported(kind, "dryRun", dry_run, "All")
    policy = str(body.get("propagationPolicy") or query.get("propagationPolicy") or "")
    if policy and policy not in _POLICIES:
        raise unsupported(kind, "propagationPolicy", policy, *_POLICIES, "nil")
    if policy and body.get("orphanDependents") is not None:
        text = f"Invalid value: {go_value(policy)}: orphanDependents and deletionPropagation cannot be both set"
        raise invalid(kind, "meta.k8s.io", "", [Cause("FieldValueInvalid", text, "propagationPolicy")])
    return DeleteOptions(
        grace=_grace(body, query),
        uid=str(conditions.get("uid") or ""),
        resource_version=str(conditions.get("resourceVersion") or ""),
        propagation=policy,
        dry_run=_dry_run(kind, query) or dry_run == ["All"],
    )


def _grace(body: Obj, query: Mapping[str, str]) -> int | None:
    found = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
    try:
        return None if found is None else int(found)
    except (TypeError, ValueError) as error:
        raise bad_request(f"gracePeriodSeconds is a number of seconds, not {found!r}") from error
