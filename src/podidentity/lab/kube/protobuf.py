"""The protobuf request bodies of kubectl's and helm's typed clients, decoded by field number (pure).

An envelope of four bytes and a message ``Unknown`` holds the object. Only kinds those clients create are known here;
a field that is not in the tables below is refused rather than lost.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from podidentity.lab.kube.errors import bad_request, not_here
from podidentity.lab.kube.objects import Obj

MAGIC: Final = b"k8s\x00"
_VARINT, _BYTES = 0, 2
_MAX_SHIFT: Final = 63


@dataclass(frozen=True, slots=True)
class Field:
    """One field: ``type`` is text, int, bool, bytes, drop, map, bytesmap or the fields of a message."""

    name: str
    type: str | Mapping[int, Field] = "text"
    repeated: bool = False


Message = Mapping[int, Field]


def _texts(*names: str) -> dict[int, Field]:
    return {number: Field(name) for number, name in enumerate(names, 1)}


_DROP: Final = Field("", "drop")
_META: Final[Message] = {
    1: Field("name"),
    2: Field("generateName"),
    3: Field("namespace"),
    4: _DROP,
    5: Field("uid"),
    6: Field("resourceVersion"),
    7: _DROP,
    8: _DROP,
    9: _DROP,
    10: _DROP,
    11: Field("labels", "map"),
    12: Field("annotations", "map"),
    13: Field("ownerReferences", {1: Field("kind"), 3: Field("name"), 4: Field("uid"), 5: Field("apiVersion")}, True),  # noqa: FBT003 - a table
    14: Field("finalizers", repeated=True),
    17: _DROP,
}
_OBJECT: Final[Message] = {1: Field("metadata", _META), 3: _DROP}
_RULES: Final[Message] = {
    number: Field(name, repeated=True)
    for number, name in enumerate(("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"), 1)
}
_RESOURCE: Final[Message] = _texts("namespace", "verb", "group", "version", "resource", "subresource", "name")
_ACCESS: Final[Message] = {
    1: Field("resourceAttributes", _RESOURCE),
    2: Field("nonResourceAttributes", _texts("path", "verb")),
}
_ROLE: Final[Message] = {1: Field("metadata", _META), 2: Field("rules", _RULES, repeated=True)}
_BINDING: Final[Message] = {
    1: Field("metadata", _META),
    2: Field("subjects", _texts("kind", "apiGroup", "name", "namespace"), repeated=True),
    3: Field("roleRef", _texts("apiGroup", "kind", "name")),
}
_TOKEN: Final[Message] = {
    1: Field("audiences", repeated=True),
    3: Field("boundObjectRef", _texts("kind", "apiVersion", "name", "uid")),
    4: Field("expirationSeconds", "int"),
}
_OPTIONS: Final[Message] = {
    1: Field("gracePeriodSeconds", "int"),
    2: Field("preconditions", _texts("uid", "resourceVersion")),
    3: _DROP,
    4: Field("propagationPolicy"),
    5: Field("dryRun", repeated=True),
}
_KINDS: Final[Mapping[str, Message]] = {
    "Namespace": {1: Field("metadata", _META), 2: _DROP, 3: _DROP},
    "ServiceAccount": {1: Field("metadata", _META), 4: Field("automountServiceAccountToken", "bool")},
    "ConfigMap": {
        1: Field("metadata", _META),
        2: Field("data", "map"),
        3: Field("binaryData", "bytesmap"),
        4: Field("immutable", "bool"),
    },
    "Secret": {
        1: Field("metadata", _META),
        2: Field("data", "bytesmap"),
        3: Field("type"),
        4: Field("stringData", "map"),
        5: Field("immutable", "bool"),
    },
    "ClusterRole": _ROLE,
    "Role": _ROLE,
    "ClusterRoleBinding": _BINDING,
    "RoleBinding": _BINDING,
    "TokenRequest": {**_OBJECT, 2: Field("spec", _TOKEN)},
    "SelfSubjectAccessReview": {**_OBJECT, 2: Field("spec", _ACCESS)},
    "SelfSubjectRulesReview": {**_OBJECT, 2: Field("spec", _texts("namespace"))},
    "SelfSubjectReview": {1: Field("metadata", _META), 2: _DROP},
    "DeleteOptions": _OPTIONS,
}
_UNKNOWN: Final[Message] = {
    1: Field("type", _texts("apiVersion", "kind")),
    2: Field("raw", "bytes"),
    3: Field("contentEncoding"),
    4: Field("contentType"),
}


def decode_object(raw: bytes) -> Obj:
    """The object inside an envelope as JSON would have it; StatusError 400 when malformed, 415 for an unknown kind."""
    if not raw.startswith(MAGIC):
        raise bad_request("the protobuf body does not begin with the Kubernetes prefix")
    try:
        unknown = _message(_UNKNOWN, raw[len(MAGIC) :], keep_bytes=True)
        names = unknown.get("type") or {}
        kind = str(names.get("kind") or "")
        if kind not in _KINDS:
            raise not_here(f"a protobuf body of kind {kind or 'unknown'}", 415)
        body = _message(_KINDS[kind], unknown.get("raw") or b"")
    except (IndexError, UnicodeDecodeError) as error:
        raise bad_request("the protobuf body is malformed") from error
    return {"apiVersion": names.get("apiVersion") or "v1", "kind": kind, **body}


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while shift <= _MAX_SHIFT:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, position
        shift += 7
    raise IndexError(position)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        if tag & 7 == _VARINT:
            number, position = _varint(raw, position)
            yield tag >> 3, number
        elif tag & 7 == _BYTES:
            size, position = _varint(raw, position)
            if position + size > len(raw):
                raise IndexError(position)
            yield tag >> 3, raw[position : position + size]
            position += size
        else:
            raise bad_request(f"the protobuf body uses wire type {tag & 7}")


def _message(message: Message, raw: bytes, *, keep_bytes: bool = False) -> Obj:
    found: Obj = {}
    for number, value in _fields(raw):
        field = message.get(number)
        if field is None:
            if value in {0, b""}:
                continue
            raise not_here(f"protobuf field {number} of this kind", 415)
        if field.type == "drop":
            continue
        if isinstance(field.type, str) and field.type in {"map", "bytesmap"}:
            key, item = _entry(field, _as_bytes(value))
            found.setdefault(field.name, {})[key] = item
        elif field.repeated:
            found.setdefault(field.name, []).append(_value(field, value, keep_bytes=keep_bytes))
        elif value != b"":
            found[field.name] = _value(field, value, keep_bytes=keep_bytes)
    return found


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise IndexError(value)
    return value


def _value(field: Field, value: int | bytes, *, keep_bytes: bool) -> Any:
    if field.type == "int":
        return value if isinstance(value, int) else 0
    if field.type == "bool":
        return bool(value)
    data = _as_bytes(value)
    if isinstance(field.type, Mapping):
        return _message(field.type, data)
    if field.type == "bytes":
        return data if keep_bytes else base64.b64encode(data).decode()
    return data.decode()


def _entry(field: Field, raw: bytes) -> tuple[str, str]:
    entry = dict(_fields(raw))
    key, value = _as_bytes(entry.get(1, b"")), _as_bytes(entry.get(2, b""))
    return key.decode(), base64.b64encode(value).decode() if field.type == "bytesmap" else value.decode()
