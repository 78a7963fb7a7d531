"""OpenAPI documents: as little as kubectl needs to apply, and schemas for ``explain`` (pure).

Custom kinds have their own schema; those of built-in kinds are made of their fields' names and types. No PATCH says
what bodies it takes: kubectl then makes its patches from the types it was compiled with.
"""

from __future__ import annotations

import hashlib
from typing import Final

from podidentity.lab.kube.absent import listed
from podidentity.lab.kube.discovery import VERSION
from podidentity.lab.kube.errors import not_here
from podidentity.lab.kube.kinds import Catalogue, Kind
from podidentity.lab.kube.objects import Obj, encode
from podidentity.lab.kube.types import SCALARS, Field, type_of

V2: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_PLAIN: Final[dict[str, Obj]] = {
    "s": {"type": "string"},
    "i": {"type": "integer"},
    "l": {"type": "integer"},
    "b": {"type": "boolean"},
    "f": {"type": "number"},
    "q": {"type": "string"},
    "x": {"format": "int-or-string"},
    "t": {"type": "string", "format": "date-time"},
    "u": {"type": "string", "format": "date-time"},
    "y": {"type": "string", "format": "byte"},
    "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
}
_DOCS: Final = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_VERSION_WORDS: Final = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    f"schemas to the latest internal value, and may reject unrecognized values. More info: {_DOCS}#resources"
)
_KIND_WORDS: Final = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    f"endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: {_DOCS}#types-kinds"
)
_METADATA: Final[Obj] = {
    "description": f"Standard object's metadata. More info: {_DOCS}#metadata",
    "allOf": [{"$ref": "#/components/schemas/ObjectMeta"}],
}
_EMBEDDED: Final[Obj] = {
    "apiVersion": {
        "type": "string",
        "description": "apiVersion defines the versioned schema of this representation of an object. "
        f"More info: {_DOCS}#resources",
    },
    "kind": {
        "type": "string",
        "description": "kind is a string value representing the type of this object. In CamelCase. "
        f"More info: {_DOCS}#types-kinds",
    },
    "metadata": _METADATA,
}
_MANAGED: Final = ("manager", "operation", "apiVersion", "time", "fieldsType", "subresource")
_UNTOLD: Final = (
    "The lab's embedded API server knows the fields and their types. What they are for is told by "
    "`kubectl explain` on a lab started with --api-server=real."
)


def _root(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def index(catalogue: Catalogue) -> Obj:
    """``/openapi/v3``: the documents, each with a hash that changes with its content."""
    paths = {}
    for root in sorted({_root(kind) for kind in listed(catalogue)}):
        digest = hashlib.sha256(encode(document(catalogue, root))).hexdigest()[:32].upper()
        paths[root] = {"serverRelativeURL": f"/openapi/v3/{root}?hash={digest}"}
    return {"paths": paths}


def document(catalogue: Catalogue, root: str) -> Obj | None:
    """``/openapi/v3/ROOT``: for each kind that its PATCH knows ``fieldValidation``, which is all that apply asks."""
    kinds = [kind for kind in listed(catalogue) if _root(kind) == root]
    if not kinds:
        return None
    paths, schemas = {}, {}
    for kind in kinds:
        place = "/namespaces/{namespace}" if kind.namespaced else ""
        paths[f"/{root}{place}/{kind.plural}/{{name}}"] = _operations(kind)
        if kind.schema is not None:
            schemas.update(_metadata())
            schemas[_schema_name(kind)] = _schema(kind, kind.schema)
        elif not kind.verbs:
            schemas[kind.kind] = _missing(kind)
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
    if kind.schema is not None or type_of(kind.kind) or not kind.verbs:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_schema_name(kind)}"}}}
        answer = {"responses": {"200": {"description": "OK", "content": content}}}
        operations["get"] = {"x-kubernetes-action": "get", **answer, **named}
    return operations


def _schema_name(kind: Kind) -> str:
    if kind.schema is None:
        return kind.kind
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])


def _types(name: str) -> Obj:
    """The schemas of a type and of every type its fields have."""
    found: Obj = {}
    todo = [name]
    while todo:
        name = todo.pop()
        fields = type_of(name)
        if fields is not None and name not in found:
            found[name] = {"type": "object", "properties": {field.name: _property(field) for field in fields.values()}}
            todo += [field.of for field in fields.values()]
    return found


def _metadata() -> Obj:
    """The schemas of an object's metadata, with what no request may send."""
    found = _types("ObjectMeta")
    found["OwnerReference"]["required"] = ["apiVersion", "kind", "name", "uid"]
    one = {"allOf": [{"$ref": "#/components/schemas/ManagedFieldsEntry"}]}
    found["ObjectMeta"]["properties"]["managedFields"] = {"type": "array", "items": one}
    managed = {
        **dict.fromkeys(_MANAGED, _PLAIN["s"]),
        "fieldsV1": {"allOf": [{"$ref": "#/components/schemas/FieldsV1"}]},
    }
    found["ManagedFieldsEntry"] = {"type": "object", "properties": managed}
    found["FieldsV1"] = {"type": "object"}
    return found


def _built_in(kind: Kind) -> Obj:
    """The schemas of a built-in kind, its fields and its metadata."""
    found = {**_types(kind.kind), **_metadata()}
    if root := found.get(kind.kind):
        root["properties"] = {"apiVersion": _PLAIN["s"], "kind": _PLAIN["s"], **root["properties"]}
        root["description"] = _UNTOLD
        root["x-kubernetes-group-version-kind"] = [_names(kind)]
    return found


def _missing(kind: Kind) -> Obj:
    """The schema of a kind this server has not."""
    text = not_here(f"{kind.plural}.{kind.group}" if kind.group else kind.plural).message
    return {"type": "object", "description": text, "x-kubernetes-group-version-kind": [_names(kind)]}


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
        "apiVersion": {"type": "string", "description": _VERSION_WORDS},
        "kind": {"type": "string", "description": _KIND_WORDS},
        "metadata": _METADATA,
    }
    properties = {name: _told(sub) for name, sub in (schema.get("properties") or {}).items()}
    properties.update(common)
    return {**schema, "properties": properties, "x-kubernetes-group-version-kind": [_names(kind)]}


def _told(schema: Obj) -> Obj:
    """A custom schema in which embedded objects have the fields of every object."""
    properties = {name: _told(sub) for name, sub in (schema.get("properties") or {}).items()}
    if schema.get("x-kubernetes-embedded-resource"):
        properties.update(_EMBEDDED)
        schema = {**schema, "required": sorted({*(schema.get("required") or ()), "apiVersion", "kind"})}
    return {**schema, "properties": properties} if properties else schema
