"""The data of ConfigMaps and Secrets: which keys there may be, how much, and what may change (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from podidentity.lab.kube.errors import Cause
from podidentity.lab.kube.objects import Obj, go_value

_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_KEY_RULE: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_MOST: Final = 1024 * 1024
_MAPS: Final = ("data", "binaryData")


def faults(obj: Obj, old: Obj | None, *, whole: str) -> Iterator[Cause]:
    """What is wrong with ``data`` and ``binaryData``; ``whole`` is what the server calls both together."""
    size = 0
    for name in _MAPS:
        for key, value in (obj.get(name) or {}).items():
            size += len(value.encode()) if name == "data" and whole != "data" else len(value) * 3 // 4
            if not _KEY.fullmatch(key):
                yield _wrong(f"{name}[{key}]", key, _KEY_RULE)
    for key in sorted(set(obj.get("data") or ()) & set(obj.get("binaryData") or ())):
        yield _wrong(f"data[{key}]", key, "duplicate of key present in binaryData")
    if size > _MOST:
        yield Cause("FieldValueTooLong", f"Too long: may not be more than {_MOST} bytes", whole)
    if old is not None and old.get("immutable"):
        for name in ("immutable", *_MAPS):
            if (obj.get(name) or None) != (old.get(name) or None):
                yield Cause("FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set", name)


def _wrong(field: str, value: object, text: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {go_value(value)}: {text}", field)
