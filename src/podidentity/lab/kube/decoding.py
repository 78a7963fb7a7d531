"""Built-in kinds as Go would decode them: unknown fields and nulls dropped, wrong types refused (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from podidentity.lab.kube.objects import Obj, json_name
from podidentity.lab.kube.scalars import SCALARS
from podidentity.lab.kube.types import Field, Type, type_of

_QUANTITY_RULE: Final = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
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
    """Only the metadata, for kinds that have a schema of their own; the paths begin in it."""
    found, metadata = type_of("ObjectMeta"), obj.get("metadata")
    assert found is not None
    unknown: list[str] = []
    if isinstance(metadata, dict):
        _object(found, "ObjectMeta", metadata, "", unknown)
    elif metadata is not None:
        raise WrongTypeError(f"json: cannot unmarshal {json_name(metadata)} into Go value of type v1.ObjectMeta")
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
            obj[key] = _value(_Place(field, name, where), value, unknown)


@dataclass(frozen=True, slots=True)
class _Place:
    """A field, the type that has it, and its path."""

    field: Field
    owner: str
    path: str

    def wrong(self, value: Any, wanted: str) -> WrongTypeError:
        """A value here is not of the type ``wanted``."""
        if self.field.of == "q":
            return WrongTypeError(f"quantities must match the regular expression '{_QUANTITY_RULE}'")
        number = f"number {value}" if self.field.of in _LIMITS and json_name(value) == "number" else json_name(value)
        path = re.sub(r"\[\d+\]", "", self.path)
        text = f"json: cannot unmarshal {number} into Go struct field {self.owner}.{path} of type {wanted}"
        return WrongTypeError(text)


def _scalar(letter: str, value: str) -> str:
    try:
        return SCALARS[letter](value)
    except ValueError as error:
        raise WrongTypeError(str(error)) from error


def _value(place: _Place, value: Any, unknown: list[str]) -> Any:
    """The value as it is stored."""
    field, path = place.field, place.path
    if field.shape == "one" and field.of in SCALARS and isinstance(value, str):
        return _scalar(field.of, value)
    if field.shape == "list":
        if not isinstance(value, list):
            raise place.wrong(value, field.go_type)
        for number, item in enumerate(value):
            _one(place, item, f"{path}[{number}]", unknown)
    elif field.shape == "map":
        if not isinstance(value, dict):
            raise place.wrong(value, field.go_type)
        for key, item in value.items():
            _one(place, item, f"{path}.{key}", unknown)
    else:
        _one(place, value, path, unknown)
    return value


def _one(place: _Place, value: Any, path: str, unknown: list[str]) -> None:
    """One value of a field; ``path`` also says which."""
    field = place.field
    inner = type_of(field.of)
    if inner is not None:
        if not isinstance(value, dict):
            raise place.wrong(value, field.go_element)
        _object(inner, field.of, value, path, unknown)
    elif not _fits(field.of, value):
        raise place.wrong(value, field.go_element)
    elif field.of in SCALARS:
        _scalar(field.of, value)


_FITTING: Final[Mapping[str, tuple[type, ...]]] = {
    "s": (str,),
    "i": (int,),
    "l": (int,),
    "b": (bool,),
    "f": (int, float),
    "q": (int, float, str),
    "x": (int, str),
    "t": (str,),
    "u": (str,),
    "y": (str,),
}


_LIMITS: Final = {"i": 2**31, "l": 2**63}


def _fits(letter: str, value: Any) -> bool:
    allowed = _FITTING.get(letter)
    if allowed is None:
        return True
    good = type(value) in allowed
    if good and letter in _LIMITS:
        return bool(-_LIMITS[letter] <= value < _LIMITS[letter])
    return good and not (letter == "q" and isinstance(value, str) and not _QUANTITY.fullmatch(value))
