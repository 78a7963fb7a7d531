"""Strategic merge patch: maps merge, lists merge by the keys their types declare (pure)."""

from __future__ import annotations

from typing import Any, Final

from podidentity.lab.kube.errors import StatusError
from podidentity.lab.kube.objects import Obj, go_text
from podidentity.lab.kube.types import Field, type_of

_ORDER: Final = "$setElementOrder/"
_DELETE_FROM: Final = "$deleteFromPrimitiveList/"
_RETAIN: Final = "$retainKeys"
_PATCH: Final = "$patch"
_OTHER: Final = Field("", "any")


def merge(kind: str, target: Obj, patch: Obj) -> Obj:
    """``target``, an object of a built-in kind, after a strategic merge patch; neither argument is changed."""
    return _object(kind, target, patch)


def _field(of: str, name: str) -> Field:
    return (type_of(of) or {}).get(name, _OTHER)


def _object(of: str, target: Obj, patch: Obj) -> Obj:
    match patch.get(_PATCH):
        case "replace":
            return {key: value for key, value in patch.items() if key != _PATCH}
        case "delete":
            return {}
        case None | "merge":
            pass
        case other:
            raise StatusError(500, f"unknown patch type: {other} in map: {go_text(patch)}", reason="")
    result = dict(target)
    if (kept := patch.get(_RETAIN)) is not None:
        result = {key: value for key, value in result.items() if key in kept}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        merged = _value(_field(of, key), result.get(key), value, patch.get(_ORDER + key))
        if merged is None:
            result.pop(key, None)
        else:
            result[key] = merged
    _directives(of, result, patch)
    return result


def _directives(of: str, result: Obj, patch: Obj) -> None:
    """Removals from lists of plain values, and orders of lists the patch does not touch otherwise."""
    for key, value in patch.items():
        name = key.partition("/")[2]
        current = result.get(name)
        if not isinstance(current, list):
            continue
        if key.startswith(_DELETE_FROM):
            result[name] = [item for item in current if item not in value]
        elif key.startswith(_ORDER) and name not in patch:
            result[name] = _ordered(current, value, _field(of, name).merge_key, current)


def _value(field: Field, old: Any, new: Any, order: Any) -> Any:
    if isinstance(new, dict):
        base = old if isinstance(old, dict) else {}
        if field.shape == "map" and type_of(field.of):
            return _map(field, base, new)
        return _object(field.of if field.shape == "one" else "", base, new)
    if not isinstance(new, list):
        return new
    existing = old if isinstance(old, list) else []
    order = order if isinstance(order, list) else new
    if field.merge:
        return _ordered([*existing, *(item for item in new if item not in existing)], order, "", existing)
    if not field.merge_key:
        return new
    return _ordered(_list(field, existing, new), order, field.merge_key, existing)


def _map(field: Field, old: Obj, new: Obj) -> Obj:
    result = dict(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _value(Field(key, field.of), result.get(key), value, None)
    return result


def _list(field: Field, old: list[Any], new: list[Any]) -> list[Any]:
    key = field.merge_key
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" and key not in item for item in new):
        return [item for item in new if not (isinstance(item, dict) and _PATCH in item)]
    result = list(old)
    for item in new:
        if not isinstance(item, dict) or key not in item:
            raise StatusError(500, f"map: {go_text(item)} does not contain declared merge key: {key}", reason="")
        found = [one for one in result if isinstance(one, dict) and one.get(key) == item[key]]
        if item.get(_PATCH) == "delete":
            result = [one for one in result if one not in found]
        elif found:
            result[result.index(found[0])] = _object(field.of, found[0], item)
        else:
            result.append(_object(field.of, {}, item))
    return result


def _ordered(items: list[Any], order: list[Any], merge_key: str, live: list[Any]) -> list[Any]:
    """``items`` with those of ``order`` in that order, and the others among them as they stood in the live list."""

    def identity(item: Any) -> Any:
        return item.get(merge_key) if merge_key and isinstance(item, dict) else item

    wanted, stood = list(map(identity, order)), list(map(identity, live))
    named = sorted((one for one in items if identity(one) in wanted), key=lambda one: wanted.index(identity(one)))
    others = [one for one in items if identity(one) not in wanted]
    result = []
    while named and others:
        first, second = identity(others[0]), identity(named[0])
        earlier = first in stood and second in stood and stood.index(first) < stood.index(second)
        result.append((others if earlier else named).pop(0))
    return [*result, *others, *named]
