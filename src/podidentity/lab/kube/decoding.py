"""Built-in kinds as Go would decode them: unknown fields and nulls dropped, wrong types refused (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from podidentity.lab.kube.objects import Obj
from podidentity.lab.kube.types import Field, Type, type_of

_QUANTITY: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkKMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")


class WrongTypeError(Exception):
    """A value does not fit its field; the text is Go's."""


def decode_typed(kind: str, obj: Obj) -> list[str]:
    """Conform ``obj`` in place to the built-in ``kind``; gives the paths of unknown fields, raises WrongTypeError."""
    found = type_of(kind)
    if found is None:
        return []
    unknown: list[str] = []
    _object(found, kind, obj, "", unknown, top=True)
    return unknown


def decode_metadata(obj: Obj) -> list[str]:
    """Only the metadata, for kinds that have a schema of their own."""
    found, metadata = type_of("ObjectMeta"), obj.get("metadata")
    assert found is not None
    unknown: list[str] = []
    if isinstance(metadata, dict):
        _object(found, "ObjectMeta", metadata, "metadata", unknown)
    return unknown


def _object(fields: Type, name: str, obj: Obj, path: str, unknown: list[str], *, top: bool = False) -> None:
    for key in list(obj):
        if top and key in {"apiVersion", "kind"}:
            continue
        field, value = fields.get(key), obj[key]
        where = f"{path}.{key}" if path else key
        if field is None:
            unknown.append(where)
            del obj[key]
        elif value is None or (field.shape != "one" and not value and isinstance(value, list | dict)):
            del obj[key]
        else:
            _value(field, name, value, where, unknown)


def _value(field: Field, owner: str, value: Any, path: str, unknown: list[str]) -> None:
    if field.shape == "list":
        if not isinstance(value, list):
            raise _wrong(field, owner, value, path)
        for number, item in enumerate(value):
            _one(field, owner, item, f"{path}[{number}]", unknown)
    elif field.shape == "map":
        if not isinstance(value, dict):
            raise _wrong(field, owner, value, path)
        for key, item in value.items():
            _one(field, owner, item, f"{path}.{key}", unknown)
    else:
        _one(field, owner, value, path, unknown)


def _one(field: Field, owner: str, value: Any, path: str, unknown: list[str]) -> None:
    inner = type_of(field.of)
    if inner is not None:
        if not isinstance(value, dict):
            raise _wrong(field, owner, value, path)
        _object(inner, field.of, value, path, unknown)
    elif not _fits(field.of, value):
        raise _wrong(field, owner, value, path)


_FITTING: Final[Mapping[str, tuple[type, ...]]] = {
    "s": (str,),
    "i": (int,),
    "b": (bool,),
    "f": (int, float),
    "q": (int, float, str),
    "x": (int, str),
}


def _fits(letter: str, value: Any) -> bool:
    allowed = _FITTING.get(letter)
    if allowed is None:
        return True
    good = type(value) in allowed
    return good and not (letter == "q" and isinstance(value, str) and not _QUANTITY.fullmatch(value))


def _wrong(field: Field, owner: str, value: Any, path: str) -> WrongTypeError:
    if field.of == "q":
        return WrongTypeError(f"quantities must match the regular expression '{_QUANTITY.pattern}'")
    names = {str: "string", bool: "bool", list: "array", dict: "object"}
    plain = re.sub(r"\[\d+\]", "", path)
    kind = names.get(type(value), "number")
    return WrongTypeError(f"json: cannot unmarshal {kind} into Go struct field {owner}.{plain} of type {field.go_type}")
