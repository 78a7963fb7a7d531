"""The protobuf request bodies of kubectl's and helm's typed clients, decoded by field number (pure).

An envelope of four bytes and a message ``Unknown`` holds the object. Only kinds those clients create are known
(:mod:`podidentity.lab.kube.messages`); a field that is not in those tables is refused rather than lost.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final

from podidentity.lab.kube.errors import bad_request, not_here
from podidentity.lab.kube.messages import KINDS, Field, Message, texts
from podidentity.lab.kube.objects import Obj

MAGIC: Final = b"k8s\x00"
_VARINT, _BYTES = 0, 2
_MAX_SHIFT: Final = 63
_UNKNOWN: Final[Message] = {
    1: Field("type", texts("apiVersion", "kind")),
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
        if kind not in KINDS:
            raise not_here(f"a protobuf body of kind {kind or 'unknown'}", 415)
        body = _message(KINDS[kind], unknown.get("raw") or b"")
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
    if field.type == "either":
        return _either(dict(_fields(data)))
    if field.type == "bytes":
        return data if keep_bytes else base64.b64encode(data).decode()
    return data.decode()


def _either(parts: Mapping[int, int | bytes]) -> int | str:
    """An IntOrString: which it is, the number, the text."""
    if parts.get(1):
        return _as_bytes(parts.get(3, b"")).decode()
    number = parts.get(2, 0)
    return number if isinstance(number, int) else 0


def _entry(field: Field, raw: bytes) -> tuple[str, str]:
    entry = dict(_fields(raw))
    key, value = _as_bytes(entry.get(1, b"")), _as_bytes(entry.get(2, b""))
    return key.decode(), base64.b64encode(value).decode() if field.type == "bytesmap" else value.decode()
