"""OpenAPI v3 documents: as little as kubectl needs to apply, and the schemas of custom kinds for ``explain`` (pure).

Built-in kinds have none: kubectl then makes its patches from the types it was compiled with.
"""

from __future__ import annotations

import hashlib

from podidentity.lab.kube.discovery import VERSION
from podidentity.lab.kube.kinds import Catalogue, Kind
from podidentity.lab.kube.objects import Obj, encode


def _root(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def index(catalogue: Catalogue) -> Obj:
    """``/openapi/v3``: the documents, each with a hash that changes with its content."""
    paths = {}
    for root in sorted({_root(kind) for kind in catalogue.all()}):
        digest = hashlib.sha256(encode(document(catalogue, root))).hexdigest()[:32].upper()
        paths[root] = {"serverRelativeURL": f"/openapi/v3/{root}?hash={digest}"}
    return {"paths": paths}


def document(catalogue: Catalogue, root: str) -> Obj | None:
    """``/openapi/v3/ROOT``: for each kind that its PATCH knows ``fieldValidation``, which is all that apply asks."""
    kinds = [kind for kind in catalogue.all() if _root(kind) == root]
    if not kinds:
        return None
    paths, schemas = {}, {}
    for kind in kinds:
        place = "/namespaces/{namespace}" if kind.namespaced else ""
        paths[f"/{root}{place}/{kind.plural}/{{name}}"] = _operations(kind)
        if kind.schema is not None:
            schemas[_schema_name(kind)] = _schema(kind, kind.schema)
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _names(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _operations(kind: Kind) -> Obj:
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    named = {"x-kubernetes-group-version-kind": _names(kind)}
    answer: Obj = {"responses": {"200": {"description": "OK"}}}
    operations: Obj = {"patch": {"parameters": parameters, "x-kubernetes-action": "patch", **answer, **named}}
    if kind.schema is not None:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_schema_name(kind)}"}}}
        answer = {"responses": {"200": {"description": "OK", "content": content}}}
        operations["get"] = {"x-kubernetes-action": "get", **answer, **named}
    return operations


def _schema_name(kind: Kind) -> str:
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def _schema(kind: Kind, schema: Obj) -> Obj:
    common = {
        "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this object."},
        "kind": {"type": "string", "description": "Kind is what this object represents."},
        "metadata": {"type": "object", "description": "Standard object's metadata."},
    }
    properties = {**(schema.get("properties") or {}), **common}
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": [_names(kind)]}
