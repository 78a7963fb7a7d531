"""Strategic merge patch (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from podidentity.lab.kube.errors import bad_request
from podidentity.lab.kube.objects import Obj

_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "conditions": "type",
    "addresses": "type",
    "ownerReferences": "uid",
    "secrets": "name",
    "podIPs": "ip",
    "hostIPs": "ip",
}
_PRIMITIVE: Final = frozenset(["finalizers", "podCIDRs"])
_ORDER, _DELETE_FROM, _RETAIN, _PATCH = (
    "$setElementOrder/",
    "$deleteFromPrimitiveList/",
    "$retainKeys",
    "$patch",
)


def merge(kind: str, target: Obj, patch: Obj) -> Obj:
    """``target`` after a strategic merge patch; neither argument is changed."""
    return _merge_object(kind, target, patch)


def _merge_key(kind: str, name: str) -> str:
    if name == "ports":
        return "port" if kind == "Service" else "containerPort"
    if kind == "CustomResourceDefinition" and name == "conditions":
        return ""
    return _KEYS.get(name, "")


def _merge_object(kind: str, target: Obj, patch: Obj) -> Obj:
    directive = patch.get(_PATCH)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _PATCH}
    if directive == "delete":
        return {}
    if directive not in {None, "merge"}:
        raise bad_request(f"unknown patch directive {directive!r}")
    result = dict(target)
    if (kept := patch.get(_RETAIN)) is not None:
        result = {key: value for key, value in result.items() if key in kept}
    for key, value in patch.items():
        if key in {_PATCH, _RETAIN} or key.startswith((_ORDER, _DELETE_FROM)):
            continue
        merged = _merge_value(kind, key, result.get(key), value, patch.get(_ORDER + key))
        if merged is None:
            result.pop(key, None)
        else:
            result[key] = merged
    for key, value in patch.items():
        name = key.partition("/")[2]
        if key.startswith(_DELETE_FROM) and isinstance(result.get(name), list):
            result[name] = [item for item in result[name] if item not in value]
        elif key.startswith(_ORDER) and name not in patch and isinstance(result.get(name), list):
            result[name] = _ordered(result[name], value, _merge_key(kind, name))
    return result


def _merge_value(kind: str, key: str, old: Any, new: Any, order: Any) -> Any:
    if isinstance(new, dict):
        return _merge_object(kind, old if isinstance(old, dict) else {}, new)
    if not isinstance(new, list):
        return new
    existing = old if isinstance(old, list) else []
    if key in _PRIMITIVE:
        return _ordered([*existing, *(item for item in new if item not in existing)], order, "")
    merge_key = _merge_key(kind, key)
    if not merge_key:
        return new
    return _ordered(_merge_list(kind, existing, new, merge_key), order, merge_key)


def _merge_list(kind: str, old: list[Any], new: list[Any], merge_key: str) -> list[Any]:
    if any(isinstance(item, dict) and item.get(_PATCH) == "replace" and merge_key not in item for item in new):
        return [item for item in new if not (isinstance(item, dict) and _PATCH in item)]
    result = list(old)
    for item in new:
        if not isinstance(item, dict) or merge_key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {merge_key}")
        places = [
            n for n, found in enumerate(result) if isinstance(found, dict) and found.get(merge_key) == item[merge_key]
        ]
        if item.get(_PATCH) == "delete":
            result = [found for n, found in enumerate(result) if n not in places]
        elif places:
            result[places[0]] = _merge_object(kind, result[places[0]], item)
        else:
            result.append(_merge_object(kind, {}, item))
    return result


def _ordered(items: list[Any], order: Any, merge_key: str) -> list[Any]:
    """``items`` in the client's order; those it does not know keep their place relative to their neighbours."""
    if not isinstance(order, list):
        return items
    wanted = [item.get(merge_key) if isinstance(item, dict) else item for item in order]

    def identity(item: Any) -> Any:
        return item.get(merge_key) if merge_key and isinstance(item, dict) else item

    known = sorted((item for item in items if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    result: list[Any] = []
    queue = iter(known)
    for item in items:
        result.append(next(queue) if identity(item) in wanted else item)
    return result
