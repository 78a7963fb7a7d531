"""OpenAPI documents: as little as kubectl needs to apply, and schemas for ``explain`` (pure).

Custom kinds have their own schema; those of built-in kinds are made of their fields' names and types. No PATCH says
what bodies it takes: kubectl then makes its patches from the types it was compiled with.
"""

from __future__ import annotations

import hashlib
from typing import Final

from podidentity.lab.kube.discovery import VERSION
from podidentity.lab.kube.kinds import Catalogue, Kind
from podidentity.lab.kube.objects import Obj, encode
from podidentity.lab.kube.types import SCALARS, Field, type_of

V2: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_PLAIN: Final[dict[str, Obj]] = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "l": {"type": "integer"},
    "b": {"type": "boolean"},
    "f": {"type": "number"},
    "q": {"type": "string"},
    "x": {"format": "int-or-string"},
    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
_UNTOLD: Final = (
    "The lab's embedded API server knows the fields and their types. What they are for is told by "
    "`kubectl explain` on a lab started with --api-server=real."
)


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
        else:
            schemas.update(_built_in(kind))
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _names(kind: Kind) -> Obj:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _operations(kind: Kind) -> Obj:
    parameters = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
    named = {"x-kubernetes-group-version-kind": _names(kind)}
    answer: Obj = {"responses": {"200": {"description": "OK"}}}
    operations: Obj = {"patch": {"parameters": parameters, "x-kubernetes-action": "patch", **answer, **named}}
    if kind.schema is not None or type_of(kind.kind):
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_schema_name(kind)}"}}}
        answer = {"responses": {"200": {"description": "OK", "content": content}}}
        operations["get"] = {"x-kubernetes-action": "get", **answer, **named}
    return operations


def _schema_name(kind: Kind) -> str:
    if kind.schema is None:
        return kind.kind
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def _built_in(kind: Kind) -> Obj:
    """The schemas of a built-in kind and of every type its fields have."""
    found: Obj = {}
    todo = [kind.kind]
    while todo:
        name = todo.pop()
        fields = type_of(name)
        if fields is not None and name not in found:
            found[name] = {"type": "object", "properties": {field.name: _property(field) for field in fields.values()}}
            todo += [field.of for field in fields.values()]
    if root := found.get(kind.kind):
        root["properties"] = {"apiVersion": _PLAIN["s"], "kind": _PLAIN["s"], **root["properties"]}
        root["description"] = _UNTOLD
        root["x-kubernetes-group-version-kind"] = [_names(kind)]
    return found


def _property(field: Field) -> Obj:
    one = _PLAIN[field.of] if field.of in SCALARS else {"allOf": [{"$ref": f"#/components/schemas/{field.of}"}]}
    match field.shape:
        case "list":
            return {"type": "array", "items": one}
        case "map":
            return {"type": "object", "additionalProperties": one}
        case _:
            return one


def empty_v2() -> bytes:
    """``/openapi/v2`` without a path or a definition, as protobuf: kubectl asks it about kinds nobody serves."""
    info = _text(1, "Kubernetes") + _text(2, VERSION["gitVersion"])
    return b"".join([_text(1, "2.0"), _bytes(2, info), _bytes(8, b""), _bytes(9, b"")])


def _bytes(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _schema(kind: Kind, schema: Obj) -> Obj:
    common = {
        "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this object."},
        "kind": {"type": "string", "description": "Kind is what this object represents."},
        "metadata": {"type": "object", "description": "Standard object's metadata."},
    }
    properties = {**(schema.get("properties") or {}), **common}
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": [_names(kind)]}
