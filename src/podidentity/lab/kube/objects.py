"""Kubernetes objects as plain JSON: the types and the small helpers everything here shares (pure)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

Obj: TypeAlias = dict[str, Any]
"""A JSON object of any kind. The server stores kinds it has never heard of, so their fields have no static type."""

_DECODER = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


def decode(raw: bytes) -> Any:
    """JSON bytes to plain Python values; raises ``msgspec.DecodeError``."""
    return _DECODER.decode(raw)


def encode(value: object) -> bytes:
    """Plain Python values to compact JSON bytes."""
    return _ENCODER.encode(value)


def copy(obj: Obj) -> Obj:
    """A deep copy of a JSON object."""
    found = _DECODER.decode(_ENCODER.encode(obj))
    assert isinstance(found, dict)
    return found


def rfc3339(seconds: float) -> str:
    """``2026-11-23T22:04:05Z`` for seconds since the epoch."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def meta(obj: Mapping[str, Any]) -> Obj:
    """``metadata`` of an object, an empty one when it is absent or null."""
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def dig(obj: object, *path: str) -> Any:
    """The value at ``path``, or None as soon as a part of it is absent."""
    for part in path:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(part)
    return obj


def json_name(value: object) -> str:
    """What Go calls the type of a JSON value."""
    return {str: "string", bool: "bool", list: "array", dict: "object"}.get(type(value), "number")


def go_text(value: object) -> str:
    """A JSON value as Go prints it: ``map[a:1 b:[x y]]``."""
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{go_text(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def go_value(value: object) -> str:
    """A JSON value as Go's ``field.Error`` prints it."""
    return encode(value).decode()
